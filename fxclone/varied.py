"""The same playing at other pitches and levels: more to learn from where an effect will render whatever it is given.

A minute of guitar says little of all that a guitar can do to an amp: a model of some layers learns the minute by heart
(an amp as .nam file, 43 s, 15 minutes: -26 dB on them, -17 dB on other guitars). What plays a few semitones higher or
lower, harder or softer, or comes with the other polarity, is a guitar still.
"""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio, db_to_gain, peak
from fxclone.files import resample

SEMITONES = (4.0, -3.0, 7.0, -5.0, 2.0, -7.0, 5.0, -2.0)
"""Up and down in turns, and no two the same: as far as another tuning, another instrument or a capo goes."""
LEVELS_DB = (-4.0, 4.0, -8.0, 2.0, -2.0, 6.0, -6.0)
"""Another number of them than of pitches, so that they meet in ever new pairs; and every third is inverted."""


def varied(sound: Audio, sample_rate: int, samples: int) -> Audio:
    """Make more of a sound: itself, then itself at other pitches, levels and polarities.

    Parameters
    ----------
    sound : Audio
        At least one sample.
    sample_rate : int
        In Hz.
    samples : int
        Wanted in all; the last variation is cut off there.

    Returns
    -------
    Audio [shape=(channels, samples)]
        No variation is louder than full scale, or than the sound itself if that is louder.
    """
    parts, have, turn = [sound[:, :samples]], min(samples, sound.shape[1]), 0
    top = max(1.0, peak(sound))
    while have < samples:
        speed = 2.0 ** (SEMITONES[turn % len(SEMITONES)] / 12)
        other = resample(sound, round(sample_rate * speed), sample_rate)
        gain = min(db_to_gain(LEVELS_DB[turn % len(LEVELS_DB)]), top / max(peak(other), 1e-9))
        part = (gain if turn % 3 else -gain) * other[:, : samples - have]
        parts.append(part.astype(np.float32))
        have, turn = have + part.shape[1], turn + 1
    return np.concatenate(parts, axis=1)
