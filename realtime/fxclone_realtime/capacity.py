"""Can this machine keep up? Asked before the first sound, so that the answer is a sentence and not crackling."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio
from fxclone.errors import FxcloneError
from fxclone.processor import Processor

LARGEST_SHARE = 0.9
"""Of the budget that the median block may take."""
COMFORTABLE_SHARE = 0.6
REWARMING_SHARE = 0.75
"""Of the budget that a block may take while a chain catches up after a trip."""
MEASURE_S = 0.15
MOST_BLOCKS = 60


@dataclass(frozen=True)
class Capacity:
    """How long blocks take: ``overhead_s + n * per_sample_s``, from the medians of two block lengths."""

    sample_rate: int
    block: int
    block_s: float
    overhead_s: float
    per_sample_s: float

    @property
    def budget_s(self) -> float:
        """The time that one block lasts."""
        return self.block / self.sample_rate

    @property
    def load(self) -> float:
        """Share of the budget that the median block takes."""
        return self.block_s / self.budget_s

    def beside(self, other: Capacity) -> Capacity:
        """Both, one after the other in each block."""
        return Capacity(
            self.sample_rate,
            self.block,
            self.block_s + other.block_s,
            self.overhead_s + other.overhead_s,
            self.per_sample_s + other.per_sample_s,
        )

    def speed_to_spare(self, own: Capacity) -> int:
        """How many times over the work of ``own``, a part of all this, may be done in one block; at least once."""
        spare_s = REWARMING_SHARE * self.budget_s - self.block_s
        return 1 + max(0, int(spare_s / max(1e-9, own.block_s)))

    def check(self) -> None:
        """Raise FxcloneError if this machine cannot keep up, with the numbers and what would help."""
        if self.load <= LARGEST_SHARE:
            return
        raise FxcloneError(
            f"too heavy to play on this machine: needs {1e6 * self.block_s / self.block:.1f} us per sample, "
            f"{1e6 / self.sample_rate:.1f} us are there ({1 / self.load:.2f} x real time at blocks of {self.block}, "
            f"{self.sample_rate} Hz); {self.what_helps()}; --anyway plays regardless, `fxclone render` needs no speed"
        )

    def what_helps(self) -> str:
        """The one thing that would help most, as a sentence."""
        per_sample_share = self.per_sample_s * self.sample_rate
        block = self.block
        while block < 2048:
            block *= 2
            if (self.overhead_s / block + self.per_sample_s) * self.sample_rate < COMFORTABLE_SHARE:
                return f"--block {block} would help, because most of it is needed once for each block"
        if per_sample_share > COMFORTABLE_SHARE:
            times = per_sample_share / COMFORTABLE_SHARE
            return f"use a model {times:.1f} times smaller (a larger --block would not help)"
        return "use a smaller model, or close other programs"


def measure(processor: Processor, sample_rate: int, block: int, channels: int) -> Capacity:
    """Time a prepared processor on quiet noise in blocks of ``block`` and of half of it, then reset it."""
    noise: Audio = (0.1 * np.random.default_rng(0).standard_normal((channels, block))).astype(np.float32)
    for _ in range(5):  # first calls allocate and fill caches
        began = time.perf_counter()
        processor.process(noise)
        if time.perf_counter() - began > MEASURE_S:
            break
    whole = _median_s(processor, noise)
    half = max(1, block // 2)
    halved = _median_s(processor, np.ascontiguousarray(noise[:, :half])) if block > 1 else whole
    processor.reset()
    per_sample = max(0.0, (whole - halved) / (block - half)) if block > half else 0.0
    return Capacity(sample_rate, block, whole, max(0.0, whole - block * per_sample), per_sample)


def _median_s(processor: Processor, block: Audio) -> float:
    times: list[float] = []
    end = time.perf_counter() + MEASURE_S / 2
    while not times or (time.perf_counter() < end and len(times) < MOST_BLOCKS):
        began = time.perf_counter()
        processor.process(block)
        times.append(time.perf_counter() - began)
    return float(np.median(times))
