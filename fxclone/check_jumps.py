"""Missing and inserted samples: the lag steps to another value and stays there.

Passages before and after each moment are correlated, a second and a half of each. A step is believed only if each side
fits its own lag clearly better than the other's: a held note fits at any period of it, and is no step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Sound = npt.NDArray[np.float32]
_Array = npt.NDArray[np.float64]

WINDOW_S, HOP_S = 0.5, 0.25
SIDE = 6
"""Windows on either side of a step."""
WIDE = 4 * SIDE
"""Over so many windows each side keeps its lag."""
REACH = 4096
"""Largest step that is looked for, in samples."""
CLEARLY = 2.0
"""How much better each side must fit its own lag."""


def lag_jumps(dry: _Sound, wet: _Sound, sample_rate: int) -> list[tuple[float, float]]:
    """Find steps of the lag.

    Parameters
    ----------
    dry, wet : ndarray [shape=(samples,)]
        One channel each, aligned on the whole, clock drift taken out.
    sample_rate : int
        In Hz.

    Returns
    -------
    list of (seconds, samples)
        Where, and by how much: positive if samples were inserted into the wet sound, negative if they are missing.
    """
    hop = round(HOP_S * sample_rate)
    curves = _correlations(dry, wet, round(WINDOW_S * sample_rate), hop)
    if curves.shape[0] < 2 * SIDE + 1:
        return []
    totals = np.concatenate([np.zeros((1, curves.shape[1])), np.cumsum(curves, axis=0)])
    steps = np.zeros(curves.shape[0])
    sizes = np.zeros(curves.shape[0])
    for k in range(SIDE, curves.shape[0] - SIDE + 1):
        before, after = np.abs(totals[k] - totals[k - SIDE]), np.abs(totals[k + SIDE] - totals[k])
        first, second = int(np.argmax(before)), int(np.argmax(after))
        if abs(first - second) < 2:
            continue
        earlier = np.abs(totals[k] - totals[max(0, k - WIDE)])
        later = np.abs(totals[min(k + WIDE, totals.shape[0] - 1)] - totals[k])
        if abs(int(np.argmax(earlier)) - first) > 1 or abs(int(np.argmax(later)) - second) > 1:
            continue  # it does not stay there
        if abs(first - second) < 0.5 * np.count_nonzero(later > 0.5 * later.max()):
            continue  # too dull to tell
        ratio = min(_stands_out(before, first, second), _stands_out(after, second, first))
        if ratio > CLEARLY:
            steps[min(k, steps.shape[0] - 1)], sizes[min(k, steps.shape[0] - 1)] = ratio, second - first
    found: list[tuple[float, float]] = []
    while np.any(steps > 0):
        best = int(np.argmax(steps))
        found.append((best * hop / sample_rate + 0.5 * (WINDOW_S - HOP_S), float(sizes[best])))
        steps[max(0, best - 2 * SIDE) : best + 2 * SIDE] = 0.0
    return sorted(found)


def _stands_out(curve: _Array, own: int, other: int) -> float:
    """How much higher a curve is at one lag than near the other, above what it is everywhere."""
    floor = float(np.quantile(curve, 0.95))
    near = float(curve[max(0, other - 1) : other + 2].max())
    if floor <= 0.0 or curve[own] < 5.0 * floor:  # silence, or no clear lag
        return 0.0
    return float(curve[own]) / max(near, floor)


def _correlations(dry: _Sound, wet: _Sound, window: int, hop: int) -> _Array:
    """Cross-correlation of each window, half-way to the phase transform; shape (windows, 2 * REACH + 1)."""
    from scipy import fft

    size = int(fft.next_fast_len(window + 2 * REACH, real=True))
    count = max(0, (dry.shape[0] - window) // hop + 1)
    out = np.zeros((count, 2 * REACH + 1))
    level = float(np.mean(np.square(dry, dtype=np.float64)))
    taper = np.hanning(window).astype(np.float32)
    for k in range(count):
        x, y = dry[k * hop : k * hop + window], wet[k * hop : k * hop + window]
        if float(np.mean(np.square(x, dtype=np.float64))) < 1e-4 * level:
            continue
        cross = np.conj(fft.rfft(x * taper, size)) * fft.rfft(y * taper, size)
        magnitude = np.abs(cross)
        whole = float(magnitude.max())
        if whole <= 0.0:
            continue
        curve = fft.irfft(cross / np.maximum(magnitude, 1e-3 * whole) ** 0.75, size)
        out[k] = np.concatenate([curve[-REACH:], curve[: REACH + 1]])
        out[k] /= np.sqrt(np.sum(out[k] ** 2)) + 1e-30
    return out
