"""Does the gain follow the level, as in a compressor, a limiter or a gate, and not the waveform, as in a distortion?

    wet = after * (gain(level) dry)            level: a detector of the dry sound's power, with an attack and a release

The response and the gain are found in turns, each by least squares while the other is held. The gain is a polygon over
the detector's level in dB. Blocks of a millisecond are enough to know three sums of each, so that a bank of detectors
costs next to nothing: the one that explains most shows how fast the device reacts, and all of them together what a gain
that follows the level can explain at all. A distortion bends each single wave, and no gain that moves from note to note
explains that; a compressor hardly bends waves, and no curve explains that it still remembers the note before.

A gate is told by what it silences, which is too soft to count in any sum of errors. A curve cannot shut: whatever it
does to a soft sound it also does to every loud one, on its way through zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from fxclone.audio import Audio, power_to_db
from fxclone_training.analysis_models import through_curve
from fxclone_training.tail_identify import Doubles, convolve, identify

BLOCK_S = 0.001
FREE_S = 0.02
"""A gain that is free from one such stretch to the next: what any moving gain could explain."""
ATTACKS_MS = (1.0, 5.0, 20.0, 100.0, 300.0)
RELEASES_MS = (30.0, 100.0, 300.0, 1000.0, 3000.0)
KNOTS, KNOT_DB = 12, 5.0
"""Of the polygon, downwards from the loudest."""
TOGETHER = 6
"""So many detectors, the best ones, make the gain that all of them explain."""
TURNS = 3
RESPONSE_S = 0.05
RIDGE = 1e-5
HEARD_DB = -50.0
"""Blocks that are this much softer than the loudest do not count where the gain itself is looked at."""
SHUT = 0.1
"""A gain under this share of its highest is a gate that is shut."""
SHUT_SHARE, SHUTS_BETTER_DB = 0.02, 6.0
"""A gate is shut for so much of the time that something comes in, and a gain that follows the level silences what a
curve lets through by so much more."""


@dataclass(frozen=True)
class Gain:
    """What a gain that follows the level explains.

    Attributes
    ----------
    following_db : float
        What is left of the wet sound by a response and a gain that follows the level, in dB.
    free_db : float
        The same with a gain that is free every 20 ms: less than this no moving gain leaves.
    attack_ms, release_ms : float
        Of the detector that explains most, from a few that were tried.
    range_db : float
        How far the gain moves while something is heard: from its 5th to its 95th percentile.
    slope : float
        dB of gain for each dB of level: below 0 it turns down what is loud, above 0 what is soft.
    still_db : float
        What the response leaves without any gain that moves, on the same sound: a following gain has to be better.
    shut_share : float
        Share of the time that something comes in for which next to nothing comes out.
    shut_db, curve_shut_db : float
        Error of a gain that follows the level, and of the best curve, in that time: against what would be heard if it
        were open, in dB; the median, for its ends are neither open nor shut.
    """

    following_db: float
    free_db: float
    attack_ms: float
    release_ms: float
    range_db: float
    slope: float
    still_db: float = math.inf
    shut_share: float = 0.0
    shut_db: float = 0.0
    curve_shut_db: float = 0.0

    @property
    def gates(self) -> bool:
        """Whether it silences what is soft, and not as a curve would."""
        return self.shut_share >= SHUT_SHARE and self.slope > 0 and self.shut_db <= self.curve_shut_db - SHUTS_BETTER_DB


@dataclass(frozen=True, eq=False)
class GainTrace:
    """The gain over time, for pictures.

    Attributes
    ----------
    level_db : ndarray [shape=(blocks,)]
        Of the best detector, in dBFS.
    following_db, free_db : ndarray [shape=(blocks,)]
        Gain in dB; NaN where nothing is heard.
    block_s : float
        Length of a block.
    """

    level_db: Doubles
    following_db: Doubles
    free_db: Doubles
    block_s: float


def follow_level(dry: Audio, wet: Audio, sample_rate: int) -> tuple[Gain, GainTrace]:
    """Fit a response and a gain that follows the level.

    Parameters
    ----------
    dry, wet : ndarray [shape=(1, samples)]
        A connected stretch: what was before it decides the gain.
    sample_rate : int
        In Hz; 12,000 is plenty.
    """
    block = max(1, round(BLOCK_S * sample_rate))
    count = dry.shape[1] // block
    dry, wet = dry[:, : count * block], wet[:, : count * block]
    power = _sums(dry[0], dry[0], block) / block
    pairs = [(attack, release) for attack in ATTACKS_MS for release in RELEASES_MS if release >= attack]
    levels = _detect(power, np.array(pairs) / (1e3 * block / sample_rate))  # (detectors, blocks), dBFS
    taps = min(round(RESPONSE_S * sample_rate), dry.shape[1])
    gain, still_db = np.ones(count), math.inf
    for _ in range(TURNS):
        driven = (dry * np.repeat(gain, block)).astype(np.float32)
        fit = identify(driven, wet, taps, iterations=20, target_db=-70)
        still_db = min(still_db, fit.residual_db) if (gain == 1).all() else still_db
        heard = convolve(dry, fit.responses)
        own, both, energy = (
            _sums(heard[0], heard[0], block),
            _sums(heard[0], wet[0], block),
            _sums(wet[0], wet[0], block),
        )
        alone = [_fit(_polygon(level), own, both) for level in levels]
        errors = [_left(one, own, both, energy) for one in alone]
        order = np.argsort(errors)
        basis = np.concatenate([_polygon(levels[k]) for k in order[:TOGETHER]])
        gain = _fit(basis, own, both)
    best = int(order[0])
    following_db = power_to_db(_left(gain, own, both, energy))
    several = max(1, round(FREE_S / BLOCK_S))
    moved, free = _freely(own, both, energy, several)
    audible = power > power.max() * 10 ** (HEARD_DB / 10)
    shown = 20 * np.log10(np.maximum(np.abs(alone[best]), 1e-4))
    low, high = np.quantile(shown[audible], [0.05, 0.95])
    slope = float(np.polyfit(levels[best][audible], shown[audible], 1)[0]) if np.ptp(levels[best][audible]) > 1 else 0.0
    attack_ms, release_ms = pairs[best]
    shut = audible & (np.abs(moved) < SHUT * np.quantile(np.abs(moved[audible]), 0.95))
    x, y = heard[0].astype(np.float64), wet[0].astype(np.float64)
    bent = np.square(y - through_curve(x, y)).reshape(count, block).sum(axis=1)
    opened = np.maximum(own, 1e-30) * float(np.square(moved[audible]).max(initial=1e-30))
    shut_db, curve_shut_db = (
        power_to_db(float(np.median(np.maximum(left / opened, 1e-9)[shut]))) if shut.any() else 0.0
        for left in (energy - 2 * gain * both + gain * gain * own, bent)
    )
    found = Gain(
        following_db,
        power_to_db(free),
        attack_ms,
        release_ms,
        float(high - low),
        slope,
        still_db,
        int(np.count_nonzero(shut)) / max(1, int(np.count_nonzero(audible))),
        shut_db,
        curve_shut_db,
    )
    free_db = np.where(audible, 20 * np.log10(np.maximum(np.abs(moved), 1e-4)), np.nan)
    return found, GainTrace(levels[best], np.where(audible, shown, np.nan), free_db, block / sample_rate)


def _sums(one: np.ndarray, other: np.ndarray, block: int) -> Doubles:
    product = one.astype(np.float64) * other
    out: Doubles = product.reshape(-1, block).sum(axis=1)
    return out


def _polygon(level_db: Doubles) -> Doubles:
    """Hat functions over the level: (knots, blocks); they sum to 1, and the lowest holds for all below."""
    place = np.clip((level_db - level_db.max()) / KNOT_DB + KNOTS - 1, 0, KNOTS - 1)
    out: Doubles = np.maximum(0.0, 1.0 - np.abs(place - np.arange(KNOTS)[:, None]))
    return out


def _fit(basis: Doubles, own: Doubles, both: Doubles) -> Doubles:
    """The gain in each block: least squares over the weights of a basis (functions, blocks)."""
    normal = (basis * own) @ basis.T
    lifted = normal + RIDGE * np.trace(normal) / len(normal) * 1e-3 * np.eye(len(normal))
    out: Doubles = np.linalg.solve(lifted, basis @ both) @ basis
    return out


def _left(gain: Doubles, own: Doubles, both: Doubles, energy: Doubles) -> float:
    """Share of the wet power that a gain in each block leaves."""
    left = float(np.sum(energy - 2 * gain * both + gain * gain * own))
    return max(left, 0.0) / max(float(energy.sum()), 1e-30)


def _freely(own: Doubles, both: Doubles, energy: Doubles, several: int) -> tuple[Doubles, float]:
    """A gain for each few blocks, and the share it leaves."""
    edges = np.arange(0, len(own), several)
    own_sum, both_sum = (np.add.reduceat(sums, edges) for sums in (own, both))
    gain = np.repeat(both_sum / np.maximum(own_sum, 1e-30), several)[: len(own)]
    return gain, _left(gain, own, both, energy)


def _detector(power: Doubles, blocks: Doubles) -> Doubles:
    """Power through (detectors, 2) attack and release times, in blocks; in dB."""
    out = np.empty((len(blocks), len(power)))
    for k in range(len(blocks)):
        rise, fall = 1.0 - np.exp(-1.0 / blocks[k, 0]), 1.0 - np.exp(-1.0 / blocks[k, 1])
        state = 0.0
        for n in range(len(power)):
            state += (rise if power[n] > state else fall) * (power[n] - state)
            out[k, n] = 10.0 * np.log10(state + 1e-10)
    return out


_detect: Callable[[Doubles, Doubles], Doubles] = njit(cache=True)(_detector)
