"""A recording whose process was killed: what had come to the disk is given its length and its name.

The other process, which lives on, does this. A file that was being written has a name of its own beside its target (see
`fxclone.paths.atomic_output`), and most formats state their length at the beginning, where it is not yet true.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from fxclone.audio import Audio
from fxclone.errors import FxcloneError
from fxclone.files import SoundWriter

UNKNOWN_LENGTH = 2**62
"""A FLAC file whose writer was killed says that it is longer than this."""
_PART = 1_024
"""Read at once: a part in which the sound breaks off is lost whole."""


def unfinished(target: Path) -> set[Path]:
    """Files that are being written, or were left behind, in the place of ``target``."""
    name = re.compile(rf"\.{re.escape(target.stem)}\.[0-9a-f]+\.tmp{re.escape(target.suffix)}")
    try:
        return {path for path in target.parent.iterdir() if name.fullmatch(path.name)}
    except OSError:
        return set()


def rescue(target: Path, left: set[Path], *, force: bool = False) -> Path | None:
    """Make of what a killed process has left behind the file that it was writing.

    Parameters
    ----------
    target : Path
        What it was to become.
    left : set of Path
        What is `unfinished` now and was not before; nothing else may be writing it.
    force : bool
        Replace a file that is there already.

    Returns
    -------
    Path or None
        The file, or None if nothing could be saved; then nothing is left behind.
    """
    saved = None
    for path in sorted(left, key=lambda path: path.stat().st_size, reverse=True):
        try:
            if saved is None and (force or not target.exists()) and _mended(path, target, force):
                saved = target
        except (OSError, RuntimeError, FxcloneError):  # soundfile's own errors are RuntimeErrors
            pass
        path.unlink(missing_ok=True)
    return saved


def _mended(path: Path, target: Path, force: bool) -> bool:
    try:
        with soundfile.SoundFile(str(path), "r+"):
            pass  # closing it writes the length that it has
    except RuntimeError:
        pass  # formats that cannot be changed in place, such as OGG, can be read as they are
    with soundfile.SoundFile(str(path)) as file:
        frames = int(file.frames)
        if frames >= UNKNOWN_LENGTH:
            with _writer(target, file, force) as writer:
                for part in _parts(file):
                    writer.write(part)
            return True
    if frames:
        umask = os.umask(0)
        os.umask(umask)
        path.chmod(0o666 & ~umask)
        path.replace(target)
    return frames > 0


@contextmanager
def _writer(target: Path, like: soundfile.SoundFile, force: bool) -> Iterator[SoundWriter]:
    writer = SoundWriter(target, sample_rate=like.samplerate, channels=like.channels, subtype=like.subtype, force=force)
    with writer:
        yield writer


def _parts(file: soundfile.SoundFile) -> Iterator[Audio]:
    """As much as can be read."""
    while True:
        try:
            frames = file.read(_PART, dtype="float32", always_2d=True)
        except RuntimeError:
            return
        if not len(frames):
            return
        yield frames.T
