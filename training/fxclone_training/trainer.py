"""From a pair and a recipe to a trained model: which stages, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fxclone.errors import FxcloneError, UsageError
from fxclone.pairs import Pair
from fxclone_training.analysis_time import Render
from fxclone_training.ar import Ar
from fxclone_training.ar_stages import sized
from fxclone_training.families import trainer_of
from fxclone_training.family import Model
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Moment, Session

SHORTEST_SAMPLES = 4_800


@dataclass(frozen=True)
class Trained:
    """What training gives: the best model, and those that were the best before it, best first."""

    candidates: list[tuple[float, Model]]
    seconds: float
    steps: int
    reason: str
    log: list[Moment]
    findings: dict[str, Any] = field(default_factory=dict)
    """What the stages found out about the effect, JSON-safe: goes into the clone's metadata."""

    @property
    def model(self) -> Model:
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
    keep: Callable[[Model, float], None] = lambda model, esr_db: None,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda sentence: None,
    start: Model | None = None,
    device: str = "auto",
    render: Render | None = None,
) -> Trained:
    """Train a model.

    Parameters
    ----------
    training, validation : Pair
        Same sample rate and channels, no common take. Family ``ar`` is mono.
    recipe : Recipe
    listen : callable
        Gets a `Moment` whenever the model was judged.
    keep : callable
        Gets the model and its free-running ESR in dB whenever it is the best so far.
    should_stop : callable
        Asked before each step; True ends training, and the best so far is the result.
    tell : callable
        Gets sentences for the user: what was found out about the effect, what was chosen and why.
    start : Model or None
        A model to go on from.
    device : str
        ``auto``, ``cpu`` or ``cuda``: for the teacher-forced stage of large models.
    render : callable or None
        The effect, if it is at hand: then it can be asked whether it changes with time.

    Raises
    ------
    FxcloneError
        If no model ever gave a finite output.
    """
    needed = max(SHORTEST_SAMPLES, recipe.segment_samples)
    for pair in (training, validation):
        if pair.samples < needed:
            raise UsageError(f"{pair.name} is too short: {pair.samples} samples; expected at least {needed}")
    if training.sample_rate != validation.sample_rate:
        raise UsageError(f"training runs at {training.sample_rate} Hz, validation at {validation.sample_rate} Hz")
    if (training.dry.shape[0], training.wet.shape[0]) != (validation.dry.shape[0], validation.wet.shape[0]):
        raise UsageError(f"{training.name} and {validation.name} differ in channels; expected the same")
    generator = torch.Generator().manual_seed(recipe.seed)
    session = Session(recipe, training, validation, generator, listen, keep, should_stop, tell, render)
    stages = trainer_of(recipe.family if start is None else start.family)
    try:
        reason = stages(session, start, pick_device(device))
    except Finished as end:
        reason = str(end)
        session.last_look()
    if not session.kept:
        raise FxcloneError(
            "no model gave a stable output in this time; train longer (--seconds), or with more feedback noise"
        )
    candidates: list[tuple[float, Model]] = [
        (esr_db, sized(model, recipe, training.sample_rate) if isinstance(model, Ar) else model)
        for esr_db, model in session.kept
    ]
    return Trained(candidates, session.seconds, session.steps, reason, session.log, session.findings)
