"""How far pedalboard's effects look into the future, in samples, and so how late a causal render of them is.

Measured by changing the input from some sample on and looking for the first change of the output, over many places
and rates. Each figure here is no smaller than what was found; the output is late by exactly this.
"""

from __future__ import annotations

import math

from fxclone.effects.spec import Settings

HALF_WIDTH_SAMPLES = {
    "ZeroOrderHold": 0,
    "Linear": 1,
    "CatmullRom": 2,
    "Lagrange": 2,
    "WindowedSinc8": 8,
    "WindowedSinc16": 16,
    "WindowedSinc32": 32,
    "WindowedSinc64": 64,
    "WindowedSinc": 100,
    "WindowedSinc128": 128,
    "WindowedSinc256": 256,
}
"""pedalboard's qualities of resampling, and how many samples of the slower side each kernel reaches."""

_GSM_RATE_HZ = 8000
_GSM_FRAME_S = 0.02
_MP3_SAMPLES = 2304  # two frames; found: up to 1800
_TRUE_PEAK_SAMPLES = 48  # the oversampling filter; found: up to 35


def brickwall_samples(settings: Settings, sample_rate: int) -> int:
    """Look-ahead of the brick-wall limiter: what it is set to."""
    # The limiter itself rounds down, in single precision: up cannot be too few.
    ahead = math.ceil(sample_rate * float(settings["lookahead_ms"]) / 1000)
    return max(1, ahead) + (_TRUE_PEAK_SAMPLES if settings["true_peak"] else 0)


def gsm_samples(settings: Settings, sample_rate: int) -> int:
    """Look-ahead of the GSM codec: a frame, and the resampler to 8 kHz and back."""
    return math.ceil(_GSM_FRAME_S * sample_rate) + _resampler(settings["quality"], _GSM_RATE_HZ, sample_rate)


def mp3_samples(settings: Settings, sample_rate: int) -> int:
    """Look-ahead of the MP3 codec, which counts in frames whatever the rate."""
    return _MP3_SAMPLES


def pitch_shift_samples(settings: Settings, sample_rate: int) -> int:
    """Look-ahead of Rubber Band: one window, a power of two of at least 1/23.4 s. None at all for 0 semitones."""
    if settings["semitones"] == 0:
        return 0
    return max(1024, 1 << math.ceil(math.log2(2048 * sample_rate / 48000)))


def resample_samples(settings: Settings, sample_rate: int) -> int:
    """Look-ahead of the resampler there and back."""
    return _resampler(settings["quality"], settings["target_sample_rate"], sample_rate)


def resample_tail_s(settings: Settings) -> float:
    """How long the resampler rings."""
    width = HALF_WIDTH_SAMPLES[settings["quality"]]
    return 3.0 * (width + 1) / min(float(settings["target_sample_rate"]), 8000.0)


def _resampler(quality: str, target_hz: float, sample_rate: int) -> int:
    ratio = max(1.0, sample_rate / target_hz)
    return math.ceil(1.5 * HALF_WIDTH_SAMPLES[quality] * (ratio + 1))
