"""What is kept of the contest: a file of JSON for each contestant, pair, budget and seed; hours can be had in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _kept


@dataclass(frozen=True)
class Result:
    """One contestant's clone of one pair after one budget.

    Attributes
    ----------
    pair, contestant : str
    budget_s : float
        Of training.
    seed : int
    digest : str
        Of the material.
    training : dict
        seconds, prepared_s, cpu_share (of the wall-clock), steps, parameters, peak_mb, held_error, settings, versions.
    test : dict
        `fxclone.metrics.Comparison` of the whole test recording, free-running.
    cost : dict
        us_per_sample, player; empty where it cannot be measured here.
    yardstick : dict
        matmul_ms, lstm32_us: the same work on every machine, measured before and after.
    machine, when : str
    cores : list of int
    """

    pair: str
    contestant: str
    budget_s: float
    seed: int
    digest: str
    training: dict[str, Any]
    test: dict[str, Any]
    cost: dict[str, Any]
    yardstick: dict[str, float]
    machine: str
    when: str
    cores: list[int]

    @property
    def esr_db(self) -> float:
        """On the test recording; +99 for an output that is not finite."""
        value = self.test["esr_db"]
        return 99.0 if value is None else float(value)

    def save(self, folder: Path) -> None:
        """Write it, complete or not at all."""
        _kept.save(self, path_of(folder, self.pair, self.contestant, self.budget_s, self.seed))


def path_of(folder: Path, pair: str, contestant: str, budget_s: float, seed: int) -> Path:
    """Where a result is kept."""
    return folder / f"{pair}.{contestant}.{budget_s:g}s.seed{seed}.json"


def results(folder: Path) -> Iterator[Result]:
    """Everything that is there."""
    return _kept.results(Result, folder)


def is_there(folder: Path, pair: str, contestant: str, budget_s: float, seed: int, digest: str) -> bool:
    """Whether this has been done, with this very material."""
    return _kept.is_there(Result, path_of(folder, pair, contestant, budget_s, seed), digest)
