"""The pure delay inside a linear response: what is left of its phase when its minimum phase is taken away.

A causal effect's response is a delay times a minimum-phase filter (times, for some, an all-pass). The magnitude tells
the minimum phase (Hilbert transform of its logarithm); the rest, the excess phase, is a straight line through 0 or
through pi whose slope is the delay and whose start is the polarity. A low-pass thus does not count as latency.

An effect without memory that is not linear is put before the response: the dry sound goes through a static curve, found
by least squares, that makes the wet sound a filtered version of it (a Hammerstein model).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.alignment_band import band_edge, effects_band

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

SIZE = 8192
"""Samples in a block of the averaged spectra."""
TINY = 1e-100
MOST_BLOCKS = 400
KNEES = (0.5, 0.12, 0.03, 0.006, 0.001)
"""Where the static curves bend, as shares of the dry sound's peak."""
EVEN_KNEES = (0.3, 0.003)
"""The same for the curves that rise to both sides."""
CURVES = 1 + len(KNEES) + len(EVEN_KNEES)
BETTER = 0.9
"""A curve is believed if it leaves less than this share of what was unexplained."""
SEEN = 6.0
"""A response counts as seen where it is this many standard errors above zero."""
CONVERTER = 0.82
"""Share of half the rate above which a fall may be a converter's linear-phase filter."""
BEND_FLOOR = 2e-3
PHASE_FLOOR = 5e-3
"""Radians that a phase is never better than; a response is not quite what an effect does."""
MOST_BINS = 1000
"""Bins that lines are fitted to; the others were smoothed into these."""
HIDDEN_FILTER = 0.03
"""Prior weight of a low-pass that begins beyond the last frequency seen."""
LOUD_COUNTS = 0.25
"""Exponent of power in the weight of a bin: what is 60 dB down counts a thirtieth. A sound far down may be a leak."""
DISTORTS = 0.5
"""An effect distorts for certain if a static curve leaves less than this share of what is unexplained without."""
INDEPENDENT = 12.0
"""How many bins count as independent when readings of the magnitude are compared."""


@dataclass(frozen=True)
class Spectra:
    """Sums over blocks.

    ``cross`` of each curve with wet (K, bins), ``auto`` (real part) among the curves (K, K, bins), power of ``wet``
    (bins); ``plain_cross``, ``plain_auto`` the same of the dry sound before any shaping.
    """

    cross: Complexes
    auto: Floats
    wet: Floats
    plain_cross: Complexes
    plain_auto: Floats
    blocks: float

    def power_through(self, weights: Floats) -> Floats:
        """Power of the sum of the curves with these weights."""
        flat = self.auto.reshape(len(weights) ** 2, -1)
        out: Floats = np.outer(weights, weights).ravel() @ flat
        return out

    def __add__(self, other: Spectra) -> Spectra:
        return Spectra(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


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
    edge: int
    """From this bin on there is no dry sound: it came at a lower rate, or from a lossy codec."""
    bins: int
    """Up to here a filter may act: all, or fewer if the effect itself worked at a lower rate."""


@dataclass(frozen=True)
class Delay:
    """The delay found in a response, in samples."""

    lag_samples: float
    uncertainty_samples: float
    polarity: int
    polarity_confidence: float
    reading: int
    """Which reading of the magnitude it is."""


class Curves:
    """The dry sound and static curves of it, each of unit power: odd ones and even ones, soft and hard."""

    def __init__(self, dry: Floats) -> None:
        self._top = float(np.abs(dry).max())
        sample = dry[:: max(1, len(dry) // 200_000)]
        raw = self._raw(sample)
        self._mean = raw.mean(axis=1, keepdims=True)
        self._mean[: 1 + len(KNEES)] = 0.0
        self._scale = 1.0 / (np.sqrt(np.mean(np.square(raw - self._mean), axis=1, keepdims=True)) + 1e-300)

    def __call__(self, dry: Floats) -> Floats:
        """All curves of a piece of the dry sound, (K, samples); the first is the sound itself."""
        out: Floats = (self._raw(dry) - self._mean) * self._scale
        return out

    def _raw(self, dry: Floats) -> Floats:
        return np.stack(
            [
                dry,
                *(np.tanh(dry / (self._top * knee)) for knee in KNEES),
                *(np.sqrt(np.square(dry) + (self._top * knee) ** 2) for knee in EVEN_KNEES),
            ]
        )


def blocks(length: int, most: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Where blocks of `SIZE` samples begin, half overlapping where they are few, and their window."""
    size = min(SIZE, length)
    count = min(most, max(1, 2 * (length // size) - 1))
    return np.linspace(0, length - size, count).astype(np.int64), np.hanning(size + 1)[:size]


def spectra(
    curves: Curves, dry: Floats, shaped: Floats, wet: Floats, *, most: int = MOST_BLOCKS, parts: int = 1
) -> list[Spectra]:
    """Welch's averages over blocks, for each of ``parts`` equal parts of the sound."""
    starts, window = blocks(len(dry), most)
    size, bins, kinds = len(window), SIZE // 2 + 1, CURVES
    share = min(1.0, len(dry) / size / len(starts) + 0.2)  # overlapping blocks are not independent
    out = []
    for some in np.array_split(starts, min(parts, len(starts))):
        cross = np.zeros((kinds, bins), np.complex128)
        auto = np.zeros((kinds, kinds, bins))
        power, plain_auto = np.zeros(bins), np.zeros(bins)
        plain_cross = np.zeros(bins, np.complex128)
        for start in some:
            f = fft.rfft(curves(shaped[start : start + size]) * window, SIZE)
            x = fft.rfft(dry[start : start + size] * window, SIZE)
            y = fft.rfft(wet[start : start + size] * window, SIZE)
            cross += np.conj(f) * y
            for row in range(kinds):
                auto[row, row:] += (np.conj(f[row]) * f[row:]).real
            power += np.abs(y) ** 2
            plain_cross += np.conj(x) * y
            plain_auto += np.abs(x) ** 2
        for row in range(kinds):
            auto[row + 1 :, row] = auto[row, row + 1 :]
        out.append(Spectra(cross, auto, power, plain_cross, plain_auto, len(some) * share))
    return out


def response(found: Spectra, lag: float) -> tuple[Response, Floats]:
    """The response after ``lag`` samples, and the static curve (weights of the curves) before it.

    The spectra are smoothed over a width that grows with frequency. That is a window on the response around ``lag``,
    the shorter the higher the frequency: reverberation that comes later than the direct sound is left out.
    """
    cross = found.cross * np.exp(1j * _omega() * lag)
    kernel = _Smoother(1.0)
    plain = np.eye(len(cross))[0]
    best, weights = _respond(found, cross, plain, kernel), plain
    # least squares finds the nearest optimum only: start from the dry sound and from the curve that explains most
    alone = [_respond(found, cross, row, kernel) for row in np.eye(len(cross))]
    for start in {0, int(np.argmax([one.coherence for one in alone]))}:
        if best.coherence > 0.999:
            break
        curve = _curve(found, cross, alone[start])
        if curve is None:
            continue
        curved = _respond(found, cross, curve, kernel)
        if 1.0 - curved.coherence < BETTER * (1.0 - best.coherence):
            best, weights = curved, curve
    if 1.0 - best.coherence < DISTORTS * (1.0 - alone[0].coherence):
        best = replace(best, bins=effects_band(found.plain_auto, found.wet))
    return best, weights


def response_through(found: Spectra, lag: float, curve: Floats, bins: int) -> Response:
    """The response after ``lag`` samples, with the static curve and the effect's band given."""
    return _respond(found, found.cross * np.exp(1j * _omega() * lag), curve, _Smoother(1.0), bins)


def _respond(found: Spectra, cross: Complexes, curve: Floats, kernel: _Smoother, bins: int | None = None) -> Response:
    one = kernel(curve @ cross)
    auto = np.maximum(kernel(found.power_through(curve)), TINY)
    wet = np.maximum(kernel(found.wet), TINY)
    smooth = one / auto
    explained = np.clip(np.abs(one) ** 2 / (auto * wet), 0.0, 1.0)
    averages = np.maximum(1.0, 0.5 * found.blocks * kernel.bins)
    error = np.sqrt(np.maximum(1.0 - explained, 1e-12) * wet / auto / averages)
    edge = band_edge(found.plain_auto)
    total = float(np.mean(explained[1:edge]))
    return Response(smooth, error, wet, (1.0 - explained) * wet, total, edge, bins or len(wet))


def _curve(found: Spectra, cross: Complexes, start: Response) -> Floats | None:
    """Weights of the curves whose sum, filtered by one response, comes nearest to wet (alternating least squares)."""
    h = start.smooth
    weights: Floats | None = None
    floor = 1e-8 * float(found.wet.max()) + 1e-300
    for _ in range(4):
        white = np.abs(h) ** 2 / (found.wet + floor)
        left = found.auto @ white
        right = np.real(cross @ (np.conj(h) / (found.wet + floor)))
        left += np.eye(len(left)) * 1e-6 * float(np.trace(left)) / len(left)
        weights = np.asarray(np.linalg.lstsq(left, right, rcond=None)[0], np.float64)
        if not np.isfinite(weights).all():
            return None
        auto = found.power_through(weights)
        h = (weights @ cross) / np.maximum(auto, 1e-300)
    # the curve rises with the dry sound: polarity belongs to the response
    if weights is not None and float(weights @ found.auto[:, 0].sum(axis=1)) < 0.0:
        weights = -weights
    return weights


def pure_delay(found: Response, lag: float, reading: int | None = None) -> Delay:
    """Split a response into delay and minimum phase; ``lag`` is what was taken out of it before.

    The magnitude is never seen at every frequency, and a converter's filter near half the rate has linear phase. So
    there are several readings of the magnitude (`_readings`), each with its delay. The one whose excess phase is
    straightest wins, and those that are nearly as straight make the uncertainty. Linear phase altogether
    is one reading, but it cannot win: a causal effect rarely has it. With ``reading`` (never that one) only it counts.
    """
    seen = _seen(found)
    if np.count_nonzero(seen) < 16:
        return Delay(lag, np.inf, 0, 0.0, 0)
    some = np.flatnonzero(seen)
    some = some[:: max(1, len(some) // MOST_BINS)]
    weight = 1.0 / ((found.error[some] / np.abs(found.smooth[some])) ** 2 + PHASE_FLOOR**2)
    weight *= (found.power[some] / found.power[some].max()) ** LOUD_COUNTS
    angle, w = np.angle(found.smooth[some]), _omega()[some]
    readings = _readings(found, seen)
    priors = np.array([prior for prior, _ in readings])
    if reading is not None:
        priors = np.eye(len(readings))[reading]
    excesses = [
        angle - _minimum_phase(level)[some] if prior else angle
        for prior, (_, level) in zip(priors, readings, strict=True)
    ]
    lines = [_line(excess, weight, w) if prior else NO_LINE for prior, excess in zip(priors, excesses, strict=True)]
    bends = np.array([line.bend for line in lines])
    likely = priors * ((bends + BEND_FLOOR) / (bends.min() + BEND_FLOOR)) ** -INDEPENDENT
    # no phase at all is always smooth, the phase of a noisy magnitude is not: linear phase may raise a doubt, not win
    best = int(np.argmax(likely[:-1]))
    likely[-1] = min(likely[-1], likely[best])
    likely /= likely.sum()
    line = lines[best]
    away = np.array([other.tau for other in lines]) - line.tau
    half = w > 0.5 * float(w[-1])
    high = _slope(excesses[best][half], weight[half], w[half], line.tau, line.polarity)
    low = _slope(excesses[best][~half], weight[~half], w[~half], line.tau, line.polarity)
    halves = min(abs(high - line.tau) + 0.25 * abs(low - line.tau), abs(high - low))
    spread = float(np.sqrt(line.spread**2 + np.sum(likely * away**2) + halves**2))
    return Delay(lag + line.tau, spread, line.polarity, line.trust, best)


def _seen(found: Response) -> npt.NDArray[np.bool_]:
    """Bins whose response stands out of the noise, and whose neighbours' does too: one bin may do so by luck."""
    out = np.abs(found.smooth) > SEEN * found.error
    out[:4] = False
    out[min(found.edge, len(out) - 2) :] = False
    seen: npt.NDArray[np.bool_] = out & (_Smoother(1.0)(out.astype(np.float64)) > 0.8)
    return seen


def _readings(found: Response, seen: npt.NDArray[np.bool_]) -> list[tuple[float, Floats]]:
    """What log|H| may be at every bin, with prior weights: the seen bins, joined, and guesses beyond the last."""
    level = np.log(np.abs(found.smooth[seen]) + 1e-300)
    place = np.flatnonzero(seen)
    last, bins = int(place[-1]), found.bins
    every = np.arange(bins)
    flat: Floats = np.interp(every, place, level)
    octave = np.log(np.maximum(every, 1) / last)
    warped = np.log(np.tan(np.pi / 2 * np.clip(every, 1, bins - 1.5) / (bins - 1)))
    warped -= warped[last]
    top = place > last / np.sqrt(2.0)
    out = [(1.0, flat)]
    for scale in (octave, warped):  # falling on as analogue filters do, and as digital ones do
        slope = min(0.0, float(np.polyfit(scale[place[top]], level[top], 1)[0])) if np.count_nonzero(top) > 8 else 0.0
        fallen = flat.copy()
        fallen[last + 1 :] += slope * scale[last + 1 :]
        out.append((1.0, fallen))
        # or a filter that begins where nothing is seen: at the last seen bin, or further up
        for start in (last, round(np.sqrt(last * (bins - 1)))):
            for order in (1.0, 2.0):
                filtered = fallen.copy()
                filtered[start + 1 :] -= order * (scale[start + 1 :] - scale[start])
                out.append((HIDDEN_FILTER, filtered))
    # every response has the same readings, so that a reading's number means the same in each part of the sound
    edge = int(CONVERTER * (bins - 1))
    clipped = flat.copy()
    clipped[edge:] = clipped[edge]
    out.append((0.5 if last > edge else 0.0, clipped))
    out.append((0.3, np.zeros(bins)))  # linear phase altogether, always the last
    return out


def _minimum_phase(log_magnitude: Floats) -> Floats:
    """Phase of the minimum-phase response of this magnitude, by folding the cepstrum (Oppenheim & Schafer)."""
    size = 2 * (len(log_magnitude) - 1)
    cepstrum = fft.irfft(log_magnitude, size)
    cepstrum[1 : size // 2] *= 2.0
    cepstrum[size // 2 + 1 :] = 0.0
    return np.imag(fft.rfft(cepstrum))


@dataclass(frozen=True)
class _Line:
    """A straight line through 0 or pi in the excess phase."""

    tau: float
    polarity: int
    spread: float
    bend: float
    """Weighted rms of what is not straight, in radians."""
    trust: float


NO_LINE = _Line(0.0, 0, 0.0, 1e3, 0.0)


def _line(excess: Floats, weight: Floats, w: Floats) -> _Line:
    few = np.linspace(0, len(w) - 1, min(len(w), 300)).astype(int)
    grid = np.arange(-24.0, 24.0, 0.25)
    turned = np.cos(excess[few] + np.outer(grid, w[few]))
    sums = turned @ weight[few]
    top = int(np.argmax(np.abs(sums)))
    polarity = 1 if sums[top] > 0 else -1
    tau = _slope(excess, weight, w, float(grid[top]), polarity)
    rest = np.angle(np.exp(1j * (excess + w * tau)) * polarity)
    fit = weight / weight.sum()
    bend = float(np.sqrt(np.sum(fit * rest**2)))
    trust = float(np.abs(np.sum(weight * np.cos(rest))) / weight.sum())
    # bins beside each other were smoothed together: few are independent
    spread = bend / float(np.sqrt(np.sum(fit * w**2) * 3.0 * INDEPENDENT))
    return _Line(tau, polarity, spread, bend, trust)


def _slope(excess: Floats, base: Floats, w: Floats, tau: float, polarity: int) -> float:
    """Slope near ``tau`` of the line through 0 (or pi), by least squares with Huber's weights."""
    if len(w) < 4:
        return tau
    for _ in range(8):
        rest = np.angle(np.exp(1j * (excess + w * tau)) * polarity)
        scale = 1.5 * float(np.median(np.abs(rest))) + 1e-6
        weight = base * np.minimum(1.0, scale / np.maximum(np.abs(rest), 1e-12))
        step = -float(np.sum(weight * rest * w) / np.sum(weight * w**2))
        tau += step
        if abs(step) < 1e-5:
            break
    return tau


def _omega() -> Floats:
    out: Floats = np.pi * np.arange(SIZE // 2 + 1) / (SIZE // 2)
    return out


class _Smoother:
    """Averages over bins, over a width that grows with frequency: 3 % to both sides, times ``width``."""

    def __init__(self, width: float) -> None:
        bins = np.arange(SIZE // 2 + 1)
        wide = np.minimum(bins * 0.03 * width, (SIZE // 2 - bins) * 0.2)  # a digital low-pass has a zero at the end
        reach = np.maximum(1, np.round(wide)).astype(int)
        self._low = np.maximum(bins - reach, 0)
        self._high = np.minimum(bins + reach, SIZE // 2) + 1
        self.bins = (self._high - self._low).astype(np.float64)

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # summed from the top: there are the small values of a low-pass, which a sum from below would drown
        sums = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
        out: npt.NDArray[Any] = (sums[self._low] - sums[self._high]) / self.bins
        return out
