"""A .nam file as a stream: the same network, its state carried from block to block."""

from __future__ import annotations

from fxclone.audio import Audio
from fxclone.effects.expression import parse_chain
from fxclone.effects.nam_file import read_nam
from fxclone.effects.spec import Stage
from fxclone.processor import Processor
from fxclone.resampled import Resampled

ENDLESS_TAIL_S = 60.0
"""Taken for the tail of a model of endless memory."""


def live_nam(stage: Stage) -> Processor:
    """Return a .nam file as something to play, at any rate.

    Raises
    ------
    EffectError
        If the file has changed since and is no model any more.
    """
    (link,) = parse_chain(stage.spec.address)
    stream = NamStream(link.name, stage.spec.name)
    return Resampled(stream, stream.sample_rate)


class NamStream:
    """A `Processor` at the model's own rate: each channel by itself, no latency.

    Parameters
    ----------
    path : str
        The file.
    name : str
        How people call it.
    """

    latency_samples = 0

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self._model = read_nam(path)
        self.sample_rate = self._model.sample_rate
        memory = self._model.network.memory_samples
        self.tail_samples = round(ENDLESS_TAIL_S * self.sample_rate) if memory is None else memory
        self.channels_out = 0

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """One state for each channel, after silence."""
        self.channels_out = channels
        self.reset()

    def reset(self) -> None:
        """Back to silence."""
        self._states = [self._model.settled] * self.channels_out

    def process(self, block: Audio) -> Audio:
        """Run each channel on."""
        out = block.copy()
        if block.shape[1]:
            for channel in range(block.shape[0]):
                wet, self._states[channel] = self._model.forward(block[channel : channel + 1], self._states[channel])
                out[channel] = wet[0]
        return out


__all__ = ["NamStream", "live_nam"]
