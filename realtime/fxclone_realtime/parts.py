"""Chains that can be heard in a session: watched, prepared for its engine, and each with its share of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fxclone.stability.monitor import REWARM_SPEED, StabilityMonitor
from fxclone_realtime.capacity import Capacity, measure
from fxclone_realtime.engine import Engine
from fxclone_realtime.rig import Rig, channel_notes
from fxclone_realtime.voice import Voice


@dataclass
class Part:
    """A chain that can be heard."""

    rig: Rig
    monitor: StabilityMonitor
    voice: Voice
    notes: list[str] = field(default_factory=list)
    cost: Capacity | None = None
    """Of its own; measured once, before it plays."""


def watched(rig: Rig, sample_rate: int, ask_for_reset: Callable[[], None]) -> StabilityMonitor:
    """A chain with its monitor, not yet prepared; for ``ask_for_reset`` see there."""
    return StabilityMonitor(rig.processor(sample_rate), rig.levels, ask_for_reset=ask_for_reset)


def part_of(rig: Rig, engine: Engine, ask_for_reset: Callable[[], None]) -> Part:
    """Prepare a chain; slow, so never in the callback."""
    monitor = watched(rig, engine.sample_rate, ask_for_reset)
    return Part(rig, monitor, engine.voice(monitor, rig.name), part_notes(rig, engine))


def part_notes(rig: Rig, engine: Engine) -> list[str]:
    """What the user should know of a prepared chain."""
    return rig.notes + channel_notes(rig.links, engine.channels_in, engine.channels_out)


def share_the_time(parts: Sequence[Part], against: Part | None, engine: Engine) -> Capacity:
    """Measure chains before they play, and let each catch up after a trip as quickly as there is time.

    Parameters
    ----------
    parts : sequence of Part
        One of them is heard.
    against : Part or None
        Runs beside it all the time.

    Returns
    -------
    Capacity
        Of the heaviest, with what runs beside it.
    """

    def cost(part: Part) -> Capacity:
        if part.cost is None:
            part.cost = measure(part.monitor.inner, engine.sample_rate, engine.max_block, engine.channels_in)
        return part.cost

    def allow(part: Part, own: Capacity, together: Capacity) -> None:
        part.monitor.rewarm_speed = min(REWARM_SPEED, together.speed_to_spare(own))

    costs = [cost(part) for part in parts]
    heaviest = max(costs, key=lambda each: each.load)
    if against is None:
        for part, own in zip(parts, costs, strict=True):
            allow(part, own, own)
        return heaviest
    beside = cost(against)
    for part, own in zip(parts, costs, strict=True):
        allow(part, own, own.beside(beside))
    allow(against, beside, heaviest.beside(beside))
    return heaviest.beside(beside)
