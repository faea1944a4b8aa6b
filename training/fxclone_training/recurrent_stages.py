"""The training of family ``recurrent``: gradient descent on the free run, the state carried along."""

from __future__ import annotations

import math

import torch

from fxclone.audio import rms
from fxclone_training.ar_stages import require_mono
from fxclone_training.descent import Descent, descend
from fxclone_training.recurrent import SIZES, Recurrent, RecurrentConfig
from fxclone_training.session import Session

NOISE = 0.01
"""On the output that is fed back, relative to the wet sound's RMS."""


def train(session: Session, start: Recurrent | None, device: torch.device) -> str:
    """Run the stage; returns why training ended. It runs on the CPU, whatever ``device`` says."""
    require_mono(session, "recurrent")
    recipe, pair = session.recipe, session.training
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=math.nan, sigma=0.0)
        model = start
    else:
        sized = SIZES["standard" if recipe.size == "auto" else recipe.size]
        config = RecurrentConfig(recipe.m or sized.m, recipe.width or sized.units)
        levels = max(rms(pair.dry), 1e-6), max(rms(pair.wet), 1e-6)
        model = Recurrent(config, levels=levels, generator=session.generator)
        session.judge(model, loss_db=math.nan, sigma=0.0)  # something to keep, however early the end
    descend(session, model, Descent(noise=NOISE))
    return "nothing improves any more"
