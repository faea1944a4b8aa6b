"""Which family fits an effect: measured on the pair, not taken from what the effect says of itself."""

from __future__ import annotations

import math

import numpy as np
import torch

from fxclone.audio import Audio
from fxclone.files import resample
from fxclone_training import ar_stages, tail_stages
from fxclone_training.grow import linear_stage
from fxclone_training.session import Session
from fxclone_training.tail import Tail
from fxclone_training.tail_identify import identify
from fxclone_training.tail_length import LINEAR_DB, SHORT_S, linearity

LOOK_S, LOOK_HZ = 20.0, 12_000
"""How much of the pair is looked at, and at which rate: a tail shows below 6 kHz too, in a tenth of the time."""
FULLY_LINEAR_DB = -60.0
"""A linear `ar` model this good needs no response."""
WORTH_DB = 6.0
"""A response has a thousand weights: it must be this much better."""


def train(session: Session, start: None, device: torch.device) -> str:
    """Choose a family and run its stages, telling the user what was found; returns why training ended."""
    pair = session.training
    session.stage = "looking"
    found = linearity(_look(pair.dry, pair.sample_rate), _look(pair.wet, pair.sample_rate), LOOK_HZ)
    channels = pair.dry.shape[0], pair.wet.shape[0]
    session.findings["auto"] = {"kind": found.kind, "long_db": found.long_db, "short_db": found.short_db}
    if found.kind != "short":
        session.tell(
            f"it rings: a response of {found.tail_s:.1f} s explains sound to {found.long_db:.0f} dB, one of "
            f"{1e3 * SHORT_S:.0f} ms to {found.short_db:.0f} dB; family tail"
        )
        return tail_stages.train(session, None, device)
    if channels != (1, 1):
        session.tell(f"no long tail, {channels[0]} channels in, {channels[1]} out: family tail, with short responses")
        return tail_stages.train(session, None, device)
    if found.short_db <= LINEAR_DB and session.recipe.m is None:
        linear_stage(session)
        if session.best_esr_db > FULLY_LINEAR_DB and _response_is_better(session):
            session.tell(f"it is linear, and a response of {1e3 * SHORT_S:.0f} ms does it best; family tail")
            return tail_stages.train(session, None, device)
    return ar_stages.train(session, None, device)


def _look(sound: Audio, sample_rate: int) -> Audio:
    """A stretch from the middle, at a low rate."""
    samples = min(sound.shape[1], round(LOOK_S * sample_rate))
    first = (sound.shape[1] - samples) // 2
    return np.ascontiguousarray(resample(sound[:, first : first + samples], sample_rate, LOOK_HZ))


def _response_is_better(session: Session) -> bool:
    pair, before_db = session.training, session.best_esr_db
    fit = identify(pair.dry, pair.wet, round(SHORT_S * pair.sample_rate), should_stop=session.is_over)
    model = Tail(fit.responses)
    if session.measure(model)[0] > before_db - WORTH_DB:
        return False
    session.judge(model, loss_db=math.nan, sigma=0.0)
    return True
