"""What the audio callback counts and the face reads: times against the budget, levels, drop-outs. Nothing grows.

Every number lies in one block of memory of fixed size, so that another process can look at it while sound runs: the
callback writes, the face reads, and nobody waits. Counters are doubles (whole up to 2^53), times are in seconds.
"""

from __future__ import annotations

from typing import Any, overload

XRUN_KINDS = ("late block", "input overflow", "output underflow", "input underflow or output overflow")
MOST_OUTPUTS = 16
_SLOTS = 64
_BLOCKS, _SAMPLES, _LAST_CALLBACK_S, _LOAD, _FIRST_BLOCK_S, _ENDED_S = 0, 1, 3, 7, 18, 19
_DRY_PEAK, _CLIPPED, _DRY_CLIPPED, _ENTERED = 4, 5, 6, 17
_KINDS_AT, _PEAKS_AT = 32, 40


class TimeHistogram:
    """How long callbacks took, in a fixed number of counters, so that ten hours need no more memory than a second.

    Parameters
    ----------
    budget_s : float
        The time one block lasts. Resolution is 1/4000 of it up to ten times the budget; the maximum is exact.
    memory : memoryview or None
        `BYTES` of it, zeros at first; its own if None.
    """

    STEPS = 4_000
    SPAN = 10
    BYTES = 8 * (STEPS * SPAN + 3)

    def __init__(self, budget_s: float, memory: memoryview | None = None) -> None:
        self.budget_s = budget_s
        self._step_s = budget_s / self.STEPS
        memory = memoryview(bytearray(self.BYTES)) if memory is None else memory
        self._counts, self._sums = memory[16:].cast("Q"), memory[:16].cast("d")

    @property
    def count(self) -> int:
        """How many were added."""
        return int(self._sums[0])

    @property
    def max_s(self) -> float:
        """The longest."""
        return self._sums[1]

    def add(self, seconds: float) -> None:
        """Count one callback."""
        slot = int(seconds / self._step_s)
        last = self.STEPS * self.SPAN
        self._counts[slot if 0 <= slot < last else last] += 1
        self._sums[0] += 1.0
        if seconds > self._sums[1]:
            self._sums[1] = seconds

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


class _Level:
    """A number at a fixed place."""

    def __init__(self, at: int) -> None:
        self.at = at

    @overload
    def __get__(self, meters: None, owner: Any) -> _Level: ...
    @overload
    def __get__(self, meters: Meters, owner: Any) -> float: ...
    def __get__(self, meters: Meters | None, owner: Any) -> Any:
        return self if meters is None else meters.slots[self.at]

    def __set__(self, meters: Meters, value: float) -> None:
        meters.slots[self.at] = value


class _Count(_Level):
    """A whole number at a fixed place."""

    @overload
    def __get__(self, meters: None, owner: Any) -> _Count: ...
    @overload
    def __get__(self, meters: Meters, owner: Any) -> int: ...
    def __get__(self, meters: Meters | None, owner: Any) -> Any:
        return self if meters is None else int(meters.slots[self.at])


class Meters:
    """Counters that only the audio side writes. The peaks are since the last `take_peaks`.

    Parameters
    ----------
    budget_s : float
        The time one block lasts.
    outputs : int
        How many outputs have a peak.
    memory : memoryview or None
        `BYTES` of it, shared with another process; its own if None. Zeros are a fresh start.
    """

    BYTES = 8 * _SLOTS + TimeHistogram.BYTES

    blocks = _Count(_BLOCKS)
    samples = _Count(_SAMPLES)
    xruns = _Count(2)
    last_callback_s = _Level(_LAST_CALLBACK_S)
    dry_peak = _Level(_DRY_PEAK)
    clipped_blocks = _Count(_CLIPPED)
    """With more than the ceiling at the output."""
    dry_clipped_blocks = _Count(_DRY_CLIPPED)
    """With full scale or more at the input."""
    load = _Level(_LOAD)
    """Share of the budget that callbacks take, over about the last second."""
    trip_count = _Count(8)
    bypassed = _Count(9)
    """By the stability monitor."""
    bypass = _Count(10)
    """By the player."""
    mix = _Level(11)
    in_gain_db = _Level(12)
    out_gain_db = _Level(13)
    voice = _Count(14)
    """Number of the chain that is heard, from 0."""
    against = _Count(15)
    """Whether the original is heard."""
    beats = _Count(16)
    """Grows as long as the audio process is well."""
    entered = _Count(_ENTERED)
    """Callbacks that have begun; one more than ``blocks`` while one runs."""
    ended_s = _Level(_ENDED_S)
    """``time.perf_counter()`` when the last callback ended."""
    _first_block_s = _Level(_FIRST_BLOCK_S)

    def __init__(self, budget_s: float, outputs: int = 1, memory: memoryview | None = None) -> None:
        memory = memoryview(bytearray(self.BYTES)) if memory is None else memory
        self._memory = memory[: self.BYTES]
        self.slots = memory[: 8 * _SLOTS].cast("d")
        self.times = TimeHistogram(budget_s, memory[8 * _SLOTS : self.BYTES])
        self.outputs = min(outputs, MOST_OUTPUTS)
        self._peaks_at = range(_PEAKS_AT, _PEAKS_AT + self.outputs)

    def touch(self) -> None:
        """Bring all of the memory in, so that the callback never waits for a page; before sound runs."""
        self._memory[:] = bytes(self._memory)

    @property
    def first_block_s(self) -> float | None:
        """``time.perf_counter()`` when the first block had been delivered."""
        return self._first_block_s or None

    # What follows finds its numbers by their places: names would have to be looked up in every block.

    def block_begins(self) -> bool:
        """Count that a callback has begun; return whether it is not the first."""
        self.slots[_ENTERED] += 1.0
        return self.slots[_BLOCKS] > 0.0

    def block_done(self, samples: int, began: float, ended: float) -> None:
        """Count one callback, by ``time.perf_counter()``."""
        took = ended - began
        slots, budget = self.slots, self.times.budget_s
        slots[_SAMPLES] += samples
        slots[_BLOCKS] += 1.0
        if not slots[_FIRST_BLOCK_S]:
            slots[_FIRST_BLOCK_S] = ended
        slots[_ENDED_S] = ended
        slots[_LAST_CALLBACK_S] = took
        weight = budget if budget < 1.0 else 1.0  # of one block in an average over about a second
        slots[_LOAD] += weight * (took / budget - slots[_LOAD])
        self.times.add(took)

    def levels(self, dry_peak: float, wet_peaks: list[float], ceiling: float) -> None:
        """Note the peak of what the processor got, and each output's before the ceiling; one is of all of them."""
        slots, over = self.slots, False
        if not dry_peak < 1.0:
            slots[_DRY_CLIPPED] += 1.0
        if dry_peak > slots[_DRY_PEAK]:
            slots[_DRY_PEAK] = dry_peak
        if len(wet_peaks) == 1:
            wet_peaks = wet_peaks * self.outputs
        for at, peak in zip(self._peaks_at, wet_peaks, strict=False):
            if peak > slots[at]:
                slots[at] = peak
            over = over or not peak <= ceiling
        if over:
            slots[_CLIPPED] += 1.0

    def take_peaks(self) -> tuple[float, tuple[float, ...]]:
        """Return the dry peak and each output's since the last call, and start again."""
        slots, end = self.slots, _PEAKS_AT + self.outputs
        peaks = (self.dry_peak, tuple(slots[_PEAKS_AT:end]))
        self.dry_peak = 0.0
        for at in range(_PEAKS_AT, end):
            slots[at] = 0.0
        return peaks

    def xrun(self, kind: str) -> None:
        """Count one drop-out, by kind (one of `XRUN_KINDS`)."""
        self.xruns += 1
        self.slots[_KINDS_AT + XRUN_KINDS.index(kind)] += 1.0

    @property
    def xrun_kinds(self) -> dict[str, int]:
        """How many of each kind, where there were any."""
        counts = {kind: int(self.slots[_KINDS_AT + at]) for at, kind in enumerate(XRUN_KINDS)}
        return {kind: count for kind, count in counts.items() if count}
