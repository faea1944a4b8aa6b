"""The material of the contest: recordings in step, divided once, the same samples for every contestant.

fxclone's own alignment takes the lag out of the training recording; what it leaves in because it is not certain stays
in the test recording too, and every contestant has to learn it. The held-back sound is what `fxclone train` holds back.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.alignment import align_pair, apply_alignment
from fxclone.audio import Audio, fit_channels
from fxclone.files import read_sound, write_sound
from fxclone.pairs import Pair, digest
from fxclone.recorded import Treatment, read_recording
from fxclone.takes import Take
from fxclone_training.recipe import Recipe

PAIRS = common.ROOT.parent / "shared" / "data" / "pairs"
DEVICES = {
    "ts9": "Ibanez TS9, drive full, guitar",
    "la2a": "LA-2A optical compressor",
    "akai_tape": "tape recorder with wow and flutter",
    "smallstone_A": "Small Stone phaser",
    "donner_flanger": "flanger",
}
NEAR_SAMPLES = 2.0
"""A test recording is moved by its own lag if that is certain and this near to the training recording's."""


@dataclass(frozen=True)
class Material:
    """A prepared pair: files in step, and the same as arrays for other trainers.

    Attributes
    ----------
    name, device : str
    folder : Path
        With train_dry.wav, train_wet.wav, test_dry.wav, test_wet.wav and sounds.npz.
    digest : str
        Of all of it.
    facts : dict
        Lengths in seconds, rate, lags, for the page.
    """

    name: str
    device: str
    folder: Path
    digest: str
    facts: dict

    def file(self, name: str) -> Path:
        """One of the four recordings."""
        return self.folder / f"{name}.wav"

    @property
    def sounds(self) -> Path:
        """What a peer is given."""
        return self.folder / "sounds.npz"

    def read(self, name: str) -> tuple[Audio, int]:
        """One of the four recordings and its rate."""
        return read_sound(self.file(name))


def prepared(name: str, base: Path) -> Material:
    """The pair of that name under ``base``, made if it is not there; a folder with four recordings is a name, too."""
    source = Path(name) if Path(name).is_dir() else PAIRS / name
    folder = base / source.name
    if not (folder / "facts.json").exists():
        if not list(source.glob("test_wet.*")):
            raise SystemExit(f"{source}: expected train_dry, train_wet, test_dry and test_wet there")
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as place:
            made = Path(place) / "pair"
            made.mkdir()
            _prepare(source, made)
            made.rename(folder)
    facts = json.loads((folder / "facts.json").read_text())
    return Material(source.name, DEVICES.get(source.name, source.name), folder, facts["digest"], facts)


def _prepare(source: Path, target: Path) -> None:
    sounds, rates = {}, set()
    for name in ("train_dry", "train_wet", "test_dry", "test_wet"):
        sound, rate = read_sound(next(source.glob(f"{name}.*")))
        sounds[name] = fit_channels(sound, 1)
        rates.add(rate)
    if len(rates) > 1:
        raise SystemExit(f"{source}: rates of {rates} Hz; expected one")
    rate = rates.pop()
    found = align_pair(sounds["train_dry"], sounds["train_wet"], rate)
    train = apply_alignment(sounds["train_dry"], sounds["train_wet"], rate, found)
    left_in = found.lag_samples - train.removed_samples
    test_found = align_pair(sounds["test_dry"], sounds["test_wet"], rate)
    near = test_found.confident and abs(test_found.lag_samples - found.lag_samples) <= NEAR_SAMPLES
    test_found = replace(test_found, lag_samples=test_found.lag_samples if near else found.lag_samples)
    test = apply_alignment(sounds["test_dry"], sounds["test_wet"], rate, test_found, margin_samples=left_in)
    for name, sound in (("train_dry", train.dry), ("train_wet", train.wet), ("test_dry", test.dry),
                        ("test_wet", test.wet)):  # fmt: skip
        write_sound(target / f"{name}.wav", sound, rate, subtype="FLOAT")
    parts = read_recording(
        [Take(target / "train_dry.wav", target / "train_wet.wav")],
        name=source.name,
        sample_rate=rate,
        seconds=1200.0,
        validation_seconds=Recipe().validation_s,
        seed=0,
        treatment=Treatment(align=False, anyway=True),
    )
    arrays = {
        "train_dry": parts.training.dry[0],
        "train_wet": parts.training.wet[0],
        "held_dry": parts.validation.dry[0],
        "held_wet": parts.validation.wet[0],
        "test_dry": test.dry[0],
    }
    np.savez(target / "sounds.npz", sample_rate=rate, **arrays)
    facts = {
        "sample_rate": rate,
        "train_s": parts.training.seconds,
        "held_s": parts.validation.seconds,
        "test_s": test.dry.shape[1] / rate,
        "lag_samples": found.lag_samples,
        "lag_confidence": found.confidence,
        "removed_samples": train.removed_samples,
        "drift_ppm": train.resampled_ppm,
        "test_removed_samples": test.removed_samples,
        "test_drift_ppm": test.resampled_ppm,
        "digest": digest(parts.training) + digest(Pair(test.dry, test.wet, rate)),
    }
    (target / "facts.json").write_text(json.dumps(facts, indent=1))
