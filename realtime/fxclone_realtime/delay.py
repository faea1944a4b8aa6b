"""A whole number of samples late: keeps the dry sound in step with a late wet one."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio


class DelayLine:
    """Delays ``(channels, n)`` blocks, n <= max_block, by ``delay_samples``. Nothing grows after it is made."""

    def __init__(self, channels: int, max_block: int, delay_samples: int) -> None:
        self.delay_samples = delay_samples
        self._line = np.zeros((channels, delay_samples + max_block), dtype=np.float32)
        self._spare = np.zeros((channels, delay_samples), dtype=np.float32)
        self._out = np.zeros((channels, max_block), dtype=np.float32)

    def process(self, block: Audio) -> Audio:
        """Return the sound of ``delay_samples`` ago; the array is reused by the next call."""
        if self.delay_samples == 0:
            return block
        n, delay = block.shape[1], self.delay_samples
        self._line[:, delay : delay + n] = block
        out = self._out[:, :n]
        out[...] = self._line[:, :n]
        self._spare[...] = self._line[:, n : n + delay]
        self._line[:, :delay] = self._spare
        return out

    def reset(self) -> None:
        """Forget what was held."""
        self._line.fill(0.0)
