"""What is cloned: an effect that renders whatever it is given, or a recording of a device."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fxclone.alignment import align_pair
from fxclone.effects import Effect, effect
from fxclone.errors import FxcloneError
from fxclone.pairs import Pair, training_and_validation
from fxclone.recorded import Treatment, read_recording
from fxclone.takes import ROLES, Take
from fxclone_training.analysis_time import Render
from fxclone_training.recipe import Recipe

if TYPE_CHECKING:
    from fxclone.check import CheckReport

RECORDED_S = 1200.0
"""Of a recording so much is used where the recipe says nothing: it cannot be made anew. Reading takes up to 2 GB."""
CHECKED = ("verdict", "best_esr_db", "noise_floor_db", "linear_coherence", "time_varying")
"""What the metadata say of a check."""
LAYOUTS = {"mono": (1, 1), "mono-stereo": (1, 2), "stereo": (2, 2)}
"""Channels in and out."""
CERTAIN_SAMPLES = 0.1
"""By so much a confident lag may be off."""
MOST_ROWS = 32
"""So many takes are described in the clone file."""


@dataclass(frozen=True, eq=False)
class Material:
    """What training needs of a reference.

    Attributes
    ----------
    training, validation : Pair
        They share no take.
    notes : tuple of str
        For the user.
    latency_samples : int
        How late the wet sound is, and so the clone will be.
    floor_db : float or None
        Below this error only noise could be learned; None if unknown.
    facts : dict
        JSON-safe: what was measured on the way.
    """

    training: Pair
    validation: Pair
    notes: tuple[str, ...] = ()
    latency_samples: int = 0
    floor_db: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Reference(Protocol):
    """An effect or a recording."""

    @property
    def name(self) -> str:
        """Short, and safe in file names."""

    @property
    def expression(self) -> str:
        """What it is, in a line."""

    @property
    def render(self) -> Render | None:
        """The effect, to be asked about other sound; None for a recording."""

    def material(self, recipe: Recipe, sample_rate: int, channels: str) -> Material:
        """Pairs to train on and to judge by."""

    def stored(self) -> dict[str, Any]:
        """JSON-safe; `reference_from` makes it again."""

    def provenance(self) -> dict[str, Any]:
        """JSON-safe: what it was, not where it lay."""


@dataclass(frozen=True)
class EffectReference:
    """An effect, and the user's own sound to render it over."""

    effect: Effect
    dry: tuple[str, ...] = ()
    only_dry: bool = False

    @property
    def name(self) -> str:
        """The effect's."""
        return self.effect.name

    @property
    def expression(self) -> str:
        """The effect's, with every setting."""
        return self.effect.expression

    @property
    def render(self) -> Render:
        """The effect's, from a fresh state."""
        return self.effect.render

    def material(self, recipe: Recipe, sample_rate: int, channels: str) -> Material:
        """Render; see `fxclone.pairs.training_and_validation`."""
        channels_in, channels_out = self._layout(channels, recipe)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            training, validation = training_and_validation(
                self.effect,
                seconds=recipe.sound_s,
                validation_seconds=recipe.validation_s,
                sample_rate=sample_rate,
                seed=recipe.seed,
                channels=channels_in,
                channels_out=channels_out,
                dry=self.dry or None,
                mix_generated=not self.only_dry,
            )
        if channels == "auto" and channels_out > 1 and all(map(_same_on_both_sides, (training, validation))):
            training, validation, channels_out = _left(training), _left(validation), 1
        examined = self.effect.examine(sample_rate)
        late = self.effect.latency_samples(sample_rate)
        removed = late if late and _is_late_by(late, training) else 0
        if removed:
            training, validation = _without_latency(training, removed), _without_latency(validation, removed)
        notes = (
            *(str(entry.message) for entry in caught),
            *training.notes,
            *self._notes(channels_out),
            *_latency_notes(self.effect.name, late, removed, sample_rate),
            *(note for one in examined for note in one.notes()),
        )
        facts: dict[str, Any] = {"examined": [one.as_dict() for one in examined]} if examined else {}
        facts |= {"latency_removed_samples": removed} if removed else {}
        return Material(training, validation, notes, late - removed, facts=facts)

    def _layout(self, channels: str, recipe: Recipe) -> tuple[int, int]:
        """Channels in and out: as asked; by itself, what is stereo is heard in stereo by a mono instrument."""
        if channels != "auto":
            return LAYOUTS[channels]
        wide = self.effect.stereo and not self.effect.time_varying and recipe.family != "ar"
        return LAYOUTS["mono-stereo" if wide and (self.effect.max_channels or 2) > 1 else "mono"]

    def _notes(self, channels_out: int) -> list[str]:
        effect, notes = self.effect, []
        if effect.time_varying:
            notes.append(
                f"{effect.name} varies with time by itself; this model cannot know its phase, expect a rough copy"
            )
        if effect.stereo and channels_out == 1:
            notes.append(f"{effect.name} has a stereo image; this clone is mono")
        return notes

    def stored(self) -> dict[str, Any]:
        """Expression and files."""
        return {"effect": self.effect.expression, "dry": list(self.dry), "only_dry": self.only_dry}

    def provenance(self) -> dict[str, Any]:
        """As stored, without folders."""
        return {**self.stored(), "dry": [Path(path).name for path in self.dry]}


def _is_late_by(samples: int, pair: Pair) -> bool:
    """Whether the sound shows what the effect says: only then is it safe to take the latency out."""
    found = align_pair(pair.dry, pair.wet, pair.sample_rate)
    return found.confident and found.lag_samples >= samples - CERTAIN_SAMPLES


def _without_latency(pair: Pair, samples: int) -> Pair:
    return replace(pair, dry=pair.dry[:, : pair.samples - samples], wet=pair.wet[:, samples:])


def _latency_notes(name: str, late: int, removed: int, sample_rate: int) -> list[str]:
    if not late:
        return []
    ms = 1e3 * late / sample_rate
    if removed:
        return [f"{name} is {late} samples ({ms:.1f} ms) late; the clone plays without that delay"]
    return [f"{name} is {late} samples ({ms:.1f} ms) late; the clone will be as late"]


def _same_on_both_sides(pair: Pair) -> bool:
    return bool(np.array_equal(pair.wet[0], pair.wet[1]))


def _left(pair: Pair) -> Pair:
    return replace(pair, wet=pair.wet[:1])


@dataclass(frozen=True)
class RecordingReference:
    """Dry files, and what a device made of them."""

    takes: tuple[Take, ...]
    treatment: Treatment = field(default_factory=Treatment)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """From the wet file's name, or its folder's if there are several."""
        wet = self.takes[0].wet.resolve()
        places = [wet.stem, wet.parent.name, wet.parent.parent.name]
        if len(self.takes) > 1:
            places = [*places[1:], places[0]]
        return next((name for name in map(_plain, places) if name), "recording")

    @property
    def expression(self) -> str:
        """The names of its wet files."""
        names = [take.name for take in self.takes]
        return f"recording {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @property
    def sample_rate(self) -> int:
        """The wet file's own."""
        return self.takes[0].info[1].sample_rate

    @property
    def render(self) -> None:
        """The device is not at hand."""
        return

    def material(self, recipe: Recipe, sample_rate: int, channels: str) -> Material:
        """Read, check and align; see `fxclone.recorded.read_recording`."""
        found = read_recording(
            self.takes,
            name=self.name,
            sample_rate=sample_rate,
            seconds=recipe.sound_s,
            validation_seconds=recipe.validation_s,
            seed=recipe.seed,
            treatment=self.treatment.with_channels(channels, stereo=recipe.family != "ar"),
        )
        alignment = {**found.alignment, "takes": found.alignment["takes"][:MOST_ROWS]}
        facts = {"alignment": alignment, "check": _check_facts(found.reports)}
        notes = (*self.notes, *self._rates(sample_rate), *_caveats(found.reports), *found.notes)
        return Material(found.training, found.validation, notes, 0, _floor_db(found.reports), facts)

    def _rates(self, sample_rate: int) -> list[str]:
        rates = sorted({info.sample_rate for take in self.takes for info in take.info} - {sample_rate})
        return [f"files of {', '.join(map(str, rates))} Hz are resampled to {sample_rate} Hz"] if rates else []

    def stored(self) -> dict[str, Any]:
        """Files with their digests, and how to treat them."""
        how = self.treatment
        return {
            "takes": [take.as_dict() for take in self.takes],
            "align": how.align,
            "lag_samples": how.lag_samples,
            "anyway": how.anyway,
        }

    def provenance(self) -> dict[str, Any]:
        """As stored, without folders."""
        takes = [{**take.as_dict(), "dry": take.dry.name, "wet": take.wet.name} for take in self.takes[:MOST_ROWS]]
        return {**self.stored(), "takes": takes}


def reference_from(stored: Mapping[str, Any]) -> Reference:
    """Make again what a run was about.

    Raises
    ------
    FxcloneError
        If a file is missing or has changed.
    KeyError, TypeError, ValueError
        If ``stored`` is not what `Reference.stored` gave.
    """
    if "takes" not in stored:
        dry = tuple(stored["dry"])
        if not all(isinstance(path, str) for path in dry):
            raise TypeError("dry is not a list of files")
        return EffectReference(effect(stored["effect"]), dry, bool(stored["only_dry"]))
    takes = []
    for entry in stored["takes"]:
        take = Take(Path(entry["dry"]), Path(entry["wet"]))
        for path, now, then in zip((take.dry, take.wet), take.digests, _digests(entry), strict=True):
            if now != then:
                raise FxcloneError(f"{path} has changed since this run began; put the old file back, or start anew")
        takes.append(take)
    if not takes:
        raise ValueError("no takes")
    lag = stored["lag_samples"]
    treatment = Treatment(bool(stored["align"]), None if lag is None else float(lag), bool(stored["anyway"]))
    return RecordingReference(tuple(takes), treatment)


def _digests(entry: Mapping[str, Any]) -> tuple[str, str]:
    return str(entry["dry_digest"]), str(entry["wet_digest"])


def _caveats(reports: Sequence[CheckReport]) -> list[str]:
    """What the checks object to, each thing once."""
    by_topic: dict[str, list[str]] = {}
    for report in reports:
        for finding in report.findings:
            if finding.severity != "fine":
                advice = f"; {finding.advice}" if finding.advice else ""
                by_topic.setdefault(finding.topic, []).append(f"{report.name}: {finding.words}{advice}")
    return [said[0] + (f" (and {len(said) - 1} more like this)" if said[1:] else "") for said in by_topic.values()]


def _floor_db(reports: Sequence[CheckReport]) -> float | None:
    """The lowest error that noise permits in any take, where that was measured and not only guessed."""
    floors = [one.measured.best_esr_db for one in reports if one.measured and one.measured.best_esr_exact]
    return min(floors) if floors and len(floors) == len(reports) else None


def _check_facts(reports: Sequence[CheckReport]) -> dict[str, Any]:
    """The worst verdict, and the figures of every take."""
    order = ("fine", "usable", "unusable")
    worst = max(reports, key=lambda one: order.index(one.verdict))
    takes = [{"wet": one.name, **{key: one.as_dict()[key] for key in CHECKED}} for one in reports]
    floors = [take["best_esr_db"] for take in takes if take["best_esr_db"] is not None]
    return {
        "verdict": worst.verdict,
        "verdict_text": worst.verdict_text,
        "best_esr_db": min(floors) if floors else None,
        "time_varying": any(take["time_varying"] for take in takes),
        "takes": takes[:MOST_ROWS],
    }


def _plain(name: str) -> str:
    """A name without the word for the side, and without what file names cannot hold."""
    words: Sequence[str] = [role[1] for role in ROLES]
    name = re.sub(rf"(?i)(?<![a-z])({'|'.join(words)})(?![a-z])", "", name)
    return re.sub(r"[^\w.]+|_{2,}", "-", name).strip("-._")[:80]
