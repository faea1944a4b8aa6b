"""The lag over time: each short stretch against the response of the whole sound, and the line through these lags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.alignment_phase import SIZE, Curves, Response, blocks

Floats = npt.NDArray[np.float64]

MOST_POINTS = 400
REACH = 64
"""How far a stretch's lag is looked for around the line, in samples."""
FINER = 4
GROUPS = 12
USED = 0.3
"""Points of less confidence do not count."""


@dataclass(frozen=True)
class Track:
    """Lags of stretches around what was taken out before: middles (samples of dry), lags, confidences."""

    middles: Floats
    lags: Floats
    confidences: Floats


@dataclass(frozen=True)
class Line:
    """lag = ``start`` + ``ppm`` * 1e-6 * n; standard errors of both; rms of the points about it."""

    start: float
    ppm: float
    start_error: float
    ppm_error: float
    wander: float


def track(curves: Curves, weights: Floats, dry: Floats, wet: Floats, found: Response, lag: float) -> Track:
    """Lag of each stretch after ``lag``: the peak of its correlation with what the response makes of the dry sound."""
    starts, window = blocks(len(dry), MOST_POINTS)
    size, count = len(window), len(starts)
    omega = np.pi * np.arange(SIZE // 2 + 1) / (SIZE // 2)
    noise = np.maximum(found.noise, 1e-4 * found.power) + 1e-300
    expected = found.smooth * np.exp(-1j * omega * lag)
    around = np.arange(-REACH * FINER, REACH * FINER + 1)
    lags, trust, loud = np.zeros(count), np.zeros(count), np.zeros(count)
    for k, start in enumerate(starts):
        x = fft.rfft(weights @ curves(dry[start : start + size]) * window, SIZE) * expected
        y = fft.rfft(wet[start : start + size] * window, SIZE)
        scale = np.sqrt(np.sum(np.abs(x) ** 2 / noise) * np.sum(np.abs(y) ** 2 / noise))
        if not scale > 0.0:
            continue
        full = fft.irfft(np.conj(x) * y / noise, SIZE * FINER)[around] * (SIZE * FINER / 2) / scale
        top = int(np.argmax(full))
        lags[k] = around[top] / FINER
        if 0 < top < len(around) - 1:
            a, b, c = full[top - 1 : top + 2]
            lags[k] += 0.5 * (a - c) / (a - 2.0 * b + c) / FINER
            trust[k] = min(1.0, max(0.0, float(b)))
        loud[k] = np.sum(np.abs(x) ** 2 / noise)
    trust[loud < 1e-6 * loud.max(initial=0.0)] = 0.0
    return Track(starts.astype(np.float64) + size / 2, lags, trust)


def straight_line(points: Track) -> Line | None:
    """Robust line through the points (Huber's weights, confident ones counting more); None for fewer than 4 of them."""
    use = points.confidences > USED
    if np.count_nonzero(use) < 4:
        return None
    n, lag = points.middles[use], points.lags[use]
    c = points.confidences[use]
    base = c**2 / (1.001 - c**2)
    weight = base
    fit = np.zeros(2)
    inverse: Floats = np.eye(2)
    matrix = np.stack([np.ones(len(n)), n * 1e-6], axis=1)
    for _ in range(20):
        inverse = np.asarray(np.linalg.pinv(matrix.T @ (weight[:, None] * matrix)), np.float64)
        fit = inverse @ (matrix.T @ (weight * lag))
        rest = lag - matrix @ fit
        scale = 1.5 * _weighted_median(np.abs(rest), base) + 1e-6
        weight = base * np.minimum(1.0, scale / np.maximum(np.abs(rest), 1e-12))
    variance = float(np.sum(weight * rest**2) / weight.sum())
    # a note pulls all the stretches that it sounds in to one side: errors by groups of neighbours (sandwich estimate)
    pulls = [
        np.sum((weight * rest)[group][:, None] * matrix[group], axis=0)
        for group in np.array_split(np.arange(len(n)), max(2, min(GROUPS, len(n) // 3)))
    ]
    spread = inverse @ sum(np.outer(pull, pull) for pull in pulls) @ inverse * len(pulls) / max(1, len(pulls) - 2)
    errors = np.sqrt(np.maximum(np.diag(spread), 0.0))
    return Line(
        start=float(fit[0]),
        ppm=float(fit[1]),
        start_error=float(errors[0]),
        ppm_error=float(errors[1]),
        wander=float(np.sqrt(variance)),
    )


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
