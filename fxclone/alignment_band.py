"""Where the band of a sound ends: sound from a lower rate, or from a lossy codec, does not fill half of its rate.

Nothing can be learned of an effect beyond, and what the last bits do there is no filter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CLIFF_DB = 40.0
EDGE_BANDS, EDGE_STEPS = 128, 6
"""What counts as the end of a sound's band: a fall so deep within so many of so many bands."""
TINY = 1e-100


def band_edge(power: Floats) -> int:
    """Where a sound ends sharply: the bin from which on it is `CLIFF` softer than just before; else the last one."""
    width = len(power) // EDGE_BANDS
    level = 10.0 * np.log10(power[: width * EDGE_BANDS].reshape(EDGE_BANDS, width).mean(axis=1) + TINY)
    above = np.maximum.accumulate(level[::-1])[::-1]  # the loudest from there on
    for k in range(EDGE_BANDS // 8, EDGE_BANDS - EDGE_STEPS):
        if level[k] - above[k + EDGE_STEPS] > CLIFF_DB:
            return k * width
    return len(power)


def effects_band(dry_power: Floats, wet_power: Floats) -> int:
    """How far the band of an effect that distorts reaches, in bins.

    It makes frequencies beyond those of the dry sound, unless it works at a rate that has no more. So if both sounds
    end sharply at one place, the effect was at work at that rate, and no filter lies beyond.
    """
    width, edge = len(wet_power) // EDGE_BANDS, band_edge(dry_power)
    if edge == len(wet_power) or abs(band_edge(wet_power) - edge) > width:
        return len(wet_power)
    return edge + EDGE_STEPS // 2 * width
