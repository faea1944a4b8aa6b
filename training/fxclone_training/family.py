"""What a model of any family can do: the contract between stages, session, run folder and export.

A family is a module with a class that fulfils `Model`, its graph beside it, and a line in `families.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import onnx
from torch import Tensor

from fxclone.audio import Audio


class Model(Protocol):
    """A model whose sound can be judged, kept and exported."""

    @property
    def family(self) -> str:
        """Its family's name, as in a recipe and in the clone file."""

    @property
    def channels_in(self) -> int:
        """Channels of the dry sound."""

    @property
    def channels_out(self) -> int:
        """Channels of the wet sound."""

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""

    @property
    def work_per_sample(self) -> int:
        """Multiplications for a sample in a free run, roughly: what a look at the model costs."""

    @property
    def receptive_field_samples(self) -> int:
        """How many past inputs it sees directly."""

    def run_freely(self, dry: Audio) -> Audio:
        """Run on its own outputs from a fresh state: ``(channels_in, n)`` to ``(channels_out, n)``."""

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether another machine's rounding leaves the sound as it is."""

    def copy(self) -> Self:
        """An independent copy."""

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """Streaming graphs with these weights, the cheapest first; each plays outputs up to ``loudest``."""

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """Stability figures on ``dry``; ``tail_samples`` is always among them."""

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe, for reports."""

    def describe(self) -> str:
        """Its shape in a few words."""

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape (JSON-safe) and weights, for the run folder; `families.load` reads them back."""
