"""From a pair and a recipe to a trained model: which stages, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fxclone.errors import FxcloneError, UsageError
from fxclone.pairs import Pair
from fxclone_training import adam
from fxclone_training.ar import Ar
from fxclone_training.gauss_newton import MAX_PARAMETERS
from fxclone_training.grow import grow, model_config, widen
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Moment, Session, clone_of

FREE_RUNNING_RATE = 5e-4
"""After Gauss-Newton the model is close: a small rate refines it, a large one would start over."""


SHORTEST_SAMPLES = 4_800


@dataclass(frozen=True)
class Trained:
    """What training gives: the best model, and those that were the best before it, best first."""

    candidates: list[tuple[float, Ar]]
    seconds: float
    steps: int
    reason: str
    log: list[Moment]

    @property
    def model(self) -> Ar:
        """The best."""
        return self.candidates[0][1]

    @property
    def esr_db(self) -> float:
        """Its free-running error on held-back sound."""
        return self.candidates[0][0]


def use_threads(threads: int | None = None) -> int:
    """Set the thread counts of torch and numba (all that this process may use, if None), and flush denormals."""
    import numba

    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}; expected 1 or more")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(threads or available, int(numba.config.NUMBA_NUM_THREADS)))
    torch.set_num_threads(count)
    numba.set_num_threads(count)
    torch.set_flush_denormal(True)
    return count


def pick_device(device: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a device; UsageError if there is no such one."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no CUDA device here; use --device cpu (or auto)")
    # Small models are trained faster by the compiled CPU kernels than by any GPU; only wide ones gain.
    return torch.device("cuda" if device == "cuda" else "cpu")


def train(
    training: Pair,
    validation: Pair,
    recipe: Recipe,
    *,
    listen: Callable[[Moment], None] = lambda moment: None,
    keep: Callable[[Ar, float], None] = lambda model, esr_db: None,
    should_stop: Callable[[], bool] = lambda: False,
    start: Ar | None = None,
    device: str = "auto",
) -> Trained:
    """Train a model.

    Parameters
    ----------
    training, validation : Pair
        Mono, same sample rate, no common take.
    recipe : Recipe
    listen : callable
        Gets a `Moment` whenever the model was judged.
    keep : callable
        Gets the model and its free-running ESR in dB whenever it is the best so far.
    should_stop : callable
        Asked before each step; True ends training, and the best so far is the result.
    start : Ar or None
        A model to go on from.
    device : str
        ``auto``, ``cpu`` or ``cuda``: for the teacher-forced stage of large models.

    Raises
    ------
    FxcloneError
        If no model ever gave a finite output.
    """
    for pair in (training, validation):
        if pair.dry.shape[0] != 1 or pair.wet.shape[0] != 1:
            raise UsageError(f"{pair.name} has {pair.dry.shape[0]} and {pair.wet.shape[0]} channels; expected mono")
    needed = max(SHORTEST_SAMPLES, recipe.segment_samples)
    for pair in (training, validation):
        if pair.samples < needed:
            raise UsageError(f"{pair.name} is too short: {pair.samples} samples; expected at least {needed}")
    if training.sample_rate != validation.sample_rate:
        raise UsageError(f"training runs at {training.sample_rate} Hz, validation at {validation.sample_rate} Hz")
    generator = torch.Generator().manual_seed(recipe.seed)
    session = Session(recipe, training, validation, generator, listen, keep, should_stop)
    try:
        reason = _stages(session, start, pick_device(device))
    except Finished as end:
        reason = str(end)
        session.last_look()
    if not session.kept:
        raise FxcloneError(
            "no model gave a stable output in this time; train longer (--seconds), or with more feedback noise"
        )
    candidates = [(esr_db, _sized(model, recipe, training.sample_rate)) for esr_db, model in session.kept]
    return Trained(candidates, session.seconds, session.steps, reason, session.log)


def _stages(session: Session, start: Ar | None, device: torch.device) -> str:
    recipe = session.recipe
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=float("nan"), sigma=0.0)
    if uses_gauss_newton(recipe):
        model = clone_of(grow(session, start))
        rate = min(recipe.learning_rate, FREE_RUNNING_RATE)
    else:
        activation = "tanh" if recipe.activation == "auto" else recipe.activation
        config = replace(model_config(recipe, recipe.m or 32, session.training.sample_rate), activation=activation)
        model = (start or Ar(config, generator=session.generator)).to(device)
        if start is None:  # something to keep, however early the end
            session.judge(clone_of(model), loss_db=0.0, sigma=recipe.noise_sigma)
        adam.teacher_forced(session, model)
        rate = recipe.learning_rate
    if not recipe.free_running or model.config.taps_y == 0:  # without feedback both errors are the same
        return "nothing improves any more"
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


def _sized(model: Ar, recipe: Recipe, rate: int) -> Ar:
    """The best model, widened to the size asked for if a smaller one was as good."""
    if recipe.m is None or model.config.m >= recipe.m:
        return model
    return widen(model, replace(model_config(recipe, recipe.m, rate), activation=model.config.activation))
