"""What a reference itself says of its clones, measured on the test sound: what no clone gets past (its noise, its own
motion, its steps), and how far the dry sound is from it, which is no clone at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import _common as common  # noqa: F401 - first: it sets thread counts
import numpy as np
from references_list import Case
from references_sound import RATE

from fxclone.audio import Audio
from fxclone.effects import effect
from fxclone.files import read_sound
from fxclone.metrics import to_db

LATER_SAMPLES = 15_057
"""Of silence in front, 314 ms: no multiple of a codec's frame, nor of the period of an LFO or a carrier here."""
NOTHING_DB = -150.0
"""Below this a limit is rounding, and none."""


def limits(case: Case, files: Sequence[Path]) -> dict[str, float]:
    """Measure them.

    Returns
    -------
    dict
        ESR in dB against the reference's own rendering, of: "again", a second rendering (noise); "later", the sound
        begun 314 ms later, and moved back (motion); "dry", the dry sound, and "smooth", ``case.smooth`` (without
        steps), each with the gain and the offset that fit best. What is below `NOTHING_DB` is left out.
    """
    reference = effect(case.effect)
    late = reference.latency_samples(RATE)
    sounds = [read_sound(path, sample_rate=RATE, channels=1)[0] for path in files]
    wet = [reference.render(dry, RATE) for dry in sounds]
    others: dict[str, Callable[[Audio], Audio]] = {
        "dry": lambda dry: np.pad(dry, ((0, 0), (late, 0)))[:, : dry.shape[1]],
        "again": lambda dry: reference.render(dry, RATE),
        "later": lambda dry: reference.render(np.pad(dry, ((0, 0), (LATER_SAMPLES, 0))), RATE)[:, LATER_SAMPLES:],
    }
    if case.smooth:
        smooth = effect(case.smooth)
        others["smooth"] = lambda dry: smooth.render(dry, RATE)
    found = {}
    for name, render in others.items():
        other = [render(dry) for dry in sounds]
        if name in ("dry", "smooth"):
            other = fitted(other, wet)
        error = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(other, wet, strict=True))
        power = sum(float(np.square(sound, dtype=np.float64).sum()) for sound in wet)
        found[name] = to_db(error / power) if power else 0.0
    return {name: value for name, value in found.items() if value > NOTHING_DB}


def fitted(sounds: Sequence[Audio], wet: Sequence[Audio]) -> list[Audio]:
    """Sounds with one gain and one offset for all, by least squares."""
    x, y = (np.concatenate([sound[0] for sound in some]).astype(np.float64) for some in (sounds, wet))
    gain = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
    offset = float(y.mean() - gain * x.mean())
    return [(gain * sound + offset).astype(np.float32) for sound in sounds]
