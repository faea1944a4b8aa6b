"""What is kept: a file of JSON for each reference, budget and seed, so that hours can be had in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _kept


@dataclass(frozen=True)
class Result:
    """One clone of one reference after one budget.

    Attributes
    ----------
    group, name : str
    budget_s : float
        Of training.
    seed : int
    digest : str
        Of the command, the reference and the test sound.
    command : str
        As a user would type it.
    training : dict
        What `fxclone train --json` says, without its long parts; in_all_s, cpu_share, peak_mb. Or failed: its last
        words.
    test : dict
        `fxclone.metrics.Comparison` of all test sound, free-running; empty if training failed.
    by_file : dict
        ESR in dB of each test file.
    limits : dict
        Of `references_limits`.
    cost_us : float or None
        Microseconds a sample at 64-sample blocks, as in the contest.
    heard : str
        What it was judged on.
    learned : str
        The real sound that it was trained on as well, if any.
    yardstick : dict
        matmul_ms, lstm32_us: the same work on every machine.
    machine, when : str
    """

    group: str
    name: str
    budget_s: float
    seed: int
    digest: str
    command: str
    training: dict[str, Any]
    test: dict[str, Any]
    by_file: dict[str, float | None]
    limits: dict[str, float]
    cost_us: float | None
    heard: str
    learned: str
    yardstick: dict[str, float]
    machine: str
    when: str

    @property
    def failed(self) -> str:
        """Why there is no clone; empty if there is one."""
        return str(self.training.get("failed", ""))

    @property
    def esr_db(self) -> float:
        """On the test sound; +99 without a clone, or for an output that is not finite."""
        value = self.test.get("esr_db")
        return 99.0 if value is None else float(value)

    def save(self, folder: Path) -> None:
        """Write it, complete or not at all."""
        _kept.save(self, path_of(folder, self.group, self.name, self.budget_s, self.seed))


def path_of(folder: Path, group: str, name: str, budget_s: float, seed: int) -> Path:
    """Where a result is kept."""
    return folder / f"{group}.{name}.{budget_s:g}s.seed{seed}.json"


def results(folder: Path) -> Iterator[Result]:
    """Everything that is there."""
    return _kept.results(Result, folder)


def is_there(folder: Path, group: str, name: str, budget_s: float, seed: int, digest: str) -> bool:
    """Whether this has been done, with this very command and sound."""
    return _kept.is_there(Result, path_of(folder, group, name, budget_s, seed), digest)
