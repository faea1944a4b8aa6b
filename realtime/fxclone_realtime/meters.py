"""What the audio callback counts and the face reads: times against the budget, levels, drop-outs. Nothing grows."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


class TimeHistogram:
    """How long callbacks took, in a fixed number of counters, so that ten hours need no more memory than a second.

    Parameters
    ----------
    budget_s : float
        The time one block lasts. Resolution is 1/4000 of it up to ten times the budget; the maximum is exact.
    """

    STEPS = 4_000
    SPAN = 10

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._step_s = budget_s / self.STEPS
        self._counts = array("Q", bytes(8 * (self.STEPS * self.SPAN + 1)))
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one callback."""
        slot = int(seconds / self._step_s)
        last = self.STEPS * self.SPAN
        self._counts[slot if 0 <= slot < last else last] += 1
        self.count += 1
        if seconds > self.max_s:
            self.max_s = seconds

    def quantile_s(self, q: float) -> float:
        """The time that a share ``q`` of the callbacks did not exceed; 0 before the first."""
        wanted, seen = q * self.count, 0
        for slot, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min((slot + 1) * self._step_s, self.max_s) if slot < len(self._counts) - 1 else self.max_s
        return 0.0

    def summary_ms(self) -> dict[str, float]:
        """``p50``, ``p99``, ``p999`` and ``max`` in ms."""
        named = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        found = {name: round(1e3 * self.quantile_s(q), 4) for name, q in named.items()}
        return {**found, "max": round(1e3 * self.max_s, 4)}


@dataclass
class Meters:
    """Counters that only the callback writes. The peaks are since the last `take_peaks`."""

    times: TimeHistogram
    blocks: int = 0
    samples: int = 0
    xruns: int = 0
    first_block_s: float | None = None
    """``time.perf_counter()`` when the first block had been delivered."""
    last_callback_s: float = 0.0
    dry_peak: float = 0.0
    wet_peaks: list[float] = field(default_factory=lambda: [0.0])
    """One for each output."""
    clipped_blocks: int = 0
    xrun_kinds: dict[str, int] = field(default_factory=dict)

    def take_peaks(self) -> tuple[float, tuple[float, ...]]:
        """Return the dry peak and each output's since the last call, and start again."""
        peaks = (self.dry_peak, tuple(self.wet_peaks))
        self.dry_peak = 0.0
        self.wet_peaks[:] = [0.0] * len(self.wet_peaks)
        return peaks

    def xrun(self, kind: str) -> None:
        """Count one drop-out, by kind."""
        self.xruns += 1
        self.xrun_kinds[kind] = self.xrun_kinds.get(kind, 0) + 1
