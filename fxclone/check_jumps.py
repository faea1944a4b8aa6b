"""Missing and inserted samples: the lag steps to another value and stays there.

Passages before and after each moment are correlated, a second and a half of each: where they have different lags, there
may be a step. It is believed only if the responses before and after are the same once the step is taken out, at all
frequencies, and neither a constant lag nor a drifting one comes near: a held note fits at any period of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Sound = npt.NDArray[np.float32]
_Array = npt.NDArray[np.float64]
_Spectra = npt.NDArray[np.complex128]

WINDOW_S, HOP_S = 0.5, 0.25
SIDE = 6
"""Windows on either side of a step."""
WIDE = 4 * SIDE
"""Over so many windows each side keeps its lag."""
REACH = 4096
"""Largest step that is looked for, in samples."""
CLEARLY = 2.0
"""How much better each side must fit its own lag."""
FRAME = 2048
ASIDE_S = 0.7
"""What is left out around a step when the two sides are compared: its place is not known better."""
LEAST_FRAMES = 12
"""Of each side that must say something."""
LEAST_BINS = 8
LEAKS = 1e-7
"""What is softer against the loudest frequency may have leaked from there."""
SAME = 0.7
"""Agreement in phase of the responses before and after, once the step is taken out: 1 is full."""
COMES_NEAR = 0.65
"""And without: as much agreement, or more, is no step, or one too small to tell."""
SLOPES_PPM = 400.0
"""Fastest drift that is considered instead of a step."""


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
    lags = np.zeros((curves.shape[0], 2), int)
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
            at = min(k, steps.shape[0] - 1)
            steps[at], lags[at] = ratio, (first - REACH, second - REACH)
    found: list[tuple[float, float]] = []
    while np.any(steps > 0):
        best = int(np.argmax(steps))
        at_s = best * hop / sample_rate + 0.5 * (WINDOW_S - HOP_S)
        first, second = lags[best].tolist()
        if _is_step(dry, wet, at_s, first, second, sample_rate):
            found.append((at_s, float(second - first)))
        steps[max(0, best - 2 * SIDE) : best + 2 * SIDE] = 0.0
    return sorted(found)


def _stands_out(curve: _Array, own: int, other: int) -> float:
    """How much higher a curve is at one lag than near the other, above what it is everywhere."""
    floor = float(np.quantile(curve, 0.95))
    near = float(curve[max(0, other - 1) : other + 2].max())
    if floor <= 0.0 or curve[own] < 5.0 * floor:  # silence, or no clear lag
        return 0.0
    return float(curve[own]) / max(near, floor)


def _is_step(dry: _Sound, wet: _Sound, at_s: float, first: int, second: int, sample_rate: int) -> bool:
    """Whether the responses before and after a moment are the same with the step taken out, and not without it.

    Its rivals are either lag on both sides, and a lag that drifts: all of them are measured with the same frames.
    """
    aside, reach = round(ASIDE_S * sample_rate), round(WIDE * HOP_S * sample_rate)
    at = round(at_s * sample_rate)
    before = _sounding(dry, np.arange(max(0, at - aside - reach), at - aside - FRAME, FRAME // 2))
    after = _sounding(dry, np.arange(at + aside, min(dry.shape[0] - FRAME, at + aside + reach), FRAME // 2))
    if min(before.size, after.size) < LEAST_FRAMES:
        return False
    x = _frames(dry, before), _frames(dry, after)
    y = {lag: (_frames(wet, before + lag), _frames(wet, after + lag)) for lag in (first, second)}
    one, other = _response(x[0], y[first][0]), _response(x[1], y[second][1])
    whole = float(np.sum(np.abs(one * other)))
    if np.count_nonzero(one * other) < LEAST_BINS or _alike(one, other) < SAME * whole:
        return False
    rivals = [_alike(_response(x[0], y[lag][0]), _response(x[1], y[lag][1])) for lag in (first, second)]
    if abs(second - first) <= SLOPES_PPM * 1e-6 * 2 * reach:
        turn = 2.0 * np.pi * np.arange(x[0].shape[1]) / FRAME
        for slope in np.linspace(-SLOPES_PPM, SLOPES_PPM, 81) * 1e-6:
            late = [slope * (starts - at) - (second - first) / 2.0 for starts in (before, after)]
            ramped = [y[first][k] * np.exp(1j * np.outer(late[k] + (second - first), turn)) for k in (0, 1)]
            rivals.append(_alike(_response(x[0], ramped[0]), _response(x[1], ramped[1])))
    return max(rivals) < COMES_NEAR * whole


def _response(x: _Spectra, y: _Spectra) -> _Spectra:
    """Complex coherence at each frequency; 0 where it may be chance."""
    a, b = np.sum(np.abs(x) ** 2, axis=0), np.sum(np.abs(y) ** 2, axis=0)
    raw = np.sum(x.conj() * y, axis=0) / np.sqrt(np.maximum(a * b, 1e-60))
    heard = (a > LEAKS * a.max()) & (b > LEAKS * b.max())
    return np.asarray(np.where(heard & (np.abs(raw) ** 2 > 6.0 / x.shape[0]), raw, 0.0))  # chance gives 1.5 / frames


def _alike(one: _Spectra, other: _Spectra) -> float:
    """How far two responses have the same phase, summed over frequency."""
    return float(np.sum((one * other.conj()).real))


def _sounding(dry: _Sound, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those frames in which something is played."""
    levels = np.array([float(np.mean(np.square(dry[s : s + FRAME], dtype=np.float64))) for s in starts])
    return starts[levels > 1e-4 * float(levels.max(initial=0.0))] if starts.size else starts


def _frames(sound: _Sound, starts: npt.NDArray[np.int64]) -> _Spectra:
    """Spectra of frames, each at the same loudness; silence lies beyond the ends."""
    from scipy import fft

    room = FRAME + REACH
    padded = np.pad(sound, room)
    frames = np.stack([padded[room + s : room + s + FRAME] for s in starts]).astype(np.float64)
    frames *= np.hanning(FRAME) / (np.sqrt(np.mean(frames**2, axis=1, keepdims=True)) + 1e-12)
    return np.asarray(fft.rfft(frames, axis=1))


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
