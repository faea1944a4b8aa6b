"""How close an estimate is to the wet sound: ESR and what it does not tell.

Everything is computed in double precision, over all channels together, in blocks, so that an hour fits in memory.
``wet`` is always the reference and ``estimate`` the clone's output; both have shape (channels, samples).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxclone.audio import TINY_POWER, Audio
from fxclone.metrics_align import Alignment, alignment, lag_samples
from fxclone.metrics_spectrum import a_weighted_esr, a_weighting, error_db_by_band, mr_stft
from fxclone.metrics_time import (
    esr,
    esr_db,
    esr_db_by_level,
    same_shape,
    to_db,
    worst_window,
    worst_window_esr_db,
)

__all__ = [
    "Alignment",
    "Comparison",
    "a_weighted_esr",
    "a_weighting",
    "alignment",
    "compare",
    "error_db_by_band",
    "esr",
    "esr_db",
    "esr_db_by_level",
    "lag_samples",
    "mr_stft",
    "worst_window",
    "worst_window_esr_db",
]


@dataclass(frozen=True)
class Comparison:
    """Everything that is said about an estimate. NaN where a thing is undefined, as the lag of silence.

    Attributes
    ----------
    esr, esr_db : float
        See `esr`.
    lag_samples, polarity, gain_db, confidence
        See `Alignment`.
    a_weighted_esr_db, mr_stft, worst_100ms_esr_db : float
        See the functions of these names.
    worst_100ms_at_s : float
        Where that worst window begins.
    esr_db_by_level : dict
        See `esr_db_by_level`; empty without a dry sound.
    error_db_by_band : dict
        See `error_db_by_band`.
    level_difference_db : float
        RMS of the estimate over RMS of the wet sound.
    dc : float
        Mean of the estimate minus mean of the wet sound, of the channel where it is largest; full scale = 1.
    samples, sample_rate : int
        What was compared.
    """

    esr: float
    esr_db: float
    lag_samples: float
    polarity: int
    gain_db: float
    confidence: float
    a_weighted_esr_db: float
    mr_stft: float
    worst_100ms_esr_db: float
    worst_100ms_at_s: float
    esr_db_by_level: dict[str, float]
    error_db_by_band: dict[str, float]
    level_difference_db: float
    dc: float
    samples: int
    sample_rate: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which knows neither NaN nor infinity: those become None."""
        return {key: _json_safe(value) for key, value in asdict(self).items()}


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def compare(wet: Audio, estimate: Audio, sample_rate: int, dry: Audio | None = None, max_lag: int = 4096) -> Comparison:
    """Compare an estimate with the wet sound in every way this module knows.

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate, of the same shape.
    sample_rate : int
        In Hz.
    dry : Audio or None
        The effect's input, for the ESR by level; its channel count may differ.
    max_lag : int
        How far to look for a lag, in samples.
    """
    same_shape(wet, estimate)
    error = esr(wet, estimate)
    if not math.isfinite(error) and not np.isfinite(estimate).all():
        nan, inf = math.nan, math.inf
        return Comparison(
            inf, inf, nan, 0, nan, 0.0, inf, inf, inf, nan, {}, {}, nan, nan, wet.shape[1], sample_rate
        )  # fmt: skip
    lie = alignment(wet, estimate, max_lag)
    worst, at = worst_window(wet, estimate, sample_rate)
    powers = [float(np.mean(np.square(s, dtype=np.float64))) for s in (estimate, wet)]
    offsets = estimate.mean(axis=1, dtype=np.float64) - wet.mean(axis=1, dtype=np.float64)
    silent = min(powers) < TINY_POWER
    return Comparison(
        esr=error,
        esr_db=to_db(error),
        lag_samples=lie.lag_samples,
        polarity=lie.polarity,
        gain_db=lie.gain_db,
        confidence=lie.confidence,
        a_weighted_esr_db=to_db(a_weighted_esr(wet, estimate, sample_rate)),
        mr_stft=mr_stft(wet, estimate, sample_rate),
        worst_100ms_esr_db=worst,
        worst_100ms_at_s=at / sample_rate,
        esr_db_by_level={} if dry is None else esr_db_by_level(dry, wet, estimate, sample_rate),
        error_db_by_band=error_db_by_band(wet, estimate, sample_rate),
        level_difference_db=math.nan if silent else float(10.0 * np.log10(powers[0] / powers[1])),
        dc=float(offsets[np.argmax(np.abs(offsets))]),
        samples=wet.shape[1],
        sample_rate=sample_rate,
    )
