"""Errors seen in the frequency domain: A-weighted, by octave, multi-resolution STFT. Use through `fxclone.metrics`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.audio import Audio
from fxclone.metrics_time import Doubles, ratio, same_shape, to_db

STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop and window length in samples: the three of Yamamoto et al. 2020 (Parallel WaveGAN)."""


def a_weighting(frequency_hz: Doubles) -> Doubles:
    """Amplitude of the A-weighting curve (IEC 61672-1:2013, annex E), 1 at 1 kHz."""
    f2 = np.square(frequency_hz)
    low, high = 20.598997**2, 12194.217**2
    curve = high * f2**2 / ((f2 + low) * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2)) * (f2 + high))
    out: Doubles = curve * 10.0 ** (2.0 / 20.0)
    return out


def _spectra(wet: Audio, estimate: Audio, size: int = 1 << 15) -> tuple[Doubles, Doubles]:
    """Energy spectra of wet and of the error, summed over blocks whose squared windows add up to one."""
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    hop = size // 2
    signal, error = np.zeros(hop + 1), np.zeros(hop + 1)
    both = np.full(hop + 1, 2.0)
    both[[0, -1]] = 1.0
    for start in range(-hop, wet.shape[1], hop):
        y = np.zeros((wet.shape[0], size))
        d = np.zeros_like(y)
        first, last = max(0, start), min(wet.shape[1], start + size)
        here = slice(first - start, last - start)
        y[:, here] = wet[:, first:last]
        d[:, here] = y[:, here] - estimate[:, first:last]
        signal += np.square(np.abs(fft.rfft(y * window))).sum(axis=0)
        error += np.square(np.abs(fft.rfft(d * window))).sum(axis=0)
    return signal * both / size, error * both / size


def a_weighted_esr(wet: Audio, estimate: Audio, sample_rate: int) -> float:
    """ESR of the A-weighted sounds: the pre-emphasis that listeners agreed with most (Wright & Välimäki 2020)."""
    same_shape(wet, estimate)
    if not np.isfinite(estimate).all():
        return math.inf
    signal, error = _spectra(wet, estimate)
    weight = np.square(a_weighting(np.linspace(0.0, sample_rate / 2, signal.shape[0])))
    return ratio(float(weight @ error), float(weight @ signal), wet.size)


def error_db_by_band(wet: Audio, estimate: Audio, sample_rate: int) -> dict[str, float]:
    """Error in each octave band, in dB relative to the wet sound's energy in the whole spectrum.

    The bands are centred on 31.5 Hz to 16 kHz (IEC 61260 nominal, base 2), the outermost open to 0 Hz and to half the
    sample rate, so that their powers add up to the ESR.
    """
    same_shape(wet, estimate)
    signal, error = _spectra(wet, estimate)
    frequency = np.linspace(0.0, sample_rate / 2, signal.shape[0])
    centres = [1000.0 * 2.0**k for k in range(-5, 5) if 1000.0 * 2.0 ** (k - 0.5) < sample_rate / 2]
    names = ["31.5", "63", "125", "250", "500", "1k", "2k", "4k", "8k", "16k"][: len(centres)]
    band = np.searchsorted([c * math.sqrt(2.0) for c in centres[:-1]], frequency, side="right")
    total = float(signal.sum())
    return {name: to_db(ratio(float(error[band == i].sum()), total, wet.size)) for i, name in enumerate(names)}


def mr_stft(wet: Audio, estimate: Audio, sample_rate: int | None = None) -> float:
    """Multi-resolution STFT distance: spectral convergence plus L1 of log magnitudes, mean of three resolutions.

    FFT sizes 512, 1024, 2048, hops 50, 120, 240, Hann windows 240, 600, 1200 samples (Yamamoto et al. 2020), natural
    logarithm, power floor 1e-8, centred frames: the defaults of auraloss. The sizes are in samples and do not scale
    with ``sample_rate``, which is taken only so that all metrics are called alike; compare numbers at one rate only.

    Returns
    -------
    float
        0 is perfect; infinity if the estimate holds NaN or infinity.
    """
    same_shape(wet, estimate)
    if not np.isfinite(estimate).all():
        return math.inf
    return sum(_stft_distance(wet, estimate, *sizes) for sizes in STFT_RESOLUTIONS) / len(STFT_RESOLUTIONS)


def _stft_distance(wet: Audio, estimate: Audio, size: int, hop: int, length: int) -> float:
    window = np.zeros(size, np.float32)
    left = (size - length) // 2
    window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    difference = reference = logs = 0.0
    count = 0
    for y, e in zip(wet, estimate, strict=True):
        padded = [np.lib.stride_tricks.sliding_window_view(_reflect(s, size // 2), size)[::hop] for s in (y, e)]
        for start in range(0, padded[0].shape[0], 2048):
            a, b = (
                np.sqrt(np.maximum(np.square(np.abs(fft.rfft(p[start : start + 2048] * window))), 1e-8)) for p in padded
            )
            difference += float(np.sum(np.square(a - b, dtype=np.float64)))
            reference += float(np.sum(np.square(a, dtype=np.float64)))
            logs += float(np.sum(np.abs(np.log(a) - np.log(b)), dtype=np.float64))
            count += a.size
    return math.sqrt(difference / reference) + logs / count


def _reflect(sound: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    return np.pad(sound, width, mode="reflect" if sound.shape[0] > 1 else "edge")
