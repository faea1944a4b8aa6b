"""The contract of everything that handles sound at run time: clones, gains, chains, resamplers, monitors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fxclone.audio import Audio


@runtime_checkable
class Processor(Protocol):
    """Turns blocks of sound into blocks of sound, carrying its state from one to the next.

    What ``process`` returns may be the processor's own memory, or the very block that it got: who keeps it until after
    the next call, or changes it, makes a copy.
    ``prepare`` may allocate; ``process`` may not block, lock, print or grow. Any division of a signal into blocks
    (also of 1 sample) gives the same sound. One that gives another number of channels than it gets has an attribute
    ``channels_out``, valid after ``prepare``.
    """

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Get ready for blocks of at most ``max_block`` samples with ``channels`` inputs, and reset."""

    def process(self, block: Audio) -> Audio:
        """Process ``(channels, n)``, n <= max_block, to ``(channels_out, n)``."""

    def reset(self) -> None:
        """Return to the state after ``prepare``: the next block sounds as from a fresh start."""

    @property
    def latency_samples(self) -> int:
        """How many samples the output is late against the input; valid after ``prepare``."""

    @property
    def tail_samples(self) -> int:
        """How long the output may go on after the input has fallen silent; valid after ``prepare``."""


def channels_after(processor: Processor, channels: int) -> int:
    """How many channels a processor gives that was prepared for ``channels``: its ``channels_out``, else as many."""
    return int(getattr(processor, "channels_out", channels))


def channels_text(channels_in: int, channels_out: int) -> str:
    """How people call it: "mono", "stereo", "mono to stereo"."""
    names = {1: "mono", 2: "stereo"}
    one, other = (names.get(count, f"{count} channels") for count in (channels_in, channels_out))
    return one if channels_in == channels_out else f"{one} to {other}"


class Chain:
    """Processors in series. Latencies and tails add up. An empty chain passes sound through."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        self.processors = tuple(processors)
        self.channels_out = 0

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Prepare each link; a link may change the channel count (``channels_out``) for those after it."""
        for processor in self.processors:
            processor.prepare(sample_rate, max_block, channels)
            channels = channels_after(processor, channels)
        self.channels_out = channels

    def process(self, block: Audio) -> Audio:
        """Run the block through every link."""
        for processor in self.processors:
            block = processor.process(block)
        return block

    def reset(self) -> None:
        """Reset every link."""
        for processor in self.processors:
            processor.reset()

    @property
    def latency_samples(self) -> int:
        """Sum of the links' latencies."""
        return sum(processor.latency_samples for processor in self.processors)

    @property
    def tail_samples(self) -> int:
        """Sum of the links' tails."""
        return sum(processor.tail_samples for processor in self.processors)
