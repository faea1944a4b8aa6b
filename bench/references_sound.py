"""Which sound clones of references are judged on, and which they may learn from. The two never meet.

No training in this project reads the test files, and no setting may be chosen by how well they come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import _common as common  # first: it sets thread counts

from fxclone.files import read_sound, write_sound
from fxclone.signals import training_sound

RATE = 48_000
TEST = ("celestial_guitar", "hammer_lead_guitar", "rollin_bass")
LEARN = ("jazz_hop_guitar", "pop_punk_guitar", "tomb_guitar")
MADE_SEED = 1001


def test_files(folder: Path) -> tuple[Path, ...]:
    """Real guitars and a bass; where they are absent, made sound of a seed that nobody trains on, in ``folder``."""
    files = tuple(common.DRY / f"{name}.flac" for name in TEST)
    if all(path.exists() for path in files):
        return files
    made = folder / "made_sound.wav"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_sound(made, training_sound(30.0, RATE, seed=MADE_SEED), RATE, subtype="FLOAT")
    return (made,)


def learn_files() -> tuple[Path, ...]:
    """Real guitars to train on; none where one is absent."""
    files = tuple(common.DRY / f"{name}.flac" for name in LEARN)
    return files if all(path.exists() for path in files) else ()


def digest(words: Sequence[object], files: Sequence[Path]) -> str:
    """16 hex digits of a command and of what is in files: a result with another one is of something else."""
    state = hashlib.sha256(repr([str(word) for word in words]).encode())
    for path in files:
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def told(files: Sequence[Path]) -> str:
    """In words, with their length together."""
    seconds = sum(sound.shape[1] / rate for sound, rate in map(read_sound, files))
    if not {path.stem for path in files} <= {*TEST, *LEARN}:
        return f"{seconds:.0f} s of made sound, because the real files are absent"
    return f"{seconds:.0f} s of real direct guitar and bass ({', '.join(path.stem for path in files)})"
