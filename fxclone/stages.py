"""The pieces of an offline render: stages that take blocks of any length and keep in step with the first sample.

Each stage removes the delay that it adds, so that whatever follows sees sound that lines up with the input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import soxr

from fxclone.audio import Audio, db_to_gain, fit_channels
from fxclone.processor import Processor, channels_after

BLOCK_SAMPLES = 16_384


class Stage(Protocol):
    """Takes blocks, gives blocks, and at the end what it still holds."""

    def push(self, block: Audio) -> Audio:
        """Take ``(channels, n)`` and return what is ready, also nothing."""

    def drain(self) -> Iterator[Audio]:
        """Yield what is left when the input has ended."""


class ProcessorStage:
    """Runs a processor, its latency cut off the start and flushed out at the end, then its tail.

    Parameters
    ----------
    processor : Processor
        It is prepared here, and so reset.
    sample_rate, channels : int
        Of what comes in.
    max_tail_samples : int
        Where to cut a longer tail.
    """

    def __init__(self, processor: Processor, sample_rate: int, channels: int, max_tail_samples: int) -> None:
        processor.prepare(sample_rate, BLOCK_SAMPLES, channels)
        self.processor = processor
        self.channels = channels
        self.channels_out = channels_after(processor, channels)
        self._skip = self._late = processor.latency_samples
        self._tail = min(processor.tail_samples, max_tail_samples)

    def push(self, block: Audio) -> Audio:
        """Process a block of any length."""
        parts = []
        for start in range(0, block.shape[1], BLOCK_SAMPLES):
            part = np.ascontiguousarray(block[:, start : start + BLOCK_SAMPLES])
            out = self.processor.process(part)
            gone = min(self._skip, out.shape[1])
            self._skip -= gone
            parts.append(np.array(out[:, gone:], np.float32))  # a copy: the processor may use its buffer again
        return _join(parts, self.channels_out)

    def drain(self) -> Iterator[Audio]:
        """Feed silence until the latency is made up for and the tail is out."""
        left = self._late + self._tail
        while left > 0:
            size = min(left, BLOCK_SAMPLES)
            left -= size
            yield self.push(np.zeros((self.channels, size), np.float32))


class RateStage:
    """Resamples with soxr at its very high quality: linear phase, its delay already made up for."""

    def __init__(self, sample_rate: int, target_rate: int, channels: int) -> None:
        self.channels = channels
        self._stream = soxr.ResampleStream(sample_rate, target_rate, channels, dtype="float32", quality="VHQ")

    def push(self, block: Audio) -> Audio:
        """Resample a block; what comes out lags behind, and is whole after `drain`."""
        return self._resample(block, last=False)

    def drain(self) -> Iterator[Audio]:
        """Yield the rest."""
        yield self._resample(np.zeros((self.channels, 0), np.float32), last=True)

    def _resample(self, block: Audio, last: bool) -> Audio:
        frames = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
        out: Audio = np.ascontiguousarray(frames.T)
        return out


class ChannelStage:
    """Brings sound to a channel count, see `fxclone.audio.fit_channels`."""

    def __init__(self, channels: int) -> None:
        self.channels_out = channels

    def push(self, block: Audio) -> Audio:
        """Fit a block."""
        return fit_channels(block, self.channels_out)

    def drain(self) -> Iterator[Audio]:
        """Nothing is held."""
        return iter(())


class GainStage:
    """Multiplies by a gain in dB."""

    def __init__(self, gain_db: float) -> None:
        self._gain = np.float32(db_to_gain(gain_db))

    def push(self, block: Audio) -> Audio:
        """Scale a block."""
        return block * self._gain

    def drain(self) -> Iterator[Audio]:
        """Nothing is held."""
        return iter(())


class Fifo:
    """Holds the dry sound until the wet sound of the same moment comes out."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._blocks: deque[Audio] = deque()

    def push(self, block: Audio) -> None:
        """Append a block."""
        if block.shape[1]:
            self._blocks.append(block)

    def pull(self, samples: int) -> Audio:
        """Take exactly so many samples; silence follows the last."""
        parts = []
        while samples > 0 and self._blocks:
            block = self._blocks.popleft()
            if block.shape[1] > samples:
                self._blocks.appendleft(block[:, samples:])
                block = block[:, :samples]
            parts.append(block)
            samples -= block.shape[1]
        if samples > 0:
            parts.append(np.zeros((self._channels, samples), np.float32))
        return _join(parts, self._channels)


def push_all(stages: Sequence[Stage], block: Audio) -> Audio:
    """Send a block through every stage."""
    for stage in stages:
        block = stage.push(block)
    return block


def drain_all(stages: Sequence[Stage]) -> Iterator[Audio]:
    """Empty every stage in turn through those after it."""
    for index, stage in enumerate(stages):
        for block in stage.drain():
            yield push_all(stages[index + 1 :], block)


def _join(parts: list[Audio], channels: int) -> Audio:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, axis=1) if parts else np.zeros((channels, 0), np.float32)
