"""What every bench needs: one thread, what machine this is, tables, and timing a clone block by block.

Import it before numpy: it sets the thread counts of the libraries under numpy, which read them once, when they load.
"""

from __future__ import annotations

import argparse
import os

THREADS = "1"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, THREADS)

import platform  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from fxclone.clone import Clone  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DRY = ROOT.parent / "shared" / "data" / "dry"
YARDSTICK = 256


def parser(text: str, *, document: str) -> argparse.ArgumentParser:
    """An argument parser with the options that all benches share."""
    out = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    out.add_argument("--seed", type=int, default=0, help="of sound, weights and noise")
    out.add_argument("--write", action="store_true", help=f"write docs/{document}")
    return out


def machine(*packages: str) -> str:
    """One line: processor, cores, load, commit, versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    versions = ", ".join(f"{package} {version(package)}" for package in ("fxclone", "numpy", *packages))
    state = subprocess.run(
        ["git", "describe", "--always", "--dirty=+changes"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    code = f"code {state or 'unknown'}, Python {platform.python_version()}, {versions}"
    return f"{model}, {cores} cores, {platform.system()}, {load}; {code}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table, padded so that it also reads well on a terminal; first column left, others right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if not place else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join([line(cells[0]), "|" + "|".join(f" {mark} " for mark in rule) + "|", *map(line, cells[1:])])


def publish(text: str, name: str, *, write: bool) -> None:
    """Print a bench's page, and write it to docs/ if asked."""
    print(text)
    if write:
        DOCS.mkdir(exist_ok=True)
        (DOCS / name).write_text(text + "\n")
        print(f"\nwrote {DOCS / name}", file=sys.stderr)


def command() -> str:
    """How this bench was called, for its page."""
    return "`" + " ".join([".venv/bin/python", "bench/" + Path(sys.argv[0]).name, *sys.argv[1:]]) + "`"


class Yardstick:
    """A fixed piece of work: one 256 x 256 float32 matrix product in numpy, single-threaded."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a = rng.standard_normal((YARDSTICK, YARDSTICK), dtype=np.float32)
        self._times: list[float] = []

    def measure(self, times: int = 5) -> None:
        """Time it some more; call it between other measurements."""
        for _ in range(times):
            began = time.perf_counter()
            _ = self._a @ self._a
            self._times.append(time.perf_counter() - began)

    @property
    def seconds(self) -> float:
        """Median of all so far."""
        return float(np.median(self._times))


@dataclass(frozen=True)
class Timing:
    """Times of single blocks, in seconds; rounds in rows."""

    block: int
    times: np.ndarray

    @property
    def us_per_sample(self) -> float:
        """Of the median block: other programs interrupt single blocks, and those are told by the percentiles."""
        return float(np.median(self.times)) / self.block * 1e6

    def percentile_ms(self, share: float) -> float:
        """A percentile over all blocks of all rounds; 100 is the worst block."""
        return float(np.percentile(self.times, share)) * 1e3

    def budget_ms(self, sample_rate: int) -> float:
        """What a block may take at most when played live."""
        return self.block / sample_rate * 1e3


def time_blocks(clone: Clone, dry: np.ndarray, block: int, rounds: int, yardstick: Yardstick) -> Timing:
    """Run a mono clone over ``dry`` (1, samples) as the live engine does, block by block, state carried on."""
    blocks = [np.ascontiguousarray(dry[:, i : i + block]) for i in range(0, dry.shape[1] - block + 1, block)]
    clone.prepare(clone.sample_rate, block, 1)
    for part in blocks[:20]:
        clone.process(part)
    times = np.empty((rounds, len(blocks)))
    for row in times:
        yardstick.measure(10)
        for place, part in enumerate(blocks):
            began = time.perf_counter()
            clone.process(part)
            row[place] = time.perf_counter() - began
    return Timing(block, times)
