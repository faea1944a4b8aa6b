"""Is it the same at another time, and the same once more? What no clone can know of an effect.

An effect that renders can be asked: the same passage, begun at several moments. What its outputs have in common, their
mean, is all that a clone without the same oscillator can learn; how far they are from it is the least error that a
clone can have. The same moment twice shows noise. A recording cannot be asked: there the figures of ``fxclone check``
stand for it, from what moves in the gains of bands, and from passages that happen to come twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio, power_to_db
from fxclone.check import check_pair
from fxclone.pairs import Pair

Render = Callable[[Audio, int], Audio]
"""dry (channels, samples), sample_rate -> wet of the same shape, from a fresh state."""

OFFSETS_S = (0.0, 0.137, 0.391, 0.773, 1.309, 2.027)
"""When the passage begins: far from multiples of each other, so that an LFO of any speed is met at different phases."""
PASSAGE_S, PIECES = 4.5, 6
"""Length of the passage, and of how many pieces from all over the sound it is made."""
STILL_DB = -40.0
"""A clone of something that differs by less from one time to the next will hardly be told from it."""
NOISE_RATIO = 4.0
"""What differs from time to time must be so much more, in power, than what differs from one render to the next."""
LISTEN_S = 40.0
"""A recording is looked at for so long."""
EXACT_DB = -120.0


@dataclass(frozen=True)
class Steadiness:
    """What changes by itself.

    Attributes
    ----------
    moves : bool
        Whether it changes with time.
    still_db : float or None
        The least error of a clone that cannot follow, in dB, if that could be measured.
    rate_hz : float or None
        Of its LFO, if one was seen.
    wander_samples : float or None
        How far the lag of a recording strays, as on tape, if it does.
    floor_db : float
        The error that noise alone leaves, in dB; -120 or less for none.
    floor_exact : bool
        Whether that was measured, and is not only the most that it can be.
    rendered : bool
        Whether the effect itself was asked, or only a recording of it.
    """

    moves: bool
    still_db: float | None
    rate_hz: float | None
    wander_samples: float | None
    floor_db: float
    floor_exact: bool
    rendered: bool


def steadiness(pair: Pair, render: Render | None) -> Steadiness:
    """Ask the effect itself if it is at hand, else listen to the pair."""
    return by_rendering(render, pair) if render else by_listening(pair)


def by_rendering(render: Render, pair: Pair) -> Steadiness:
    """Render a passage of the pair's dry sound at several moments.

    Parameters
    ----------
    render : callable
        The effect.
    pair : Pair
        Gives the sound and the number of channels.
    """
    rate = pair.sample_rate
    passage = _passage(pair)

    def at(offset_s: float) -> Audio:
        lead = round(offset_s * rate)
        return render(np.pad(passage, ((0, 0), (lead, 0))), rate)[:, lead:]

    first = at(0.0).astype(np.float64)
    energy = max(float(np.square(first).sum()), 1e-30)
    noise = float(np.square(at(0.0) - first).sum()) / 2 / energy
    count = len(OFFSETS_S)
    # Around the mean of all, as far from it as they were drawn from (Bessel's correction).
    total, squares = np.zeros_like(first), 0.0
    for offset_s in OFFSETS_S[1:]:
        apart = at(offset_s) - first
        total += apart
        squares += float(np.square(apart).sum())
    spread = max(squares - float(np.square(total).sum()) / count, 0.0) / (count - 1) / energy
    still_db, floor_db = (max(power_to_db(share), EXACT_DB) for share in (spread, noise))
    moves = still_db > STILL_DB and spread > NOISE_RATIO * noise
    return Steadiness(moves, still_db, None, None, floor_db, True, True)


def by_listening(pair: Pair) -> Steadiness:
    """Ask what `fxclone check` finds in a recording, or in a pair whose effect is not at hand."""
    dry, wet = _middle(pair)
    report = check_pair(dry, wet, pair.sample_rate)
    measured = report.measured
    if measured is None:
        return Steadiness(False, None, None, None, 0.0, False, False)
    motion, still_db = measured.motion, None
    wander = next((finding.number for finding in report.findings if finding.topic == "wander"), None)
    if wander is not None:  # to first order, a sound that comes d samples late is wrong by d times its slope
        slope = float(np.square(np.diff(wet.astype(np.float64))).sum()) * wander**2
        still_db = power_to_db(slope / max(float(np.square(wet, dtype=np.float64).sum()), 1e-30))
    moves = motion.moving or (still_db is not None and still_db > STILL_DB)
    floor_db = max(min(measured.best_esr_db, 0.0), EXACT_DB)
    rate_hz = motion.rate_hz if motion.moving else None
    return Steadiness(moves, still_db, rate_hz, wander, floor_db, measured.best_esr_exact, False)


def _passage(pair: Pair) -> Audio:
    """Pieces from all over the dry sound, in as many channels as the effect renders."""
    piece = min(round(PASSAGE_S * pair.sample_rate), pair.samples) // PIECES
    starts = np.linspace(0, pair.samples - piece, PIECES).astype(int)
    sound = np.concatenate([pair.dry[:, first : first + piece] for first in starts], axis=1)
    if sound.shape[0] < pair.wet.shape[0]:
        sound = np.repeat(sound[:1], pair.wet.shape[0], axis=0)
    return np.ascontiguousarray(sound)


def _middle(pair: Pair) -> tuple[Audio, Audio]:
    samples = min(pair.samples, round(LISTEN_S * pair.sample_rate))
    first = (pair.samples - samples) // 2
    return pair.dry[:, first : first + samples], pair.wet[:, first : first + samples]
