"""Recording what is heard without ever making the audio wait for the disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from fxclone.audio import Audio
from fxclone.errors import FxcloneError

RING_S = 10.0


class Recorder:
    """A ring that the callback fills and another thread empties into a sound file, which appears on `close`.

    Parameters
    ----------
    path : Path
        Where to write; the suffix chooses the format.
    sample_rate, channels : int
        As the engine's output.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int, *, force: bool = False) -> None:
        from fxclone.files import SoundWriter

        self._writer = SoundWriter(path, sample_rate=sample_rate, channels=channels, force=force)
        self._file = self._writer.__enter__()
        self._size = int(RING_S * sample_rate)
        self._ring = np.zeros((channels, self._size), dtype=np.float32)
        self._written = 0
        self._read = 0
        self.lost_samples = 0

    def push(self, block: Audio) -> None:
        """Take a block, from the callback. If the disk is ten seconds behind, it is counted as lost instead."""
        n = block.shape[1]
        if self._written + n - self._read > self._size:
            self.lost_samples += n
            return
        at = self._written % self._size
        head = min(n, self._size - at)
        self._ring[:, at : at + head] = block[:, :head]
        self._ring[:, : n - head] = block[:, head:]
        self._written += n

    def drain(self) -> None:
        """Write what has come in to the file, from any other thread."""
        available = self._written - self._read
        while available > 0:
            at = self._read % self._size
            part = min(available, self._size - at)
            self._file.write(self._ring[:, at : at + part])
            self._read += part
            available -= part

    def close(self) -> None:
        """Write the rest and close the file."""
        self.drain()
        self._writer.__exit__(None, None, None)

    def discard(self) -> None:
        """Leave nothing behind."""
        failure = FxcloneError("recording given up")
        with suppress(FxcloneError):
            self._writer.__exit__(type(failure), failure, None)
