"""What the stability monitor has to tell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from fxclone.audio import gain_to_db

MOST_TRIPS = 200
"""Trips kept with their details; later ones are only counted, so that a long night needs no more memory."""

Fault = tuple[str, dict[str, float]]
"""What is wrong, and the numbers that show it."""


@dataclass(frozen=True)
class Trip:
    """One time that the monitor stepped in."""

    time_s: float
    """Seconds of sound before the block in which it happened."""
    what: str
    numbers: dict[str, float]
    action: str

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:g}" for name, value in self.numbers.items())
        return f"at {self.time_s:.2f} s: {self.what} ({shown}): {self.action}"


@dataclass
class MonitorStatus:
    """Everything that happened so far. Falsy while all is well."""

    samples: int = 0
    trips: list[Trip] = field(default_factory=list)
    trip_count: int = 0
    bypassed: bool = False
    """Whether the dry sound plays instead, now."""
    recoveries: int = 0

    def __bool__(self) -> bool:
        return self.trip_count > 0

    def __str__(self) -> str:
        if not self:
            return "no trips"
        return "; ".join(str(trip) for trip in self.trips)

    def add(self, trip: Trip) -> None:
        """Count a trip and keep it if there is room."""
        self.trip_count += 1
        if len(self.trips) < MOST_TRIPS:
            self.trips.append(trip)

    def as_dicts(self) -> list[dict[str, Any]]:
        """The kept trips as plain dictionaries, for JSON."""
        return [asdict(trip) for trip in self.trips]


def told_db(gain: float) -> float:
    """Level rounded for a message; large stand-ins for what JSON cannot hold."""
    if not math.isfinite(gain):
        return 999.0
    return round(max(gain_to_db(gain), -200.0), 1)
