"""Does an effect change with time (phaser, flanger, chorus, tremolo), or only with what is played into it?

The gain of each half-octave band is measured frame by frame, and what the dry sound explains (its levels now and a
while ago) is regressed away, judged on frames that the regression has not seen. A compressor or a distortion leaves
only scatter. An LFO leaves a line: the same rate, over the whole sound, in every band. One too slow for the recording
leaves a gain that wanders without a reason although the effect adds no frequencies of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.check_system import Noise, Replicate, stft, unexplained

_Array = npt.NDArray[np.float64]

FRAME_S = 0.043
LOWEST_HZ = 60.0
FASTEST_HZ = 12.0
LEAST_CYCLES = 4.0
"""Fewer cycles of a line in the recording cannot be told from chance."""
HARMONICS = 3
LINE_SHARE = 0.08
"""Share of the unexplained wander that a line must hold. Static effects reach 0.06 on music; phasers begin at 0.15."""
LINE_RATIO = 10.0
"""How far it must stand above its surroundings. Static effects reach 8; an LFO 20 to 500."""
LINE_DB = 0.3
"""RMS in dB that a line must have: less is measurement, and no matter to a clone."""
BEAT_SHARE = 0.04
"""Where the dry sound itself has such a line, it is the beat of the music."""
SLOWEST_BEAT_HZ = 0.5
CERTAIN_SHARE = 0.35
"""A line this strong counts even where a fixed system explains nearly all (a mild tremolo)."""
WANDER_DB = 2.8
"""RMS of the unexplained wander between bands. Distortions without frequencies of their own stay below 2, flangers
and phasers begin at 3.5."""
LEADING = 10.0 ** (-25.0 / 10.0)
"""Wander is measured in bands no softer than this against the loudest: in others distortion's own sound prevails."""
NEW_SHARE = 0.02
NO_NEW_SHARE = 0.001
"""What counts as no frequencies of its own: less than this makes a filter, whatever moves it."""
CARRIED_SHARE = 0.15
"""Slow flangers and phasers carry 0.2 to 0.4 of their wander from note to note, static effects below 0.1."""
STATIC_SHARE = 0.06
"""If a fixed linear system leaves less than this of the wet power, the effect is fixed, whatever else is seen."""
STEADY_ESR, MOVING_ESR = 1e-3, 0.03
"""Self-ESR of a replicate under which an effect is fixed, and over which it is not (if noise does not explain it)."""


@dataclass(frozen=True)
class Motion:
    """What moves by itself.

    Attributes
    ----------
    moving : bool
        Whether the effect changes with time.
    rate_hz : float or None
        Of its LFO, if one was seen.
    line_share, line_ratio : float
        Of the strongest line: its share of the unexplained wander of gains (or of pitch), and how far it stands out.
    wander_db : float
        RMS of what neither the dry sound nor a common gain explains in the gains of bands.
    new_share : float
        Share of the wet power at times and frequencies where the dry sound has none: above 0 for distortion and echo.
    carried_share : float
        How much of the wander is still there when another note is played: what hangs on time and not on the playing.
    """

    moving: bool
    rate_hz: float | None
    line_share: float
    line_ratio: float
    wander_db: float
    new_share: float
    carried_share: float


def with_replicate(found: Motion, passage: Replicate | None, floor: Noise, wet_rms: float) -> Motion:
    """Let the surest witness speak last: the same passage, played twice.

    If it came out the same, a line in the gains was the beat of music that repeats itself.
    """
    if passage is None or passage.seconds < 0.5:
        return found
    noise_esr = 10.0 ** (floor.floor_db / 10.0) / max(wet_rms**2, 1e-20)
    if passage.self_esr < STEADY_ESR and passage.dry_esr < STEADY_ESR:
        return replace(found, moving=False, rate_hz=None)
    if passage.exact and passage.self_esr > MOVING_ESR and (not floor.exact or passage.self_esr > 8.0 * noise_esr):
        return replace(found, moving=True)
    return found


@dataclass(frozen=True)
class _Bands:
    """Band powers frame by frame; shape (frames, bands)."""

    dry: _Array
    wet: _Array
    cross: npt.NDArray[np.complex128]
    heard: _Array  # 1 where both sides stand clear of silence, else 0
    frames_per_s: float


def motion(dry: npt.NDArray[np.float32], wet: npt.NDArray[np.float32], sample_rate: int) -> Motion:
    """Measure what changes with time.

    Parameters
    ----------
    dry, wet : ndarray [shape=(samples,)]
        One channel each, aligned.
    sample_rate : int
        In Hz.
    """
    bands = _bands(dry, wet, sample_rate)
    if bands is None:
        return Motion(False, None, 0.0, 0.0, 0.0, 0.0, 0.0)
    heard = bands.heard
    gain = 10.0 * np.log10((bands.wet + 1e-16) / (bands.dry + 1e-16)) * heard
    features = _features(bands)
    left = (gain - _explained(features, gain, heard, bands.frames_per_s)) * heard
    common = gain.sum(axis=1) / np.maximum(heard.sum(axis=1), 1.0)
    leading = heard * (bands.dry > LEADING * bands.dry.max(axis=1, keepdims=True))
    shared = leading * (leading.sum(axis=1) >= 3)[:, None]
    shape = (gain - common[:, None]) * shared
    shape_left = (shape - _explained(features, shape, shared, bands.frames_per_s)) * shared
    wander_db = float(np.sqrt(np.sum(shape_left**2) / max(1.0, shared.sum())))
    new = _new_frequencies(dry, wet, sample_rate)
    carry = _carried_over(shape_left, shared, bands)
    beat = _lines(10.0 * np.log10(bands.dry + 1e-12) * heard, heard, bands.frames_per_s)
    rate, share, ratio = _strongest(_lines(left, heard, bands.frames_per_s), beat)
    bend, both = _bend(bands)
    bend_rate, bend_share, bend_ratio = _strongest(_lines(bend, both, bands.frames_per_s), beat)
    if bend_ratio * bend_share > ratio * share:
        rate, share, ratio = bend_rate, bend_share, bend_ratio
    sizes = [size for size in (1 << 12, 1 << 14, 1 << 16) if 8 * size <= dry.shape[0] or size == 1 << 12]
    static = min(unexplained(dry, wet, size) for size in sizes)
    line_db = np.sqrt(share * np.sum(left**2) / max(1.0, heard.sum()))
    lfo = rate is not None and share >= LINE_SHARE and ratio >= LINE_RATIO and line_db >= LINE_DB
    adds_nothing = wander_db >= WANDER_DB and new <= NEW_SHARE and static >= STATIC_SHARE
    slow = adds_nothing and carry >= CARRIED_SHARE
    filters = adds_nothing and wander_db >= 1.2 * WANDER_DB and new <= NO_NEW_SHARE and static >= 3.0 * STATIC_SHARE
    certain = share >= CERTAIN_SHARE and static >= 0.1 * STATIC_SHARE
    moving = (lfo and (static >= STATIC_SHARE or certain)) or slow or filters
    return Motion(bool(moving), rate if lfo else None, share, ratio, wander_db, new, carry)


def _bands(dry: Any, wet: Any, sample_rate: int) -> _Bands | None:
    size = 1 << round(np.log2(FRAME_S * sample_rate))
    X, Y = stft(dry, size), stft(wet, size)
    edges_hz = LOWEST_HZ * 2.0 ** (np.arange(17) / 2.0)
    edges = np.searchsorted(np.fft.rfftfreq(size, 1.0 / sample_rate), edges_hz[edges_hz < 0.45 * sample_rate])
    spans = [slice(a, max(b, a + 2)) for a, b in pairwise(edges)]
    x = np.stack([np.sum(np.abs(X[:, span]) ** 2, axis=1) for span in spans], axis=1)
    y = np.stack([np.sum(np.abs(Y[:, span]) ** 2, axis=1) for span in spans], axis=1)
    cross = np.stack([np.sum(Y[:, span] * X[:, span].conj(), axis=1) for span in spans], axis=1)
    heard = (x > 1e-5 * x.max(axis=0) + 1e-12) & (y > 1e-6 * y.max(axis=0) + 1e-13)
    use = heard.sum(axis=0) > max(40, 0.15 * heard.shape[0])
    if np.count_nonzero(use) < 3:
        return None
    return _Bands(x[:, use], y[:, use], cross[:, use], heard[:, use].astype(np.float64), 2.0 * sample_rate / size)


def _features(bands: _Bands) -> _Array:
    """What a fixed effect may answer to: level in each band, its change, and the level of the recent past."""
    from scipy.signal import lfilter

    level = 10.0 * np.log10(bands.dry + 1e-10)
    change = np.diff(level, axis=0, prepend=level[:1])
    total = bands.dry.sum(axis=1)
    past = []
    for time_s in (0.05, 0.2, 1.0):
        pole = np.exp(-1.0 / (time_s * bands.frames_per_s))
        past.append(10.0 * np.log10(lfilter([1.0 - pole], [1.0, -pole], total) + 1e-10))
    return np.concatenate([level, np.stack(past, axis=1), change], axis=1)


def _explained(features: _Array, target: _Array, weight: _Array, frames_per_s: float) -> _Array:
    """Predict each band by kernel ridge regression (random Fourier features, Rahimi & Recht 2007).

    Whole stretches of about 3 s are left out in turn and predicted from the others, so that time itself, which is what
    an LFO follows, explains nothing.
    """
    rng = np.random.default_rng(0)
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    count = min(400, max(30, features.shape[0] // 4))
    mix = rng.standard_normal((features.shape[1], count)) / np.sqrt(features.shape[1])
    basis = np.concatenate(
        [
            3.0 * np.sqrt(2.0 / count) * np.cos(standard @ mix + rng.uniform(0, 2 * np.pi, count)),
            standard / np.sqrt(features.shape[1]),
            np.ones((features.shape[0], 1)),
        ],
        axis=1,
    )
    folds = 6
    stretches = max(folds, int(features.shape[0] / frames_per_s / 3.0))
    fold = (np.arange(features.shape[0]) * stretches // features.shape[0]) % folds
    # Where a band is silent its target is its mean, so that all bands share one system of equations.
    mean = (target * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0)
    centred = (target - mean) * (weight > 0)
    grams = np.stack([basis[fold == k].T @ basis[fold == k] for k in range(folds)])
    sums = np.stack([basis[fold == k].T @ centred[fold == k] for k in range(folds)])
    out = np.zeros_like(target)
    for k in range(folds):
        system = grams.sum(axis=0) - grams[k] + np.eye(basis.shape[1])
        solution = np.linalg.solve(system, sums.sum(axis=0) - sums[k])
        out[fold == k] = mean + basis[fold == k] @ solution
    return out


def _carried_over(wander: _Array, weight: _Array, bands: _Bands) -> float:
    """Correlation of the wander with itself 0.1 to 0.4 s later, where another note is played meanwhile.

    What depends on the note is gone by then; what depends on time alone is still there.
    """
    level = 10.0 * np.log10(bands.dry + 1e-10)
    colour = level - level.mean(axis=1, keepdims=True)
    colour = (colour - colour.mean(axis=0)) / (colour.std(axis=0) + 1e-9)
    power = np.sum(wander**2, axis=0) / np.maximum(weight.sum(axis=0), 1.0)
    shared = possible = 0.0
    for late in range(max(1, round(0.1 * bands.frames_per_s)), round(0.4 * bands.frames_per_s) + 1):
        distance = np.mean((colour[late:] - colour[:-late]) ** 2, axis=1)
        other = distance > 1.0
        shared += float(np.sum(wander[late:][other] * wander[:-late][other]))
        possible += float(np.sum((weight[late:] * weight[:-late])[other] * power))
    return shared / possible if possible > 20.0 * power.sum() else 0.0


def _bend(bands: _Bands) -> tuple[_Array, _Array]:
    """Bend of pitch: the turn of the cross-spectrum from frame to frame, which a moving delay causes."""
    turn = np.angle(bands.cross[1:] * bands.cross[:-1].conj())
    both = bands.heard[1:] * bands.heard[:-1]
    mean = (turn * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1.0)
    return (turn - mean) * both, both


def _lines(wander: _Array, weight: _Array, frames_per_s: float) -> tuple[_Array, _Array]:
    """Frequencies, and for each the share of the wander's power (all bands) that a sine of it holds."""
    frames = wander.shape[0]
    count = weight.sum(axis=0)
    wander = (wander - wander.sum(axis=0) / np.maximum(count, 1.0)) * weight
    size = 4 * frames  # a grid fine enough to meet every line near its top
    power = np.abs(np.fft.rfft(wander, size, axis=0)) ** 2
    energy = np.sum(wander**2, axis=0)
    share = 2.0 * power / (count * energy + 1e-30)
    hz = np.arange(power.shape[0]) * frames_per_s / size
    return hz, share @ (energy / max(float(energy.sum()), 1e-30))


def _strongest(lines: tuple[_Array, _Array], beat: tuple[_Array, _Array]) -> tuple[float | None, float, float]:
    """Rate, share and height of the line that stands out most, its harmonics counted in."""
    hz, share = lines
    step = hz[1]
    first = int(np.ceil(4 * LEAST_CYCLES))  # the grid has four steps for a cycle more in the recording
    last = min(int(FASTEST_HZ / step), hz.shape[0] - 1)
    if last <= first + 8:
        return None, 0.0, 0.0
    index = np.arange(first, last)
    total = sum(
        (share[np.minimum(index * k, hz.shape[0] - 1)] * (index * k < hz.shape[0])) for k in range(1, HARMONICS + 1)
    )
    rhythm = np.interp(hz, *beat)
    own = np.max([rhythm[np.minimum(index * k, hz.shape[0] - 1)] for k in range(1, HARMONICS + 1)], axis=0)
    of_beat = own > BEAT_SHARE
    for k in range(2, 16):  # a beat of 1 Hz has lines at every Hz, the upper ones weak in the dry sound itself
        slower = hz[index] / k
        of_beat |= (np.interp(slower, *beat) > 3.0 * BEAT_SHARE) & (slower >= SLOWEST_BEAT_HZ)
    best = int(np.argmax(np.where(of_beat, 0.0, total)))
    around = np.abs(hz[index] - hz[index[best]]) < max(1.0, 0.5 * hz[index[best]])
    height = float(total[best]) / max(float(np.median(total[around])), 1e-9)
    return float(hz[index[best]]), float(total[best]), height


def _new_frequencies(dry: Any, wet: Any, sample_rate: int) -> float:
    """Share of the wet power that lies where the dry sound, three bins and frames around, is too weak to cause it."""
    size = 2 << round(np.log2(FRAME_S * sample_rate))
    X, Y = (np.abs(stft(sound, size, 4)) ** 2 for sound in (dry, wet))
    cause = X.copy()
    for k in (1, 2, 3):
        np.maximum(cause[:, k:], X[:, :-k], out=cause[:, k:])
        np.maximum(cause[:, :-k], X[:, k:], out=cause[:, :-k])
    near = cause.copy()
    for k in (1, 2, 3):
        np.maximum(near[k:], cause[:-k], out=near[k:])
    bands = np.floor(6.0 * np.log2(np.maximum(np.arange(X.shape[1]), 4) / 4.0)).astype(int)
    new = 0.0
    for band in np.unique(bands):
        y, x = Y[:, bands == band], near[:, bands == band]
        loud = x > np.quantile(x, 0.7)
        if loud.any():
            gain = np.quantile(y[loud] / (x[loud] + 1e-20), 0.95)
            new += float(np.maximum(0.0, y - 4.0 * gain * x).sum())
    return new / max(float(Y.sum()), 1e-30)
