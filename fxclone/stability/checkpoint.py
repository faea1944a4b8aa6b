"""Between the links of a chain: what goes wrong in one of them must neither poison the next nor hide behind it.

A clone that gives NaN makes the next clone refuse its block, or a plugin whose host turns NaN into silence fall silent,
and at the end of the chain nothing looks wrong. So what passes from link to link is looked at too.
"""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Chain, Processor
from fxclone.resampled import Resampled
from fxclone.stability.trips import Fault, told_db

LARGEST = 100.0
"""+40 dBFS: no effect means that, and not all that follows survives it."""


class Checkpoint:
    """A `Processor` that passes sound on untouched; from a fault to the next `reset`, it gives silence.

    ``fault`` says what was found, None while all is well.
    """

    latency_samples = 0
    tail_samples = 0
    plain_gain = True

    def __init__(self) -> None:
        self.fault: Fault | None = None

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Make the buffers."""
        self._silence = np.zeros((channels, max_block), np.float32)
        self.reset()

    def reset(self) -> None:
        """Look anew."""
        self.fault = None

    def process(self, block: Audio) -> Audio:
        """Look at the largest value, where the power does not show that it is small enough."""
        if self.fault is None:
            if np.vdot(block, block) <= LARGEST * LARGEST:
                return block
            peak = float(np.abs(block).max())  # NaN if there is any
            if peak <= LARGEST:
                return block
            if np.isfinite(peak):
                self.fault = "runaway level", {"peak_db": told_db(peak), "limit_db": told_db(LARGEST)}
            else:
                self.fault = "not finite", {"bad_samples": float(block.size - np.count_nonzero(np.isfinite(block)))}
        return self._silence[:, : block.shape[1]]


def with_checkpoints(processor: Processor) -> Processor:
    """The same sound, with a `Checkpoint` after every link of a chain but the last; a plain gain does nothing wrong."""
    if isinstance(processor, Chain):
        links: list[Processor] = []
        for link in processor.processors:
            if links and not getattr(links[-1], "plain_gain", False):
                links.append(Checkpoint())
            links.append(with_checkpoints(link))
        return Chain(links)
    if isinstance(processor, Resampled) and isinstance(processor.inner, Chain):
        return Resampled(with_checkpoints(processor.inner), processor.inner_rate)
    return processor
