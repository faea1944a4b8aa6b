"""The last moments of a sound, always in one piece of memory."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio


class History:
    """Keeps the newest ``samples`` of ``(channels, n)`` blocks, n <= max_block.

    What is kept slides through a buffer with room to spare, and moves back to its start when it reaches the end: the
    past is never split in two, and only rarely moved.
    """

    def __init__(self, channels: int, samples: int, max_block: int) -> None:
        self.samples = samples
        self._line = np.zeros((channels, 2 * samples + max_block), dtype=np.float32)
        self._end = samples

    def push(self, block: Audio) -> None:
        """Append a block."""
        n, end = block.shape[1], self._end
        if end + n > self._line.shape[1]:
            kept = self.samples
            self._line[:, :kept] = self._line[:, end - kept : end]  # they do not overlap: there is room for both
            end = kept
        self._line[:, end : end + n] = block
        self._end = end + n

    def past(self, n: int, ago: int = 0) -> Audio:
        """The ``n`` samples that ended ``ago`` samples before the newest: a view, valid until the next `push`.

        n + ago may be at most ``samples``; before the first block there was silence.
        """
        end = self._end - ago
        return self._line[:, end - n : end]

    def clear(self) -> None:
        """Only silence so far."""
        self._line.fill(0.0)
        self._end = self.samples
