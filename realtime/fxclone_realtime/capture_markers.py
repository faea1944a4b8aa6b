"""Finding the test signal's markers in a recording: when each came back, which way up, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.errors import FxcloneError
from fxclone.signals.capture_signal import sweep_marker

Doubles = npt.NDArray[np.float64]

CLEAR = 9.0
"""A peak so many times above what is around it is a marker."""
SAME_PLACE_S = 0.003
"""How far a marker may lie from where the others say it is: more than any clock drifts within a minute."""
LARGEST_DRIFT = 1e-3
CLOCK_DRIFT = 3e-4
"""No two clocks of sound cards differ by more."""
ON_LINE_SAMPLES = 0.3
"""Half the width of the line through the markers: noise moves them less, a drop-out more."""
MOST_SLOPES = 400
AROUND_S = 0.04
"""What a peak is compared with: as far as no music reaches, because silence surrounds a marker."""
ONSET_S, ONSET_SHARE = 0.0015, 0.15
_NEAR = 256
_CLOSE = 16


@dataclass(frozen=True)
class MarkerFix:
    """Where a marker is in a recording.

    Attributes
    ----------
    position : float
        Its first sample, with fraction.
    polarity : int
        +1, or -1 if it came back inverted.
    clearness : float
        Its peak over the response around it; from 9 on it counts as found.
    onset : int
        The first sample at which anything of it arrives: before ``position``, because gear that rounds off transients
        has its peak late.
    """

    position: float
    polarity: int
    clearness: float
    onset: int = 0

    @property
    def found(self) -> bool:
        """Whether it stands out."""
        return self.clearness >= CLEAR


@dataclass(frozen=True)
class Placement:
    """How a recording lies against the signal: ``position = start + (1 + drift) * signal position``.

    Attributes
    ----------
    start : float
        Where the signal's first sample lies in the recording; negative if the recording begins later.
    drift_ppm : float
        How much slower the recorder's clock runs than the player's, so that the recording is longer.
    fixes : dict of int to MarkerFix
        The markers that were found, by their number.
    wander_samples : float
        Typical (median) distance of a marker from the line through them.
    on_line : int
        How many markers lie on that line.
    """

    start: float
    drift_ppm: float
    fixes: dict[int, MarkerFix]
    wander_samples: float
    on_line: int = 1

    @property
    def wandering(self) -> bool:
        """Whether the latency moves all the time, so that there is no line."""
        return len(self.fixes) > 2 and 2 * self.on_line < len(self.fixes)

    def at(self, signal_position: float) -> float:
        """Where in the recording a position of the signal lies."""
        return self.start + (1.0 + 1e-6 * self.drift_ppm) * signal_position


def response_to_marker(window: Doubles, sample_rate: int) -> Doubles:
    """Correlate with the marker, its own spectrum taken out once: a pulse where it arrives, as filtered by the gear.

    The phase of the marker is removed whole, its magnitude not, so the pulse of a pure delay is symmetric and its peak
    is not pulled aside, and bands that the marker does not reach add no noise.
    """
    marker = sweep_marker(sample_rate).astype(np.float64)
    size = int(fft.next_fast_len(window.size + marker.size, real=True))
    spectrum = fft.rfft(marker, size)
    magnitude = np.abs(spectrum)
    cross = fft.rfft(window, size) * np.conj(spectrum) / np.maximum(magnitude, 0.05 * float(magnitude.max()))
    out: Doubles = fft.irfft(cross, size)[: window.size]
    return out


def find_marker(sound: npt.NDArray[np.floating], first: int, last: int, sample_rate: int) -> MarkerFix | None:
    """Find the marker that begins between two samples of a recording.

    Parameters
    ----------
    sound : ndarray [shape=(samples,)]
        One channel.
    first, last : int
        Earliest and latest beginning. Parts outside the recording are taken as silence.

    Returns
    -------
    MarkerFix or None
        The best candidate, to be asked whether it is ``found``; None if there is only silence.
    """
    span = sweep_marker(sample_rate).size
    begin = first - _NEAR
    window = np.zeros(last - first + span + 2 * _NEAR)
    a, b = max(0, begin), min(sound.size, begin + window.size)
    if b <= a:
        return None
    window[a - begin : b - begin] = sound[a:b]
    if not np.any(window):
        return None
    response = response_to_marker(window, sample_rate)
    reach = round(AROUND_S * sample_rate)
    energy = _moving_mean(np.square(response), reach)
    floor = 1e-12 * float(energy.max()) + 1e-30
    score = np.abs(response) / np.sqrt(np.maximum(energy, floor))
    # The score finds the place also next to loud music; the summit itself is the response's.
    about = _NEAR + int(np.argmax(score[_NEAR : _NEAR + last - first + 1]))
    low = max(0, about - _CLOSE)
    top = low + int(np.argmax(np.abs(response[low : about + _CLOSE + 1])))
    return _fix(response, top, begin, reach)


def _fix(response: Doubles, top: int, offset: int, reach: int) -> MarkerFix:
    """Refine a peak to a fraction of a sample and say how far it stands out of what is around."""
    guard = reach // 20
    rest = np.concatenate([response[max(0, top - reach) : max(0, top - guard)], response[top + guard : top + reach]])
    noise = float(np.sqrt(np.mean(np.square(rest)))) if rest.size else 0.0
    sign = 1 if response[top] >= 0 else -1
    fraction = _refined(response, top, sign)
    early = max(0, top - round(ONSET_S / AROUND_S * reach))
    onset = early + int(np.argmax(np.abs(response[early : top + 1]) >= ONSET_SHARE * abs(response[top])))
    clearness = float(abs(response[top]) / max(noise, 1e-12))
    return MarkerFix(offset + top + fraction, sign, clearness, offset + onset)


def _moving_mean(values: Doubles, reach: int) -> Doubles:
    """Mean over ``reach`` to both sides; what is outside counts as 0."""
    sums = np.concatenate([np.zeros(1), np.cumsum(values)])
    at = np.arange(values.size)
    total = sums[np.minimum(at + reach + 1, values.size)] - sums[np.maximum(at - reach, 0)]
    out: Doubles = np.maximum(total, 0.0) / (2 * reach + 1)
    return out


def _refined(response: Doubles, top: int, sign: int) -> float:
    """The peak of the band-limited curve through the samples: Newton's steps on its Fourier sum."""
    half = min(_NEAR, top, response.size - 1 - top)
    if half < 8:
        return 0.0
    near = sign * response[top - half : top + half] * np.hanning(2 * half + 1)[:-1]
    spectrum = fft.rfft(near)
    omega = 2.0 * np.pi * np.arange(spectrum.size) / near.size
    at = 0.0
    for _ in range(12):
        turned = spectrum * np.exp(1j * omega * (half + at))
        slope, curve = float(np.sum(-omega * turned.imag)), float(np.sum(-(omega**2) * turned.real))
        if curve >= 0.0:
            return 0.0
        step = min(0.5, max(-0.5, -slope / curve))
        at += step
        if abs(step) < 1e-7:
            break
    return at if abs(at) <= 1.0 else 0.0


def find_markers(sound: npt.NDArray[np.floating], sample_rate: int) -> list[MarkerFix]:
    """Find every marker in a recording of any length, in order of time."""
    span = sweep_marker(sample_rate).size
    hop = 4 * span
    out: list[MarkerFix] = []
    for first in range(-span // 2, max(1, sound.size), hop):
        fix = find_marker(sound, first, first + hop - 1, sample_rate)
        if fix is not None and fix.found:
            out.append(fix)
    # A marker at the edge of two windows may be seen in both.
    return [fix for k, fix in enumerate(out) if k == 0 or fix.position - out[k - 1].position > span / 2]


def place(found: Sequence[MarkerFix], markers: Sequence[int], sample_rate: int) -> Placement:
    """Tell which found marker is which of the signal's, and fit time and clock through them.

    The distances of the signal's markers are all different, so the offset at which most of them meet a found one is
    the right one, also if some are missing and others are false.

    Raises
    ------
    FxcloneError
        If fewer than two fit.
    """
    best: dict[int, MarkerFix] = {}
    for k, marker in enumerate(markers):
        for fix in found:
            match = _matches(found, markers, k, marker, fix, sample_rate)
            if (len(match), _clearness(match)) > (len(best), _clearness(best)):
                best = match
    if len(best) < min(2, len(markers)):
        raise FxcloneError(
            f"the test signal is not in this recording: {len(found)} of its markers stand out, and expected were "
            f"{len(markers)} at their own distances; choose the recording of this signal, its length and rate"
        )
    return fitted(best, markers)


def _matches(
    found: Sequence[MarkerFix], markers: Sequence[int], k: int, marker: int, fix: MarkerFix, sample_rate: int
) -> dict[int, MarkerFix]:
    out = {k: fix}
    for other, position in enumerate(markers):
        if other == k:
            continue
        expected = fix.position + position - marker
        slack = SAME_PLACE_S * sample_rate + LARGEST_DRIFT * abs(position - marker)
        near = [each for each in found if abs(each.position - expected) <= slack]
        if near:
            out[other] = min(near, key=lambda each: abs(each.position - expected))
    return out


def _clearness(match: dict[int, MarkerFix]) -> float:
    return sum(fix.clearness for fix in match.values())


def fitted(fixes: dict[int, MarkerFix], markers: Sequence[int]) -> Placement:
    """The line on which most markers lie; a drop-out moves all after it, and must not turn it.

    Player and recorder mostly share a clock, so a level line is preferred unless a slope explains two markers more. If
    no line holds half of the markers, the latency itself is moving: then the line is of medians (Theil and Sen's).
    """
    numbers = sorted(fixes)
    x = np.array([markers[k] for k in numbers], np.float64)
    lag = np.array([fixes[k].position - markers[k] for k in numbers])
    level, start = _fullest(lag)
    drift, best = 0.0, level
    if x.size > 1:
        i, j = np.triu_indices(x.size, 1)
        every = max(1, i.size // MOST_SLOPES)
        slopes = ((lag[j] - lag[i]) / (x[j] - x[i]))[::every]
        for slope in slopes[np.abs(slopes) <= CLOCK_DRIFT]:
            count, offset = _fullest(lag - slope * x)
            if count > best and (count >= level + 2 or x.size == 2):
                best, drift, start = count, float(slope), offset
        if best > 2 and drift:
            on = np.abs(lag - drift * x - start) <= ON_LINE_SAMPLES
            drift, start = (float(value) for value in np.polyfit(x[on], lag[on], 1))
        if 2 * best < x.size:
            drift = float(np.median(slopes))
            start = float(np.median(lag - drift * x))
    away = np.abs(lag - drift * x - start)
    return Placement(
        start,
        1e6 * drift,
        {k: fixes[k] for k in numbers},
        wander_samples=float(np.median(away)),
        on_line=int(np.count_nonzero(away <= ON_LINE_SAMPLES)),
    )


def _fullest(values: Doubles) -> tuple[int, float]:
    """How many values lie closest together, within the width of a line, and the middle of those."""
    ordered = np.sort(values)
    until = np.searchsorted(ordered, ordered + 2 * ON_LINE_SAMPLES, side="right")
    counts = until - np.arange(ordered.size)
    k = int(np.argmax(counts))
    return int(counts[k]), float(np.median(ordered[k : until[k]]))
