"""One training session: the clock, the steps, the best model so far, and everyone who listens.

Stages (`grow`, `adam`) do the work and hand every candidate to `Session.judge`, which runs it freely over the held-back
sound. Only that figure decides what is kept: one-step errors flatter by 10 to 20 dB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fxclone.audio import Audio, gain_to_db, power_to_db, rms
from fxclone.metrics_time import esr
from fxclone.pairs import Pair
from fxclone_training.analysis_time import Render
from fxclone_training.family import Model
from fxclone_training.recipe import Recipe

UNUSABLE_DB = 200.0
"""Stands for a free run that blew up, or that another machine's rounding would change."""
KEPT = 12
MEASURING_SHARE = 0.4
"""Measuring an effect takes at most about this share of the budget: what is not known then stays unknown."""
WORK_PER_LOOK = 10**10
"""Samples times `work_per_sample` that one look at a model may cost, about a second."""


@dataclass(frozen=True)
class Moment:
    """A line of the log: where training is."""

    seconds: float
    stage: str
    step: int
    m: int
    sigma: float
    loss_db: float
    esr_db: float
    level_db: float
    best_esr_db: float
    progress: float
    """0 to 1, of the budget that runs out first."""


class Finished(Exception):  # noqa: N818 - a signal between stages, not an error
    """Training is over: target reached, budget spent, or the user stopped it. Carries why."""


@dataclass
class Session:
    """What the stages share."""

    recipe: Recipe
    training: Pair
    validation: Pair
    generator: torch.Generator
    listen: Callable[[Moment], None] = lambda moment: None
    keep: Callable[[Model, float], None] = lambda model, esr_db: None
    should_stop: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda sentence: None
    render: Render | None = None
    """The effect itself, if it is at hand and not only a recording of it."""
    best_esr_db: float = float("inf")
    kept: list[tuple[float, Model]] = field(default_factory=list)
    """The best so far, and those that were before it, best first: an export that fails falls back on them."""
    at_work: Model | None = None
    """The model that a stage is changing, for a last look when the budget ends between two looks."""
    findings: dict[str, Any] = field(default_factory=dict)
    """What was found out about the effect, JSON-safe."""
    steps: int = 0
    stage: str = "start"
    log: list[Moment] = field(default_factory=list)
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the session began."""
        return time.perf_counter() - self._started

    @property
    def progress(self) -> float:
        """0 to 1: the share of the budget (time or steps) that is spent."""
        spent = self.seconds / self.recipe.seconds
        if self.recipe.max_steps is not None:
            spent = max(spent, self.steps / self.recipe.max_steps)
        return min(1.0, spent)

    def spent_since(self, began: float) -> float:
        """0 to 1: how much is spent of what was left of the budget when `progress` was ``began``."""
        return (self.progress - began) / max(1e-9, 1 - began)

    def spend(self) -> None:
        """Count one optimiser step; to be called before it.

        Raises
        ------
        Finished
            If the budget is spent or the user wants to stop.
        """
        if self.should_stop():
            raise Finished("stopped by the user")
        if self.seconds >= self.recipe.seconds:
            raise Finished(f"{self.recipe.seconds:g} s of training are over")
        if self.recipe.max_steps is not None and self.steps >= self.recipe.max_steps:
            raise Finished(f"{self.recipe.max_steps} steps are done")
        self.steps += 1

    @contextmanager
    def limited_to(self, share: float) -> Iterator[None]:
        """Work within the first ``share`` of the budget: for a trial, whose end is not the end of training."""
        whole = self.recipe
        steps = None if whole.max_steps is None else max(1, round(share * whole.max_steps))
        self.recipe = replace(whole, seconds=share * whole.seconds, max_steps=steps)
        try:
            yield
        except Finished:
            if self.should_stop() or self.best_esr_db <= whole.target_esr_db:
                raise
            self.last_look()
        finally:
            self.recipe, self.at_work = whole, None

    def is_over(self) -> bool:
        """Whether the time is spent or the user wants to stop: for work that is asked between its own steps."""
        return self.should_stop() or self.seconds >= self.recipe.seconds

    def measured_enough(self) -> bool:
        """Whether what comes before training has had its share of the time."""
        return self.is_over() or self.progress > MEASURING_SHARE

    def prefer(self, model: Model, esr_db: float) -> None:
        """Make ``model`` the result, although it is not the most exact: it is as good, and far cheaper."""
        self.best_esr_db = esr_db
        self.kept = [(esr_db, model.copy()), *self.kept][:KEPT]
        self.keep(model, esr_db)

    def judge(self, model: Model, *, loss_db: float, sigma: float) -> float:
        """Run ``model`` freely on the held-back sound, keep it if it is the best, tell whoever listens.

        Returns
        -------
        float
            Its free-running ESR in dB.

        Raises
        ------
        Finished
            If the target is reached.
        """
        esr_db, level_db = self.measure(model)
        if esr_db < self.best_esr_db and not model.is_sturdy(self._sound_for(model)[0]):
            esr_db = UNUSABLE_DB
        if esr_db < min(self.best_esr_db, UNUSABLE_DB):
            self.best_esr_db = esr_db
            self.kept = [(esr_db, model.copy()), *self.kept][:KEPT]
            self.keep(model, esr_db)
        moment = Moment(
            self.seconds,
            self.stage,
            self.steps,
            model.receptive_field_samples,
            sigma,
            loss_db,
            esr_db,
            level_db,
            self.best_esr_db,
            self.progress,
        )
        self.log.append(moment)
        self.listen(moment)
        if self.best_esr_db <= self.recipe.target_esr_db:
            raise Finished(f"the target of {self.recipe.target_esr_db:g} dB is reached")
        return esr_db

    def last_look(self) -> None:
        """Judge what a stage was working on when the budget ended."""
        if self.at_work is not None:
            try:
                self.judge(self.at_work.copy(), loss_db=float("nan"), sigma=0.0)
            except Finished:
                pass

    def measure(self, model: Model) -> tuple[float, float]:
        """Free-running ESR in dB, and the level of the output against the reference in dB."""
        dry, wet = self._sound_for(model)
        counted = slice(self.validation.lead_samples if dry.shape == self.validation.dry.shape else 0, None)
        out, wet = model.run_freely(dry)[:, counted], wet[:, counted]
        error = esr(wet, out) if np.isfinite(out).all() else float("inf")
        if not np.isfinite(error):
            return UNUSABLE_DB, float("inf")
        level_db = gain_to_db(rms(out) / max(rms(wet), 1e-10))
        return min(power_to_db(error), UNUSABLE_DB), max(level_db, -UNUSABLE_DB)

    def _sound_for(self, model: Model) -> tuple[Audio, Audio]:
        """Held-back dry and wet sound: whole, or around its loudest place for a model too large for that."""
        dry, wet = self.validation.dry, self.validation.wet
        samples = judged_samples(model, dry.shape[1])
        loudest = int(np.abs(wet).max(axis=0).argmax())
        start = min(max(0, loudest - samples // 4), dry.shape[1] - samples)
        return dry[:, start : start + samples], wet[:, start : start + samples]


def judged_samples(model: Model, available: int) -> int:
    """How much held-back sound a look may run: all of it, unless the model is so large that a look takes seconds."""
    return min(available, max(4_800, WORK_PER_LOOK // max(1, model.work_per_sample)))
