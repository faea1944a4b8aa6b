"""A recipe: every setting of a training run, checked once, frozen, and stored with what it made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fxclone.errors import UsageError
from fxclone_training.losses_text import LossText

_CHOICES = {
    "family": ("auto", "ar", "dynamics", "recurrent", "tail", "wavenet"),
    "size": ("auto", "nano", "small", "standard", "large"),
    "memory": ("auto", "window", "long", "pyramid"),
    "activation": ("auto", "tanh", "relu", "gelu"),
    "optimiser": ("auto", "gauss-newton", "adam"),
}
OF_A_SHAPE_OF_ITS_OWN = ("long", "pyramid")
"""Memories of family ``ar`` whose window, feedback and training go by the size alone."""
_RANGES: dict[str, tuple[float, float]] = {
    "m": (1, 4096),
    "past_outputs": (0, 4096),
    "layers": (1, 16),
    "width": (1, 1024),
    "averages": (0, 32),
    "envelopes": (0, 32),
    "noise_sigma": (0, 10),
    "learning_rate": (1e-7, 1),
    "batch": (1, 65_536),
    "segment_samples": (16, 65_536),
    "tail_s": (0.001, 60),
    "seconds": (0.5, 1e6),
    "max_steps": (1, 1e9),
    "sound_s": (2, 36_000),
    "validation_s": (1, 3_600),
    "target_esr_db": (-200, 0),
    "seed": (0, 2**31 - 1),
}
_SWITCHES = ("skip", "noise_relative", "noise_anneal", "free_running")
_OPTIONAL = ("m", "past_outputs", "width", "tail_s", "max_steps")
_WHOLE = (
    "m", "past_outputs", "layers", "width", "averages", "envelopes", "batch", "segment_samples", "max_steps", "seed"
)  # fmt: skip


def _plain(value: float) -> str:
    return f"{value:.12g}" if value < 1e15 else f"{value:g}"


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes
    ----------
    family : str
        Model family; ``auto`` measures the pair and chooses.
    size : str
        ``nano``, ``small``, ``standard`` or ``large``: what it costs to play; ``auto`` is the family's choice.
    memory : str
        Of family ``ar``: ``window`` hears the last samples only, ``long`` also leaky averages of all before,
        ``pyramid`` averages over blocks of the last hundreds or thousands; ``auto`` measures whether it takes
        ``window`` or ``long``.
    tail_s : float or None
        Family ``tail``: length of its responses; None measures how long the effect rings.
    m : int or None
        Inputs seen; None lets training grow it from 1 to as many as it takes.
    past_outputs : int or None
        Past outputs seen; None for m - 1.
    layers, width, activation, skip
        Shape of an ``ar`` model, see `fxclone_training.ar_config.ArConfig`; width None goes by the size.
        ``activation="auto"`` tries tanh and ReLU.
    averages, envelopes : int
        How many leaky averages of x and y, and envelopes of |x| and |y|, windows of 16 and more have.
    optimiser : str
        Of the teacher-forced stage: ``gauss-newton`` (Levenberg-Marquardt; small models only), ``adam`` (any size), or
        ``auto``.
    loss : str
        What is minimised, see `fxclone_training.losses_text.LossText`. ``esr``: squared error over the power of the
        passage, so that quiet passages count as much as loud ones; ``mse``: plain squared error, as in the original;
        sums such as ``esr+0.1*pre`` for what is trained by gradients.
    noise_sigma : float
        Standard deviation of the noise on past outputs, redrawn at each step.
    noise_relative : bool
        Whether sigma is relative to the RMS level of the passage, or to full scale.
    noise_anneal : bool
        Whether sigma falls: halved from look to look (Gauss-Newton), or with the model's own free-running error (Adam).
    free_running : bool
        Whether the last stage trains the model on its own outputs.
    learning_rate, batch, segment_samples
        Of Adam: the teacher-forced stage of large models, and the free-running stage.
    seconds : float
        At most this long, preparation and export not counted.
    max_steps : int or None
        At most this many optimiser steps; the same seed and steps give the same weights on the same machine.
    target_esr_db : float
        Stop when the free-running error on held-back sound is this low.
    sound_s, validation_s : float
        Length of the training sound and of the held-back sound.
    seed : int
        Of sound, weights and noise.
    """

    family: str = "auto"
    size: str = "auto"
    memory: str = "auto"
    tail_s: float | None = None
    m: int | None = None
    past_outputs: int | None = None
    layers: int = 1
    width: int | None = None
    activation: str = "auto"
    skip: bool = True
    averages: int = 0
    envelopes: int = 0
    optimiser: str = "auto"
    loss: str = "esr"
    noise_sigma: float = 0.03
    noise_relative: bool = True
    noise_anneal: bool = True
    free_running: bool = True
    learning_rate: float = 2e-3
    batch: int = 32
    segment_samples: int = 256
    seconds: float = 45.0
    max_steps: int | None = None
    target_esr_db: float = -80.0
    sound_s: float = 60.0
    validation_s: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
        for name in _SWITCHES:
            if not isinstance(value := getattr(self, name), bool):
                raise UsageError(f"{name} is {value!r}; expected true or false")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            kind, word = (int, "whole number") if name in _WHOLE else (int | float, "number")
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise UsageError(f"{name} is {value!r}; expected a {word} from {_plain(low)} to {_plain(high)}")
        if not isinstance(self.loss, str):
            raise UsageError(f"loss is {self.loss!r}; expected text such as esr or esr+0.1*pre")
        object.__setattr__(self, "loss", str(LossText.parse(self.loss)))
        if self.optimiser == "gauss-newton" and not self.skip:
            raise UsageError("optimiser gauss-newton needs skip = true; use adam for a model without a skip path")
        if self.memory in OF_A_SHAPE_OF_ITS_OWN and (given := self._shaped()):
            raise UsageError(
                f"memory {self.memory} has a shape of its own; leave {', '.join(given)} out, or use memory = window"
            )

    def _shaped(self) -> list[str]:
        """Settings of the window that are not as they come."""
        usual = {"m": None, "past_outputs": None, "layers": 1, "skip": True, "averages": 0, "envelopes": 0}
        adam = ["optimiser"] if self.optimiser == "adam" else []
        return [name for name, value in usual.items() if getattr(self, name) != value] + adam

    @property
    def units(self) -> int:
        """Width of hidden layers where no size says it."""
        return 16 if self.width is None else self.width

    @property
    def weighs_passages(self) -> bool:
        """Whether errors count relative to the passage that they are in."""
        return LossText.parse(self.loss).is_relative

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """A copy with other values, checked.

        Raises
        ------
        UsageError
            For a name that no recipe has, or a value out of range.
        """
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise UsageError(f"a recipe has no setting {name!r}; {hint}expected one of {', '.join(known)}")
        return replace(self, **dict(settings))
