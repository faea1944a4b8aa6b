"""What a pass of the tape brought: how late it came back, and which of its parts are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fxclone.audio import Audio
from fxclone.errors import FxcloneError
from fxclone.signals.capture_signal import CaptureSignal, marker_span
from fxclone_realtime.capture_faults import Fault, faults_in, repeated
from fxclone_realtime.capture_level import count_clipping
from fxclone_realtime.capture_markers import MarkerFix, Placement, find_marker, find_markers, fitted, place

MAX_LATENCY_S = 1.0
"""How much longer than the signal a pass records; interfaces take 5 to 50 ms, a delay pedal some hundred."""
AROUND_S = 0.1
"""How far from its place a marker is looked for, once the latency is known."""
STEP_SAMPLES = 0.3
"""The latency may differ by so much between two markers; a drop-out moves it by a sample at least."""
REPORT_GUARD_SAMPLES = 2048
"""A device reports a drop-out up to some blocks early or late."""
AGREE_WINDOW = 240


@dataclass(frozen=True)
class Timing:
    """How late the return is.

    Attributes
    ----------
    placement : Placement or None
        Of the signal in the first pass; None if the gear lets no marker through.
    cut : int
        How many samples of the return are cut off so that it starts together with what was sent: never more than what
        surely is latency.
    wandering : bool
        Whether the latency moves all the time.
    source : str
        ``markers``, ``alignment``, ``loopback`` or ``none``.
    """

    placement: Placement | None
    cut: int
    wandering: bool
    source: str = "markers"

    def late_at(self, position: int) -> float:
        """Latency at a position of the signal."""
        return float(self.cut) if self.placement is None else self.placement.at(position) - position


@dataclass(frozen=True, eq=False)
class PartTake:
    """One recording of one part.

    Attributes
    ----------
    part : int
        Its number.
    wet : Audio [shape=(channels, samples)]
        As long as the part, cut so that both start together.
    lag_samples : float or None
        Of its first marker.
    faults : tuple of Fault
        What is wrong with it.
    take : int
        1 for the first pass.
    clipped : int
        How often it lies at full scale.
    accepted : bool
        Whether the faults came twice at the same place, so that they are the effect's own.
    proved : bool
        Whether another take is the same, so that the drop-outs that the device reported did no harm.
    """

    part: int
    wet: Audio
    lag_samples: float | None
    faults: tuple[Fault, ...]
    take: int
    clipped: int
    accepted: bool = False
    proved: bool = False

    @property
    def whole(self) -> bool:
        """Whether it can be used without a second thought."""
        return self.accepted or self.proved or not self.faults

    @property
    def usable(self) -> bool:
        """Whether nothing is wrong with it but that the device reported a drop-out near it."""
        return self.whole or all(fault.kind == "reported" for fault in self.faults)


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a pass recorded.

    Attributes
    ----------
    sound : Audio [shape=(return channels, samples)]
        From sample ``start`` of the signal on, latency left in, up to where the pass ended.
    start : int
        Position in the signal at which the pass began.
    xruns : tuple of int
        At which sample of the pass the device reported a drop-out.
    take : int
        Counted from 1.
    """

    sound: Audio
    start: int
    xruns: tuple[int, ...] = ()
    take: int = 1

    @property
    def loudest(self) -> npt.NDArray[np.float32]:
        """The channel in which markers are looked for."""
        power = np.square(self.sound, dtype=np.float64).sum(axis=1) if self.sound.size else np.zeros(1)
        channel: npt.NDArray[np.float32] = self.sound[int(np.argmax(power))]
        return channel


def first_timing(signal: CaptureSignal, recorded: Recorded) -> Timing:
    """Find out the latency from a pass, or as much of it as there is.

    Raises
    ------
    FxcloneError
        If the markers are not in it.
    """
    rate = signal.sample_rate
    last = recorded.start + recorded.sound.shape[1]
    there = [m for m in signal.markers if recorded.start <= m and m + marker_span(rate) <= last]
    found = [_moved(fix, recorded.start) for fix in find_markers(recorded.loudest, rate)]
    # With only one marker recorded, it will do if it is where it can be.
    coarse = place(found, signal.markers, rate) if len(there) > 1 else _single(found, there, rate)
    fixes = _fixes(signal, recorded, coarse, range(len(signal.markers)))
    placement = fitted(fixes, signal.markers)
    wandering = placement.wandering
    if wandering:
        late = min(fix.position - signal.markers[number] for number, fix in fixes.items())
    else:  # the line, and not the least of them: a drop-out may have moved some
        late = min(placement.at(at) - at for at in (signal.markers[0], signal.markers[-1]))
    rounded_off = min(fix.onset - fix.position for fix in fixes.values())
    return Timing(placement, max(0, int(np.floor(late + rounded_off))), wandering)


def _single(found: Sequence[MarkerFix], there: Sequence[int], rate: int) -> Placement:
    near = [fix for fix in found if there and 0 <= fix.position - there[0] <= MAX_LATENCY_S * rate]
    if not near:
        raise FxcloneError("the first marker of the test signal did not come back; expected it within a second")
    return fitted({0: max(near, key=lambda fix: fix.clearness)}, there)


def _fixes(
    signal: CaptureSignal, recorded: Recorded, expected: Placement, numbers: Sequence[int]
) -> dict[int, MarkerFix]:
    """Every marker that is found near its place."""
    rate = signal.sample_rate
    shortest = min(part.stop - part.start for part in signal.parts)
    around = min(round(AROUND_S * rate), int(0.4 * shortest))
    out = {}
    channel = recorded.loudest
    for number in numbers:
        about = round(expected.at(signal.markers[number])) - recorded.start
        fix = find_marker(channel, about - around, about + around, rate)
        if fix is not None and fix.found:
            out[number] = _moved(fix, recorded.start)
    return out


def _moved(fix: MarkerFix, by: int) -> MarkerFix:
    return replace(fix, position=fix.position + by, onset=fix.onset + by)


def _steps(signal: CaptureSignal, fixes: dict[int, MarkerFix], placement: Placement) -> dict[int, float]:
    """By how much the latency differs from each marker to the next, drift taken off."""

    def off(number: int) -> float:
        return fixes[number].position - placement.at(signal.markers[number])

    return {k: off(k + 1) - off(k) for k in fixes if k + 1 in fixes}


def judge(
    signal: CaptureSignal, recorded: Recorded, timing: Timing, parts: Sequence[int], block: int
) -> list[PartTake]:
    """Cut the parts out of a pass and say what is wrong with each. Parts that are not wholly recorded are left out.

    Parameters
    ----------
    signal : CaptureSignal
    recorded : Recorded
    timing : Timing
        Of the first pass.
    parts : sequence of int
        The parts that this pass was made for.
    block : int
        Samples per block of the device.
    """
    rate = signal.sample_rate
    last = recorded.start + recorded.sound.shape[1]
    fixes: dict[int, MarkerFix] = {}
    placement = timing.placement
    if placement is not None:
        both_ends = sorted({end for number in parts for end in (number, number + 1)})
        numbers = [number for number in both_ends if signal.markers[number] >= recorded.start]
        fixes = _fixes(signal, recorded, placement, numbers)
    out = []
    for number in parts:
        part = signal.parts[number]
        marker_end = signal.markers[number + 1] + marker_span(rate)
        needed = max(part.stop, marker_end if placement is not None else 0)
        if needed + timing.late_at(part.stop) > last:
            continue
        cut = timing.cut
        lag = fixes[number].position - signal.markers[number] if number in fixes else None
        faults = _reported(recorded, timing, part.start, part.stop, block)
        if placement is not None:
            if lag is None or number + 1 not in fixes:
                lost = signal.markers[number if lag is None else number + 1]
                faults.append(Fault("lost", lost, 0))
            elif not timing.wandering:
                cut += round(lag - timing.late_at(signal.markers[number]))
                step = _steps(signal, fixes, placement)[number]
                if abs(step) > STEP_SAMPLES:
                    faults.append(Fault("jump", part.start, round(step)))
        at = part.start - recorded.start + cut
        wet = recorded.sound[:, at : at + part.stop - part.start]
        if wet.shape[1] < part.stop - part.start:
            continue
        dry = signal.sound[0, part.start : part.stop]
        for channel in wet:
            faults += faults_in(dry, channel, rate, part.start)
        out.append(PartTake(number, wet.copy(), lag, tuple(faults), recorded.take, count_clipping(wet)))
    return out


def _reported(recorded: Recorded, timing: Timing, start: int, stop: int, block: int) -> list[Fault]:
    guard = max(4 * block, REPORT_GUARD_SAMPLES)
    low = start - guard
    high = stop + timing.late_at(stop) + guard
    places = [recorded.start + at for at in recorded.xruns]
    return [Fault("reported", place, 0) for place in places if low <= place <= high]


def better(before: PartTake | None, now: PartTake) -> PartTake:
    """Which of two takes of a part to keep.

    What came twice at the same place is the effect's own. And two takes that only the device complained of, but that
    agree, are both whole.
    """
    if before is None:
        return now
    if now.faults and repeated(now.faults, before.faults):
        return replace(now, accepted=True)
    if now.faults and now.usable and before.usable and agree(before.wet, now.wet):
        return replace(now, proved=True)

    def badness(take: PartTake) -> tuple[bool, bool, int]:
        return (not take.whole, not take.usable, len(take.faults))

    return now if badness(now) <= badness(before) else before


def agree(one: Audio, other: Audio) -> bool:
    """Whether two takes are the same everywhere but for noise: within 20 dB in every short window that is not quiet."""
    count = one.shape[1] // AGREE_WINDOW
    power, apart = (
        np.square(sound[:, : count * AGREE_WINDOW], dtype=np.float64)
        .reshape(sound.shape[0], count, AGREE_WINDOW)
        .mean(axis=2)
        for sound in (one, one - other)
    )
    return bool(np.all(apart <= np.maximum(0.01 * power, 1e-4 * power.mean())))
