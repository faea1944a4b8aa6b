"""What a plugin does, measured: whether it repeats itself, what the size of blocks changes, how late it really is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxclone.audio import TINY_POWER, Audio
from fxclone.effects.plugin import BLOCK_SAMPLES, Plugin, Take
from fxclone.effects.spec import Settings

OTHER_BLOCKS = (480, 64)
EQUAL_DB = -80.0
"""Two renders nearer to each other than this count as one: no clone comes so near."""
LINEAR_DB = -60.0
LATENCY_SLACK_SAMPLES = 4.0
"""A filter's own delay is no latency."""
_SOUND_S = 1.0
_TAIL_S = 3.0
_SHIFT_SAMPLES = 7_000  # no multiple of a block
_PLUCKS = 8


@dataclass(frozen=True)
class Examination:
    """What was measured of a plugin at some settings and rate.

    Attributes
    ----------
    deterministic : bool
        Whether two renders from a fresh state are equal.
    block_difference_db : dict
        Error of a render in other block sizes against that in blocks of 512, in dB.
    cold_block_difference_db : dict
        The same without the silence before the sound, in which a plugin settles.
    reported_latency_samples : int
        What the plugin says.
    measured_latency_samples : float or None
        What the sound says; None where it does not tell.
    linear : bool
        Whether the sum of two sounds gives the sum of their outputs.
    time_varying : bool
        Whether a delayed sound gives anything but the delayed output.
    channels : int
        1 or 2.
    tail_s : float or None
        How long it rings on, down to -60 dB; None if longer than was listened.
    """

    title: str
    sample_rate: int
    deterministic: bool
    block_difference_db: dict[int, float]
    cold_block_difference_db: dict[int, float]
    reported_latency_samples: int
    measured_latency_samples: float | None
    linear: bool
    time_varying: bool
    channels: int
    tail_s: float | None

    @property
    def block_independent(self) -> bool:
        """Whether the size of blocks does not matter."""
        return all(db < EQUAL_DB for db in self.block_difference_db.values())

    @property
    def block_independent_cold(self) -> bool:
        """Whether it does not matter in its first moments either."""
        return all(db < EQUAL_DB for db in self.cold_block_difference_db.values())

    @property
    def latency_agrees(self) -> bool | None:
        """Whether the plugin says what it does; None where it could not be measured."""
        if self.measured_latency_samples is None:
            return None
        return abs(self.measured_latency_samples - self.reported_latency_samples) <= LATENCY_SLACK_SAMPLES

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        facts = asdict(self)
        for key in ("block_difference_db", "cold_block_difference_db"):
            facts[key] = {str(size): round(db, 1) for size, db in facts[key].items()}
        return {
            **facts,
            "block_independent": self.block_independent,
            "block_independent_cold": self.block_independent_cold,
            "latency_agrees": self.latency_agrees,
        }

    def notes(self) -> list[str]:
        """Sentences for the user: only what one should know before cloning it."""
        notes = []
        if not self.deterministic:
            notes.append(f"{self.title} gives another sound each time; a clone can only learn what is common to all")
        if self.deterministic and not self.block_independent:
            worst = max(self.block_difference_db, key=lambda k: self.block_difference_db[k])
            notes.append(
                f"{self.title} depends on the size of the blocks it gets (at {worst} samples its sound differs by "
                f"{self.block_difference_db[worst]:.0f} dB from that at {BLOCK_SAMPLES}); it is cloned as it sounds "
                f"at {BLOCK_SAMPLES}"
            )
        if self.latency_agrees is False:
            notes.append(
                f"{self.title} reports a latency of {self.reported_latency_samples} samples, measured were "
                f"{self.measured_latency_samples:.1f}; the clone is as late as the sound is"
            )
        if self.deterministic and self.time_varying:
            notes.append(f"{self.title} changes with time by itself, or remembers longer than a second")
        return notes


def examine(plugin: Plugin, settings: Settings, sample_rate: int) -> Examination:
    """Render a few short sounds and compare what comes out.

    Parameters
    ----------
    plugin : Plugin
        The plugin.
    settings : mapping
        All its settings.
    sample_rate : int
        In Hz.

    Raises
    ------
    EffectError
        If the plugin crashes, hangs or refuses.
    """
    channels = int(plugin.facts["channels"])
    one, two = (_plucked_noise(sample_rate, seed, channels) for seed in (1, 2))
    late = np.pad(one, ((0, 0), (_SHIFT_SAMPLES, 0)))
    ringing = np.pad(one, ((0, 0), (0, round(_TAIL_S * sample_rate))))
    takes = [Take(sound, sample_rate) for sound in (ringing, one, two, one + two, np.zeros_like(one), late)]
    takes += [Take(one, sample_rate, block) for block in OTHER_BLOCKS]
    takes += [Take(one, sample_rate, block, settled=False) for block in (BLOCK_SAMPLES, *OTHER_BLOCKS)]
    rung, wet, other, both, silence, shifted, *rest = plugin.render_takes(settings, takes)
    blocks, (cold, *cold_blocks) = rest[: len(OTHER_BLOCKS)], rest[len(OTHER_BLOCKS) :]
    return Examination(
        title=plugin.title,
        sample_rate=sample_rate,
        deterministic=_error_db(rung[:, : wet.shape[1]], wet) < EQUAL_DB,
        block_difference_db=_differences(blocks, wet),
        cold_block_difference_db=_differences(cold_blocks, cold),
        reported_latency_samples=plugin.latency_samples(settings, sample_rate),
        measured_latency_samples=_measured_latency(one, wet, sample_rate),
        linear=_error_db(wet + other - silence, both) < LINEAR_DB,
        time_varying=_error_db(shifted[:, _SHIFT_SAMPLES:], wet) > LINEAR_DB,
        channels=channels,
        tail_s=_tail_s(rung - np.pad(silence, ((0, 0), (0, rung.shape[1] - silence.shape[1]))), wet, sample_rate),
    )


def _plucked_noise(sample_rate: int, seed: int, channels: int) -> Audio:
    """Bursts of noise that die away at different levels: broadband, and loud enough to make an effect work."""
    rng = np.random.default_rng(seed)
    samples = round(_SOUND_S * sample_rate)
    time = np.arange(samples)
    envelope = np.zeros(samples)
    for k in range(_PLUCKS):
        start = k * samples // _PLUCKS
        age = np.maximum(time - start, 0)
        envelope = np.where(time >= start, rng.uniform(0.05, 0.5) * np.exp(-age * 30.0 / sample_rate), envelope)
    return (envelope * rng.uniform(-1.0, 1.0, (channels, samples))).astype(np.float32)


def _measured_latency(dry: Audio, wet: Audio, sample_rate: int) -> float | None:
    from fxclone.alignment import align_pair

    found = align_pair(dry, wet, sample_rate)
    return float(found.lag_samples) if found.confident and math.isfinite(found.lag_samples) else None


def _tail_s(rung: Audio, sounding: Audio, sample_rate: int) -> float | None:
    """Time from the end of the input to the last sample over -60 dB of the loudest."""
    level = np.abs(rung).max(axis=0)
    top = float(np.abs(sounding).max())
    if top <= 0.0:
        return 0.0
    loud = np.flatnonzero(level > 1e-3 * top)
    end = sounding.shape[1]
    last = int(loud.max()) + 1 if loud.size else 0
    if last >= rung.shape[1] - sample_rate // 10:
        return None
    return float(round(max(0, last - end) / sample_rate, 4))


def _differences(sounds: Sequence[Audio], reference: Audio) -> dict[int, float]:
    return {size: max(_error_db(s, reference), -200.0) for size, s in zip(OTHER_BLOCKS, sounds, strict=True)}


def _error_db(sound: Audio, reference: Audio) -> float:
    error = sound.astype(np.float64) - reference
    floor = TINY_POWER * reference.size
    return float(10.0 * np.log10((np.vdot(error, error) + floor * 1e-10) / (np.vdot(reference, reference) + floor)))
