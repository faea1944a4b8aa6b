"""The pure delay inside a linear response: what is left of its phase when its minimum phase is taken away.

A causal effect's response is a delay times a minimum-phase filter (times, for some, an all-pass). The magnitude tells the
minimum phase (Hilbert transform of its logarithm); the rest, the excess phase, is a straight line through 0 or through pi
whose slope is the delay and whose start is the polarity. A low-pass thus does not count as latency.

An effect without memory that is not linear is put before the response: the dry sound goes through a static curve, found
by least squares, that makes the wet sound a filtered version of it (a Hammerstein model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

SIZE = 8192
"""Samples in a block of the averaged spectra."""
MOST_BLOCKS = 400
KNEES = (0.5, 0.12, 0.03, 0.006, 0.001)
"""Where the static curves bend, as shares of the dry sound's peak."""
SEEN = 4.0
"""A response counts as seen where it is this many standard errors above zero."""


@dataclass(frozen=True)
class Spectra:
    """Averaged over blocks: ``cross`` of each feature with wet (K, bins), ``auto`` among the features (K, K, bins)."""

    cross: Complexes
    auto: Complexes
    wet: Floats
    blocks: float


@dataclass(frozen=True)
class Response:
    """What goes from the (curved) dry sound to the wet one: smoothed, with how far to trust each bin."""

    smooth: Complexes
    error: Floats
    """Standard error of ``smooth``."""
    power: Floats
    """Wet's power."""
    noise: Floats
    """Wet's power that is not explained."""
    coherence: float
    """Share of wet's power explained, every frequency counting alike."""


@dataclass(frozen=True)
class Delay:
    """The delay found in a response, in samples."""

    lag_samples: float
    uncertainty_samples: float
    polarity: int
    polarity_confidence: float


def features(dry: Floats) -> Floats:
    """The dry sound and static curves of it, (K, samples), each of unit power; the dry sound itself first."""
    top = float(np.abs(dry).max())
    odd = [dry, *(np.tanh(dry / (top * knee)) for knee in KNEES)]
    even = [np.sqrt(np.square(dry) + (top * knee) ** 2) for knee in (0.3, 0.003)]
    out = np.stack([*odd, *(curve - curve.mean() for curve in even)])
    out /= np.sqrt(np.mean(np.square(out), axis=1, keepdims=True)) + 1e-300
    return out


def spectra(features: Floats, wet: Floats) -> Spectra:
    """Welch's averages over blocks of `SIZE` samples, half overlapping where they are few."""
    length = features.shape[1]
    size = min(SIZE, length)
    count = min(MOST_BLOCKS, max(1, 2 * (length // size) - 1))
    starts = np.linspace(0, length - size, count).astype(int)
    window = np.hanning(size + 1)[:size]
    kinds, bins = len(features), SIZE // 2 + 1
    cross = np.zeros((kinds, bins), np.complex128)
    auto = np.zeros((kinds, kinds, bins), np.complex128)
    power = np.zeros(bins)
    for start in starts:
        f = fft.rfft(features[:, start : start + size] * window, SIZE)
        y = fft.rfft(wet[start : start + size] * window, SIZE)
        cross += np.conj(f) * y
        auto += np.conj(f)[:, None] * f[None]
        power += np.abs(y) ** 2
    return Spectra(cross, auto, power, count * min(1.0, length / size / count + 0.2))


def response(found: Spectra, lag: float, width: float = 1.0) -> tuple[Response, Floats]:
    """The response after ``lag`` samples, and the static curve (weights of the features) before it.

    The spectra are smoothed over a width that grows with frequency. That is a window on the response around ``lag``,
    the shorter the higher the frequency: reverberation that comes later than the direct sound is left out.
    """
    turn = np.exp(1j * _omega() * lag)
    cross = found.cross * turn
    kernel = _Smoother(width)
    plain = np.zeros(len(cross))
    plain[0] = 1.0
    straight = _respond(found, cross, plain, kernel)
    curve = _curve(found, cross, straight)
    if curve is None:
        return straight, plain
    curved = _respond(found, cross, curve, kernel)
    if 1.0 - curved.coherence > 0.8 * (1.0 - straight.coherence):
        return straight, plain
    return curved, curve


def _respond(found: Spectra, cross: Complexes, curve: Floats, kernel: _Smoother) -> Response:
    one = kernel(curve @ cross)
    auto = np.maximum(kernel(np.real(np.einsum("i,ijk,j->k", curve, found.auto, curve))), 1e-300)
    wet = np.maximum(kernel(found.wet), 1e-300)
    smooth = one / auto
    explained = np.clip(np.abs(one) ** 2 / (auto * wet), 0.0, 1.0)
    averages = np.maximum(1.0, 0.5 * found.blocks * kernel.bins)
    error = np.sqrt(np.maximum(1.0 - explained, 1e-12) * wet / auto / averages)
    return Response(smooth, error, wet, (1.0 - explained) * wet, float(np.mean(explained[1:])))


def _curve(found: Spectra, cross: Complexes, start: Response) -> Floats | None:
    """Weights of the features whose sum, filtered by one response, comes nearest to wet (alternating least squares)."""
    h = start.smooth
    weights = None
    floor = 1e-8 * float(found.wet.max()) + 1e-300
    for _ in range(4):
        white = np.abs(h) ** 2 / (found.wet + floor)
        left = np.real(found.auto @ white)
        right = np.real(cross @ (np.conj(h) / (found.wet + floor)))
        left += np.eye(len(left)) * 1e-6 * float(np.trace(left)) / len(left)
        weights = np.linalg.solve(left, right)
        if not np.isfinite(weights).all():
            return None
        auto = np.real(np.einsum("i,ijk,j->k", weights, found.auto, weights))
        h = (weights @ cross) / np.maximum(auto, 1e-300)
    # the curve rises with the dry sound: polarity belongs to the response
    if weights is not None and float(np.real(weights @ found.auto[:, 0].sum(axis=1))) < 0.0:
        weights = -weights
    return weights


def pure_delay(found: Response, lag: float) -> Delay:
    """Split a response into delay and minimum phase; ``lag`` is what was taken out of it before."""
    omega = _omega()
    seen = _seen(found)
    if np.count_nonzero(seen) < 16:
        return Delay(lag, np.inf, 0, 0.0)
    sigma = np.maximum(found.error[seen] / np.abs(found.smooth[seen]), 1e-4)
    angle = np.angle(found.smooth[seen])
    w = omega[seen]
    results = []
    for extend in (True, False):
        filled = _filled(found, seen, extend)
        excess = angle - _minimum_phase(filled)[seen]
        results.append(_line(excess, sigma, w))
    main, other = results
    tau, polarity, spread, trust = main
    half = np.median(w)
    low = _line_near(excess := angle - _minimum_phase(_filled(found, seen, True))[seen], sigma, w, tau, w <= half)
    high = _line_near(excess, sigma, w, tau, w > half)
    uncertainty = float(
        np.sqrt(spread**2 + (tau - other[0]) ** 2 + min((low - tau) ** 2, (high - low) ** 2) + (high - tau) ** 2)
    )
    return Delay(lag + tau, uncertainty, polarity, trust)


def _seen(found: Response) -> npt.NDArray[np.bool_]:
    out: npt.NDArray[np.bool_] = np.abs(found.smooth) > SEEN * found.error
    out[:4] = False
    out[-2:] = False
    return out


def _filled(found: Response, seen: npt.NDArray[np.bool_], extend: bool) -> Floats:
    """log|H| at every bin: between seen bins interpolated; above them level, or falling on as it fell (``extend``)."""
    level = np.log(np.abs(found.smooth[seen]) + 1e-300)
    place = np.flatnonzero(seen)
    every = np.arange(len(seen))
    out: Floats = np.interp(every, place, level)
    last = int(place[-1])
    if extend and last < len(seen) - 1:
        top = place > last / np.sqrt(2.0)
        if np.count_nonzero(top) >= 8:
            slope, start = np.polyfit(np.log(place[top]), level[top], 1)
            slope = min(0.0, float(slope))
            out[last + 1 :] = level[-1] + slope * (np.log(every[last + 1 :]) - np.log(last))
    return out


def _minimum_phase(log_magnitude: Floats) -> Floats:
    """Phase of the minimum-phase response of this magnitude, by folding the cepstrum (Oppenheim & Schafer)."""
    size = 2 * (len(log_magnitude) - 1)
    cepstrum = fft.irfft(log_magnitude, size)
    cepstrum[1 : size // 2] *= 2.0
    cepstrum[size // 2 + 1 :] = 0.0
    return np.imag(fft.rfft(cepstrum))


def _line(excess: Floats, sigma: Floats, w: Floats) -> tuple[float, int, float, float]:
    """Slope, polarity, spread and polarity's trust of the straight line through 0 or pi in ``excess`` (radians)."""
    weight = 1.0 / (sigma**2 + 0.01)
    grid = np.arange(-24.0, 24.0, 0.1)
    sums = np.array([np.sum(weight * np.cos(excess + w * tau)) for tau in grid]) / weight.sum()
    tau = float(grid[np.argmax(np.abs(sums))])
    polarity = 1 if sums[np.argmax(np.abs(sums))] > 0 else -1
    tau = _line_near(excess, sigma, w, tau, np.ones(len(w), bool), polarity)
    rest = np.angle(np.exp(1j * (excess + w * tau)) * polarity)
    trust = float(np.abs(np.sum(weight * np.cos(rest))) / weight.sum())
    fit = 1.0 / (sigma**2 + 1e-4)
    # bins beside each other were smoothed together: some 40 of them are independent
    spread = float(np.sqrt(np.sum(fit * rest**2) / fit.sum() / (np.sum(fit * w**2) / fit.sum()) / 40.0))
    return tau, polarity, spread, trust


def _line_near(
    excess: Floats, sigma: Floats, w: Floats, tau: float, use: npt.NDArray[np.bool_], polarity: int = 0
) -> float:
    """Slope of the line through ``use`` only, near ``tau``, by least squares with Huber's weights."""
    if np.count_nonzero(use) < 4:
        return tau
    excess, sigma, w = excess[use], sigma[use], w[use]
    if polarity == 0:
        polarity = 1 if float(np.sum(np.cos(excess + w * tau) / (sigma**2 + 0.01))) > 0 else -1
    for _ in range(8):
        rest = np.angle(np.exp(1j * (excess + w * tau)) * polarity)
        scale = 1.5 * float(np.median(np.abs(rest))) + 1e-6
        weight = 1.0 / (sigma**2 + 1e-4) * np.minimum(1.0, scale / np.maximum(np.abs(rest), 1e-12))
        step = -float(np.sum(weight * rest * w) / np.sum(weight * w**2))
        tau += step
        if abs(step) < 1e-6:
            break
    return tau


def _omega() -> Floats:
    out: Floats = np.pi * np.arange(SIZE // 2 + 1) / (SIZE // 2)
    return out


class _Smoother:
    """Averages over bins, over a width that grows with frequency (a twelfth of an octave times ``width``, 3 at least)."""

    def __init__(self, width: float) -> None:
        bins = np.arange(SIZE // 2 + 1)
        reach = np.maximum(1, np.round(bins * 0.03 * width)).astype(int)
        self._low = np.maximum(bins - reach, 0)
        self._high = np.minimum(bins + reach, SIZE // 2) + 1
        self.bins = (self._high - self._low).astype(np.float64)

    def __call__(self, values: npt.NDArray) -> npt.NDArray:  # type: ignore[type-arg]
        # summed from the top: there are the small values of a low-pass, which a sum from below would drown
        sums = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
        return (sums[self._low] - sums[self._high]) / self.bins
