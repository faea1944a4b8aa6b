"""The few building blocks that every kind of training sound is made of.

Filters are analog prototypes applied in the frequency domain: they mean the same at any sample rate, cost one FFT
each way, and need no ``scipy.signal``, whose import alone takes a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from fxclone.audio import db_to_gain

Mono = npt.NDArray[np.float32]
"""float32, shape (samples,): one voice before it becomes `Audio`."""
Spectrum = npt.NDArray[np.complex128]
Doubles = npt.NDArray[np.float64]
Response = Callable[[Doubles], npt.NDArray[Any]]

RING_S = 0.05
"""Room for a filter to ring out before the FFT's period closes."""


def uniform_db(rng: np.random.Generator, low_db: float, high_db: float) -> float:
    """Draw an amplitude whose level in dB is uniform."""
    return db_to_gain(float(rng.uniform(low_db, high_db)))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a value whose logarithm is uniform: the fair draw for frequencies and times."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Throw a coin."""
    return bool(rng.random() < probability)


def shaped(sound: Mono, sample_rate: int, response: Response) -> Mono:
    """Filter ``sound`` with a frequency response given as a function of f in Hz; same length, no delay."""
    if sound.size == 0:
        return sound
    size = scipy.fft.next_fast_len(sound.size + int(RING_S * sample_rate), real=True)
    spectrum = scipy.fft.rfft(sound, size)
    f = times(spectrum.size, 1) * (sample_rate / size)
    spectrum *= response(f).astype(np.complex64)
    out: Mono = scipy.fft.irfft(spectrum, size)[: sound.size].astype(np.float32, copy=False)
    return out


def lowpass(cutoff_hz: float, q: float = 0.7071) -> Response:
    """Second-order low-pass; q above 0.71 makes the resonance of a pickup."""
    return lambda f: 1.0 / (1.0 - (f / cutoff_hz) ** 2 + 1j * f / (cutoff_hz * q))


def highpass(cutoff_hz: float, q: float = 0.7071) -> Response:
    """Second-order high-pass; 0 at DC."""
    return lambda f: (f / cutoff_hz) ** 2 / ((f / cutoff_hz) ** 2 - 1.0 - 1j * f / (cutoff_hz * q))


def bandpass(centre_hz: float, width_hz: float) -> Response:
    """Second-order band-pass of unit gain at its centre."""

    def response(f: Doubles) -> Spectrum:
        edge = 1j * f * width_hz
        out: Spectrum = edge / (centre_hz**2 - f**2 + edge)
        return out

    return response


def both(first: Response, second: Response) -> Response:
    """Two filters in series."""
    return lambda f: first(f) * second(f)


def scaled(sound: Mono, gain: float) -> Mono:
    """Multiply by a gain and stay in single precision."""
    return sound * np.float32(gain)


def times(samples: int, sample_rate: int) -> Doubles:
    """The time of each sample in seconds."""
    return np.arange(samples, dtype=np.float64) / sample_rate


def decay(samples: int, sample_rate: int, t60_s: float) -> Mono:
    """An envelope from 1 that falls by 60 dB in ``t60_s``."""
    out: Mono = np.exp(np.float32(-6.9078 / (t60_s * sample_rate)) * np.arange(samples, dtype=np.float32))
    return out


def faded(sound: Mono, sample_rate: int, *, in_s: float = 0.0, out_s: float = 0.0) -> Mono:
    """Fade both ends in place with half a cosine, and return the sound."""
    for seconds, end in ((in_s, False), (out_s, True)):
        n = min(sound.size, round(seconds * sample_rate))
        if n > 0:
            ramp = (0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)).astype(np.float32)
            if end:
                sound[sound.size - n :] *= ramp[::-1]
            else:
                sound[:n] *= ramp
    return sound


def add_at(target: Mono, sound: Mono, start: int) -> None:
    """Mix ``sound`` into ``target`` from sample ``start``; what reaches past the end is left out."""
    n = min(sound.size, target.size - start)
    if n > 0:
        target[start : start + n] += sound[:n]


def white(samples: int, rng: np.random.Generator) -> Mono:
    """Gaussian noise of unit power."""
    return rng.standard_normal(samples, dtype=np.float32)


def normalised(sound: Mono, level: float = 1.0) -> Mono:
    """Scale the sample peak to ``level``; silence stays silence."""
    top = float(np.abs(sound).max()) if sound.size else 0.0
    return sound * np.float32(level / top) if top > 1e-12 else np.zeros_like(sound)


def warped(sound: Mono, positions: Doubles) -> Mono:
    """Read ``sound`` at fractional sample positions (Catmull-Rom cubic): bends and vibrato."""
    padded = np.concatenate([np.zeros(1, np.float32), sound, np.zeros(3, np.float32)])
    whole = np.clip(positions.astype(np.int64), 0, sound.size - 1)
    u = np.clip(positions - whole, 0, 1).astype(np.float32)
    a, b, c, d = (padded[whole + k] for k in range(4))
    out: Mono = b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))
    return out


def drift(samples: int, rng: np.random.Generator, steps: int) -> Mono:
    """A smooth random curve through ``steps`` uniform values in [-1, 1]."""
    knots = rng.uniform(-1.0, 1.0, max(2, steps))
    out: Mono = np.interp(np.linspace(0, knots.size - 1, samples), np.arange(knots.size), knots).astype(np.float32)
    return out


def staircase(samples: int, rng: np.random.Generator, steps: int, low_db: float) -> Mono:
    """An envelope of ``steps`` held levels from ``low_db`` to 0 dB, in shuffled order and one of them at 0 dB."""
    levels_db = rng.permutation(np.linspace(low_db, 0.0, max(1, steps))) if steps > 1 else np.zeros(1)
    edges = np.sort(rng.integers(0, max(samples, 1), levels_db.size - 1))
    gains = (10.0 ** (levels_db / 20.0)).astype(np.float32)
    return np.repeat(gains, np.diff(np.concatenate([[0], edges, [samples]])))
