"""The rough lag of a pair: the straight line through the lag-over-time plane along which the two sounds correlate.

Each stretch of the dry sound is correlated with the wet sound around it, whitened (the phase transform of Knapp &
Carter 1976), so that neither a filter nor a loud note decides. A constant lag is a level line in that plane, a clock
that drifts a sloping one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

Floats = npt.NDArray[np.float64]

MOST_STRETCHES = 24
STRETCH_SAMPLES = 1 << 16
MAX_PPM = 400.0
CELL = 4
"""Lags are looked at in cells of this many samples."""
QUIET = 1e-3
"""Stretches this far (amplitude) under the loudest say nothing."""
EARLIER = 0.75
"""A peak this near to the highest and before it is taken instead: too small a lag is harmless, too large is fatal."""


@dataclass(frozen=True)
class CoarseLine:
    """lag = ``lag_samples`` + ``ppm`` * 1e-6 * n. ``rival`` is the next best line's height over this one's, 0 to 1."""

    lag_samples: float
    ppm: float
    rival: float
    likeness: float
    """How much the dry sound is like itself at another time, 0 to 1: 1 for a riff repeated sample by sample."""


def coarse_line(dry: Floats, wet: Floats, lead: int, late: int) -> CoarseLine | None:
    """Find the line, for lags from ``-lead`` to ``late`` samples; None if both are never sounding together."""
    planes, centres = _correlations(dry, wet, lead, late)
    if not planes:
        return None
    plane = np.stack(planes)
    cells = plane.shape[1]
    time = np.array(centres)
    span = float(time.max() - time.min())
    slopes = np.array([0.0])
    if span > 0.0:
        each = 2.0 * CELL / span * 1e6
        side = np.arange(1, int(MAX_PPM / each) + 1) * each
        slopes = np.concatenate([-side[::-1], [0.0], side])
    best, best_slope, best_score = -np.inf, 0.0, np.zeros(cells)
    for slope in slopes:
        score = np.zeros(cells)
        for row, at in zip(plane, time, strict=True):
            shift = round(slope * 1e-6 * at / CELL)
            if shift >= 0:
                score[: cells - shift] += row[shift:]
            else:
                score[-shift:] += row[:shift]
        top = float(score.max()) * (1.0 + 1e-6 * (slope == 0.0))
        if top > best:
            best, best_slope, best_score = top, float(slope), score
    peaks, _ = signal.find_peaks(np.pad(best_score, 1), height=EARLIER * best)
    place = int(peaks[0]) - 1 if len(peaks) else int(np.argmax(best_score))
    away = np.abs(np.arange(cells) - place) > 64 // CELL
    others = best_score[away]
    rival = float(others.max() / best) if others.size and best > 0 else 1.0
    return CoarseLine(float(place * CELL - lead) + CELL / 2, best_slope, max(0.0, rival), _likeness(dry, lead, late))


def _likeness(dry: Floats, lead: int, late: int) -> float:
    planes, _ = _correlations(dry, dry, lead, late, most=3)
    plane = np.sum(planes, axis=0)
    here = np.abs(np.arange(len(plane)) * CELL - lead) <= 64
    return float(plane[~here].max() / max(float(plane[here].max()), 1e-300))


def _correlations(
    dry: Floats, wet: Floats, lead: int, late: int, most: int = MOST_STRETCHES
) -> tuple[list[Floats], list[float]]:
    """For each stretch, how strongly each cell of lags correlates, and the place of the stretch's middle."""
    stretch = min(STRETCH_SAMPLES, len(dry))
    count = min(most, max(1, len(dry) // stretch))
    starts = np.linspace(0, len(dry) - stretch, count).astype(int)
    loudness = np.array([float(np.sqrt(np.mean(dry[s : s + stretch] ** 2))) for s in starts])
    size = int(fft.next_fast_len(2 * stretch + lead + late, real=True))
    window = signal.windows.tukey(stretch, 0.5)
    ramp = signal.windows.tukey(stretch + lead + late, 0.1)
    planes, centres = [], []
    for start, loud in zip(starts, loudness, strict=True):
        left, right = start - lead, start + stretch + late
        near = wet[max(0, left) : max(0, min(right, len(wet)))]
        if loud <= QUIET * float(loudness.max()) or not np.any(near):
            continue
        placed = np.zeros(stretch + lead + late)
        offset = max(0, -left)
        placed[offset : offset + len(near)] = near
        cross = np.conj(fft.rfft(dry[start : start + stretch] * window, size)) * fft.rfft(placed * ramp, size)
        magnitude = np.abs(cross)
        white = cross / (magnitude + 1e-9 * float(magnitude.max()) + 1e-300)
        found = fft.irfft(white, size)[: lead + late]
        cells = len(found) // CELL
        power = np.square(found[: cells * CELL]).reshape(cells, CELL).sum(axis=1)
        height = np.sqrt(np.convolve(power, np.ones(3), mode="same"))
        # a stretch counts by how far its peak stands out of its noise
        planes.append(np.maximum(height / max(float(np.median(height)), 1e-300) - 1.0, 0.0))
        centres.append(float(start + stretch / 2))
    return planes, centres
