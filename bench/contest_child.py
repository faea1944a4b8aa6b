"""Inside a peer's process: its job, the clock of its training, and what is kept of it at each budget.

Standard library and numpy only, because it also runs in the environments of other trainers. The test recording is not
part of the job: a contestant never sees it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SOUNDS = ("train_dry", "train_wet", "held_dry", "held_wet", "test_dry")


@dataclass(frozen=True, eq=False)
class Job:
    """What a contestant is given: sounds (samples,) in float32, and how long it has.

    Attributes
    ----------
    train_dry, train_wet, held_dry, held_wet, test_dry : ndarray [shape=(samples,)]
        To learn from, to choose a checkpoint by, and what to render in the end.
    sample_rate : int
        In Hz.
    budgets_s : tuple of float
        Seconds of training at which the best checkpoint so far renders the test sound, in rising order.
    seed, threads : int
    folder : Path
        Where the renderings go.
    """

    train_dry: np.ndarray
    train_wet: np.ndarray
    held_dry: np.ndarray
    held_wet: np.ndarray
    test_dry: np.ndarray
    sample_rate: int
    budgets_s: tuple[float, ...]
    seed: int
    threads: int
    folder: Path


def read_job() -> Job:
    """The job whose file is named on the command line."""
    told = json.loads(Path(sys.argv[1]).read_text())
    with np.load(told["sounds"]) as sounds:
        mine = {name: sounds[name].astype(np.float32) for name in SOUNDS}
        rate = int(sounds["sample_rate"])
    budgets = tuple(sorted(told["budgets_s"]))
    return Job(**mine, sample_rate=rate, budgets_s=budgets, seed=told["seed"], threads=told["threads"],
               folder=Path(told["folder"]))  # fmt: skip


class Contestant(Protocol):
    """A model in training."""

    def weights(self) -> Any:
        """A copy of its weights."""

    def load(self, weights: Any) -> None:
        """Take weights over; the optimiser's state stays as it is."""

    def held_error(self) -> float:
        """Its trainer's own validation figure, over the whole held-back sound; smaller is better."""

    def predict(self) -> np.ndarray:
        """Render the test sound in one run, from a fresh state: (samples,)."""

    def export(self, folder: Path) -> None:
        """Write what a player would load into an existing folder."""


class Training:
    """Counts steps and seconds, keeps the best checkpoint, and stops the clock while it looks.

    A budget's rendering is that of the best checkpoint so far, by the trainer's own validation; the weights of that
    very moment are validated too, with the clock stopped, so that nobody loses the part of an epoch.
    """

    def __init__(
        self,
        job: Job,
        model: Contestant,
        about: dict[str, Any],
        began: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._job, self._model, self._about, self._clock = job, model, about, clock
        self._left = list(job.budgets_s)
        self._prepared_s = 0.0
        self._launched = began
        self._began = self._cpu_began = 0.0
        self._paused = self._cpu_paused = 0.0
        self._best: tuple[float, Any] = (math.inf, None)
        self._log: list[tuple[float, float]] = []
        self.steps = 0

    def begin(self) -> None:
        """The first step is about to be made: the clock runs from here."""
        if not self._began:
            self._prepared_s = self._clock() - self._launched
            self._began, self._cpu_began = self._clock(), time.process_time()

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self._clock() - self._began - self._paused

    @property
    def done(self) -> bool:
        """Whether the last budget is spent."""
        return not self._left

    def judged(self, error: float) -> None:
        """The trainer has validated the present weights."""
        self._judged(error, self.seconds)

    def _judged(self, error: float, at: float) -> None:
        self._log.append((round(at, 2), error))
        if error < self._best[0]:
            self._best = error, self._model.weights()

    def stepped(self) -> bool:
        """A step was made; True when the last budget is spent."""
        self.steps += 1
        while self._left and self.seconds >= self._left[0]:
            self._look(self._left.pop(0))
        return self.done

    def _look(self, budget_s: float) -> None:
        seconds = self.seconds
        cpu = time.process_time() - self._cpu_began - self._cpu_paused
        with self._clock_stopped():
            now = self._model.weights()
            self._judged(self._model.held_error(), seconds)
            error, chosen = self._best
            self._model.load(now if chosen is None else chosen)
            test = self._model.predict()
            name = f"{budget_s:g}"
            self._model.export(self._job.folder)
            self._model.load(now)
            facts = {
                "budget_s": budget_s,
                "seconds": seconds,
                "prepared_s": self._prepared_s,
                "cpu_share": cpu / max(seconds, 1e-9),
                "steps": self.steps,
                "held_error": error if math.isfinite(error) else None,
                "log": [[at, value] for at, value in self._log if math.isfinite(value)],
                **self._about,
            }
            np.save(self._job.folder / f"test-{name}.npy", np.asarray(test, np.float32))
            # last, and complete or absent: the bench takes a look for finished when this file is there
            temporary = self._job.folder / f"look-{name}.part"
            temporary.write_text(json.dumps(facts, allow_nan=False))
            temporary.rename(self._job.folder / f"look-{name}.json")

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        wall, cpu = self._clock(), time.process_time()
        yield
        self._paused += self._clock() - wall
        self._cpu_paused += time.process_time() - cpu
