"""The stages of family ``ar``: Gauss-Newton at growing windows, or Adam for large models, then free-running."""

from __future__ import annotations

from dataclasses import replace

import torch

from fxclone.errors import UsageError
from fxclone_training import adam, memory_stages, pyramid_stages
from fxclone_training.analysis import analyse
from fxclone_training.analysis_choice import Choice, choose
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import MAX_PARAMETERS
from fxclone_training.grow import grow, has_memory, model_config, same_memory, widen
from fxclone_training.kernels import ENVELOPES_LATE
from fxclone_training.recipe import OF_A_SHAPE_OF_ITS_OWN, Recipe
from fxclone_training.session import Session

FREE_RUNNING_RATE = 5e-4
"""After Gauss-Newton the model is close: a small rate refines it, a large one would start over."""


LONG_MEMORY_FOR = ("pedal", "pedal and cabinet", "dynamics", "unknown", "moving")
"""Kinds of effect (`analysis_choice.kind_of`) that a window of some samples cannot follow."""


def train(session: Session, start: Ar | None, device: torch.device, like: Choice | None = None) -> str:
    """Run the stages; returns why training ended.

    Parameters
    ----------
    session : Session
    start : Ar or None
        A model to go on from.
    device : torch.device
        For large models that are trained by gradients.
    like : Choice or None
        What the effect is like, if that was measured already.
    """
    recipe = session.recipe
    require_mono(session, "ar")
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=float("nan"), sigma=0.0)
        if has_memory(start.config) and start.config.layers == 1:
            return memory_stages.train(session, start.config, start)
    elif _wants_long_memory(recipe):
        like = like or choose(analyse(session.training, time=False, enough=session.measured_enough))
        if recipe.memory in OF_A_SHAPE_OF_ITS_OWN or like.kind in LONG_MEMORY_FOR:
            return _with_long_memory(session, like)
    if uses_gauss_newton(recipe):
        model = grow(session, start).copy()
        rate = min(recipe.learning_rate, FREE_RUNNING_RATE)
    else:
        activation = "tanh" if recipe.activation == "auto" else recipe.activation
        config = replace(model_config(recipe, recipe.m or 32, session.training.sample_rate), activation=activation)
        model = (start or Ar(config, generator=session.generator)).to(device)
        if start is None:  # something to keep, however early the end
            session.judge(model.copy(), loss_db=0.0, sigma=recipe.noise_sigma)
        adam.teacher_forced(session, model)
        rate = recipe.learning_rate
    if recipe.free_running and model.config.taps_y:  # without feedback both errors are the same
        adam.free_running(session, model.cpu(), learning_rate=rate)
    return "nothing improves any more"


def require_mono(session: Session, family: str) -> None:
    """UsageError if the sound has more than one channel in or out."""
    for pair in (session.training, session.validation):
        if pair.dry.shape[0] != 1 or pair.wet.shape[0] != 1:
            raise UsageError(
                f"{pair.name} has {pair.dry.shape[0]} and {pair.wet.shape[0]} channels; family {family} is mono: "
                "use --channels mono, or --family tail"
            )


def _wants_long_memory(recipe: Recipe) -> bool:
    """Whether it may have one: unless the shape or the way to train it is given."""
    shaped = recipe.m is not None or recipe.layers > 1 or not recipe.skip or recipe.averages or recipe.envelopes
    return recipe.memory in OF_A_SHAPE_OF_ITS_OWN or not (
        recipe.memory == "window" or shaped or recipe.optimiser == "adam"
    )


def _with_long_memory(session: Session, like: Choice) -> str:
    recipe, rate = session.recipe, session.training.sample_rate
    if recipe.loss not in ("esr", "mse"):
        session.tell("the loss is for what gradients train; this model is trained on squared error")
    size = like.size if recipe.size == "auto" else recipe.size
    activation = "tanh" if recipe.activation == "auto" else recipe.activation
    if recipe.memory == "pyramid":
        pyramid = pyramid_stages.SIZES[size]
        pyramid = replace(pyramid, width=recipe.width or pyramid.width)
        return pyramid_stages.train(session, pyramid.config(activation), like.driven)
    tiers = memory_stages.PEDAL if like.kind.startswith("pedal") else memory_stages.DYNAMICS
    memory = tiers[size]
    memory = replace(memory, width=recipe.width or memory.width)
    config = memory.config(rate, activation)
    if like.kind != "dynamics":
        return memory_stages.train(session, config, like.driven)
    return memory_stages.train(session, without_taps(config), None)  # a filter and a drive say nothing of a gain


def without_taps(config: ArConfig) -> ArConfig:
    """The shape for what follows the level: past outputs are carried for averages and envelopes, not heard themselves.

    Filters can be made of what is heard of the input. Taps in the loop howl where the gain is one that the recording
    does not know. A window without envelopes has nothing else, and keeps them.
    """
    return config if not config.envelopes else replace(config, hears_taps=False, past_outputs=ENVELOPES_LATE)


def uses_gauss_newton(recipe: Recipe) -> bool:
    """Whether the model is small enough for second-order steps (and has the skip path that they start from)."""
    if recipe.optimiser != "auto":
        return recipe.optimiser == "gauss-newton"
    config = model_config(recipe, recipe.m or 32, 48_000)
    return recipe.skip and Ar(config).parameter_count <= MAX_PARAMETERS


def sized(model: Ar, recipe: Recipe, sample_rate: int) -> Ar:
    """The best model, widened to the size asked for if a smaller one was as good; one of another memory as it is."""
    if recipe.m is None or model.config.m >= recipe.m:
        return model
    wide = replace(model_config(recipe, recipe.m, sample_rate), activation=model.config.activation)
    return widen(model, wide) if same_memory(model.config, wide) or not has_memory(model.config) else model
