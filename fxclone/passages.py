"""Windows of takes as they are read: at one rate, channels that say something, and how wet lies against dry in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fxclone.alignment import PairAlignment, align_pair
from fxclone.audio import Audio, db_to_gain, fit_channels, peak, rms
from fxclone.captured import captured_lag
from fxclone.check import CheckReport, check_pair
from fxclone.errors import FxcloneError
from fxclone.files import read_sound
from fxclone.pairs import SILENT_DBFS
from fxclone.takes import Take
from fxclone.windows import Window

LEAD_S = 0.2
"""So much before its place the wet sound is read, where a window does not begin with the file."""
SPARE_S = 2.0
"""And so much after its end: the lag moves that much in."""
CHECKED_S = 120.0
"""How much of a take is checked: noise, hum and drop-outs show in less."""
FAR_S = 12.0
"""How far a lag is looked for where nothing is found nearby: both files were started by hand."""
AGREEING_SAMPLES = 2.0
"""Lags measured with confidence agree if they lie within this."""
LEAST_DOUBT_SAMPLES, MOST_DOUBT_SAMPLES = 0.1, 1.0
"""How far the lag by a capture's markers may be from the one measured on music, whose uncertainty decides."""
IDENTICAL_DB = -60.0
"""Channels that differ by less than this are one; and one that is so much softer than the other is none."""
IN_STEP = PairAlignment(0.0, 1.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Said of sound that is not to be aligned."""


@dataclass(frozen=True, eq=False)
class Passage:
    """A window of a take as it was read: at the clone's rate, not yet in step.

    Attributes
    ----------
    window : Window
        Where it came from.
    dry, wet : Audio [shape=(1 or 2, samples)]
        Channels that say something; lengths differ.
    ahead_samples : float
        The wet sound begins in its file so much after the dry sound in its own.
    measured : PairAlignment
        Of these two sounds.
    report : CheckReport or None
        Of the first passage of each take.
    captured_samples : float or None
        How late the wet file is by the markers of a capture, if what was measured does not contradict.
    """

    window: Window
    dry: Audio
    wet: Audio
    ahead_samples: float
    measured: PairAlignment
    report: CheckReport | None = None
    captured_samples: float | None = None

    @property
    def late_samples(self) -> float:
        """How late the wet file is here; NaN if that could not be measured."""
        return self.measured.lag_samples + self.ahead_samples

    def expected(self, start_s: float, rate: int) -> float:
        """How late it should be at another place of the same take, in samples; 0 if unknown."""
        if not self.measured.confident:
            return 0.0
        later = (start_s - self.window.start_s) * rate
        return self.late_samples + self.measured.drift_ppm * 1e-6 * later


def read_take(take: Take, windows: Sequence[Window], rate: int, *, align: bool) -> list[Passage]:
    """Read a take's windows, each measured by itself, near where the one before it lay; the first is checked as well.

    Silent windows are left out.

    Parameters
    ----------
    take : Take
    windows : sequence of Window
        Of this take, in order.
    rate : int
        In Hz, of what is read.
    align : bool
        Whether to measure; `IN_STEP` is taken for granted otherwise.

    Raises
    ------
    FxcloneError
        If a file cannot be read, or all of it is silent.
    """
    dry_rate, wet_rate = (info.sample_rate for info in take.info)
    passages: list[Passage] = []
    loudest = [0.0, 0.0]
    captured = captured_lag(take, rate) if align else None
    for window in windows:
        start_s = math.floor(window.start_s * dry_rate) / dry_rate
        expected_s = passages[-1].expected(start_s, rate) / rate if passages else 0.0
        wet_start_s = max(0.0, start_s + expected_s - LEAD_S) if start_s else 0.0
        wet_start_s = math.floor(wet_start_s * wet_rate) / wet_rate
        if wet_start_s >= take.info[1].seconds:
            continue
        dry, _ = read_sound(take.dry, sample_rate=rate, start_s=start_s, seconds=window.seconds)
        wet, _ = read_sound(take.wet, sample_rate=rate, start_s=wet_start_s, seconds=window.seconds + LEAD_S + SPARE_S)
        levels = [peak(dry), peak(wet)]
        loudest = [max(pair) for pair in zip(loudest, levels, strict=True)]
        if min(levels) < db_to_gain(SILENT_DBFS):
            continue
        dry, wet = live_channels(dry), live_channels(wet)
        measured, report = IN_STEP, None
        if not passages:
            report = _checked(dry, wet, rate, take.name)
        if align:
            measured, report = _measured(dry, wet, rate, report)
        placed = replace(window, start_s=start_s)
        passage = Passage(placed, dry, wet, (wet_start_s - start_s) * rate, measured, report)
        believed = captured is not None and _agree(captured, passage)
        passages.append(replace(passage, captured_samples=captured if believed else None))
    for path, level, advice in zip(
        (take.dry, take.wet), loudest, ("check the file and its channel", "check the recording"), strict=True
    ):
        if level < db_to_gain(SILENT_DBFS):
            raise FxcloneError(f"{path} is silent; expected a peak over {SILENT_DBFS:.0f} dBFS: {advice}")
    if not passages:
        raise FxcloneError(
            f"{take.wet} is silent wherever {take.dry.name} is not; expected both at once: check the files"
        )
    return passages


def _agree(captured: float, passage: Passage) -> bool:
    """Whether the lag by markers is the one that was measured, within what that is sure of.

    A filter moves a marker's peak later than its beginning, so with less certainty it is not believed at all.
    """
    doubt = min(passage.measured.uncertainty_samples, MOST_DOUBT_SAMPLES)
    return abs(passage.late_samples - captured) <= max(LEAST_DOUBT_SAMPLES, doubt)


def _checked(dry: Audio, wet: Audio, rate: int, name: str) -> CheckReport:
    most = round(CHECKED_S * rate)
    return check_pair(dry[:, :most], wet[:, : most + round(SPARE_S * rate)], rate, name=name)


def _measured(
    dry: Audio, wet: Audio, rate: int, report: CheckReport | None
) -> tuple[PairAlignment, CheckReport | None]:
    """The alignment, the check's own if it saw all of the passage; and the check, made again if the lag is far away."""
    seen = report is not None and report.measured is not None and dry.shape[1] <= round(CHECKED_S * rate)
    found = report.measured.alignment if seen and report and report.measured else align_pair(dry, wet, rate)
    if found.confident or min(dry.shape[1], wet.shape[1]) < 2 * FAR_S * rate:
        return found, report
    far = align_pair(dry, wet, rate, max_lag_s=FAR_S)  # started by hand, seconds apart
    if not far.confident:
        return found, report
    if report is not None:
        whole = round(far.lag_samples)
        report = _checked(dry[:, max(0, -whole) :], wet[:, max(0, whole) :], rate, report.name)
    return far, report


def live_channels(sound: Audio) -> Audio:
    """Only the channels that say something: without silent ones, and without copies of the first.

    Returns
    -------
    Audio [shape=(1 or 2, samples)]
        More than two channels are mixed to one.
    """
    levels = [rms(channel) for channel in sound]
    alive = sound[[level > max(levels) * db_to_gain(IDENTICAL_DB) for level in levels]]
    if alive.shape[0] <= 1:
        return alive if alive.shape[0] else sound[:1]
    if all(rms(channel - alive[0]) < db_to_gain(IDENTICAL_DB) * max(levels) for channel in alive[1:]):
        return alive[:1]
    return alive if alive.shape[0] == 2 else fit_channels(alive, 1)


def settle(
    passages: Sequence[Passage], rate: int, *, lag_samples: float | None = None
) -> tuple[list[PairAlignment], list[str]]:
    """What to take out of each passage: what was measured in it or, where that is unsure, in others.

    Parameters
    ----------
    passages : sequence of Passage
    rate : int
        In Hz.
    lag_samples : float or None
        How late the wet files are, if that is known better.

    Returns
    -------
    alignments : list of PairAlignment
        For `fxclone.alignment.apply_alignment`.
    notes : list of str
        For the user.
    """
    sure = [p for p in passages if p.measured.confident]
    lags = [p.late_samples for p in sure]
    common = float(np.median(lags)) if lags and max(lags) - min(lags) <= AGREEING_SAMPLES else None
    out, notes = [], []
    for p in passages:
        name, late, known = p.window.take.name, p.late_samples, True
        near = [q for q in sure if q.window.take == p.window.take]
        if lag_samples is not None:
            late = lag_samples
        elif p.captured_samples is not None:
            late = p.captured_samples
            p = replace(p, measured=replace(p.measured, drift_ppm=0.0))
        elif p.measured.confident:
            out.append(p.measured)
            continue
        elif near:
            apart = [abs(q.window.start_s - p.window.start_s) for q in near]
            late = near[apart.index(min(apart))].expected(p.window.start_s, rate)
        elif common is not None:
            late = common
            notes.append(f"{name}: its own lag is unsure; the other takes' {common:.1f} samples are used")
        elif math.isnan(late):
            late = 0.0
            notes.append(f"{name}: no lag could be measured; it is used as it lies (--lag SAMPLES, if you know better)")
        else:
            known = False
            notes.append(
                f"{name}: its lag is unsure, {late:.1f} samples or so; a little of it is left in, as a clone can learn "
                "a delay but not look ahead (--lag SAMPLES, if you know better)"
            )
        out.append(replace(p.measured, lag_samples=late - p.ahead_samples, track=()))
        if known:
            out[-1] = replace(out[-1], confidence=1.0)
    return out, notes
