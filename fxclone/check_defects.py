"""Faults of a recording, each told from what an effect does on purpose: clipping, drop-outs, repeats, hum, offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.audio import gain_to_db, peak, power_to_db, rms

_Sound = npt.NDArray[np.float32]
_Flags = npt.NDArray[np.bool_]

FLAT_SAMPLES = 3
"""So many samples of exactly the same extreme value are a flat top; two may happen by themselves."""
LEAST_FLATS = 3
ABRUPT = 3e-4
"""How far, as a share of the ceiling, the sample before a flat top lies under it at least. A curve that saturates
(tanh) creeps up to its ceiling, so that some of these samples lie very near; a converter's limit cuts a wave off."""
DROP_S = 0.0007
LEAST_REPEAT, MOST_REPEAT = 64, 4096
MAINS_HZ = (50.0, 60.0)


@dataclass(frozen=True)
class Place:
    """A stretch of samples with something wrong in it."""

    start: int
    samples: int


def _runs(flags: _Flags, least: int) -> list[Place]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= least
    return [Place(int(a), int(b - a)) for a, b in zip(starts[long], ends[long], strict=True)]


def flat_tops(sound: _Sound, least_ceiling: float = 0.0) -> list[Place]:
    """Flat tops at the sound's own extreme values, entered abruptly, as an overloaded recorder leaves them.

    Parameters
    ----------
    sound : ndarray [shape=(samples,)]
        One channel.
    least_ceiling : float
        Ceilings under this are left alone: an effect may clip anywhere, a recorder only near full scale.
    """
    found: list[Place] = []
    for sign in (1.0, -1.0):
        top = float((sign * sound).max())
        if top < max(least_ceiling, 1e-3):
            continue
        runs = _runs(sign * sound >= top * (1.0 - 1e-6), FLAT_SAMPLES)
        below = []
        for run in runs:
            for n in (run.start - 1, run.start + run.samples):
                if 0 <= n < sound.shape[0]:
                    below.append(1.0 - sign * float(sound[n]) / top)
        if len(runs) < LEAST_FLATS or not below:
            continue
        lowest, middle = np.quantile(below, [0.1, 0.5])
        if middle >= ABRUPT and lowest > 0.08 * middle:
            found += runs
    return [] if _stepped(sound, len(found)) else sorted(found, key=lambda run: run.start)


def _stepped(sound: _Sound, tops: int) -> bool:
    """Whether the wave is made of steps (a bit crusher): then it is flat everywhere, and not only at its top."""
    step = np.abs(np.diff(sound))
    size = np.abs(sound[:-1])
    top = float(size.max(initial=0.0))
    flat = (step == 0.0) & (size > 0.1 * top) & (size < 0.9 * top)
    edges = np.flatnonzero(flat[1:-1] & ~flat[:-2]) + 1  # where a flat stretch begins, after a jump
    return tops > 0 and int(np.count_nonzero(step[edges - 1] > 1e-3 * top)) > 2 * tops


def not_shared(places: list[Place], others: list[Place]) -> list[Place]:
    """Those places that do not touch any of the others."""
    marks = sorted((other.start, other.start + other.samples) for other in others)
    starts = np.array([a for a, _ in marks])
    ends = np.array([b for _, b in marks])
    out = []
    for place in places:
        k = int(np.searchsorted(starts, place.start + place.samples + 2))
        if k == 0 or ends[k - 1] < place.start - 2:
            out.append(place)
    return out


def drop_outs(dry: _Sound, wet: _Sound, sample_rate: int) -> list[Place]:
    """Sudden holes in the wet sound while the dry sound goes on.

    A hole is a stretch of at least 0.7 ms at under a thousandth of the level on both sides of it. A gate, a fuzz that
    starves or a converter of few bits are silent too, but only where the dry sound is soft: where the wet sound is
    mostly heard at the dry level of the hole, the hole is a fault.

    Parameters
    ----------
    dry, wet : ndarray [shape=(samples,)]
        One channel each, aligned to a sample or so.
    sample_rate : int
        In Hz.
    """
    from scipy.ndimage import maximum_filter1d, uniform_filter1d

    near = max(8, round(0.004 * sample_rate))
    least = max(16, round(DROP_S * sample_rate))
    around = uniform_filter1d(np.square(wet, dtype=np.float64), round(0.1 * sample_rate))
    local = np.sqrt(np.maximum(around, 0.0))
    low = np.abs(wet) <= np.maximum(1e-3 * local, 1e-7)
    level = rms(wet)
    if level == 0.0:
        return []
    played = maximum_filter1d(np.abs(dry), 2 * near + 1)
    heard = maximum_filter1d(np.abs(wet), 2 * near + 1)
    played_level = rms(dry)
    found = []
    for run in _runs(low, least):
        end = run.start + run.samples
        before, after = wet[max(0, run.start - near) : run.start], wet[end : end + near]
        if before.size < near or after.size < near:
            continue
        sides = min(rms(before), rms(after))
        step = max(float(np.abs(before[-2:]).max()), float(np.abs(after[:2]).max()))
        playing = min(rms(part) for part in np.array_split(dry[run.start : end], 4))
        if np.ptp(dry[run.start : end]) < 1e-3 * played_level:
            continue  # an echo of a flat top may cancel it exactly
        if sides < 0.03 * level or step < 0.02 * sides or playing < 0.02 * played_level:
            continue
        found.append(run)
    # What does the effect do elsewhere, where it is played as loudly: envelope for envelope, and sample for sample?
    elsewhere = np.ones(wet.shape[0], bool)
    for run in found:
        elsewhere[max(0, run.start - 2 * near) : run.start + run.samples + 2 * near] = False
    played, heard, size, low = played[elsewhere], heard[elsewhere], np.abs(dry)[elsewhere], low[elsewhere]
    faults = []
    for run in found:
        inside = peak(dry[run.start : run.start + run.samples])
        answers = heard[(played > 0.7 * inside) & (played < 1.4 * inside)] > 1e-3 * level
        dead = low[(size > 0.8 * inside) & (size < 1.2 * inside)]
        if (answers.size < near or float(answers.mean()) > 0.8) and (dead.size < 8 or float(dead.mean()) < 0.2):
            faults.append(run)
    return faults


def repeats(dry: _Sound, wet: _Sound) -> list[Place]:
    """Blocks of 64 to 4,096 samples that come twice in a row in the wet sound, but not in the dry.

    Exact repeats of any length are found by the bits of the samples; repeats of common block lengths also if the
    samples were scaled or dithered afterwards.

    Returns
    -------
    list of Place
        Where the second copy starts, and its length.
    """
    found = _exact_repeats(wet)
    for size in (128, 256, 441, 480, 512, 960, 1024, 2048, 4096):
        found += _near_repeats(wet, size)
    out: list[Place] = []
    for place in sorted(set(found), key=lambda p: (-p.samples, p.start)):
        lag, first = place.samples, place.start
        a, b = dry[first - lag : first], dry[first : first + lag]
        same_dry = b.size == lag and float(np.vdot(a, b)) > 0.95 * lag * rms(a) * rms(b)
        overlaps = any(place.start < o.start + o.samples and o.start < place.start + place.samples for o in out)
        if not same_dry and not overlaps:
            out.append(place)
    return sorted(out, key=lambda p: p.start)


def _exact_repeats(wet: _Sound) -> list[Place]:
    bits = np.ascontiguousarray(wet).view(np.uint32).astype(np.uint64)
    reach = 24
    count = bits.shape[0] - reach
    if count <= 2 * LEAST_REPEAT:
        return []
    key = np.zeros(count, np.uint64)
    for offset in (0, 3, 7, 12, 18, 24):
        key = key * np.uint64(0x9E3779B97F4A7C15) + bits[offset : offset + count]
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    twin = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    first, second = order[twin], order[twin + 1]
    lag = second - first
    fits = (lag >= LEAST_REPEAT) & (lag <= MOST_REPEAT)
    first, second, lag = first[fits], second[fits], lag[fits]
    by_place = np.argsort(second)
    second, lag = second[by_place], lag[by_place]
    found = []
    breaks = np.flatnonzero((np.diff(second) != 1) | (np.diff(lag) != 0)) + 1
    for places, lags in zip(np.split(second, breaks), np.split(lag, breaks), strict=True):
        if places.size == 0:
            continue
        size = int(lags[0])
        # The twins of a block of `size` samples are `size - reach` in a row.
        if places.size + reach >= size - 1 and _varied(wet[places[0] : places[0] + size]):
            found.append(Place(int(places[0]), size))
    return found


def _near_repeats(wet: _Sound, size: int) -> list[Place]:
    if wet.shape[0] < 4 * size:
        return []
    slope = np.diff(wet, prepend=wet[:1])  # so that flat stretches of a clipped wave weigh nothing
    difference = np.square(slope[size:] - slope[:-size], dtype=np.float64)
    power = np.square(slope, dtype=np.float64)
    least = size * 1e-3 * float(power.mean())
    # The first slope of a copy is the jump into it, which the original does not have.
    error = _window_sums(difference[1:], size - 1)
    level = _window_sums(power[size + 1 :], size - 1)
    same = error <= 1e-6 * level
    found = []
    for run in _runs(same & (level > least), 1):
        start = run.start + int(np.argmin(error[run.start : run.start + run.samples])) + size
        if run.samples <= size and _varied(wet[start : start + size]):
            found.append(Place(start, size))
    return found


def _window_sums(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(np.maximum(total[size:] - total[:-size], 0.0), np.float64)


def _varied(block: _Sound) -> bool:
    """Whether it is sound, and not silence, a flat top or the last bits of a decay."""
    lively = np.abs(np.diff(block)) > 1e-3 * peak(block)
    return bool(np.count_nonzero(lively) >= block.size // 4 and np.unique(block).size >= 16 and peak(block) > 1e-4)


@dataclass(frozen=True)
class Hum:
    """Mains hum in the wet sound that the dry sound does not have.

    Attributes
    ----------
    mains_hz : float
        50 or 60.
    level_db : float
        RMS of all its harmonics in dBFS.
    harmonics : int
        How many of the first eight stand out.
    """

    mains_hz: float
    level_db: float
    harmonics: int


def hum(dry: _Sound, wet: _Sound, sample_rate: int) -> Hum | None:
    """Find lines at 50 or 60 Hz and their multiples that never go away.

    Hum is always there and music is not, so each frequency is judged by its softest tenth of time. What stands out in
    the dry sound too is music or the dry sound's own hum, which belongs to the input.
    """
    best: Hum | None = None
    size = 1 << round(np.log2(0.75 * sample_rate))
    if wet.shape[0] < 3 * size:
        return None
    (low, often), (dry_low, _) = (_softest(sound, size) for sound in (wet, dry))
    for mains in MAINS_HZ:
        power, lines = 0.0, 0
        for k in range(1, 9):
            over, _ = _prominence(low, mains * k, size, sample_rate)
            own, _ = _prominence(dry_low, mains * k, size, sample_rate)
            _, line = _prominence(often, mains * k, size, sample_rate)
            if over > 10.0 and own < 4.0:
                lines += 1
                power += line
        found = Hum(mains, power_to_db(power), lines)
        if lines >= 2 and (best is None or found.level_db > best.level_db):
            best = found
    return best


def _softest(sound: _Sound, size: int) -> npt.NDArray[np.float64]:
    """Spectra that a tenth, and a third, of the frames do not reach; the second is nearer to a line's true level."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 4]
    window = np.blackman(size).astype(np.float32)
    last = size // 16  # enough for 480 Hz
    power = np.empty((frames.shape[0], last))
    for k, frame in enumerate(frames):
        power[k] = np.abs(np.fft.rfft(frame * window)[:last]) ** 2
    return np.asarray(np.quantile(power, [0.1, 0.33], axis=0) * 4.0 / (0.42 * size) ** 2)


def _prominence(power: npt.NDArray[np.float64], hz: float, size: int, sample_rate: int) -> tuple[float, float]:
    """Return by how many dB a line stands above its surroundings, and its power (mean square)."""
    centre = hz * size / sample_rate
    bins = np.arange(power.shape[0])
    away = np.abs(bins - centre)
    line = float(power[away <= 1.5].max(initial=0.0))
    around = power[(away > 4) & (away <= 12)]
    floor = float(np.max(np.sort(around)[: max(1, round(0.9 * around.size))], initial=1e-16))
    return power_to_db(line / max(floor, 1e-16)), 0.5 * line


def standing_offset(dry: _Sound, sound: _Sound, sample_rate: int) -> float:
    """Mean of a sound where the dry sound is softest: a recorder's offset, not one that distortion makes of playing."""
    block = max(1, round(0.1 * sample_rate))
    count = sound.shape[0] // block
    if count < 4:
        return float(np.mean(sound, dtype=np.float64))
    blocks = sound[: count * block].reshape(count, block).mean(axis=1, dtype=np.float64)
    tops = block_peaks(dry, sample_rate, 0.1)[:count]
    softest = blocks[np.argsort(tops, kind="stable")[: max(4, count // 4)]]
    offset = float(np.median(softest))
    scatter = float(np.median(np.abs(softest - offset)))
    return offset if abs(offset) > 2.0 * scatter else 0.0  # a recorder's is the same all the time


@dataclass(frozen=True)
class Coverage:
    """Which input levels the dry sound has.

    Attributes
    ----------
    softest_dbfs, loudest_dbfs : float
        Peaks in 50 ms: 5 % of what is not silent lie under the first, and none above the second.
    silent_share : float
        Share of blocks with a peak under -75 dBFS.
    """

    softest_dbfs: float
    loudest_dbfs: float
    silent_share: float

    @property
    def range_db(self) -> float:
        """From the softest to the loudest."""
        return self.loudest_dbfs - self.softest_dbfs


def coverage(dry: _Sound, sample_rate: int) -> Coverage:
    """Measure which levels occur."""
    tops = block_peaks(dry, sample_rate)
    sounding = tops[tops >= 10.0 ** (-75.0 / 20.0)]
    if sounding.size == 0:
        return Coverage(-200.0, -200.0, 1.0)
    return Coverage(
        gain_to_db(float(np.quantile(sounding, 0.05))), gain_to_db(peak(dry)), 1.0 - sounding.size / tops.size
    )


def block_peaks(sound: npt.NDArray[Any], sample_rate: int, seconds: float = 0.05) -> npt.NDArray[np.float32]:
    """Largest absolute value of each block."""
    block = max(1, round(seconds * sample_rate))
    count = max(1, sound.shape[0] // block)
    return np.array([peak(sound[k * block : (k + 1) * block]) for k in range(count)], np.float32)
