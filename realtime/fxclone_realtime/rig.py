"""What is played: clones and effects in series, from the text ``drive.onnx > reverb(room_size=0.3)`` to a `Processor`.

A link that ends with ``.onnx`` is a clone, every other one an effect as `fxclone effects` lists them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fxclone.audio import Audio, db_to_gain, gain_to_db
from fxclone.clone import Clone, load_clone
from fxclone.errors import UsageError
from fxclone.processor import Chain, Processor, channels_after
from fxclone.resampled import Resampled

CLONE_SUFFIX = ".onnx"
ORIGINAL = "original"
"""What ``--against`` takes for: the effect that the clone says it is a copy of."""


class Level:
    """The gain that a clone needs to hear the volts it was trained with, at the clone's own rate."""

    latency_samples = 0
    tail_samples = 0
    plain_gain = True
    """A monitor may believe the certificates of the clones beside it."""

    def __init__(self, gain_db: float, sample_rate: int) -> None:
        self.gain, self.sample_rate = db_to_gain(gain_db), sample_rate

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Make the buffer."""
        self._out = np.zeros((channels, max_block), np.float32)

    def reset(self) -> None:
        """Nothing is held."""

    def process(self, block: Audio) -> Audio:
        """Multiply."""
        return np.multiply(block, self.gain, out=self._out[:, : block.shape[1]])


@dataclass
class Rig:
    """Links in series, not yet prepared.

    Attributes
    ----------
    name : str
        Its links' names.
    links : list of Processor
        With a `Level` before each clone that needs one.
    text : str
        What it was made from.
    notes : list of str
        What the user should know of it.
    """

    name: str
    links: list[Processor]
    text: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def clones(self) -> list[Clone]:
        """Those links that are clones."""
        return [link for link in self.links if isinstance(link, Clone)]

    @property
    def levels(self) -> dict[str, float]:
        """What training saw, for the monitor: only where a clone is the first or the last to touch the sound."""
        gain = 1.0
        first, last = self.links[0], self.links[-1]
        if isinstance(first, Level):
            gain, first = first.gain, self.links[1]
        sides = (("dry_peak", first, gain), ("wet_peak", last, 1.0), ("wet_dc", last, 1.0))
        return {
            key: link.meta.levels[key] / by
            for key, link, by in sides
            if isinstance(link, Clone) and key in link.meta.levels
        }

    def processor(self, sample_rate: int) -> Processor:
        """All of it for a stream of this rate."""
        return build_chain(self.links, sample_rate)


def load_rig(text: str, *, input_dbu: float | None = None) -> Rig:
    """Load what a chain names.

    Parameters
    ----------
    text : str
        Links with ``>`` between them. ``>`` in quotes or brackets is no such mark.
    input_dbu : float or None
        Level in dBu that the interface's input turns into full scale; every clone is then fed as loud as the same
        volts were in its training, as far as it and what comes before it say: see `calibrated`.

    Raises
    ------
    UsageError
        For an unknown effect, one that cannot be played live, or a clone without calibration where it is needed.
    CloneFileError
        For a clone that cannot be loaded.
    """
    links: list[Processor] = []
    names: list[str] = []
    for part in split_links(text):
        if is_clone(part):
            clone = load_clone(Path(_unquoted(part)))
            links.append(clone)
            names.append(clone.name)
            continue
        from fxclone.effects import effect
        from fxclone_realtime.live_effects import live_effect

        for stage in effect(part).stages:
            links.append(live_effect(stage))
            names.append(stage.spec.name)
    rig = Rig(" > ".join(names), links, text)
    if input_dbu is not None:
        rig.links, rig.notes = calibrated(links, input_dbu)
    return rig


def calibrated(links: Sequence[Processor], input_dbu: float) -> tuple[list[Processor], list[str]]:
    """Put before each clone the gain that turns the volts which reach it into those that it knows.

    Through the chain goes what full scale stands for: the interface's dBu at first, after a clone what that says of its
    output. An effect in between works on numbers and changes nothing of it. Where it is not known, the next clone hears
    the sound as it comes.

    Returns
    -------
    links : list of Processor
    notes : list of str
        Which clone hears the sound as it comes, and why.

    Raises
    ------
    UsageError
        If the first clone does not know its level: then there is nothing to calibrate.
    """
    out: list[Processor] = []
    notes: list[str] = []
    here: float | None = input_dbu
    before: Clone | None = None
    for link in links:
        if isinstance(link, Clone):
            known = link.meta.calibration_dbu or {}
            wanted = known.get("input")
            if wanted is None and before is None:
                raise UsageError(
                    f"{link.name} does not say at which level it was trained (no dBu calibration); leave out "
                    "--input-dbu and set --in-gain-db by ear"
                )
            if wanted is None or here is None:
                who = link if wanted is None else before
                side = "input" if wanted is None else "output"
                notes.append(
                    f"{link.name} hears the sound as it comes: no dBu calibration of the {side} of "
                    f"{who.name if who else 'it'}"
                )
            elif here != wanted:
                out.append(Level(here - wanted, link.sample_rate))
            here, before = known.get("output"), link
        out.append(link)
    return out, notes


def original_rig(rig: Rig) -> Rig:
    """The same chain with the original in the place of its only clone, fed as loud as that.

    Raises
    ------
    UsageError
        As `original_of`.
    """
    other = load_rig(original_of(rig))
    at = next(place for place, link in enumerate(rig.links) if isinstance(link, Clone))
    if at and isinstance(level := rig.links[at - 1], Level):
        other.links.insert(at - 1, Level(gain_to_db(level.gain), level.sample_rate))
    return other


def original_of(rig: Rig) -> str:
    """A chain with the effect in the place of its only clone that this says it is a copy of.

    Raises
    ------
    UsageError
        If it does not say, or there is not exactly one clone.
    """
    if len(rig.clones) != 1:
        raise UsageError(f"--against original needs exactly one clone, there are {len(rig.clones)}; name the effect")
    clone = rig.clones[0]
    reference = clone.meta.training.get("reference")
    if not isinstance(reference, str) or not reference or "takes" in clone.meta.training:
        raise UsageError(f"{clone.name} does not say which effect it is a copy of; name it: --against EFFECT")
    return " > ".join(reference if is_clone(part) else part for part in split_links(rig.text))


def split_links(text: str) -> list[str]:
    """Cut a chain at each ``>`` that is neither in quotes nor in brackets."""
    parts, quote, depth, escaped = [""], "", 0, False
    for character in text:
        if quote:
            if character == quote and not escaped:
                quote = ""
            escaped = character == "\\" and not escaped
        elif character in "\"'":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == ">" and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    links = [part.strip() for part in parts]
    if not all(links):
        raise UsageError(f"the chain {text!r} has an empty link; expected such as: drive.onnx > reverb(room_size=0.3)")
    return links


def is_clone(link: str) -> bool:
    """Whether a link is a clone file and not an effect."""
    return _unquoted(link).lower().endswith(CLONE_SUFFIX)


def _unquoted(link: str) -> str:
    return link[1:-1] if len(link) > 1 and link[0] == link[-1] and link[0] in "\"'" else link


def build_chain(links: Sequence[Processor], sample_rate: int) -> Processor:
    """Links in series; clones of the same rate side by side share a resampler where the stream has another rate."""

    def rate_of(link: Processor) -> int:
        return link.sample_rate if isinstance(link, Clone | Level) else sample_rate

    chain: list[Processor] = []
    for rate, group in itertools.groupby(links, key=rate_of):
        members = list(group)
        if rate == sample_rate:
            chain.extend(members)
        else:
            chain.append(Resampled(Chain(members) if len(members) > 1 else members[0], rate))
    return chain[0] if len(chain) == 1 else Chain(chain)


def channel_notes(links: Sequence[Processor], channels_in: int, channels_out: int) -> list[str]:
    """Where channels are mixed on their way through prepared links, from ``channels_in`` to ``channels_out``."""
    notes, count, name = [], channels_in, ""
    for link in links:
        name = str(getattr(link, "name", name))
        if isinstance(link, Clone) and count > 1 and link.channels_in == 1 and link.meta.channels_out > 1:
            notes.append(f"{name} takes one channel: it hears the mean of {count}")
        count = channels_after(link, count)
    if count not in (1, channels_out):
        where = "the output has one channel" if channels_out == 1 else f"there are {channels_out} outputs"
        notes.append(f"{where}: you hear the mean of the {count} that {name} gives")
    return notes
