"""A guitar cabinet's impulse response, made from what a loudspeaker in a box does to each frequency.

A target curve in dB, turned into the minimum-phase response that has it, and the early reflections of the box and the
floor behind it. Nothing is sampled from a real cabinet, so it is free to use and the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.audio import Audio
from fxclone.effects.spec import RenderFn, Settings

LENGTH_S = 0.05
FLOOR_DB = -90.0
"""The deepest that the target curve goes: what lies below is nobody's, and would make the response long."""
MODES = 15
SOUND_M_PER_S = 343.0
HEIGHT_M = 0.35
"""Of the loudspeaker over the floor."""

_Samples = npt.NDArray[np.float64]


def build(settings: dict[str, Any]) -> RenderFn:
    """Convolve with `impulse_response`, causally, in double precision."""

    def render(dry: Audio, sample_rate: int) -> Audio:
        from scipy.signal import oaconvolve  # takes a second to import

        response = impulse_response(settings, sample_rate)
        full = oaconvolve(dry.astype(np.float64), response[None, :], axes=1)
        wet: Audio = full[:, : dry.shape[1]].astype(np.float32)
        return wet

    return render


def impulse_response(settings: Settings, sample_rate: int) -> _Samples:
    """The response of ``LENGTH_S`` at a sample rate in Hz, for ``size_inch``, ``brightness``, ``distance_cm``.

    Its gain is 0 dB on average over the octaves from 100 Hz to 4 kHz.
    """
    samples = max(16, round(LENGTH_S * sample_rate))
    points = 1 << int(np.ceil(np.log2(16 * samples)))
    hz = np.asarray(np.fft.rfftfreq(points, 1 / sample_rate), dtype=np.float64)
    direct = _minimum_phase(_curve_db(hz, settings), points)[:samples]
    response = direct.copy()
    for seconds, gain in _reflections(settings):
        late = round(seconds * sample_rate)
        if 0 < late < samples:
            response[late:] += gain * _dull(direct, sample_rate)[: samples - late]
    fade = np.arange(samples) / samples
    response *= np.where(fade < 0.5, 1.0, 0.5 + 0.5 * np.cos(2 * np.pi * (fade - 0.5)))
    gain_db = 20 * np.log10(np.abs(np.fft.rfft(response, points)) + 1e-12)
    octaves = np.geomspace(100.0, min(4000.0, 0.45 * sample_rate), 200)
    level: _Samples = response * 10 ** (-float(np.interp(octaves, hz, gain_db).mean()) / 20)
    return level


def _curve_db(hz: _Samples, settings: Settings) -> _Samples:
    """The direct sound at the microphone."""
    scale = 12.0 / settings["size_inch"]
    bright, near = settings["brightness"], 1.0 / (1.0 + settings["distance_cm"] / 5.0)
    f = np.maximum(hz, 1.0)
    resonance = 110.0 * scale
    db = -10 * np.log10(1 + (0.75 * resonance / f) ** 4)  # closed box: 12 dB per octave below
    db += _bell(f, resonance, 6.0, 0.6)
    db += 4.0 * near / (1 + (f / 200.0) ** 2)  # a directional microphone close by
    db += _bell(f, 420.0 * np.sqrt(scale), -5.0, 1.1)  # the cone's edge against its middle
    db += _bell(f, 2600.0 + 900.0 * bright, 5.0 + 5.0 * bright, 0.9)  # presence: the cone breaks up
    db += _bell(f, 3700.0 + 1000.0 * bright, -6.0, 0.25)
    db += _bell(f, 4400.0 + 1100.0 * bright, 4.0, 0.2)
    for mode in range(MODES):  # what a cone of paper does in its parts: rings for some ms each
        db += _bell(f, 520.0 * np.sqrt(scale) * 1.17**mode, (2.5, -3.5, 1.5, -2.0, 3.0)[mode % 5], 0.03)
    db -= 10 * np.log10(1 + (f / (4300.0 + 1800.0 * bright)) ** 14)  # 42 dB per octave above
    db -= 0.6 * (1 - near) * (f / 4000.0)  # the further away, the duller
    curve: _Samples = np.maximum(db, FLOOR_DB)
    return curve


def _bell(f: _Samples, centre_hz: float, gain_db: float, octaves: float) -> _Samples:
    bell: _Samples = gain_db * np.exp(-0.5 * (np.log2(f / centre_hz) / octaves) ** 2)
    return bell


def _minimum_phase(db: _Samples, points: int) -> _Samples:
    """The causal response with this magnitude whose energy comes earliest, by folding the real cepstrum.

    Oppenheim and Schafer, Discrete-Time Signal Processing, section on the complex cepstrum of minimum-phase sequences.
    """
    cepstrum = np.fft.irfft(db * (np.log(10) / 20), points)
    cepstrum[1 : points // 2] *= 2
    cepstrum[points // 2 + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), points)


def _reflections(settings: Settings) -> tuple[tuple[float, float], ...]:
    """Delay in s and gain of what comes by a longer way: from the box's back and sides, and from the floor."""
    scale, distance_m = settings["size_inch"] / 12.0, settings["distance_cm"] / 100.0
    floor_m = float(np.hypot(distance_m, 2 * HEIGHT_M))
    box = ((0.56, -0.16), (0.83, 0.11), (1.31, -0.07), (2.05, 0.05))  # metres there and back in a 12-inch box
    floor = ((floor_m - distance_m) / SOUND_M_PER_S, 0.7 * (distance_m + 0.03) / (floor_m + 0.03))
    return (*((metres * scale / SOUND_M_PER_S, gain) for metres, gain in box), floor)


def _dull(direct: _Samples, sample_rate: int) -> _Samples:
    """What a reflection leaves: a first-order low-pass at 2 kHz."""
    from scipy.signal import lfilter

    pole = np.exp(-2 * np.pi * min(2000.0, 0.2 * sample_rate) / sample_rate)
    left: _Samples = np.asarray(lfilter([1 - pole], [1.0, -pole], direct), dtype=np.float64)
    return left
