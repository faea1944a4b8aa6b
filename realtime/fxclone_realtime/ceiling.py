"""The last thing before the ears: nothing above a ceiling and nothing that is not a number gets out."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio

KNEE = 0.9
"""Below this part of the ceiling (-0.9 dB) sound passes bit for bit."""


class SoftCeiling:
    """Bends what comes near ``ceiling`` so that nothing passes it; NaN and infinity become silence.

    Memoryless: ``y = sign(x) (k + (c - k) tanh((|x| - k) / (c - k)))`` above the knee k = 0.9 c, so it adds no latency
    and recovers at once.

    Parameters
    ----------
    ceiling : float
        Largest absolute value that may come out. Default 1.0, the converter's full scale.
    """

    def __init__(self, channels: int, max_block: int, ceiling: float = 1.0) -> None:
        self.ceiling = ceiling
        self._knee = KNEE * ceiling
        self._magnitude = np.zeros((channels, max_block), dtype=np.float32)
        self._safe = np.zeros((channels, max_block), dtype=np.float32)

    def apply(self, block: Audio, out: Audio | None = None) -> list[float]:
        """Limit ``(channels, n)`` in place, or into ``out``; of one channel, all channels of ``out`` get the same.

        Returns
        -------
        list of float
            Each channel's peak before, NaN or infinity if it had such.
        """
        channels, n = block.shape
        magnitude = self._magnitude[:channels, :n]
        np.abs(block, out=magnitude)
        if channels == 1:
            peaks = [magnitude.item(magnitude.argmax())]
            safe = peaks[0] <= self._knee
        else:
            peaks = [channel.item(channel.argmax()) for channel in magnitude]
            safe = all(peak <= self._knee for peak in peaks)  # not if one is not a number
        bent = block if safe else self._bend(block, magnitude)
        out = block if out is None else out
        if out is not bent:
            out[...] = bent
        return peaks

    def _bend(self, block: Audio, magnitude: Audio) -> Audio:
        safe = self._safe[: block.shape[0], : block.shape[1]]
        safe[...] = block
        np.nan_to_num(safe, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.abs(safe, out=magnitude)
        over = magnitude > self._knee
        room = self.ceiling - self._knee
        bent = self._knee + room * np.tanh((np.minimum(magnitude[over], 9.0 * self.ceiling) - self._knee) / room)
        safe[over] = np.copysign(np.minimum(bent, self.ceiling), safe[over])
        return safe
