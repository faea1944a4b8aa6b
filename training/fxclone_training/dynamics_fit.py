"""The fit of family ``dynamics``: all parameters of all cells at once, by Levenberg-Marquardt on the free run.

There are so few parameters that their derivatives run along with the sound (`dynamics_kernels`): the slope is exact
over the whole recording, detectors that take seconds included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fxclone_training.dynamics import Dynamics
from fxclone_training.dynamics_kernels import (
    BELOW,
    FLOOR,
    INSTANT,
    KNOTS,
    OFFSET,
    TIMES,
    Doubles,
    normal_equations,
    rates_of,
    run,
)

LONGEST_S = 4.0
STEEPEST, STEEPEST_BELOW = 3.0, 100.0
NARROWEST, WIDEST = math.log(3e-4), math.log(2.0)
STRIDE = 5
"""Every so many samples count in a step: neighbours say nearly the same."""
START_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-9, 1e3
"""Relative to the diagonal."""
RIDGE = 1e-12
SETTLED = 1e-4
"""A step that gains less than this share of the error, twice in a row, is the last."""
DONE = 1e-11
"""-110 dB: what is left is float32."""


def levenberg_marquardt(
    model: Dynamics, dry: Doubles, wet: Doubles, sample_rate: int, *, steps: int, first: int = 0
) -> Iterator[tuple[Dynamics, float]]:
    """The model itself, then better and better ones, each with its error over the wet power.

    Parameters
    ----------
    model : Dynamics
        Where to start from; not changed.
    dry, wet : ndarray [shape=(samples,)]
    sample_rate : int
        In Hz.
    steps : int
        At most so many.
    first : int
        Sound before this sample moves the detectors and is not fitted.
    """
    cells, squares, ceiling = model.cells.astype(np.float64), model.squares, model.ceiling
    free = free_parameters(model)
    low, high = _bounds(model, sample_rate)
    rows = np.arange(first, len(dry))
    rows = rows[rows % STRIDE == 0]
    power = max(float(np.square(wet[rows]).sum()), 1e-20)
    damping, settled = START_DAMPING, 0
    for step in range(steps):
        normal, slope, before = normal_equations(dry, wet, cells, rates_of(cells), squares, ceiling, first, STRIDE)
        normal, slope = normal[np.ix_(free, free)], slope[free]
        if not (np.isfinite(normal).all() and np.isfinite(slope).all()):
            return
        if step == 0:
            yield model, before / power
        scale = np.diag(normal) + RIDGE * max(float(np.diag(normal).max()), 1e-20)
        while True:
            move = np.linalg.solve(normal + damping * np.diag(scale), slope)
            tried = cells.ravel().copy()
            tried[free] -= move
            bounded: Doubles = np.clip(tried, low, high).reshape(cells.shape)
            out = run(dry, bounded, rates_of(bounded), squares, ceiling)
            after = float(np.square(out[rows] - wet[rows]).sum())
            if after < before:
                break
            damping *= 10
            if damping > MOST_DAMPING:
                return
        cells, damping = bounded, max(LEAST_DAMPING, damping / 5)
        yield Dynamics(cells, squares, ceiling), after / power
        settled = settled + 1 if after > (1 - SETTLED) * before else 0
        if settled == 2 or after <= DONE * power:
            return


def free_parameters(model: Dynamics) -> np.ndarray:
    """Indices into all cells, row by row: not the rates that are 1, nor gains that only move the next threshold."""
    free = np.ones(model.cells.shape, bool)
    free[:, :TIMES] = model.cells[:, :TIMES] > INSTANT
    free[:-1, OFFSET] = False
    out: np.ndarray = np.flatnonzero(free)
    return out


def _bounds(model: Dynamics, sample_rate: int) -> tuple[Doubles, Doubles]:
    low, high = np.empty(model.cells.shape), np.empty(model.cells.shape)
    knots = model.knots
    places, slopes, widths = (slice(KNOTS + k * knots, KNOTS + (k + 1) * knots) for k in range(3))
    for columns, least, most in (
        (slice(0, TIMES), INSTANT, math.log(LONGEST_S * sample_rate)),
        (slice(OFFSET, OFFSET + 1), -10.0, 10.0),
        (slice(BELOW, BELOW + 1), 0.0, STEEPEST_BELOW),
        (places, math.log(FLOOR), 2.0),
        (slopes, -STEEPEST, STEEPEST),
        (widths, NARROWEST, WIDEST),
    ):
        low[:, columns], high[:, columns] = least, most
    return low.ravel(), high.ravel()
