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

    def apply(self, block: Audio) -> list[float]:
        """Limit ``(channels, n)`` in place; return each channel's peak before, NaN or infinity if it had such."""
        magnitude = self._magnitude[:, : block.shape[1]]
        np.abs(block, out=magnitude)
        peaks = [float(channel.item(channel.argmax())) for channel in magnitude]
        if not all(peak <= self._knee for peak in peaks):  # also when one is not a number
            np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.abs(block, out=magnitude)
            over = magnitude > self._knee
            room = self.ceiling - self._knee
            bent = self._knee + room * np.tanh((np.minimum(magnitude[over], 9.0 * self.ceiling) - self._knee) / room)
            block[over] = np.copysign(np.minimum(bent, self.ceiling), block[over])
        return peaks
