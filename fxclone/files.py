"""Sound files in and out: WAV, FLAC, OGG, MP3, AIFF and their kin, through libsndfile.

Everything reads and writes in blocks, so that a ten-hour file needs no more memory than a short one. Every problem with
a file becomes one `AudioFileError` that says what was seen, what was expected and what to do.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import soxr

from fxclone.audio import (
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    Audio,
    fit_channels,
    valid_sample_rate,
)
from fxclone.errors import AudioFileError, UsageError
from fxclone.files_write import BIT_DEPTHS, FORMAT_OF_SUFFIX, SoundWriter, choose_encoding, write_sound

__all__ = [
    "BIT_DEPTHS",
    "FORMAT_OF_SUFFIX",
    "SoundFileWarning",
    "SoundInfo",
    "SoundReader",
    "SoundWriter",
    "choose_encoding",
    "find_sounds",
    "read_sound",
    "resample",
    "sound_info",
    "stream_sound",
    "write_sound",
]

_UNKNOWN_LENGTH = 2**60
_DECODE_SAMPLES = 4096  # what one call may lose when a damaged stream makes the decoder give up
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


class SoundFileWarning(UserWarning):
    """A sound file that can be used but is not whole."""


@dataclass(frozen=True)
class SoundInfo:
    """What the header of a sound file says.

    Attributes
    ----------
    path : Path
        The file.
    sample_rate : int
        In Hz.
    channels, samples : int
        Its shape.
    format, subtype : str
        libsndfile's names, such as ``WAV`` and ``PCM_24``.
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate


class _Sequential(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """Says that it cannot seek, so that soundfile does not seek after every read: in MP3 that damages the sound."""

    def seekable(self) -> bool:
        return False


class SoundReader:
    """Reads one sound file block by block. A context manager.

    Parameters
    ----------
    path : str or Path
        The file.

    Attributes
    ----------
    info : SoundInfo
        What its header says.
    notes : list of str
        What the user should hear about, such as that the file is cut short; complete after the last block.
    clipped_runs : int
        How often, in what was read, three or more samples in a row lie at full scale.

    Raises
    ------
    AudioFileError
        If the file is missing, a folder, unreadable, not sound, or empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self._file = _open(self.path)
        self._left: Any = ()
        self._position = 0
        self.clipped_runs = 0
        try:
            self.info = self._look()
        except BaseException:
            self._file.close()
            raise

    def _look(self) -> SoundInfo:
        file = self._file
        rate, samples = int(file.samplerate), int(file.frames)
        if not MIN_SAMPLE_RATE_HZ <= rate <= MAX_SAMPLE_RATE_HZ:
            raise AudioFileError(
                f"{self.path} has a sample rate of {rate} Hz; expected {MIN_SAMPLE_RATE_HZ} to "
                f"{MAX_SAMPLE_RATE_HZ} Hz: convert it first"
            )
        if samples <= 0:
            raise AudioFileError(f"{self.path} is empty (a header, no samples); expected at least one sample")
        if samples > _UNKNOWN_LENGTH:  # a stream whose encoder did not know the length
            samples = 0
            with _open(self.path) as again:
                while got := len(again.read(65_536, dtype="float32", always_2d=True)):
                    samples += got
        cut = _CUT_SHORT.search(file.extra_info)
        if cut:
            declared, there = int(cut[1]), int(cut[2])
            if there < declared < 0x7FFF_0000:  # larger: a recorder that streamed and never knew the length
                whole = samples * declared / max(there, 1) / rate
                self.notes.append(
                    f"{self.path} is cut short: {samples / rate:.2f} s of about {whole:.2f} s are there; using those"
                )
        return SoundInfo(self.path, rate, int(file.channels), samples, str(file.format), str(file.subtype))

    def read(self, samples: int) -> Audio:
        """Return the next ``samples`` samples, fewer only at the end of the file, none after it.

        Returns
        -------
        Audio [shape=(channels, <= samples)]

        Raises
        ------
        AudioFileError
            For values that are NaN or infinite, and if a damaged file gives nothing at all.
        """
        parts: list[Any] = []
        wanted = samples
        while wanted > 0:
            if not len(self._left):
                self._left = self._decode()  # always as much, so that damage costs the same for any block size
            part, self._left = self._left[:wanted], self._left[wanted:]
            if not len(part):
                break
            parts.append(part)
            wanted -= len(part)
            self._position += len(part)
        if wanted > 0 and self._position < self.info.samples and not self.notes:
            self._say_cut_short()
        if not parts:
            return np.zeros((self.info.channels, 0), np.float32)
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        block: Audio = np.ascontiguousarray(frames.T)
        if not np.isfinite(block).all():
            first = self._position - block.shape[1] + int(np.argmax(~np.isfinite(block).all(axis=0)))
            raise AudioFileError(
                f"{self.path} holds NaN or infinite values, the first at sample {first} "
                f"({first / self.info.sample_rate:.3f} s); expected finite sound: export it again"
            )
        full = np.abs(block) >= 0.9999
        if full.any():
            runs = full[:, 2:] & full[:, 1:-1] & full[:, :-2]
            self.clipped_runs += int(np.count_nonzero(runs[:, 1:] & ~runs[:, :-1])) + int(runs[:, :1].sum())
        return block

    def _decode(self) -> Any:
        try:
            return self._file.read(_DECODE_SAMPLES, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError):
            return np.zeros((0, self.info.channels), np.float32)

    def _say_cut_short(self) -> None:
        rate, promised = self.info.sample_rate, self.info.samples
        if self._position == 0:
            raise AudioFileError(
                f"{self.path} promises {promised / rate:.2f} s of sound and holds none that can be read; "
                "it is damaged or cut short: copy it again"
            )
        self.notes.append(
            f"{self.path} is cut short or damaged: {self._position / rate:.2f} s of {promised / rate:.2f} s could be "
            "read; using those"
        )

    def seek(self, sample: int) -> None:
        """Go to a sample, counted from the start of the file; MP3 is decoded up to there, as its seeks are not exact.

        Raises
        ------
        AudioFileError
            If a damaged file cannot be read up to there.
        """
        sample = max(0, min(sample, self.info.samples))
        try:
            if not self._file.seekable():
                self._restart()
            else:
                self._position, self._left = int(self._file.seek(sample)), ()
        except (soundfile.SoundFileError, RuntimeError):  # damage between here and there
            self._restart()
        while self._position < sample:
            if not len(self._left):
                self._left = self._decode()
            if not len(self._left):
                raise self._ends_before(sample)
            skipped = min(sample - self._position, len(self._left))
            self._left = self._left[skipped:]
            self._position += skipped

    def _restart(self) -> None:
        """Begin again at the first sample, with a decoder that no damage or seek has touched."""
        self._file.close()
        self._file = _open(self.path)
        self._position = 0
        self._left = ()

    def _ends_before(self, sample: int) -> AudioFileError:
        rate = self.info.sample_rate
        return AudioFileError(
            f"{self.path} is cut short or damaged: {self._position / rate:.2f} s of {self.info.seconds:.2f} s could be "
            f"read, and sound from {sample / rate:.2f} s on was asked for: copy it again"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> Any:
    try:
        with path.open("rb") as raw:
            if not raw.read(1):
                raise AudioFileError(f"{path} is empty (0 bytes); expected a sound file: copy it again")
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist; expected a sound file: check the name") from None
    except IsADirectoryError:
        raise AudioFileError(f"{path} is a folder; expected a sound file") from None
    except PermissionError:
        raise AudioFileError(f"{path} may not be read (permission denied); change its permissions") from None
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        file = soundfile.SoundFile(str(path))
        if file.subtype.startswith("MPEG_LAYER"):
            file.close()
            file = _Sequential(str(path))
        return file
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        said = getattr(error, "error_string", None) or str(error)
        raise AudioFileError(
            f"{path} is not a sound file, or is damaged (libsndfile says: {str(said).rstrip('. ')}); "
            "expected WAV, FLAC, OGG, MP3 or AIFF: convert it first"
        ) from None


def sound_info(path: str | Path) -> SoundInfo:
    """Look at a sound file without reading its sound.

    Raises
    ------
    AudioFileError
        As `SoundReader`.
    """
    with SoundReader(path) as reader:
        return reader.info


def read_sound(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    start_s: float = 0.0,
    seconds: float | None = None,
) -> tuple[Audio, int]:
    """Read a sound file, or a part of it, into memory.

    Parameters
    ----------
    path : str or Path
        The file.
    sample_rate : int or None
        The rate to resample to, in Hz (soxr, very high quality); None keeps the file's.
    channels : int or None
        The channel count to bring it to, see `fxclone.audio.fit_channels`; None keeps the file's.
    start_s : float
        Where to begin.
    seconds : float or None
        How much to read; None reads to the end.

    Returns
    -------
    Audio [shape=(channels, samples)]
        The sound.
    int
        Its sample rate in Hz.

    Raises
    ------
    AudioFileError
        As `SoundReader`; also if ``start_s`` is past the end.

    Warns
    -----
    SoundFileWarning
        If the file is cut short: what is there is returned.
    """
    with SoundReader(path) as reader:
        info = reader.info
        start = round(start_s * info.sample_rate)
        if start >= info.samples:
            raise AudioFileError(f"{path} is {info.seconds:.2f} s long; cannot start at {start_s:g} s")
        if start:
            reader.seek(start)
        wanted = info.samples - start
        if seconds is not None:
            wanted = min(wanted, max(1, round(seconds * info.sample_rate)))
        audio = reader.read(wanted)
        if audio.shape[1] == 0:
            raise AudioFileError(f"{path} gave no sound after {start_s:g} s; it is damaged or cut short")
        notes = list(reader.notes)
    for note in notes:
        warnings.warn(note, SoundFileWarning, stacklevel=2)
    if channels is not None:
        audio = fit_channels(audio, channels)
    rate = info.sample_rate
    if sample_rate is not None and sample_rate != rate:
        audio, rate = resample(audio, rate, sample_rate), valid_sample_rate(sample_rate)
    return audio, rate


def resample(audio: Audio, sample_rate: int, target_rate: int) -> Audio:
    """Change the rate of a whole sound with soxr at its very high quality (linear phase, aligned, -175 dB).

    The result has ``round(samples * target_rate / sample_rate)`` samples, at least one.
    """
    if sample_rate == target_rate:
        return audio
    frames = soxr.resample(np.ascontiguousarray(audio.T), sample_rate, valid_sample_rate(target_rate), "VHQ")
    if len(frames) == 0:
        frames = np.zeros((1, audio.shape[0]), np.float32)
    out: Audio = np.ascontiguousarray(frames.T, dtype=np.float32)
    return out


def stream_sound(path: str | Path, block_samples: int) -> Iterator[Audio]:
    """Yield a sound file in blocks of ``block_samples``; the last may be shorter.

    Raises and warns as `read_sound`.
    """
    with SoundReader(path) as reader:
        while (block := reader.read(block_samples)).shape[1]:
            yield block
        for note in reader.notes:
            warnings.warn(note, SoundFileWarning, stacklevel=2)


def find_sounds(paths: Sequence[str | Path]) -> list[Path]:
    """List the sound files among ``paths``: files as they are, folders searched in depth, in sorted order.

    Files are not opened here; hidden ones are left out of folders, and no file is listed twice.

    Raises
    ------
    UsageError
        If there is none, or a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    for given in map(Path, paths):
        inside = [given]
        if given.is_dir():
            inside = sorted(_sounds_below(given))
        for path in inside:
            found.setdefault(path.resolve(), path)
    if not found:
        where = ", ".join(map(str, paths)) or "an empty list"
        raise UsageError(f"no sound files in {where}; expected names that end in {', '.join(sorted(FORMAT_OF_SUFFIX))}")
    return list(found.values())


def _sounds_below(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(where, name)
            if path.suffix.lower() in FORMAT_OF_SUFFIX and not name.startswith(".") and path.is_file():
                yield path


def _unreadable(error: OSError) -> None:
    raise UsageError(
        f"the folder {error.filename} cannot be read ({error.strerror or error}); change its permissions, or name the "
        "files and folders to use instead"
    ) from error
