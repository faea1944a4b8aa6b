"""A .nam file (Neural Amp Modeler) as a reference effect: ``nam:amp.nam``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio
from fxclone.effects.expression import written_address
from fxclone.effects.nam_file import NamModel, read_nam
from fxclone.effects.spec import EffectSpec, RenderFn, Settings
from fxclone.errors import UsageError

_SAID = ("name", "modeled_by", "gear_make", "gear_model", "gear_type", "tone_type")


@dataclass(frozen=True)
class NamFacts:
    """What one should know of a .nam file at a sample rate."""

    title: str
    model_rate: int
    sample_rate: int
    metadata: dict[str, Any]

    def notes(self) -> list[str]:
        """That it is resampled, if it is."""
        if self.sample_rate == self.model_rate:
            return []
        return [
            f"{self.title} is a model for {self.model_rate} Hz: at {self.sample_rate} Hz the sound is resampled to "
            f"that and back; use a sample rate of {self.model_rate} for an exact reference"
        ]

    def as_dict(self) -> dict[str, Any]:
        """Rates, and what the file says of itself."""
        said = {key: str(self.metadata[key])[:200] for key in _SAID if self.metadata.get(key)}
        return {"title": self.title, "model_rate": self.model_rate, "sample_rate": self.sample_rate, **said}


def nam_spec(text: str) -> EffectSpec:
    """Read the file that an expression names.

    Raises
    ------
    UsageError
        If there is none.
    EffectError
        If it is no .nam file, or is damaged.
    """
    if not text:
        raise UsageError("nam: names no file; write it like nam:amp.nam")
    path = Path(text).expanduser().resolve()
    model = read_nam(path)

    def build(settings: dict[str, Any]) -> RenderFn:
        return lambda dry, rate: _render(model, dry, rate)

    def examine_at(settings: Settings, sample_rate: int) -> NamFacts:
        return NamFacts(model.title, model.sample_rate, sample_rate, model.metadata)

    memory = model.network.memory_samples
    return EffectSpec(
        name=_safe(path.stem),
        summary=f"{model.title}: Neural Amp Modeler file, {model.network.summary}, {model.sample_rate} Hz.",
        settings=(),
        build=build,
        linear=model.network.linear,
        time_varying=False,
        tail_s=None if memory is None else memory / model.sample_rate,
        source="nam",
        note=f"At another rate than {model.sample_rate} Hz the sound is resampled to that and back.",
        address=written_address("nam", str(path)),
        examine_at=examine_at,
    )


def _render(model: NamModel, dry: Audio, sample_rate: int) -> Audio:
    """Each channel by itself, at the model's own rate."""
    from fxclone.files import resample

    if sample_rate == model.sample_rate:
        return np.stack([model.render(channel) for channel in dry])
    there = resample(dry, sample_rate, model.sample_rate)
    back = resample(np.stack([model.render(channel) for channel in there]), model.sample_rate, sample_rate)
    wet = np.zeros_like(dry)
    samples = min(dry.shape[1], back.shape[1])  # rounding may lose or add one
    wet[:, :samples] = back[:, :samples]
    return wet


def _safe(title: str) -> str:
    """A name that may stand in an expression and in a file name."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in title).strip("_")
    return name if name[:1].isalpha() else f"nam_{name}".rstrip("_")


__all__ = ["NamFacts", "nam_spec"]
