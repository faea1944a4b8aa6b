"""Write a small working clone without training: python tests/make_clone.py FILE.onnx."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fxclone.audio import Audio
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.signals import training_sound
from fxclone_export.write import write_clone
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.ar_export import export_ar


def tanh_model() -> Ar:
    """One hidden unit that is tanh(5x) exactly."""
    model = Ar(ArConfig(m=1, width=1, activation="tanh"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.w_x.fill_(5.0)
        model.out.fill_(1.0)
    return model


def write_tanh(path: Path) -> None:
    """Write `tanh_model` as a clone file."""
    model = tanh_model()
    silence: Audio = training_sound(0.1, 48_000, seed=1)[:, :1] * 0
    meta = CloneMeta("tanh", "ar", 48_000, SelfTest(silence, silence), levels={"dry_peak": 1.0, "wet_peak": 1.0})
    sound = training_sound(1.0, 48_000, seed=2)
    write_clone(export_ar(model), meta, path, model=lambda dry: model.run_freely(dry), replay_sound=sound)


if __name__ == "__main__":
    write_tanh(Path(sys.argv[1]))
