"""The stages of family ``ar``: Gauss-Newton at growing windows, or Adam for large models, then free-running."""

from __future__ import annotations

from dataclasses import replace

import torch

from fxclone.errors import UsageError
from fxclone_training import adam
from fxclone_training.ar import Ar
from fxclone_training.gauss_newton import MAX_PARAMETERS
from fxclone_training.grow import grow, model_config, widen
from fxclone_training.recipe import Recipe
from fxclone_training.session import Session

FREE_RUNNING_RATE = 5e-4
"""After Gauss-Newton the model is close: a small rate refines it, a large one would start over."""


def train(session: Session, start: Ar | None, device: torch.device) -> str:
    """Run the stages; returns why training ended."""
    recipe = session.recipe
    for pair in (session.training, session.validation):
        if pair.dry.shape[0] != 1 or pair.wet.shape[0] != 1:
            raise UsageError(
                f"{pair.name} has {pair.dry.shape[0]} and {pair.wet.shape[0]} channels; family ar is mono: "
                "use --channels mono, or --family tail"
            )
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=float("nan"), sigma=0.0)
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


def uses_gauss_newton(recipe: Recipe) -> bool:
    """Whether the model is small enough for second-order steps (and has the skip path that they start from)."""
    if recipe.optimiser != "auto":
        if recipe.optimiser == "gauss-newton" and not recipe.skip:
            raise UsageError("optimiser gauss-newton needs skip = true; use adam for a model without a skip path")
        return recipe.optimiser == "gauss-newton"
    config = model_config(recipe, recipe.m or 32, 48_000)
    return recipe.skip and Ar(config).parameter_count <= MAX_PARAMETERS


def sized(model: Ar, recipe: Recipe, sample_rate: int) -> Ar:
    """The best model, widened to the size asked for if a smaller one was as good."""
    if recipe.m is None or model.config.m >= recipe.m:
        return model
    return widen(model, replace(model_config(recipe, recipe.m, sample_rate), activation=model.config.activation))
