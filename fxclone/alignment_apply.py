"""Reading sound between its samples, and taking a measured lag and drift out of a pair."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import signal

from fxclone.audio import Audio
from fxclone.errors import FxcloneError

if TYPE_CHECKING:
    from fxclone.alignment import PairAlignment

Floats = npt.NDArray[np.float64]

MOVING_TAPS, MOVING_BETA = 96, 9.0
"""Length and Kaiser window of the interpolator for drifting sound: within 0.01 dB up to 0.46 of the rate."""
STILL_TAPS, STILL_BETA = 256, 10.0
"""The same for a constant delay: within 0.01 dB up to 0.48 of the rate."""
PHASES = 1024
"""Rows of the interpolator's table; between them it is interpolated linearly, with an error under -115 dB."""
CHUNK = 1 << 14

MARGIN_SAMPLES, MOST_MARGIN_SAMPLES = 1, 64
"""Least and most that is left in when the lag is not certain."""
MARGIN_DOUBTS = 3.0
"""The same in terms of the lag's uncertainty."""
WHOLE_SAMPLES = 0.25
"""A doubtful lag that is as near to a whole number, and not told from it, counts as whole."""
DRIFT_CONFIDENCE = 0.5
"""Confidence from which a drift is resampled away."""
DRIFT_SAMPLES = 0.1
"""Drift over the whole sound, in samples, under which there is nothing worth resampling."""


@dataclass(frozen=True)
class AlignedPair:
    """A pair whose wet sound begins when its dry sound does.

    Attributes
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        Of one length.
    removed_samples : float
        How much earlier the wet sound is now, at its start, at the common rate; negative if it was made later.
    resampled_ppm : float
        The clock drift taken out; 0 if the wet sound was not resampled.
    notes : tuple of str
        What the user should know.
    """

    dry: Audio
    wet: Audio
    removed_samples: float
    resampled_ppm: float
    notes: tuple[str, ...]


def apply_alignment(
    dry: Audio, wet: Audio, sample_rate: int, alignment: PairAlignment, *, margin_samples: float | None = None
) -> AlignedPair:
    """Take the lag and the drift that were measured out of a pair; polarity and level stay as they are.

    Between samples the wet sound is read with a windowed sinc (Kaiser), a lag that is a whole number is a plain cut,
    and with lag 0 and no drift the samples are the ones that came in.

    Parameters
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        What `align_pair` was given.
    sample_rate : int
        Their common rate in Hz.
    alignment : PairAlignment
        What it found.
    margin_samples : float or None
        How much of the lag to leave in. A model can learn a delay, but cannot look ahead, so too little is harmless
        and too much is fatal. By default 0 where the lag is confident, otherwise three times its uncertainty in whole
        samples, 1 at least and 64 at most; a doubtful lag that may be none changes nothing.

    Raises
    ------
    FxcloneError
        If no lag was found, or if nothing is left of the pair.
    """
    found = alignment.lag_samples
    if not math.isfinite(found):
        raise FxcloneError(
            "the lag between dry and wet was not found; expected a wet sound that follows the dry one: check the files"
        )
    notes: list[str] = []
    length = min(dry.shape[1], wet.shape[1])
    ppm = alignment.drift_ppm if alignment.drift_confidence >= DRIFT_CONFIDENCE else 0.0
    if abs(ppm) * 1e-6 * length < DRIFT_SAMPLES:
        ppm = 0.0
    lag = _removable(alignment, margin_samples)
    if lag != found:
        notes.append(
            f"the lag ({found:+.2f} samples) is not certain: {lag:.2f} samples are taken out, because a clone can "
            "learn a delay but cannot look ahead"
        )
    if lag < 0.0:
        lead_ms = -found / sample_rate * 1e3
        notes.append(
            f"wet leads dry by {-found:.2f} samples ({lead_ms:.2f} ms), which no live effect can do: "
            "it was shifted later, and so a clone of it is that much later than the files were"
        )
    if ppm:
        notes.append(f"wet's clock differs from dry's by {ppm:+.1f} ppm: wet was resampled")
    # n of dry belongs to lag + (1 + ppm) n of wet; only whole n inside both are kept
    step = 1.0 + ppm * 1e-6
    first = max(0, math.ceil(-lag / step)) if lag < 0.0 else 0
    last = min(dry.shape[1] - 1, math.floor((wet.shape[1] - 1 - lag) / step))
    if last < first:
        raise FxcloneError(
            f"dry ({dry.shape[1]} samples) and wet ({wet.shape[1]}) do not overlap at a lag of {lag:.1f} samples; "
            "expected longer sound"
        )
    count = last - first + 1
    moved = np.stack([read_between(channel, lag + first * step, step, count) for channel in wet])
    return AlignedPair(
        dry=dry if count == dry.shape[1] else np.ascontiguousarray(dry[:, first : last + 1]),
        wet=moved.astype(np.float32, copy=False),
        removed_samples=float(lag),
        resampled_ppm=ppm,
        notes=tuple(notes),
    )


def _removable(alignment: PairAlignment, margin_samples: float | None) -> float:
    """How much of the lag may be taken out: what is left in where it is not certain is a whole number of samples."""
    lag = alignment.lag_samples
    if margin_samples is not None:
        return lag - margin_samples
    if alignment.confident:
        return lag
    doubt = alignment.uncertainty_samples
    if lag < 0.0:
        return 0.0 if -lag <= max(0.5, doubt) else float(math.floor(lag - min(doubt, MOST_MARGIN_SAMPLES)))
    if abs(lag - round(lag)) <= min(WHOLE_SAMPLES, doubt):
        lag = float(round(lag))  # so that the samples stay as they are
    margin = min(MOST_MARGIN_SAMPLES, max(MARGIN_SAMPLES, math.ceil(min(MARGIN_DOUBTS * doubt, 1e6))))
    return lag - margin if lag >= margin else 0.0


def read_between(sound: npt.NDArray[np.floating], start: float, step: float, count: int) -> npt.NDArray[np.floating]:
    """``sound`` at the positions ``start + step * n`` for n < ``count``; silence lies beyond its ends.

    With step 1 and a whole start these are the samples themselves, in their own type.
    """
    if step == 1.0:
        whole = math.floor(start)
        part = start - whole
        if part == 0.0:
            return _cut(sound, whole, count)
        half = STILL_TAPS // 2
        taps = _sinc_rows(np.array([part]), STILL_TAPS, STILL_BETA)[0]
        out: Floats = signal.oaconvolve(
            _cut(sound, whole - half + 1, count + STILL_TAPS - 1).astype(np.float64), taps[::-1], mode="valid"
        )
        return out
    return _read_moving(sound, start, step, count)


def _read_moving(sound: npt.NDArray[np.floating], start: float, step: float, count: int) -> Floats:
    half = MOVING_TAPS // 2
    table = _table()
    out = np.empty(count)
    for begin in range(0, count, CHUNK):
        places = start + step * np.arange(begin, min(count, begin + CHUNK))
        whole = np.floor(places).astype(np.int64)
        base = int(whole[0])
        near = _cut(sound, base - half + 1, int(whole[-1]) - base + MOVING_TAPS).astype(np.float64)
        rows = np.lib.stride_tricks.sliding_window_view(near, MOVING_TAPS)[whole - base]
        phase = (places - whole) * PHASES
        row = np.minimum(phase.astype(np.int64), PHASES - 1)
        blend = phase - row
        out[begin : begin + len(places)] = (1.0 - blend) * np.einsum("nk,nk->n", rows, table[row]) + blend * np.einsum(
            "nk,nk->n", rows, table[row + 1]
        )
    return out


@functools.cache
def _table() -> Floats:
    return _sinc_rows(np.arange(PHASES + 1) / PHASES, MOVING_TAPS, MOVING_BETA)


def _sinc_rows(parts: Floats, taps: int, beta: float) -> Floats:
    """Windowed sincs that read a fraction ``parts`` of a sample after tap ``taps/2 - 1``; each sums to 1."""
    away = np.arange(taps) - (taps // 2 - 1) - parts[:, None]
    inside = np.clip(1.0 - (away / (taps / 2)) ** 2, 0.0, None)
    rows: Floats = np.sinc(away) * np.i0(beta * np.sqrt(inside)) / np.i0(beta)
    rows /= rows.sum(axis=1, keepdims=True)
    return rows


def _cut(sound: npt.NDArray[np.floating], start: int, count: int) -> npt.NDArray[np.floating]:
    """``count`` samples from ``start`` on, silence beyond the ends; a view where it can be."""
    stop = start + count
    inside = sound[max(0, start) : max(0, min(stop, len(sound)))]
    if len(inside) == count:
        return inside
    return np.pad(inside, (min(count, max(0, -start)), max(0, count - len(inside) - min(count, max(0, -start)))))
