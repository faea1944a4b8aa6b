"""A sound file in the place of an input."""

from __future__ import annotations

import warnings
from pathlib import Path

from fxclone.audio import Audio, fit_channels


class FileSource:
    """Feeds a sound block by block; silence after its end, or again from the start.

    Parameters
    ----------
    sound : Audio [shape=(channels, samples)]
        At the rate of the stream.
    loop : bool
        Whether it starts again at its end.
    """

    def __init__(self, sound: Audio, *, loop: bool = False) -> None:
        self.sound = sound
        self.loop = loop
        self.channels = int(sound.shape[0])
        self.past_end = 0
        """Samples of silence given since the end."""
        self.notes: list[str] = []
        """What the user should hear about the file, such as that it is cut short."""
        self._at = 0

    def fill(self, block: Audio) -> None:
        """Write the next samples into ``block`` (channels, n)."""
        wanted, done = block.shape[1], 0
        while done < wanted:
            part = min(wanted - done, self.sound.shape[1] - self._at)
            if part == 0:
                if self.loop:
                    self._at = 0
                    continue
                block[:, done:] = 0.0
                self.past_end += wanted - done
                return
            block[:, done : done + part] = self.sound[:, self._at : self._at + part]
            self._at += part
            done += part


def read_source(path: Path, sample_rate: int, *, loop: bool = False) -> FileSource:
    """Load a file for playing, at ``sample_rate``; more than two channels are mixed to one.

    Raises
    ------
    AudioFileError
        As `fxclone.files.read_sound`.
    """
    from fxclone.files import read_sound

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sound, _ = read_sound(path, sample_rate=sample_rate)
    source = FileSource(sound if sound.shape[0] <= 2 else fit_channels(sound, 1), loop=loop)
    source.notes = [str(warning.message) for warning in caught]
    return source
