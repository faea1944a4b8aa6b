"""Which wet file belongs to which dry file: takes of a recording, found by order or by name.

Files named one by one go together by name where their names match, otherwise in the order given. In folders a wet file
belongs to the dry file of the same name, where one word of it may say which side it is: ``riff_dry.wav`` and
``riff_wet.wav``, ``input 3.flac`` and ``output 3.wav``, ``dry/riff.wav`` and ``wet/riff.wav``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.errors import AudioFileError, UsageError
from fxclone.files import SoundInfo, find_sounds, sound_info, stream_sound

FRAME_S = 0.05
"""Levels are told for stretches of this length."""

ROLES = (
    ("dry", "wet"), ("input", "output"), ("in", "out"), ("di", "amp"), ("input", "target"), ("send", "return"),
    ("clean", "amp"),
)  # fmt: skip
"""Words that tell the two sides apart; both names of a take use words of the same pair."""
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_DRY, _WET = 0, 1
_Name = tuple[object, ...]
_Key = Callable[["_Side", int], set[_Name]]


@dataclass(frozen=True)
class Take:
    """A dry file and what the device made of it.

    Attributes
    ----------
    dry, wet : Path
        The two files; their rates, lengths and channels may differ.
    """

    dry: Path
    wet: Path

    @property
    def name(self) -> str:
        """For people: the wet file's name."""
        return self.wet.name

    @cached_property
    def info(self) -> tuple[SoundInfo, SoundInfo]:
        """What the two files' headers say.

        Raises
        ------
        AudioFileError
            If one is missing or not sound.
        """
        return sound_info(self.dry), sound_info(self.wet)

    @property
    def seconds(self) -> float:
        """The length that both files have."""
        return min(info.seconds for info in self.info)

    @cached_property
    def digests(self) -> tuple[str, str]:
        """16 hex digits of the SHA-256 of each file: they tell whether a file is still the same."""
        return _digest(self.dry), _digest(self.wet)

    @cached_property
    def dry_performance(self) -> str:
        """16 hex digits of the SHA-256 of the dry sound itself: files of one sound may hold other times of writing."""
        found = hashlib.sha256(str(self.info[0].sample_rate).encode())
        for block in stream_sound(self.dry, 1 << 16):
            found.update(np.ascontiguousarray(block, np.float32).tobytes())
        return found.hexdigest()[:16]

    def dry_levels(self) -> tuple[np.ndarray, float]:
        """How loud the dry sound is.

        Returns
        -------
        levels_db : ndarray [shape=(frames,)]
            Of stretches of 50 ms, in dB re full scale; what is 60 dB softer than the loudest counts as so soft.
        frame_s : float
            Their exact length.
        """
        rate = self.info[0].sample_rate
        samples = round(FRAME_S * rate)
        frames = []
        for block in stream_sound(self.dry, 1000 * samples):
            whole = block[:, : block.shape[1] // samples * samples]
            frames.append(np.square(whole.reshape(len(whole), -1, samples)).mean(axis=(0, 2), dtype=np.float64))
        power = np.concatenate([np.zeros(0), *frames])
        floor = max(float(power.max(initial=0.0)) * 1e-6, 1e-12)
        return 10 * np.log10(np.maximum(power, floor)), samples / rate

    def as_dict(self) -> dict[str, Any]:
        """Enough to find the files again and to see whether they changed."""
        paths = [str(path.resolve()) for path in (self.dry, self.wet)]
        return {"dry": paths[0], "wet": paths[1], "dry_digest": self.digests[0], "wet_digest": self.digests[1]}


def find_takes(dry: Sequence[str | Path], wet: Sequence[str | Path]) -> tuple[list[Take], list[str]]:
    """Match dry and wet files.

    Parameters
    ----------
    dry, wet : sequence of paths
        Files, or folders, searched in depth; both may name the same folder, whose file names then say which is which.

    Returns
    -------
    takes : list of Take
        In the order of the dry files.
    notes : list of str
        Which files of folders were left out.

    Raises
    ------
    UsageError
        If only one side is given, the numbers of files differ, nothing matches, or a name fits several files.
    """
    if not dry or not wet:
        there, missing = ("--dry", "--wet") if dry else ("--wet", "--dry")
        raise UsageError(
            f"{there} without {missing}; expected both sides of the recording: add {missing} FILE_OR_FOLDER"
        )
    sides = [_Side.of(paths, place) for place, paths in enumerate((dry, wet))]
    one_by_one = not any(Path(path).is_dir() for path in (*dry, *wet))
    if len(sides[_DRY].files) == len(sides[_WET].files) == 1:
        takes = [Take(sides[_DRY].files[0], sides[_WET].files[0])]
    else:
        if one_by_one and len(sides[_DRY].files) != len(sides[_WET].files):
            counts = [len(side.files) for side in sides]
            raise UsageError(
                f"{counts[0]} dry and {counts[1]} wet files; expected as many of each: give both of each take"
            )
        takes = _by_name(*sides)
        if one_by_one and len(takes) != len(sides[_DRY].files):
            takes = [Take(*both) for both in zip(sides[_DRY].files, sides[_WET].files, strict=True)]
    if not takes:
        raise UsageError(
            f"no file in {_listed(dry)} goes with one in {_listed(wet)}; expected names such as riff_dry.wav and "
            "riff_wet.wav, or the same name in two folders: rename them, or name each file"
        )
    for take in takes:
        if take.dry.resolve() == take.wet.resolve():
            raise UsageError(f"{take.dry} is given as dry and as wet; expected what went in, and what came out of it")
    used = {path for take in takes for path in (take.dry, take.wet)}
    rest = sorted({path.name for side in sides for path in side.files} - {path.name for path in used})
    shown = ", ".join(rest[:5]) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")
    return takes, [f"left out, as nothing goes with them: {shown}"] if rest else []


@dataclass(frozen=True)
class _Side:
    """The dry or the wet files, and the words of each name below the folder that was given."""

    place: int
    files: list[Path]
    words: list[tuple[str, ...]]

    @classmethod
    def of(cls, paths: Sequence[str | Path], place: int) -> _Side:
        found: dict[Path, tuple[str, ...]] = {}
        for given in map(Path, paths):
            base = given if given.is_dir() else given.parent
            for path in find_sounds([given]):
                words = _WORDS.findall(str(path.relative_to(base).with_suffix("")).lower())
                found.setdefault(path, tuple(words))
        return cls(place, list(found), list(found.values()))

    def role_left_open(self, k: int) -> set[_Name]:
        """The name of file ``k`` with a gap for the word that tells its side, in every way it can be read."""
        words = self.words[k]
        return {
            (*words[:at], role, *words[at + 1 :])
            for at, word in enumerate(words)
            for role in ROLES
            if word == role[self.place]
        }

    def whole_name(self, k: int) -> set[_Name]:
        """All of its words."""
        return {self.words[k]}

    def roles_left_out(self, k: int) -> set[_Name]:
        """The name without any word for its side: ``riff`` and ``riff_amp`` go together."""
        own = {role[self.place] for role in ROLES}
        return {tuple(word for word in self.words[k] if word not in own)}


def _by_name(dry: _Side, wet: _Side) -> list[Take]:
    """Names that differ in the word for the side; then, of files that are on one side only, those that are equal."""
    common = {path.resolve() for path in dry.files} & {path.resolve() for path in wet.files}
    wet_of: dict[int, int] = {}
    for key, two_folders in ((_Side.role_left_open, False), (_Side.whole_name, True), (_Side.roles_left_out, True)):
        free = [
            [
                k
                for k, path in enumerate(side.files)
                if k not in taken and not (two_folders and path.resolve() in common)
            ]
            for side, taken in ((dry, wet_of.keys()), (wet, set(wet_of.values())))
        ]
        dry_named, wet_named = (_index(side, key, some) for side, some in zip((dry, wet), free, strict=True))
        for k in free[_DRY]:
            fitting = {j for name in key(dry, k) for j in wet_named.get(name, ())}
            rivals = {i for name in key(dry, k) if name in wet_named for i in dry_named[name]}
            if len(fitting) > 1 or len(rivals) > 1:
                raise _ambiguous([wet.files[j] for j in sorted(fitting)], [dry.files[i] for i in sorted(rivals)])
            if fitting:
                wet_of[k] = fitting.pop()
    return [Take(dry.files[k], wet.files[j]) for k, j in sorted(wet_of.items())]


def _index(side: _Side, key: _Key, some: list[int]) -> dict[_Name, list[int]]:
    """Which of ``some`` files have a name."""
    named: dict[_Name, list[int]] = {}
    for k in some:
        for name in key(side, k):
            named.setdefault(name, []).append(k)
    return named


def _ambiguous(wet: list[Path], dry: list[Path]) -> UsageError:
    several, one = (wet, dry) if len(wet) > 1 else (dry, wet)
    return UsageError(
        f"{several[0].name} and {several[1].name} could both go with {one[0].name}; rename them, or name each file"
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist; expected a sound file: check the name") from None
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror or error}") from None


def _listed(paths: Sequence[str | Path]) -> str:
    names = [str(path) for path in paths]
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
