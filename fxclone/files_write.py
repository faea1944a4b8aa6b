"""Writing sound files: which encodings there are, and a writer that leaves a whole file or none.

Use through `fxclone.files`.
"""

from __future__ import annotations

import errno
import io
import shutil
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile

from fxclone.audio import Audio, valid_audio, valid_sample_rate
from fxclone.errors import AudioFileError, FxcloneError
from fxclone.paths import atomic_output

FORMAT_OF_SUFFIX = {
    ".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3",
    ".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".w64": "W64", ".rf64": "RF64", ".caf": "CAF", ".au": "AU",
}  # fmt: skip
"""The file name endings that count as sound, and libsndfile's name of the format each stands for."""

BIT_DEPTHS = {"8": "PCM_U8", "16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT", "double": "DOUBLE"}
"""What a user may say for a bit depth, beside libsndfile's own names such as PCM_24 or VORBIS."""

_FINE_ABOVE_FULL_SCALE = {"FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III", "MPEG_LAYER_II", "MPEG_LAYER_I"}
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_VORBIS_MAX_HZ = 192_000  # libsndfile 1.2.2 crashes above libvorbis's own limit instead of refusing
_MAX_CHANNELS = {"MP3": 2, "FLAC": 8}
_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "ULAW": 1,
    "ALAW": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}
_MAX_32_BIT_FILE = 0xFFFF_FFFF - 0x1_0000  # WAV and AIFF count their bytes in 32 bits; keep room for the headers


def choose_encoding(
    path: str | Path, *, sample_rate: int, channels: int, format: str | None = None, subtype: str | None = None
) -> tuple[str, str]:
    """Settle the format and subtype of a file to write, or say why it cannot be.

    Parameters
    ----------
    path : str or Path
        Its suffix gives the format if ``format`` is None.
    sample_rate, channels : int
        What will be written.
    format : str or None
        libsndfile's name of it.
    subtype : str or None
        A bit depth (8, 16, 24, 32, float, double) or libsndfile's name; None takes the usual one of the format, for
        uncompressed files 24 bit.

    Returns
    -------
    tuple of str
        Format and subtype in libsndfile's names.

    Raises
    ------
    AudioFileError
        If there is no such format, or it cannot hold this rate, channel count or subtype.
    """
    suffix = Path(path).suffix.lower()
    kind = (format or FORMAT_OF_SUFFIX.get(suffix, "")).upper()
    if kind not in soundfile.available_formats() or kind == "RAW":
        raise AudioFileError(
            f"{path}: no sound format goes with {format or suffix or 'a name without an ending'!r}; "
            f"expected one of {', '.join(sorted(FORMAT_OF_SUFFIX))}"
        )
    known = soundfile.available_subtypes(kind)
    if subtype is None:
        usual = "OPUS" if suffix == ".opus" else soundfile.default_subtype(kind)
        chosen = "PCM_24" if usual == "PCM_16" and "PCM_24" in known else str(usual)
    else:
        chosen = BIT_DEPTHS.get(subtype.lower(), subtype.upper())
        if chosen == "PCM_U8" and chosen not in known:
            chosen = "PCM_S8"
    if chosen not in known:
        raise AudioFileError(f"{path}: {kind} has no encoding {subtype}; expected one of {', '.join(sorted(known))}")
    rates = {"OPUS": _OPUS_RATES, "MPEG_LAYER_III": _MP3_RATES}.get(chosen)
    if (rates and sample_rate not in rates) or (chosen == "VORBIS" and sample_rate > _VORBIS_MAX_HZ):
        allowed = ", ".join(map(str, rates)) if rates else f"at most {_VORBIS_MAX_HZ}"
        raise AudioFileError(f"{path}: {kind} cannot hold {sample_rate} Hz; expected {allowed}: set --sample-rate")
    if channels > _MAX_CHANNELS.get(kind, 1024) or not soundfile.check_format(kind, chosen):
        raise AudioFileError(f"{path}: {kind} {chosen} cannot hold {channels} channels; choose WAV")
    if not _can_be_made(kind, chosen, sample_rate, channels):
        raise AudioFileError(
            f"{path}: {kind} {chosen} cannot be written with {channels} channels at {sample_rate} Hz; choose another "
            "--bit-depth (such as 24 for WAV) or another ending"
        )
    return kind, chosen


@lru_cache(maxsize=256)
def _can_be_made(kind: str, subtype: str, sample_rate: int, channels: int) -> bool:
    """Try in memory: libsndfile lists encodings, such as MP3 in WAV, that it then refuses to write."""
    try:
        soundfile.SoundFile(io.BytesIO(), "w", sample_rate, channels, subtype, format=kind).close()
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError):
        return False
    return True


class SoundWriter:
    """Writes one sound file block by block; the file appears, whole, when the context ends without an error.

    Parameters
    ----------
    path : str or Path
        The file to make.
    sample_rate, channels : int
        What it will hold.
    format, subtype : str or None
        See `choose_encoding`.
    force : bool
        Replace a file that is there already.
    expected_samples : int or None
        How long it will become, if known: a WAV file that would pass 4 GB is then written as RF64, which most
        programs read as WAV.

    Attributes
    ----------
    samples_written, clipped : int
        So far; ``clipped`` counts values beyond full scale that an integer format had to clip, over all channels.

    Raises
    ------
    UsageError
        If the file exists and ``force`` is not given.
    AudioFileError
        If the format cannot hold this sound.
    FxcloneError
        If it cannot be written, for instance because the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sample_rate: int,
        channels: int,
        format: str | None = None,
        subtype: str | None = None,
        force: bool = False,
        expected_samples: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.sample_rate, self.channels = valid_sample_rate(sample_rate), channels
        self.format, self.subtype = choose_encoding(
            path, sample_rate=sample_rate, channels=channels, format=format, subtype=subtype
        )
        self._frame_bytes = _BYTES.get(self.subtype, 1) * channels
        if self.format in ("WAV", "WAVEX") and (expected_samples or 0) * self._frame_bytes > _MAX_32_BIT_FILE:
            self.format = "RF64"
        self.samples_written = self.clipped = 0
        self._force = force
        self._stack = ExitStack()
        self._temporary = self.path
        self._file: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._temporary = stack.enter_context(atomic_output(self.path, force=self._force))
            except OSError as error:
                raise self._failed(error.strerror or error, self.path.parent) from None
            try:
                self._file = soundfile.SoundFile(
                    str(self._temporary), "w", self.sample_rate, self.channels, self.subtype, format=self.format
                )
            except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
                raise self._failed(error, self._temporary.parent) from None  # the encoding itself has been tried
            self._stack = stack.pop_all()
        return self

    def write(self, block: Audio) -> None:
        """Append ``(channels, n)``."""
        block = valid_audio(block, name="the output", channels=self.channels, allow_empty=True)
        length = block.shape[1]
        size = (self.samples_written + length) * self._frame_bytes
        if self.format in ("WAV", "WAVEX", "AIFF") and size > _MAX_32_BIT_FILE:
            raise AudioFileError(f"{self.path} would pass 4 GB, more than {self.format} can hold; choose .flac or .w64")
        if self.subtype not in _FINE_ABOVE_FULL_SCALE:
            beyond = int(np.count_nonzero(np.abs(block) > 1.0))
            if beyond:
                self.clipped += beyond
                block = np.clip(block, -1.0, 1.0)
        frames = np.ascontiguousarray(block.T)
        try:
            for start in range(0, length, 65_536):  # libvorbis overflows the stack on very long writes
                self._file.write(frames[start : start + 65_536])
        except (soundfile.SoundFileError, RuntimeError, AssertionError) as error:  # the last: fewer samples arrived
            raise self._failed(error, self._temporary.parent) from None
        self.samples_written += length

    def _failed(self, error: Exception | str, folder: Path) -> FxcloneError:
        said = str(getattr(error, "error_string", None) or error).strip(" :.") or "no reason given"
        reason = "the disk is full" if _disk_is_full(folder) else f"the system refused ({said})"
        return FxcloneError(f"could not write {self.path}: {reason}; free some space or choose another folder")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            try:
                self._file.close()
            except (soundfile.SoundFileError, RuntimeError) as problem:
                if error is None:
                    raise self._failed(problem, self._temporary.parent) from None
            if error is not None:
                raise error  # through the temporary file's context, which then removes it
            self._verify()

    def _verify(self) -> None:
        """Compare the file's length with what was written: a full disk may show only when the file is closed."""
        if self.samples_written == 0:
            raise AudioFileError(f"{self.path} would be empty; expected at least one sample to write")
        try:
            with soundfile.SoundFile(str(self._temporary)) as written:
                there = int(written.frames)
        except (soundfile.SoundFileError, RuntimeError) as problem:
            raise self._failed(problem, self._temporary.parent) from None
        if there < self.samples_written:
            raise self._failed(f"only {there} of {self.samples_written} samples arrived", self._temporary.parent)


def _disk_is_full(folder: Path) -> bool:
    try:
        if shutil.disk_usage(folder).free < 1_000_000:
            return True
        with tempfile.TemporaryFile(dir=folder) as trial:  # a quota, or no room for one more file
            trial.write(bytes(65_536))
            trial.flush()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def write_sound(
    path: str | Path, audio: Audio, sample_rate: int, *, subtype: str | None = None, force: bool = False
) -> Path:
    """Write a whole sound to a file; its suffix gives the format. See `SoundWriter`.

    Returns
    -------
    Path
        The file that was written.
    """
    audio = valid_audio(audio)
    with SoundWriter(
        path,
        sample_rate=sample_rate,
        channels=audio.shape[0],
        subtype=subtype,
        force=force,
        expected_samples=audio.shape[1],
    ) as writer:
        writer.write(audio)
    return writer.path
