"""ESR and its relatives in the time domain: by window and by level. Use through `fxclone.metrics`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fxclone.audio import TINY_POWER, Audio, power_to_db
from fxclone.errors import FxcloneError

Doubles = npt.NDArray[np.float64]

_CHUNK = 1 << 20
_LEVEL_WINDOW_S = 0.05


def esr(wet: Audio, estimate: Audio) -> float:
    """Error-to-signal ratio, sum (y - ŷ)² / sum y² (Wright et al. 2019, without pre-emphasis).

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate.

    Returns
    -------
    float
        0 is perfect; 1 is as bad as silence. If the wet is silent: 0 for a silent estimate, infinity for any other.
        Infinity as well if the estimate holds NaN or infinity.
    """
    signal, error = energies(wet, estimate)
    return ratio(error, signal, wet.size)


def esr_db(wet: Audio, estimate: Audio) -> float:
    """`esr` in dB, 10·log10; floored at -200 dB."""
    return to_db(esr(wet, estimate))


def same_shape(wet: Audio, estimate: Audio) -> None:
    """Insist that both have the same shape and are not empty."""
    if wet.shape != estimate.shape or wet.ndim != 2 or wet.size == 0:
        raise FxcloneError(
            f"cannot compare wet {wet.shape} with estimate {estimate.shape}; expected the same (channels, samples)"
        )


def chunks(*sounds: Audio) -> Iterator[tuple[Doubles, ...]]:
    """Yield pieces of the sounds side by side, in double precision."""
    for start in range(0, sounds[0].shape[1], _CHUNK):
        yield tuple(sound[:, start : start + _CHUNK].astype(np.float64) for sound in sounds)


def energies(wet: Audio, estimate: Audio) -> tuple[float, float]:
    """Sum the squares of the wet sound and of the error."""
    same_shape(wet, estimate)
    signal = error = 0.0
    for y, e in chunks(wet, estimate):
        signal += float(np.vdot(y, y))
        y -= e
        error += float(np.vdot(y, y))
    return signal, error


def ratio(error: float, signal: float, count: int) -> float:
    """Divide energies, with silence defined: power under -200 dBFS counts as none."""
    if not math.isfinite(error):
        return math.inf
    if signal < TINY_POWER * count:
        return 0.0 if error < TINY_POWER * count else math.inf
    return error / signal


def to_db(power_ratio: float) -> float:
    """Turn a power ratio into dB; floored at -200, infinity stays."""
    return power_to_db(power_ratio) if math.isfinite(power_ratio) else power_ratio


def worst_window(
    wet: Audio, estimate: Audio, sample_rate: int, window_ms: float = 100.0, gate_db: float = -60.0
) -> tuple[float, int]:
    """Find the window with the highest ESR among those loud enough to matter.

    Windows overlap by half. Only those count whose wet energy is within ``gate_db`` of the loudest window's.

    Returns
    -------
    float
        Its ESR in dB.
    int
        Its first sample.
    """
    same_shape(wet, estimate)
    half = max(1, round(sample_rate * window_ms / 2000.0))
    signal, error = (_by_window(s, half) for s in (wet, _difference(wet, estimate)))
    if signal.shape[0] > 1:
        signal, error = signal[:-1] + signal[1:], error[:-1] + error[1:]
    loud = np.flatnonzero(signal >= signal.max() * 10.0 ** (gate_db / 10.0))
    ratios = [ratio(float(error[i]), float(signal[i]), 2 * half * wet.shape[0]) for i in loud]
    worst = int(np.argmax(ratios))
    return to_db(ratios[worst]), int(loud[worst]) * half


def worst_window_esr_db(
    wet: Audio, estimate: Audio, sample_rate: int, window_ms: float = 100.0, gate_db: float = -60.0
) -> float:
    """ESR in dB of the worst window; see `worst_window`."""
    return worst_window(wet, estimate, sample_rate, window_ms, gate_db)[0]


def _difference(wet: Audio, estimate: Audio) -> Audio:
    out: Audio = wet - estimate
    return out


def _by_window(sound: Audio, length: int, what: str = "energy") -> Doubles:
    """Energy or peak of consecutive windows, over all channels; the last may be shorter."""
    out = np.zeros(-(-sound.shape[1] // length))
    step = max(1, _CHUNK // length)
    for first in range(0, out.shape[0], step):
        part = sound[:, first * length : (first + step) * length].astype(np.float64)
        part = np.pad(part, ((0, 0), (0, -part.shape[1] % length))).reshape(part.shape[0], -1, length)
        values = np.square(part).sum(axis=(0, 2)) if what == "energy" else np.abs(part).max(axis=(0, 2))
        out[first : first + step] = values
    return out


def esr_db_by_level(dry: Audio, wet: Audio, estimate: Audio, sample_rate: int) -> dict[str, float]:
    """ESR in dB in bands of 10 dB by how loud the input is: does the clone follow quiet and loud playing alike?

    Each window of 50 ms belongs to the band of the dry sound's peak in it, in dBFS. Windows under -60 dBFS and
    bands with less than one whole window are left out; 0 dBFS itself belongs to ``-10..0``.

    Returns
    -------
    dict
        From band (``-60..-50`` to ``-10..0``, and ``above 0``) to ESR in dB.
    """
    same_shape(wet, estimate)
    if dry.shape[1] != wet.shape[1]:
        raise FxcloneError(f"dry has {dry.shape[1]} samples and wet {wet.shape[1]}; expected the same")
    length = max(1, round(sample_rate * _LEVEL_WINDOW_S))
    whole = dry.shape[1] // length
    with np.errstate(divide="ignore"):
        level = 20.0 * np.log10(_by_window(dry, length, "peak")[:whole])
    signal, error = (_by_window(s, length)[:whole] for s in (wet, _difference(wet, estimate)))
    out = {}
    for low in (*range(-60, 0, 10), 0):
        inside = (level >= low) & (level < low + 10) if low < -10 else (level >= low) & (level <= 1e-6)
        name = f"{low}..{low + 10}"
        if low == 0:
            inside, name = level > 1e-6, "above 0"
        if inside.any():
            count = int(inside.sum()) * length * wet.shape[0]
            out[name] = to_db(ratio(float(error[inside].sum()), float(signal[inside].sum()), count))
    return out
