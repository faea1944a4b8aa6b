"""Where the fit of family ``dynamics`` starts from: many detectors tried at once, each with the best curve for it.

With the envelope given, a gain that is a polygon over its level is linear in its weights: sums over the sound decide,
and neighbours only meet neighbours. A threshold with a slope on either side is then laid through the polygon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from fxclone_training.dynamics import Dynamics
from fxclone_training.dynamics_kernels import (
    BELOW,
    FLOOR,
    INSTANT,
    KNOTS,
    OFFSET,
    TIMES,
    Doubles,
    follow,
    rates_of,
)

ATTACKS_MS = (0.02, 0.3, 3.0, 30.0)
RELEASES_MS = (1.0, 8.0, 50.0, 300.0)
"""Time constants that are tried, of the envelope. (JUCE's times are 2 pi times as long as its time constants.)"""
RMS_MS = 8.0
"""Time constant of a level that is measured as RMS before the envelope."""
STEP = math.log(10) / 20 * 2.0
"""The polygon has a corner every 2 dB."""
RANGE = math.log(10) / 20 * 90.0
SOFT = math.log(0.03)
"""ln of the width of a knee to start with."""
SLOW_ATTACK_MS, SLOW_RELEASE_MS = 1.0, 40.0
UNDER = math.log(10) / 20 * 11.0
"""A second gain begins to work so far under the loudest, ..."""
SLIGHT = -0.1
"""... with so little of a slope."""
RIDGE = 1e-9
LEAST_GAIN = 1e-4


@dataclass(frozen=True, eq=False)
class Polygon:
    """A gain over the level: ln of levels at its corners, how much sound is there, gains; the share it leaves."""

    corners: Doubles
    weights: Doubles
    gains: Doubles
    left: float


Fit = tuple[Doubles, bool, Polygon]
"""A detector, and the gain that suits it."""


@dataclass(frozen=True, eq=False)
class Start:
    """A cell to start from, and the share of the wet power that its polygon leaves."""

    cell: Doubles
    squares: bool
    left: float


def detectors(sample_rate: int) -> Iterator[tuple[Doubles, bool]]:
    """ln of four time constants in samples, and whether the first two hear squares: a peak detector, one behind a quick
    RMS detector (as in JUCE's gate), and RMS alone."""
    for attack, release in ((a, r) for a in ATTACKS_MS for r in RELEASES_MS if r >= a):
        envelope = [_ln(attack, sample_rate), _ln(release, sample_rate)]
        yield np.array([INSTANT, INSTANT, *envelope]), False
        yield np.array([INSTANT, _ln(RMS_MS, sample_rate), *envelope]), True
    for time in (2.0, 20.0, 100.0):
        yield np.array([_ln(time, sample_rate), _ln(time, sample_rate), INSTANT, INSTANT]), True


def starts(dry: Doubles, wet: Doubles, sample_rate: int, first: int) -> list[Start]:
    """The best detector of each kind, the best first; sound before ``first`` only moves them."""
    best: dict[tuple[bool, ...], Fit] = {}
    for times, squares in detectors(sample_rate):
        place = np.log(follow(dry, rates_of(times[None])[0], squares))[first:]
        found = polygon(place, dry[first:], wet[first:])
        kind = (squares, *(times > INSTANT))
        if kind not in best or found.left < best[kind][2].left:
            best[kind] = times, squares, found
    return [_start(*fit) for fit in sorted(best.values(), key=lambda fit: fit[2].left)]


def _start(times: Doubles, squares: bool, found: Polygon) -> Start:
    cell = np.zeros(KNOTS + 3)
    cell[:TIMES] = times
    cell[OFFSET], cell[BELOW], cell[KNOTS], cell[KNOTS + 1] = _threshold(found)
    cell[KNOTS + 2] = SOFT
    return Start(cell, squares, found.left)


def gain_before(model: Dynamics, dry: Doubles, sample_rate: int) -> Dynamics:
    """The model with one more gain before it, which does hardly anything yet: limiters are two in a row."""
    cell = np.zeros(model.cells.shape[1])
    cell[:TIMES] = INSTANT, INSTANT, _ln(SLOW_ATTACK_MS, sample_rate), _ln(SLOW_RELEASE_MS, sample_rate)
    knots = model.knots
    cell[KNOTS : KNOTS + knots] = math.log(max(float(np.abs(dry).max()), FLOOR)) - UNDER
    cell[KNOTS + knots] = SLIGHT
    cell[KNOTS + 2 * knots :] = math.log(0.15)
    return Dynamics(np.concatenate([cell[None], model.cells]), [False, *model.squares], model.ceiling)


def polygon(place: Doubles, sound: Doubles, wet: Doubles) -> Polygon:
    """A gain over the level ``place`` (ln) by least squares."""
    top = float(place.max())
    low = max(math.log(FLOOR), top - RANGE)
    count = max(2, math.ceil((top - low) / STEP) + 1)
    corners = low + STEP * np.arange(count, dtype=np.float64)
    where = np.clip((place - low) / STEP, 0, count - 1 - 1e-9)
    at = where.astype(np.int64)
    up = where - at
    down = 1 - up
    own, both = sound * sound, sound * wet

    def sums(values: Doubles, places: npt.NDArray[np.int64]) -> Doubles:
        return np.bincount(places, values, minlength=count).astype(np.float64)

    diagonal = sums(down * down * own, at) + sums(up * up * own, at + 1)
    beside = sums(up * down * own, at)[: count - 1]
    target = sums(down * both, at) + sums(up * both, at + 1)
    banded = np.zeros((2, count))
    banded[1] = diagonal + RIDGE * max(float(diagonal.max()), 1e-20)
    banded[0, 1:] = beside
    gains = solveh_banded(banded, target)
    power = max(float(wet @ wet), 1e-20)
    return Polygon(corners, diagonal, gains, max(0.0, power - float(gains @ target)) / power)


def _threshold(polygon: Polygon) -> tuple[float, float, float, float]:
    """Gain at the threshold, slope below it (never negative), threshold, slope above it; all in natural logarithms."""
    corners, size = polygon.corners, np.maximum(polygon.gains, LEAST_GAIN)
    bent, share = np.log(size), polygon.weights * size * size
    root = np.sqrt(share / max(float(share.max()), 1e-30))
    best, found = math.inf, (0.0, 0.0, float(corners[-1]), 0.0)
    for knot in np.arange(corners[0], corners[-1], STEP / 2):
        parts = [np.ones_like(corners), -np.maximum(0, knot - corners), np.maximum(0, corners - knot)]
        for used in ((0, 1, 2), (0, 2)):
            design = np.stack([parts[k] for k in used], axis=1) * root[:, None]
            fit = np.linalg.lstsq(design, bent * root, rcond=None)[0]
            left = float(np.square(design @ fit - bent * root).sum())
            values = dict(zip(used, fit.tolist(), strict=True))
            if left < best and values.get(1, 0.0) >= 0:
                best, found = left, (values[0], values.get(1, 0.0), float(knot), values[2])
    return found


def _ln(time_ms: float, sample_rate: int) -> float:
    return max(INSTANT, math.log(max(1e-9, 1e-3 * time_ms * sample_rate)))
