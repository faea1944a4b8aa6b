"""What the face knows of a session that does not change while it plays; plain values, so that it can be sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """See `Session.facts`.

    Attributes
    ----------
    chains : tuple of str
        What can be heard, by name.
    against : str or None
        What it is compared with.
    load : float
        Share of the budget that a block takes, measured before the first sound.
    advice : str
        What would help if that is too much.
    priority : str
        What the system allowed the audio thread.
    """

    chains: tuple[str, ...]
    against: str | None
    device: str
    input_file: str | None
    sample_rate: int
    block: int
    outputs: int
    wet_channels: int
    sound: str
    latency_ms: dict[str, float]
    tail_s: float
    notes: tuple[str, ...]
    load: float
    advice: str
    priority: str
    ceiling: float

    @property
    def budget_s(self) -> float:
        """The time that one block lasts."""
        return self.block / self.sample_rate

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def facts_from(sent: dict[str, Any]) -> Facts:
    """What `Facts.as_dict` gave."""
    values: dict[str, Any] = {field.name: sent[field.name] for field in fields(Facts)}
    return Facts(**{**values, "chains": tuple(values["chains"]), "notes": tuple(values["notes"])})
