"""The families there are: how each is trained, and how a stored model is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxclone_training import ar_stages, auto, dynamics_stages, recurrent_stages, tail_stages, wavenet_stages
from fxclone_training.ar import Ar
from fxclone_training.dynamics import Dynamics
from fxclone_training.family import Model
from fxclone_training.recurrent import Recurrent
from fxclone_training.session import Session
from fxclone_training.tail import Tail
from fxclone_training.wavenet import WaveNet


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes
    ----------
    name : str
        As in a recipe.
    train : callable
        ``train(session, start, device)`` runs the stages, handing every candidate to `Session.judge`, and returns why
        it ended. ``start`` is a model to go on from, or None.
    restored : callable
        ``restored(shape, weights)``: the model that its ``stored`` wrote.
    """

    name: str
    train: Callable[[Session, Any, torch.device], str]
    restored: Callable[[dict[str, Any], dict[str, Tensor]], Model]


FAMILIES = {
    "ar": Family("ar", ar_stages.train, Ar.restored),
    "dynamics": Family("dynamics", dynamics_stages.train, Dynamics.restored),
    "recurrent": Family("recurrent", recurrent_stages.train, Recurrent.restored),
    "tail": Family("tail", tail_stages.train, Tail.restored),
    "wavenet": Family("wavenet", wavenet_stages.train, WaveNet.restored),
}


def trainer_of(name: str) -> Callable[[Session, Any, torch.device], str]:
    """The stages of a family, or those that choose one for ``auto``."""
    return auto.train if name == "auto" else FAMILIES[name].train
