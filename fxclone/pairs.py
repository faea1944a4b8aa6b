"""Pairs of dry and wet sound: what a clone is trained on and judged by."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fxclone.audio import Audio, db_to_gain, gain_to_db, peak, valid_audio, valid_sample_rate
from fxclone.errors import FxcloneError, UsageError
from fxclone.signals import training_sound
from fxclone.varied import varied

SILENT_DBFS = -90.0
"""A sound whose peak is under this has nothing to learn from: it is the last bit of a 16-bit file."""
GAP_S = 1.0
"""What is left out between training and held-back sound of one file, so that no note rings from one into the other."""
HELD_BACK_SHARE = 0.25
"""At most this share of the user's own sound is held back, where there is a choice."""
EXCERPT_S = 6.0
"""Length of the excerpts that a long recording is sampled by: a phrase, long enough for a compressor or a delay."""
MIN_SHARE_S = 1.0
"""Less than this of one file says nothing; of more files than fit, every k-th is used."""
OWN_SHARE = 2.0 / 3.0
"""How much of a pair is the user's own sound when generated sound is mixed in: the clone should fit that player
best, but nobody's own recording reaches every level."""


class Renders(Protocol):
    """Anything with a ``render``: `fxclone.effects.Effect`, or an object of your own."""

    def render(self, dry: Audio, sample_rate: int, /) -> Audio:
        """Return the wet sound, as long as the dry one, from a fresh state."""
        ...


@dataclass(frozen=True, eq=False)
class Pair:
    """A dry sound, and the wet sound that an effect made of it.

    Attributes
    ----------
    dry : ndarray [shape=(channels in, samples)]
        The effect's input.
    wet : ndarray [shape=(channels out, samples)]
        Its output, as recorded: latency is left in.
    sample_rate : int
        In Hz, of both.
    name : str
        For people and file names.
    provenance : dict
        Where it comes from, in values that JSON knows; ``provenance["notes"]`` is a list of sentences for the user.
    lead_samples : int
        What leads in: heard, but neither learnt nor judged, because the recording begins in the middle of a sound. What
        a compressor does there follows from what was played before.

    Raises
    ------
    FxcloneError
        If a sound is empty or holds NaN, or if the lengths differ.
    """

    dry: Audio
    wet: Audio
    sample_rate: int
    name: str = "pair"
    provenance: dict[str, Any] = field(default_factory=dict)
    lead_samples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dry", valid_audio(self.dry, name=f"the dry sound of {self.name}"))
        object.__setattr__(self, "wet", valid_audio(self.wet, name=f"the wet sound of {self.name}"))
        object.__setattr__(self, "sample_rate", valid_sample_rate(self.sample_rate))
        if self.dry.shape[1] != self.wet.shape[1]:
            raise FxcloneError(
                f"{self.name}: dry has {self.dry.shape[1]} samples, wet has {self.wet.shape[1]}; "
                "expected equal lengths: cut the longer one"
            )

    @property
    def samples(self) -> int:
        """Length in samples."""
        return int(self.dry.shape[1])

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate

    @property
    def notes(self) -> list[str]:
        """What the user should hear about."""
        return list(self.provenance.get("notes", []))


@dataclass(frozen=True)
class Stretch:
    """A part of a sound file that may be used."""

    path: Path
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


def digest(pair: Pair) -> str:
    """16 hex digits that tell this pair from any other: SHA-256 over rate, shapes and both sounds."""
    state = hashlib.sha256(f"{pair.sample_rate} {pair.dry.shape} {pair.wet.shape}".encode())
    for sound in (pair.dry, pair.wet):
        state.update(np.ascontiguousarray(sound, dtype="<f4").data)
    return state.hexdigest()[:16]


def effect_pair(
    effect: Renders,
    seconds: float,
    sample_rate: int,
    *,
    seed: int,
    channels: int = 1,
    channels_out: int | None = None,
    dry: Sequence[str | Path] | None = None,
    mix_generated: bool = True,
) -> Pair:
    """Render an effect over training sound.

    Parameters
    ----------
    effect : Renders
        An effect with ``render(dry, sample_rate)``.
    seconds : float
        Length of the pair. With own sound only, the pair is shorter if that is.
    sample_rate : int
        In Hz.
    seed : int
        0 or more; see `fxclone.signals.training_sound`.
    channels : int
        Of the dry sound.
    channels_out : int or None
        Of the wet sound; None for as many. Mono to stereo: the effect hears the dry sound on both sides.
    dry : sequence of paths, or None
        The user's own files and folders, sampled evenly if they are longer than needed.
    mix_generated : bool
        Whether generated sound is added to the user's own: a third, or as much as the own sound leaves open.

    Raises
    ------
    FxcloneError
        If the dry or the wet sound is silent, or a file cannot be used.
    """
    stretches = None if dry is None else _stretches(dry)
    shape = channels, channels_out or channels
    return _effect_pair(effect, seconds, sample_rate, seed, shape, stretches, mix_generated, [])


def training_and_validation(
    effect: Renders,
    *,
    seconds: float,
    validation_seconds: float,
    sample_rate: int,
    seed: int,
    channels: int = 1,
    channels_out: int | None = None,
    dry: Sequence[str | Path] | None = None,
    mix_generated: bool = True,
) -> tuple[Pair, Pair]:
    """Render a pair to train on and a pair to judge by, which share no take.

    Own sound that is shorter than its share of the training pair comes again at other pitches and levels
    (`fxclone.varied`); what is held back does not. Generated sound comes from two seeds. Of several own files some are
    held back; of a single one its end is, after a gap of a second, and a note says so. Each pair is rendered from a
    fresh state of the effect.

    Parameters
    ----------
    effect, sample_rate, seed, channels, channels_out, dry, mix_generated
        As `effect_pair`.
    seconds, validation_seconds : float
        Lengths of the two pairs.

    Returns
    -------
    training, validation : Pair

    Raises
    ------
    FxcloneError
        As `effect_pair`; also if a single own file is too short to be split.
    """
    if seed < 0:
        raise UsageError(f"seed {seed}; expected 0 or more")
    kept: list[Stretch] | None = None
    held: list[Stretch] | None = None
    notes: list[str] = []
    if dry is not None:
        kept, held, notes = _split(_stretches(dry), validation_seconds, seed)
    training, validation = (
        _effect_pair(
            effect,
            length,
            sample_rate,
            2 * seed + place,
            (channels, channels_out or channels),
            part,
            mix_generated,
            notes,
            vary=place == 0,
        )
        for place, (length, part) in enumerate([(seconds, kept), (validation_seconds, held)])
    )
    return training, validation


def pair_notes(dry: Audio, wet: Audio) -> list[str]:
    """Say what looks wrong with a pair without being an error: clipping, DC, excessive level, a dead channel."""
    notes = []
    top = peak(wet)
    if top > 2.0:
        notes.append(
            f"the wet sound peaks at {gain_to_db(top):+.1f} dBFS; expected about 0: lower the effect's output level, "
            "or the clone will clip where it is played"
        )
    if 0.99 < top < 1.01 and dry.shape == wet.shape:
        moving = (np.diff(wet) == 0) & (np.diff(dry) != 0) & (np.abs(wet[:, 1:]) > 0.999 * top)
        share = float(np.mean(moving))
        if share > 0.001:
            notes.append(
                f"the wet sound lies flat at full scale for {100 * share:.1f} % of its samples; if that is not what "
                "the effect does, but the recording clipping, lower the level and record again"
            )
    offset = float(np.abs(wet.mean(axis=1, dtype=np.float64)).max())
    own_offset = float(np.abs(dry.mean(axis=1, dtype=np.float64)).max())
    if offset > 0.01 and offset > 2.0 * own_offset:
        notes.append(f"the wet sound has a DC offset of {offset:.3f} of full scale; the clone will learn it")
    dead = [k + 1 for k, channel in enumerate(wet) if peak(channel) < db_to_gain(SILENT_DBFS)]
    if dead and len(dead) < wet.shape[0]:
        notes.append(f"channel {', '.join(map(str, dead))} of the wet sound is silent")
    return notes


def require_sound(pair: Pair) -> None:
    """Raise FxcloneError if either side of a pair is silent."""
    for side, sound, advice in (
        ("dry", pair.dry, "choose louder sound, or check the file and its channel"),
        ("wet", pair.wet, "check the effect's settings (a closed gate, a mix or level of 0) or the recording"),
    ):
        level = gain_to_db(peak(sound))
        if level < SILENT_DBFS:
            raise FxcloneError(
                f"the {side} sound of {pair.name} is silent (peak {level:.0f} dBFS); "
                f"expected a peak over {SILENT_DBFS:.0f} dBFS: {advice}"
            )


def _effect_pair(
    effect: Renders,
    seconds: float,
    sample_rate: int,
    seed: int,
    channels: tuple[int, int],
    stretches: list[Stretch] | None,
    mix_generated: bool,
    notes: list[str],
    *,
    vary: bool = False,
) -> Pair:
    rate = valid_sample_rate(sample_rate)
    if not (np.isfinite(seconds) and seconds * rate >= 1):
        raise UsageError(f"{seconds} s of sound; expected a length above 0")
    if stretches is None and not mix_generated:
        raise UsageError("generated sound is switched off and no sound of your own is given; expected one: add --dry")
    notes = list(notes)
    parts: list[Audio] = []
    sources: list[dict[str, Any]] = []
    total = round(seconds * rate)
    if stretches is not None:
        share_s = seconds * (OWN_SHARE if mix_generated else 1.0)
        excerpts = _excerpts(stretches, share_s)
        own, own_notes = _read(excerpts, rate, channels[0])
        notes += own_notes
        sources += [{"file": e.path.name, "start_s": e.start_s, "seconds": e.seconds} for e in excerpts]
        there_s = own.shape[1] / rate
        if vary and there_s < share_s - 0.1 and peak(own) >= db_to_gain(SILENT_DBFS):
            own = _with_soft_ends(varied(own, rate, round(share_s * rate)), rate)
            sources.append({"varied": True, "seconds": own.shape[1] / rate - there_s})
            notes.append(f"your own sound gives {there_s:.1f} s; it comes again at other pitches and levels")
        parts.append(own[:, :total])
        if not mix_generated and own.shape[1] < total - rate // 10:
            notes.append(f"your own sound gives {own.shape[1] / rate:.1f} s of the {seconds:g} s asked for")
    missing = total - sum(part.shape[1] for part in parts)
    if mix_generated and missing > 0:
        parts.append(training_sound(missing / rate, rate, seed=seed, channels=channels[0]))
        sources.append({"generated_seed": seed, "seconds": missing / rate})
    sound = np.concatenate(parts, axis=1)
    label = str(getattr(effect, "name", type(effect).__name__))
    if peak(sound) < db_to_gain(SILENT_DBFS):
        require_sound(Pair(sound, sound, rate, label))
    pair = Pair(sound, _rendered(effect, sound, rate, channels[1]), rate, label)
    require_sound(pair)
    provenance = {
        "effect": str(getattr(effect, "expression", label)),
        "sample_rate": rate,
        "seconds": pair.seconds,
        "channels": list(channels),
        "sources": sources,
        "notes": notes + pair_notes(pair.dry, pair.wet),
        "digest": digest(pair),
    }
    return Pair(pair.dry, pair.wet, rate, label, provenance)


def _rendered(effect: Renders, sound: Audio, sample_rate: int, channels: int) -> Audio:
    """The wet sound in ``channels``: more than the dry sound has only if that is mono, which all of them then hear."""
    if channels == sound.shape[0]:
        return effect.render(sound, sample_rate)
    if sound.shape[0] != 1:
        raise UsageError(f"{sound.shape[0]} channels in and {channels} out; expected mono in, or equal numbers")
    return effect.render(np.repeat(sound, channels, axis=0), sample_rate)


def _stretches(dry: Sequence[str | Path]) -> list[Stretch]:
    """The user's files, whole; of byte-identical copies only the first, since a copy is the same take."""
    from fxclone.files import find_sounds, sound_info

    if isinstance(dry, str | Path):
        dry = [dry]
    out: list[Stretch] = []
    by_size: dict[int, list[Path]] = {}
    for path in find_sounds(list(dry)):
        info = sound_info(path)
        same = by_size.setdefault(path.stat().st_size, [])
        if any(_same_bytes(path, other) for other in same):
            continue
        same.append(path)
        out.append(Stretch(path, 0.0, info.samples / info.sample_rate))
    return out


def _same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        return hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()


def _split(
    stretches: list[Stretch], validation_seconds: float, seed: int
) -> tuple[list[Stretch], list[Stretch], list[str]]:
    """What to train on, what to hold back, and what to tell the user about it."""
    total = sum(s.seconds for s in stretches)
    wanted = min(validation_seconds, HELD_BACK_SHARE * total)
    if len(stretches) == 1:
        only = stretches[0]
        cut = only.end_s - wanted
        if cut - GAP_S < GAP_S or wanted < 0.5 * GAP_S:
            raise FxcloneError(
                f"{only.path} is {only.seconds:.1f} s long and the only sound given; expected at least 4 s, of which "
                "the end is held back to judge the clone by: give a longer file, or several"
            )
        note = (
            f"only one file was given, so the last {wanted:.1f} s of {only.path.name} are held back to judge the "
            "clone by; another recording would judge it harder"
        )
        return [Stretch(only.path, only.start_s, cut - GAP_S)], [Stretch(only.path, cut, only.end_s)], [note]
    order = [stretches[k] for k in np.random.default_rng(seed).permutation(len(stretches))]
    held: list[Stretch] = []
    for stretch in order:
        have = sum(s.seconds for s in held)
        if have < wanted and have + stretch.seconds <= max(wanted * 1.5, 2 * HELD_BACK_SHARE * total):
            held.append(stretch)
    held = held or [min(stretches, key=lambda s: s.seconds)]
    return [s for s in stretches if s not in held], [s for s in stretches if s in held], []


def _excerpts(stretches: list[Stretch], seconds: float) -> list[Stretch]:
    """Spread ``seconds`` evenly over the stretches; all of them, whole, if they are not longer than that."""
    total = sum(s.seconds for s in stretches)
    if total <= seconds:
        return stretches
    most = max(1, int(seconds / MIN_SHARE_S))
    if len(stretches) > most:
        stretches = [stretches[k * len(stretches) // most] for k in range(most)]
        total = sum(s.seconds for s in stretches)
    share = min(1.0, seconds / total)
    out = []
    for stretch in stretches:
        pieces = max(1, round(stretch.seconds * share / EXCERPT_S))
        room, length = stretch.seconds / pieces, stretch.seconds * share / pieces
        starts = [stretch.start_s + room * k + (room - length) / 2 for k in range(pieces)]
        out += [Stretch(stretch.path, start, start + length) for start in starts]
    return out


def _read(excerpts: list[Stretch], sample_rate: int, channels: int) -> tuple[Audio, list[str]]:
    """Read excerpts one after the other, each faded at its ends so that a cut is no click."""
    from fxclone.files import read_sound

    parts: list[Audio] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for excerpt in excerpts:
            sound, _ = read_sound(
                excerpt.path,
                sample_rate=sample_rate,
                channels=channels,
                start_s=excerpt.start_s,
                seconds=excerpt.seconds,
            )
            parts.append(_with_soft_ends(sound, sample_rate))
    return np.concatenate(parts, axis=1), list(dict.fromkeys(str(entry.message) for entry in caught))


def _with_soft_ends(sound: Audio, sample_rate: int) -> Audio:
    n = min(sound.shape[1] // 2, round(0.002 * sample_rate))
    ramp = np.linspace(0.0, 1.0, n, endpoint=False, dtype=np.float32)
    out = sound.copy()
    out[:, :n] *= ramp
    out[:, sound.shape[1] - n :] *= ramp[::-1]
    return out
