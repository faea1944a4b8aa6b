"""Feedback delays: ten seconds of echoes as a delay and a handful of weights, found in a response.

    wet = direct * dry + sum over lines of v,    v[n] = u[n - D],    u = feed * dry + loop * v

with short filters ``feed`` and ``loop`` (a gain, a tone control, a fraction of a sample), one matrix of them per line,
so that left may feed right. In a response such a line shows as sparse echoes, each the one before it sent through
``loop`` once more: h[n] = (loop * h)[n - D] behind the first echo. That is linear in ``loop``, and so, on the pair
itself, is wet[n] = (direct * dry)[n] + (c * dry)[n - D] + (loop * wet)[n - D] with c = feed - loop * direct: one small
least squares gives all three (equation error; Ljung, System Identification, 10.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from fxclone.audio import TINY_POWER, Audio, power_to_db
from fxclone_training.tail_identify import Doubles, convolve, identify

SHORTEST_S = 0.02
"""Echoes closer than this are a matter of the response: a delay line would save nothing."""
GAP_SAMPLES = 256
"""Sound apart by more than this is two echoes."""
AUDIBLE = 1e-7
"""Power under the strongest tap that is no echo any more."""
MOST_FILLED = 0.2
"""A response with sound in more than this share of its length is no set of echoes."""
LOOP_TAPS = (1, 4, 16, 64)
MOST_LINES = 4
CANDIDATES = 6
EXPLAINED_DB, PROPOSED_DB = -60.0, -15.0
BETTER = 0.999
"""More weights must leave less than this share of the energy that fewer leave."""
LARGEST_LOOP_GAIN = 0.999
CHEAPER = 20
"""The response must have this many times the weights of its structure."""


@dataclass(frozen=True)
class DelayLine:
    """One delay with feedback.

    Attributes
    ----------
    delay_samples : int
        D.
    feed : ndarray [shape=(channels out, channels in, taps)]
        From the dry sound into the line.
    loop : ndarray [shape=(channels out, channels out, taps)]
        From the line's end into its beginning; from the second index's channel into the first's. Zero: no feedback.
    """

    delay_samples: int
    feed: Audio
    loop: Audio


@dataclass(frozen=True)
class DelayStructure:
    """A direct response, and delay lines beside it.

    Attributes
    ----------
    direct : ndarray [shape=(channels out, channels in, taps)]
    lines : tuple of DelayLine
        Heard as they are: line channel k in output channel k.
    explained_db : float
        Energy that it leaves of the response (or of the wet sound) it was found in, relative to that, in dB.
    """

    direct: Audio
    lines: tuple[DelayLine, ...]
    explained_db: float

    @property
    def weights(self) -> int:
        """Taps that are not zero."""
        parts = [self.direct, *(part for line in self.lines for part in (line.feed, line.loop))]
        return sum(int(np.count_nonzero(part)) for part in parts)

    @property
    def loop_gain(self) -> float:
        """Largest gain of a round at any frequency; under 1, all echoes decay."""
        return max((largest_gain(line.loop) for line in self.lines), default=0.0)

    def render(self, dry: Audio) -> Audio:
        """Wet sound from a fresh state: (channels in, samples) to (channels out, samples)."""
        out = convolve(dry, self.direct).astype(np.float64)
        for line in self.lines:
            out += run_line(line, dry)
        return out.astype(np.float32)


def search_delay(
    dry: Audio, wet: Audio, response: Audio, residual_db: float, sample_rate: int
) -> DelayStructure | None:
    """Delay lines that explain a pair as well as its response does, or None: `find_delay`, then `identify_delay`.

    A response that ends before the echoes do is a bad likeness, but it shows where they are.

    Parameters
    ----------
    dry, wet : ndarray [shape=(channels, samples)]
    response : ndarray [shape=(channels out, channels in, taps)]
        Fitted to that pair; its first seconds are enough.
    residual_db : float
        What that response leaves of the wet sound.
    sample_rate : int
        In Hz.
    """
    proposed = find_delay(response, sample_rate, explained_db=PROPOSED_DB)
    if proposed is None:
        return None
    structure = identify_delay(dry, wet, proposed)
    return structure if structure.explained_db <= max(EXPLAINED_DB, residual_db + 1) else None


def find_delay(response: Audio, sample_rate: int, *, explained_db: float = EXPLAINED_DB) -> DelayStructure | None:
    """Look for the echoes of delay lines in a response.

    Parameters
    ----------
    response : ndarray [shape=(channels out, channels in, taps)]
        Long enough to hold two rounds of the delay.
    sample_rate : int
        In Hz.
    explained_db : float
        What the lines may leave of the response.

    Returns
    -------
    DelayStructure or None
        None if lines do not explain the response to ``explained_db`` or nearly its own noise, if a loop does not
        decay, or if little is saved.
    """
    taps = response.shape[2]
    energy = float(np.square(response, dtype=np.float64).sum())
    if energy <= TINY_POWER:
        return None
    noise = _noise(response)
    clusters = _clusters(response, noise)
    shortest = round(SHORTEST_S * sample_rate)
    late = [cluster for cluster in clusters if cluster[0] >= shortest]
    if not late or sum(end - start for start, end in clusters) > MOST_FILLED * taps:
        return None
    direct_taps = max([end for start, end in clusters if start < shortest], default=1)
    direct = response[..., :direct_taps].copy()
    left = response.astype(np.float64)
    left[..., :direct_taps] = 0
    goal = max(10 ** (explained_db / 10) * energy, 1.3 * noise * response.size)
    lines: list[DelayLine] = []
    while float(np.square(left).sum()) > goal:
        late = [cluster for cluster in _clusters(left, noise) if cluster[0] >= shortest][:CANDIDATES]
        if not late or len(lines) == MOST_LINES:
            return None
        line, left = min(
            (_line_at(left, start, end, noise) for start, end in late),
            key=lambda found: float(np.square(found[1]).sum()),
        )
        lines.append(line)
    structure = DelayStructure(direct, tuple(lines), power_to_db(float(np.square(left).sum()) / energy))
    if structure.loop_gain > LARGEST_LOOP_GAIN or structure.weights * CHEAPER > response.size:
        return None
    return structure


def identify_delay(dry: Audio, wet: Audio, structure: DelayStructure) -> DelayStructure:
    """Refine a structure on the pair it was found in; a structure of more than one line stays as it is.

    Parameters
    ----------
    dry, wet : ndarray [shape=(channels, samples)]
    structure : DelayStructure

    Returns
    -------
    DelayStructure
        The one that leaves less of the wet sound, running freely; ``explained_db`` is now what that is.
    """
    best = _judged(dry, wet, structure)
    if len(structure.lines) != 1:
        return best
    line = structure.lines[0]
    late = line.delay_samples
    taps = max(structure.direct.shape[2], line.feed.shape[2], line.loop.shape[2])
    taps = min(taps + line.loop.shape[2] - 1, late)
    inputs = np.concatenate([dry, _delayed(dry, late), _delayed(wet, late)])
    fit = identify(inputs, wet, taps, iterations=200, target_db=-120.0).responses
    ci = dry.shape[0]
    direct, crossed, loop = fit[:, :ci], fit[:, ci : 2 * ci], fit[:, 2 * ci :]
    loop = _pruned(loop[..., : line.loop.shape[2]])
    direct = _pruned(direct[..., : structure.direct.shape[2]])
    back = signal.fftconvolve(loop[:, :, None].astype(np.float64), direct[None].astype(np.float64), axes=3).sum(axis=1)
    feed = crossed.astype(np.float64)
    shared = min(taps, back.shape[2])
    feed[..., :shared] += back[..., :shared]
    refined = DelayStructure(direct, (DelayLine(late, _pruned(feed[..., : line.feed.shape[2]]), loop),), 0.0)
    if refined.loop_gain > LARGEST_LOOP_GAIN:
        return best
    refined = _judged(dry, wet, refined)
    return refined if refined.explained_db < best.explained_db else best


def _judged(dry: Audio, wet: Audio, structure: DelayStructure) -> DelayStructure:
    left = structure.render(dry).astype(np.float64) - wet
    total = max(float(np.square(wet, dtype=np.float64).sum()), TINY_POWER)
    return DelayStructure(structure.direct, structure.lines, power_to_db(float(np.square(left).sum()) / total))


def _line_at(left: Doubles, start: int, end: int, noise: float) -> tuple[DelayLine, Doubles]:
    """The line whose first echo is at ``start``, with as short a loop as explains most, and what it leaves."""
    end = min(end, 2 * start)
    none = DelayLine(start, left[..., start:end].astype(np.float32), np.zeros((len(left), len(left), 1), np.float32))
    found = none, left - _line_response(none, left.shape[2])
    for loop_taps in LOOP_TAPS:
        # A round may begin to sound a little before one delay is over, if the first echo begins late in its filter.
        for late in (start, start - loop_taps // 2) if loop_taps > 1 else (start,):
            for rows in _echoes(left, late, end, loop_taps, noise):
                loop = _loop(left, late, min(loop_taps, late), rows)
                line = DelayLine(late, left[..., late:end].astype(np.float32), loop.astype(np.float32))
                if largest_gain(line.loop) > LARGEST_LOOP_GAIN:
                    continue
                rest = left - _line_response(line, left.shape[2])
                if float(np.square(rest).sum()) < BETTER * float(np.square(found[1]).sum()):
                    found = line, rest
    return found


def _echoes(left: Doubles, late: int, end: int, loop_taps: int, noise: float) -> list[npt.NDArray[np.intp]]:
    """Where to look for how an echo makes the next: everywhere (less noise), or at the second alone (no other line)."""
    length = left.shape[2]
    near = np.zeros(length, bool)
    for first, last in _clusters(left, noise):
        for shift in (0, late):
            near[first + shift : last + shift + loop_taps] = True
    near[: 2 * late] = False
    second = np.arange(2 * late, min(length, late + end + loop_taps))
    return [rows for rows in (np.flatnonzero(near), second) if len(rows) > 0]


def _loop(left: Doubles, late: int, taps: int, rows: npt.NDArray[np.intp]) -> Doubles:
    """Filters (out, out, taps) that make each echo of the one before it, by least squares over some samples."""
    out = len(left)
    # (out * taps, into * rows): an output channel of the line, which the loop hears, at each lag
    heard = np.stack([source[:, rows - late - lag].ravel() for source in left for lag in range(taps)])
    normal = heard @ heard.T
    normal += 1e-9 * max(float(np.trace(normal)), TINY_POWER) / len(heard) * np.eye(len(heard))
    aims = left[:, :, rows].reshape(out, -1)
    found: Doubles = np.linalg.solve(normal, heard @ aims.T).T.reshape(out, out, taps)
    found[np.abs(found) < 1e-4 * np.abs(found).max()] = 0
    return found


def run_line(line: DelayLine, dry: Audio) -> Doubles:
    """What comes out of a line, (channels out, samples), in steps of its delay."""
    late, past = line.delay_samples, line.loop.shape[2] - 1
    n = dry.shape[1]
    fed = convolve(dry, line.feed).astype(np.float64)
    out = np.zeros((line.feed.shape[0], n))
    loop = line.loop.astype(np.float64)
    for start in range(late, n, late):
        now = slice(start, min(n, start + late))
        before = slice(now.start - late, now.stop - late)
        heard = np.pad(out[:, max(0, before.start - past) : before.stop], ((0, 0), (max(0, past - before.start), 0)))
        for to, channel in enumerate(out):
            channel[now] = fed[to, before]
            for source, sound in enumerate(heard):
                channel[now] += signal.convolve(sound, loop[to, source], mode="valid")
    return out


def _line_response(line: DelayLine, taps: int) -> Doubles:
    """The response of a line, (channels out, channels in, taps)."""
    impulse = np.zeros((1, taps), np.float32)
    impulse[0, 0] = 1
    single = [DelayLine(line.delay_samples, line.feed[:, i : i + 1], line.loop) for i in range(line.feed.shape[1])]
    return np.stack([run_line(part, impulse) for part in single], axis=1)


def _noise(response: npt.NDArray[np.floating]) -> float:
    """Power of a tap where nothing is: a sparse response is nothing nearly everywhere."""
    return float(np.median(np.square(response, dtype=np.float64).mean(axis=(0, 1)))) / 0.455


def _clusters(response: npt.NDArray[np.floating], noise: float) -> list[tuple[int, int]]:
    """First and past-last sample of each stretch of sound."""
    power = np.square(response, dtype=np.float64).max(axis=(0, 1))
    loud = np.flatnonzero(power > max(AUDIBLE * float(power.max()), 40 * noise))
    if len(loud) == 0:
        return []
    cuts = np.flatnonzero(np.diff(loud) > GAP_SAMPLES)
    starts = loud[np.concatenate([[0], cuts + 1])]
    ends = loud[np.concatenate([cuts, [len(loud) - 1]])] + 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def largest_gain(loop: Audio) -> float:
    """Largest gain of one round through ``loop`` (lines, lines, taps) at any frequency."""
    spectra = fft.rfft(loop.astype(np.float64), max(1024, 4 * loop.shape[2]))
    return float(np.linalg.norm(np.moveaxis(spectra, -1, 0), ord=2, axis=(1, 2)).max())


def _delayed(sound: Audio, samples: int) -> Audio:
    return np.pad(sound, ((0, 0), (samples, 0)))[:, : sound.shape[1]]


def _pruned(filters: npt.NDArray[np.floating]) -> Audio:
    """Without taps that are only rounding, and without zeros at the end."""
    kept = np.where(np.abs(filters) > 1e-5 * np.abs(filters).max(), filters, 0.0)
    used = np.flatnonzero(kept.any(axis=(0, 1)))
    out: Audio = kept[..., : (int(used[-1]) + 1 if len(used) else 1)].astype(np.float32)
    return out
