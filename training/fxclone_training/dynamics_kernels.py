"""The loop over time of family ``dynamics``, and its derivatives, compiled.

A cell's parameters lie in one row (`OFFSET` and so on say where); all derivatives run forward beside the sound: a
detector's state forgets, and so do its derivatives, so that no truncation is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Doubles = npt.NDArray[np.float64]

TIMES = 4
"""ln of time constants in samples: attack and release of the level, then attack and release of the envelope."""
OFFSET, BELOW, KNOTS = 4, 5, 6
"""ln of the gain at the first knot, slope below it, then the knots: all places, all slopes, all ln of widths."""
INSTANT = -3.0
"""ln of a time constant that is none: a rate of 1, which training leaves alone."""
FLOOR = 1e-7
"""-140 dBFS: no level is told from a softer one."""
_FLAT = 30.0
"""So many widths from a knot its curve is a straight line, in float64 too."""


def rates_of(cells: Doubles) -> Doubles:
    """How far each detector moves in a sample, (cells, 4): such that 1 - rate is a float32, as a graph holds it."""
    keep = np.exp(-np.exp(-cells[:, :TIMES])).astype(np.float32) * (cells[:, :TIMES] > INSTANT)
    out: Doubles = 1.0 - keep.astype(np.float64)
    return out


def _detect(signal: float, rates: Doubles, squares: bool, level: float, envelope: float) -> tuple[float, float]:
    """Level and envelope of one cell, a sample on."""
    seen = signal * signal if squares else abs(signal)
    level += (rates[0] if seen > level else rates[1]) * (seen - level)
    loud = math.sqrt(max(level, FLOOR * FLOOR)) if squares else level
    envelope += (rates[2] if loud > envelope else rates[3]) * (loud - envelope)
    return level, envelope


_detected: Callable[..., tuple[float, float]] = njit(cache=True)(_detect)


def _run(dry: Doubles, cells: Doubles, rates: Doubles, squares: npt.NDArray[np.bool_], ceiling: float) -> Doubles:
    count, columns = cells.shape
    knots = (columns - KNOTS) // 3
    level, envelope = np.zeros(count), np.zeros(count)
    out = np.empty(len(dry))
    for n in range(len(dry)):
        signal = dry[n]
        for c in range(count):
            level[c], envelope[c] = _detected(signal, rates[c], squares[c], level[c], envelope[c])
            place = math.log(max(envelope[c], FLOOR))
            gain = cells[c, OFFSET]
            for k in range(-1, knots):
                at = max(k, 0)
                width = math.exp(cells[c, KNOTS + 2 * knots + at])
                z = (place - cells[c, KNOTS + at]) / width
                slope = cells[c, KNOTS + knots + at]
                if k < 0:
                    z, slope = -z, -cells[c, BELOW]
                if z > _FLAT:
                    gain += slope * width * z
                elif z > -_FLAT:
                    gain += slope * width * math.log1p(math.exp(z))
            signal *= math.exp(gain)
        out[n] = min(max(signal, -ceiling), ceiling)
    return out


def _normal(
    dry: Doubles,
    wet: Doubles,
    cells: Doubles,
    rates: Doubles,
    squares: npt.NDArray[np.bool_],
    ceiling: float,
    first: int,
    stride: int,
) -> tuple[Doubles, Doubles, float]:
    count, columns = cells.shape
    knots = (columns - KNOTS) // 3
    size = count * columns
    level, envelope = np.zeros(count), np.zeros(count)
    of_level, of_envelope = np.zeros((count, size)), np.zeros((count, size))
    of_signal, own = np.zeros(size), np.zeros(columns)
    rate_slopes = np.empty((count, TIMES))
    for c in range(count):
        for k in range(TIMES):
            faster = math.exp(-cells[c, k])
            rate_slopes[c, k] = -math.exp(-faster) * faster
    normal, slopes, cost = np.zeros((size, size)), np.zeros(size), 0.0
    for n in range(len(dry)):
        signal = dry[n]
        of_signal[:] = 0.0
        for c in range(count):
            base = c * columns
            if squares[c]:
                seen, steep = signal * signal, 2 * signal
            else:
                seen, steep = abs(signal), (1.0 if signal > 0 else -1.0)
            k = 0 if seen > level[c] else 1
            rate = rates[c, k]
            for p in range(base):
                of_level[c, p] = (1 - rate) * of_level[c, p] + rate * steep * of_signal[p]
            of_level[c, base] *= 1 - rate
            of_level[c, base + 1] *= 1 - rate
            of_level[c, base + k] += (seen - level[c]) * rate_slopes[c, k]
            level[c] += rate * (seen - level[c])
            loud, steep = level[c], 1.0
            if squares[c]:
                loud = math.sqrt(max(level[c], FLOOR * FLOOR))
                steep = 0.5 / loud if level[c] > FLOOR * FLOOR else 0.0
            k = 2 if loud > envelope[c] else 3
            rate = rates[c, k]
            for p in range(base + 2):
                of_envelope[c, p] = (1 - rate) * of_envelope[c, p] + rate * steep * of_level[c, p]
            of_envelope[c, base + 2] *= 1 - rate
            of_envelope[c, base + 3] *= 1 - rate
            of_envelope[c, base + k] += (loud - envelope[c]) * rate_slopes[c, k]
            envelope[c] += rate * (loud - envelope[c])
            place = math.log(max(envelope[c], FLOOR))
            gain, bend = cells[c, OFFSET], 0.0
            own[:] = 0.0
            own[OFFSET] = 1.0
            for j in range(-1, knots):
                at = max(j, 0)
                width = math.exp(cells[c, KNOTS + 2 * knots + at])
                z = (place - cells[c, KNOTS + at]) / width
                slope, turn = cells[c, KNOTS + knots + at], 1.0
                if j < 0:
                    z, slope, turn = -z, -cells[c, BELOW], -1.0
                if z > _FLAT:
                    soft, share = z, 1.0
                elif z > -_FLAT:
                    soft, share = math.log1p(math.exp(z)), 1.0 / (1.0 + math.exp(-z))
                else:
                    soft, share = 0.0, 0.0
                gain += slope * width * soft
                bend += turn * slope * share
                own[KNOTS + at] -= turn * slope * share
                own[KNOTS + 2 * knots + at] += slope * width * (soft - z * share)
                own[BELOW if j < 0 else KNOTS + knots + at] += turn * width * soft
            factor = math.exp(gain)
            signal *= factor
            bend = signal * bend / envelope[c] if envelope[c] > FLOOR else 0.0
            for p in range(base):
                of_signal[p] = factor * of_signal[p] + bend * of_envelope[c, p]
            for p in range(base, base + TIMES):
                of_signal[p] = bend * of_envelope[c, p]
            for p in range(TIMES, columns):
                of_signal[base + p] = signal * own[p]
        if n < first or n % stride:
            continue
        clipped = min(max(signal, -ceiling), ceiling)
        error = clipped - wet[n]
        cost += error * error
        if clipped == signal:
            for p in range(size):
                slopes[p] += of_signal[p] * error
                for q in range(p + 1):
                    normal[p, q] += of_signal[p] * of_signal[q]
    for p in range(size):
        for q in range(p):
            normal[q, p] = normal[p, q]
    return normal, slopes, cost


def _follow(dry: Doubles, rates: Doubles, squares: bool) -> Doubles:
    """Detector of one cell: its envelope, linear."""
    level, envelope, out = 0.0, 0.0, np.empty(len(dry))
    for n in range(len(dry)):
        level, envelope = _detected(dry[n], rates, squares, level, envelope)
        out[n] = max(envelope, FLOOR)
    return out


run: Callable[..., Doubles] = njit(cache=True)(_run)
"""``run(dry, cells, rates, squares, ceiling)``: the wet sound from a fresh state."""
normal_equations: Callable[..., tuple[Doubles, Doubles, float]] = njit(cache=True)(_normal)
"""``normal_equations(dry, wet, cells, rates, squares, ceiling, first, stride)``: J^T J, J^T r and r^T r over every
``stride``-th sample from ``first`` on, with r = output - wet, by all parameters of all cells, row by row."""
follow: Callable[[Doubles, Doubles, Any], Doubles] = njit(cache=True)(_follow)
"""``follow(dry, rates, squares)``: the envelope that one cell's detector makes."""
