"""Is the return loud enough, and not too loud? In words, with what to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio, gain_to_db

FULL_SCALE = 0.9995
"""A converter that clips stays just under 1."""
HOT_DBFS, QUIET_DBFS, NOTHING_DBFS = -1.0, -24.0, -70.0
CLIPPED_RUN = 2


@dataclass(frozen=True)
class LevelAdvice:
    """What the level of a return means.

    Attributes
    ----------
    verdict : str
        ``good``, ``hot``, ``clips``, ``quiet`` or ``nothing``.
    text : str
        One line for the player.
    peak_dbfs : float
    """

    verdict: str
    text: str
    peak_dbfs: float


def level_advice(peak: float, *, clipped: bool = False) -> LevelAdvice:
    """Judge the peak of a return while the loud stretch plays.

    Parameters
    ----------
    peak : float
        Loudest sample, linear.
    clipped : bool
        Whether several samples in a row lie at full scale.
    """
    db = max(-200.0, gain_to_db(peak))
    shown = f"return peaks at {db:.1f} dBFS".replace("-", "−")
    if db < NOTHING_DBFS:
        text = "nothing comes back: check cables, channels and that the pedal is on"
        return LevelAdvice("nothing", text, db)
    if clipped or peak >= FULL_SCALE:
        return LevelAdvice("clips", f"{shown}: it clips, turn the input gain or the pedal's level down by 6 dB", db)
    if db > HOT_DBFS:
        return LevelAdvice("hot", f"{shown}: nearly clips, turn down by {3 + db:.0f} dB", db)
    if db < QUIET_DBFS:
        return LevelAdvice("quiet", f"{shown}: too quiet, turn up by {-6 - db:.0f} dB", db)
    return LevelAdvice("good", f"{shown}: good", db)


def count_clipping(sound: Audio) -> int:
    """How often a return lies at full scale for two samples or more in a row."""
    flat = np.abs(sound) >= FULL_SCALE
    runs = 0
    for channel in flat:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], channel.astype(np.int8), [0]])))
        runs += int(np.count_nonzero(edges[1::2] - edges[::2] >= CLIPPED_RUN))
    return runs
