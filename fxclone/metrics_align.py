"""Lag, polarity and gain of an estimate against the wet sound. Use through `fxclone.metrics`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.audio import TINY_POWER, Audio
from fxclone.metrics_time import chunks, same_shape


@dataclass(frozen=True)
class Alignment:
    """How an estimate lies against the wet sound.

    Attributes
    ----------
    lag_samples : float
        Positive if the estimate is late; NaN if either sound is silent.
    polarity : int
        +1, or -1 if the estimate is inverted; 0 if either sound is silent.
    gain_db : float
        Level of the wet sound inside the estimate: the least-squares gain at that lag.
    confidence : float
        Normalised cross-correlation at that lag, 0 to 1.
    """

    lag_samples: float
    polarity: int
    gain_db: float
    confidence: float


def alignment(wet: Audio, estimate: Audio, max_lag: int = 4096) -> Alignment:
    """Find lag, polarity and gain of an estimate by cross-correlation.

    The cross-spectrum is weighted by 1/sqrt|C| (half-way to the phase transform of Knapp & Carter 1976), which
    sharpens the peak for sound with little treble and leaves bins without sound alone. The peak is refined on the
    band-limited interpolation of the correlation, so that lags are sub-sample.

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate.
    max_lag : int
        How far to search to both sides, in samples.
    """
    same_shape(wet, estimate)
    none = Alignment(math.nan, 0, math.nan, 0.0)
    if not np.isfinite(estimate).all():
        return none
    max_lag = max(0, min(max_lag, wet.shape[1] - 1))
    reach = 2 * max_lag + 64
    cross, size = _cross_spectrum(wet, estimate, reach)
    signal = sum(float(np.vdot(y, y)) for (y,) in chunks(wet))
    power = sum(float(np.vdot(e, e)) for (e,) in chunks(estimate))
    if min(signal, power) < TINY_POWER * wet.size:
        return none
    if float(np.abs(cross).max()) <= 0.0:
        return none
    around = np.roll(fft.irfft(_whitened(cross), size), max_lag)[: 2 * max_lag + 1]
    start = int(np.argmax(np.abs(around))) - max_lag
    # Only lags within reach are exact. A smooth window centred on the peak keeps the others out without pulling at it.
    half = min(max_lag + 64, reach - abs(start))
    taper = np.zeros(size)
    taper[np.arange(start - half, start + half + 1)] = np.hanning(2 * half + 1)
    near = _whitened(fft.rfft(fft.irfft(cross, size) * taper))
    lag = _refine(near, size, start, float(np.sign(_correlation(near, size, start))))
    plain = _correlation(cross, size, lag)
    gain = plain / signal
    return Alignment(
        lag_samples=round(lag, 6) + 0.0,  # not -0.0
        polarity=int(np.sign(plain)),
        gain_db=float(20.0 * np.log10(max(abs(gain), 1e-10))),
        confidence=min(1.0, abs(plain) / math.sqrt(signal * power)),
    )


def lag_samples(wet: Audio, estimate: Audio, max_lag: int = 4096) -> float:
    """Return how late the estimate is, in samples and fractions; see `alignment`."""
    return alignment(wet, estimate, max_lag).lag_samples


def _cross_spectrum(wet: Audio, estimate: Audio, reach: int) -> tuple[npt.NDArray[np.complex128], int]:
    """Sum conj(Y)·Ŷ over blocks; its inverse is the exact linear correlation for lags up to ``reach``."""
    block = min(wet.shape[1], max(8 * reach, 1 << 16))
    size = int(fft.next_fast_len(block + 2 * reach, real=True))
    total = np.zeros(size // 2 + 1, np.complex128)
    for start in range(0, wet.shape[1], block):
        y = wet[:, start : start + block].astype(np.float64)
        left = max(0, start - reach)
        e = estimate[:, left : start + block + reach].astype(np.float64)
        spectrum = np.conj(fft.rfft(y, size)) * fft.rfft(e, size)
        if left != start:  # put the estimate's first sample at its true offset
            ramp = np.exp(-2j * np.pi * np.arange(spectrum.shape[1]) * ((left - start) % size) / size)
            spectrum *= ramp
        total += spectrum.sum(axis=0)
    return total, size


def _correlation(cross: npt.NDArray[np.complex128], size: int, lag: float, order: int = 0) -> float:
    """Value (or derivative) of the correlation at any real lag."""
    omega = 2.0 * np.pi * np.arange(cross.shape[0]) / size
    terms = cross * np.exp(1j * omega * lag) * (1j * omega) ** order
    weight = np.full(cross.shape[0], 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    return float(np.real(weight @ terms)) / size


def _whitened(cross: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    magnitude = np.abs(cross)
    out: npt.NDArray[np.complex128] = cross / np.sqrt(np.maximum(magnitude, 1e-6 * float(magnitude.max())))
    return out


def _refine(cross: npt.NDArray[np.complex128], size: int, start: int, sign: float) -> float:
    lag = float(start)
    for _ in range(8):
        slope = sign * _correlation(cross, size, lag, 1)
        curve = sign * _correlation(cross, size, lag, 2)
        if curve >= 0.0:
            break
        step = min(0.5, max(-0.5, -slope / curve))
        lag += step
        if abs(step) < 1e-6:
            break
    return lag if abs(lag - start) <= 1.0 else float(start)
