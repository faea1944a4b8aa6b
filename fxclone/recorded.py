"""From recorded files to aligned pairs: what a clone of a real device is trained on and judged by.

Each take is read in windows of minutes at most, and each window is aligned on its own: so clocks that drift over hours
do no harm, and of a library of hours only as much is in memory as will be used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fxclone.alignment import AlignedPair, apply_alignment
from fxclone.audio import Audio, fit_channels
from fxclone.check import CheckReport
from fxclone.errors import FxcloneError, UsageError
from fxclone.pairs import GAP_S, Pair, digest, pair_notes, require_sound
from fxclone.passages import Passage, read_take, settle
from fxclone.takes import Take
from fxclone.windows import plan_windows

CHANNELS = ("auto", "mono", "mono-stereo", "stereo")
"""What the dry and the wet side of a clone may be."""
LINEAR = 0.95
"""Coherence from which a device counts as linear here."""
QUIET_REACH_S = 0.5
"""How far a cut may be moved to a quieter place, where fewer notes ring across it."""
SOFT_S = 0.002
"""Both sounds are faded where they were cut."""
SHORTEST_S = 0.25
"""What is left of a window is not used if it is shorter."""
MEASURED = (
    "confidence",
    "polarity",
    "polarity_confidence",
    "gain_db",
    "drift_ppm",
    "drift_confidence",
    "wander_samples",
)
"""What the metadata say of an alignment, besides the lag."""
WORDS = ("wet", "start_s", "source")
"""Of what is said of a take, what has no median."""
LATE_SAMPLES = 0.05
"""Lags below this are not worth a word."""
LEAD_S, LEAD_SHARE = 1.0, 8
"""What leads in, at most, and at most one part in so many of the sound."""


@dataclass(frozen=True)
class Treatment:
    """What is done with recorded sound before training.

    Attributes
    ----------
    align : bool
        Whether the wet sound is moved to where the dry sound is.
    lag_samples : float or None
        How late the wet sound is, at the clone's rate, if that is known better than it can be measured.
    anyway : bool
        Whether takes are used that the check finds unusable.
    channels : str
        One of `CHANNELS`; ``auto`` is what the recording has, or mono if it is not nearly linear.
    stereo : bool
        Whether ``auto`` may give more than mono.
    """

    align: bool = True
    lag_samples: float | None = None
    anyway: bool = False
    channels: str = "auto"
    stereo: bool = False

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise UsageError(f"channels {self.channels!r}; expected one of {', '.join(CHANNELS)}")
        if self.lag_samples is not None and not math.isfinite(self.lag_samples):
            raise UsageError(f"lag {self.lag_samples}; expected a number of samples, such as 7060.3")
        if self.lag_samples is not None and not self.align:
            raise UsageError("--lag and --no-align; expected one of them: leave the other out")

    def with_channels(self, channels: str, *, stereo: bool = False) -> Treatment:
        """The same for other channels."""
        return replace(self, channels=channels, stereo=stereo)


@dataclass(frozen=True, eq=False)
class Recording:
    """What a recording gives.

    Attributes
    ----------
    training, validation : Pair
        Aligned; they share no sound.
    alignment : dict
        JSON-safe: what was removed, and what was measured in each take.
    reports : tuple of CheckReport
        One for each take that is used.
    notes : tuple of str
        For the user.
    """

    training: Pair
    validation: Pair
    alignment: dict[str, Any]
    reports: tuple[CheckReport, ...]
    notes: tuple[str, ...]


def read_recording(
    takes: Sequence[Take],
    *,
    name: str,
    sample_rate: int,
    seconds: float,
    validation_seconds: float,
    seed: int,
    treatment: Treatment | None = None,
) -> Recording:
    """Read, check, align and divide a recording.

    Parameters
    ----------
    takes : sequence of Take
        See `fxclone.takes.find_takes`.
    name : str
        Of the two pairs.
    sample_rate : int
        In Hz, of the pairs; files of other rates are resampled.
    seconds, validation_seconds : float
        At most about so much sound; see `fxclone.windows.plan_windows`.
    seed : int
        Chooses which takes are held back.
    treatment : Treatment or None
        None is the default one.

    Raises
    ------
    FxcloneError
        If a file cannot be used, is silent, or the check finds it unusable; or if too little sound is left.
    """
    how = treatment or Treatment()
    passages: list[Passage] = []
    reports: list[CheckReport] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        windows, notes = plan_windows(takes, seconds=seconds, validation_seconds=validation_seconds, seed=seed)
        for take in dict.fromkeys(window.take for window in windows):
            own = [window for window in windows if window.take == take]
            heard = read_take(take, own, sample_rate, align=how.align)
            for report in (passage.report for passage in heard if passage.report is not None):
                if report.verdict == "unusable" and not how.anyway:
                    raise FxcloneError(f"{take.name}: {report.verdict_text}; mend it, or train nevertheless: --anyway")
                reports.append(report)
            passages += heard
    notes += dict.fromkeys(str(entry.message) for entry in caught)
    layout, mixed = _layout(passages, reports, how)
    alignments, unsure = settle(passages, sample_rate, lag_samples=0.0 if not how.align else how.lag_samples)
    rows: list[dict[str, Any]] = []
    parts: tuple[list[_Piece], list[_Piece]] = ([], [])
    while passages:  # each is let go when it is done: sound may be long
        passage, alignment = passages.pop(0), alignments.pop(0)
        aligned = apply_alignment(passage.dry, passage.wet, sample_rate, alignment)
        rows.append(_row(passage, aligned, how))
        for side, pieces in zip(parts, _divided(passage, aligned, sample_rate, layout), strict=True):
            side += pieces
    training, validation = (
        _joined(side, name, sample_rate, what) for side, what in zip(parts, ("training", "held-back"), strict=True)
    )
    facts = _facts(rows, sample_rate, how.align)
    notes += [*mixed, *unsure, *_told(facts, sample_rate), *training.notes]
    return Recording(training, validation, facts, tuple(reports), tuple(dict.fromkeys(notes)))


def _layout(
    passages: Sequence[Passage], reports: Sequence[CheckReport], how: Treatment
) -> tuple[tuple[int, int], list[str]]:
    """Channels in and out; models of more than one channel are for what is (nearly) linear and stands still."""
    has = [max(sound.shape[0] for sound in side) for side in zip(*((p.dry, p.wet) for p in passages), strict=True)]
    chosen = {"mono": (1, 1), "mono-stereo": (1, 2), "stereo": (2, 2)}.get(how.channels)
    if chosen is None:
        linear = all(
            one.measured and one.measured.coherence.total >= LINEAR and not one.measured.motion.moving
            for one in reports
        )
        chosen = (has[0], 2) if how.stereo and has[1] == 2 and linear else (1, 1)
    notes = []
    for there, used, side in zip(has, chosen, ("dry", "wet"), strict=True):
        if there > used:
            choice = "" if how.channels != "auto" else f" (--channels {'mono-' * (has[0] == 1)}stereo keeps both)"
            notes.append(f"the {side} sound is stereo; its two channels are mixed to mono{choice}")
    return (chosen[0], chosen[1]), notes


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of a take, in step."""

    dry: Audio
    wet: Audio
    file: str
    start_s: float


def _divided(
    passage: Passage, aligned: AlignedPair, rate: int, layout: tuple[int, int]
) -> tuple[list[_Piece], list[_Piece]]:
    """What trains, before and after what is held back, and what judges."""
    window = passage.window
    step = 1.0 + aligned.resampled_ppm * 1e-6
    start_s = window.start_s + max(0, math.ceil(-aligned.removed_samples / step)) / rate
    dry, wet = fit_channels(aligned.dry, layout[0]), fit_channels(aligned.wet, layout[1])
    samples, gap = dry.shape[1], round(GAP_S * rate)
    first, last = (_cut(dry, (place - start_s) * rate, rate) for place in window.held_s)
    parts: tuple[list[_Piece], list[_Piece]] = ([], [])
    training, judging = parts
    ranges = ((training, 0, first - gap), (training, last + gap, samples), (judging, first, last))
    for side, begin, end in ranges:
        begin, end = max(begin, 0), min(end, samples)
        spare = max(0, end - begin - math.ceil(min(window.keep_s, window.seconds) * rate))
        begin, end = begin + spare // 2, end - (spare - spare // 2)
        if end - begin >= SHORTEST_S * rate:
            dry_part, wet_part = (_with_soft_ends(sound[:, begin:end], rate) for sound in (dry, wet))
            side.append(_Piece(dry_part, wet_part, window.take.name, start_s + begin / rate))
    return parts


def _cut(dry: Audio, place: float, rate: int) -> int:
    """The quietest sample near the place, or the place itself if it is not in the sound (and never far from it)."""
    if 0 < place < dry.shape[1]:
        return _quiet_place(dry, round(place), round(QUIET_REACH_S * rate), rate)
    away = math.ceil(GAP_S * rate)
    return round(float(min(max(place, -away), dry.shape[1] + away)))


def _quiet_place(dry: Audio, around: int, reach: int, rate: int) -> int:
    hop = max(1, rate // 100)
    first = max(0, around - reach)
    frames = np.square(dry[:, first : around + reach]).sum(axis=0)
    frames = frames[: len(frames) // hop * hop].reshape(-1, hop).sum(axis=1)
    if len(frames) < 5:
        return around
    return first + hop * (2 + int(np.argmin(np.convolve(frames, np.ones(5), "valid"))))


def _with_soft_ends(sound: Audio, rate: int) -> Audio:
    out = sound.copy()
    n = min(out.shape[1] // 2, round(SOFT_S * rate))
    ramp = np.linspace(0.0, 1.0, n, endpoint=False, dtype=np.float32)
    out[:, :n] *= ramp
    out[:, out.shape[1] - n :] *= ramp[::-1]
    return out


def _joined(pieces: Sequence[_Piece], name: str, rate: int, what: str) -> Pair:
    if not pieces:
        raise FxcloneError(
            f"nothing is left as {what} sound after alignment and gaps; expected seconds: give more sound"
        )
    dry, wet = (np.concatenate([getattr(piece, side) for piece in pieces], axis=1) for side in ("dry", "wet"))
    pair = Pair(dry, wet, rate, name)
    require_sound(pair)
    sources = [{"file": p.file, "start_s": round(p.start_s, 3), "seconds": p.dry.shape[1] / rate} for p in pieces]
    provenance = {
        "effect": f"a recording: {', '.join(dict.fromkeys(piece.file for piece in pieces))}",
        "sample_rate": rate,
        "seconds": pair.seconds,
        "channels": [dry.shape[0], wet.shape[0]],
        "sources": sources,
        "notes": pair_notes(pair.dry, pair.wet),
        "digest": digest(pair),
    }
    lead = min(round(LEAD_S * rate), pair.samples // LEAD_SHARE)
    return Pair(pair.dry, pair.wet, rate, name, provenance, lead)


def _row(passage: Passage, aligned: AlignedPair, how: Treatment) -> dict[str, Any]:
    found = passage.measured.as_dict()
    by_capture = passage.captured_samples is not None
    source = "none" if not how.align else "given" if how.lag_samples is not None else "capture" if by_capture else None
    late = passage.captured_samples if source == "capture" else passage.late_samples
    return {
        "wet": passage.window.take.name,
        "start_s": round(passage.window.start_s, 3),
        "source": source or "measured",
        "lag_samples": late if late is not None and math.isfinite(late) else None,
        "latency_removed_samples": aligned.removed_samples + passage.ahead_samples,
        "resampled_ppm": aligned.resampled_ppm,
        **{key: found[key] for key in MEASURED},
    }


def _facts(rows: list[dict[str, Any]], rate: int, align: bool) -> dict[str, Any]:
    """What was measured and removed; the figures of the whole are medians."""
    middle = {key: _median([row[key] for row in rows]) for key in rows[0] if key not in WORDS}
    return {
        "aligned": align,
        "source": ", ".join(sorted({row["source"] for row in rows})),
        **middle,
        "latency_removed_ms": (middle["latency_removed_samples"] or 0.0) / rate * 1000,
        "polarity": int(np.sign(sum(row["polarity"] for row in rows))),
        "takes": rows,
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _told(facts: dict[str, Any], rate: int) -> list[str]:
    """What was removed, in words."""
    notes = []
    takes = facts["takes"]
    removed = [row["latency_removed_samples"] for row in takes]
    low, high = min(removed), max(removed)
    much = f"{low:.1f} to {high:.1f} samples" if high - low >= LATE_SAMPLES else _samples(abs(low), rate)
    if high < 0 and low <= -LATE_SAMPLES:
        notes.append(f"the wet sound is moved later by {much}: nothing sounds before it is played")
    elif max(-low, high) >= LATE_SAMPLES:
        notes.append(f"the recording is {much} late; the clone plays without that delay")
    if facts["polarity"] < 0:
        notes.append("the device inverts; so will the clone")
    drifts = [row["resampled_ppm"] for row in takes if row["resampled_ppm"]]
    if drifts:
        notes.append(f"the clocks of dry and wet differ by {np.median(drifts):+.1f} ppm; resampled away")
    return notes


def _samples(count: float, rate: int) -> str:
    return f"{count:.1f} samples ({1000 * count / rate:.2f} ms)"
