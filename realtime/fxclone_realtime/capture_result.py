"""What a capture gave: the pair, everything known about it, and the folder that holds both."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio, gain_to_db, peak, power_to_db, rms
from fxclone.errors import FxcloneError, UsageError
from fxclone.files import write_sound
from fxclone.paths import atomic_output
from fxclone.signals.capture_signal import LEAD_S, CaptureSignal
from fxclone_realtime.capture_judge import PartTake, Recorded, Timing

FORMAT = "fxclone-capture/1"
FILES = ("dry.wav", "wet.wav", "capture.json")
NOISY_ESR_DB = -20.0
"""A passage that differs from itself by more comes from noisy or time-varying gear (ESR 0.01)."""


@dataclass(frozen=True, eq=False)
class CaptureResult:
    """A finished capture.

    Attributes
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        What was sent and what came back, of equal length, starting together; nothing else was changed.
    sample_rate : int
        In Hz.
    facts : dict
        Everything known, as in ``capture.json``.
    notes : tuple of str
        What the user should hear about.
    """

    dry: Audio
    wet: Audio
    sample_rate: int
    facts: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def assemble(
    signal: CaptureSignal,
    timing: Timing,
    takes: dict[int, PartTake],
    first: Recorded,
    *,
    facts: dict[str, Any],
    notes: Sequence[str] = (),
    loopback_samples: float | None = None,
) -> CaptureResult:
    """Join the parts that are usable and write down what is known.

    Parameters
    ----------
    signal : CaptureSignal
    timing : Timing
    takes : dict of int to PartTake
        The best take of each part that was recorded.
    first : Recorded
        The first pass, in whose leading silence the noise floor is measured.
    facts : dict
        What the caller knows: device, levels and so on.
    notes : sequence of str
    loopback_samples : float or None
        The interface's own round trip, if it was measured.

    Raises
    ------
    FxcloneError
        If no part is usable.
    """
    recorded = [takes[number] for number in sorted(takes)]
    # A part near which the device reported a drop-out may hide one, so it is kept only if there is nothing better.
    kept = [take for take in recorded if take.whole] or [take for take in recorded if take.usable]
    if not kept:
        raise FxcloneError("no part of the test signal was recorded whole, so nothing was written; capture again")
    rate = signal.sample_rate
    spans = [(signal.parts[take.part].start, signal.parts[take.part].stop) for take in kept]
    dry = np.concatenate([signal.sound[:, a:b] for a, b in spans], axis=1)
    wet = np.concatenate([take.wet for take in kept], axis=1)
    notes = [*notes, *_notes(signal, timing, takes, kept)]
    placement = timing.placement
    lag = None if placement is None else timing.late_at(signal.markers[0])
    clipped = sum(take.clipped for take in kept)
    if clipped:
        notes.append(f"the return clips in {clipped} places: turn the input down, unless the pedal itself clips there")
    noise_db = noise_floor_db(signal, first, timing)
    replicate_db = _replicate_esr_db(signal, kept)
    if replicate_db is not None and replicate_db > NOISY_ESR_DB:
        notes.append(
            f"the same passage played twice differs by {replicate_db:.0f} dB: the gear is noisy or changes with time, "
            "and no clone can come closer than that"
        )
    polarity = 0 if placement is None else int(np.sign(sum(fix.polarity for fix in placement.fixes.values())))
    known = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sample_rate": rate,
        "seconds": round(dry.shape[1] / rate, 3),
        "dry_peak_dbfs": _db(peak(dry)),
        "wet_peak_dbfs": _db(peak(wet)),
        "wet_rms_dbfs": _db(rms(wet)),
        "noise_floor_dbfs": noise_db,
        "clipped_places": clipped,
        "polarity": polarity,
        "latency": {
            "source": timing.source,
            "round_trip_samples": None if lag is None else round(lag, 4),
            "round_trip_ms": None if lag is None else round(1e3 * lag / rate, 4),
            "removed_samples": timing.cut,
            "left_samples": None if lag is None else round(lag - timing.cut, 4),
            "loopback_samples": None if loopback_samples is None else round(loopback_samples, 4),
            "pedal_samples": None if lag is None or loopback_samples is None else round(lag - loopback_samples, 4),
            "drift_ppm": None if placement is None else round(placement.drift_ppm, 3),
            "wander_samples": None if placement is None else round(placement.wander_samples, 4),
            "wandering": timing.wandering,
        },
        "replicate_esr_db": replicate_db,
        "parts": _parts(signal, takes, kept),
        "retakes": sum(take.take > 1 for take in takes.values()),
        "complete": len(kept) == len(signal.parts),
        "signal_seconds": round(signal.seconds, 3),
    }
    return CaptureResult(dry, wet, rate, {**known, **facts, "notes": list(notes)}, tuple(notes))


def noise_floor_db(signal: CaptureSignal, first: Recorded, timing: Timing) -> float | None:
    """Level of the return in the second half of the silence before the first marker; None if that was not recorded."""
    half = round(LEAD_S * signal.sample_rate / 2)
    end = signal.lead - first.start + timing.cut
    quiet = first.sound[:, max(0, end - half) : max(0, end)]
    return _db(rms(quiet)) if quiet.shape[1] > half // 4 else None


def _db(gain: float) -> float:
    return round(max(-200.0, gain_to_db(gain)), 2)


def _notes(signal: CaptureSignal, timing: Timing, takes: dict[int, PartTake], kept: list[PartTake]) -> list[str]:
    notes = []
    if timing.wandering and timing.placement is not None:
        notes.append(
            f"the latency moves, typically by {timing.placement.wander_samples:.1f} samples: tape, chorus or the like"
        )
    flawed = [take for take in kept if not take.whole]
    if flawed:
        notes.append(
            f"the device reported drop-outs in {len(flawed)} of {len(signal.parts)} parts at every try; they are kept "
            "because there is nothing better: try a larger --block, and close other programs"
        )
    left_out = [take for take in takes.values() if take not in kept]
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(signal.parts)} parts had drop-outs at every try and are left out: try a larger "
            "--block, and close other programs"
        )
    if any(take.accepted for take in kept):
        notes.append("gaps or repeats came twice at the same places, so they count as the effect's own")
    return notes


def _parts(signal: CaptureSignal, takes: dict[int, PartTake], kept: list[PartTake]) -> list[dict[str, Any]]:
    """One entry for each part of the signal; where it is in the files, if it is there."""
    rows, at = [], 0
    usable = {take.part for take in kept}
    for number, part in enumerate(signal.parts):
        take = takes.get(number)
        row: dict[str, Any] = {"kind": part.kind, "samples": part.stop - part.start, "kept": number in usable}
        if take is not None:
            row |= {
                "take": take.take,
                "lag_samples": None if take.lag_samples is None else round(take.lag_samples, 4),
                "faults": [{"kind": f.kind, "at": f.at, "samples": f.samples} for f in take.faults],
                "faults_are_the_effect": take.accepted,
                "same_as_another_take": take.proved,
            }
        if number in usable:
            row["start"] = at
            at += part.stop - part.start
        rows.append(row)
    return rows


def _replicate_esr_db(signal: CaptureSignal, kept: list[PartTake]) -> float | None:
    """How far a passage is from itself, the second time: ESR in dB. None if one of the two is missing or silent."""
    where = signal.replicate
    if where is None:
        return None
    sounds = []
    for start in where[:2]:
        for take in kept:
            part = signal.parts[take.part]
            if part.start <= start and start + where[2] <= part.stop:
                sounds.append(take.wet[:, start - part.start : start - part.start + where[2]].astype(np.float64))
    if len(sounds) != 2 or not np.any(sounds[0]):
        return None
    return round(power_to_db(float(np.sum((sounds[0] - sounds[1]) ** 2) / np.sum(sounds[0] ** 2))), 2)


def check_folder(folder: Path, *, force: bool) -> Path:
    """Return ``folder`` if a capture may be written there; to be called before anything is played.

    Raises
    ------
    UsageError
        If it holds a capture and ``force`` is not given, is a file, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected the name of a folder to make: choose another with -o")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not force:
        raise UsageError(
            f"{folder} holds {', '.join(there)} already; choose another folder with -o, or add --force to replace it"
        )
    parent = folder if folder.is_dir() else folder.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"the folder {parent} does not exist; make it first, or choose another with -o")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"the folder {parent} cannot be written to; choose another with -o")
    return folder


def write_capture(result: CaptureResult, folder: Path, *, force: bool = False) -> Path:
    """Write ``dry.wav``, ``wet.wav`` (32-bit float) and ``capture.json``; the folder appears whole or not at all.

    Raises
    ------
    UsageError
        As `check_folder`.
    FxcloneError
        If it cannot be written, for instance because the disk is full.
    """
    check_folder(folder, force=force)
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    except OSError as error:
        raise FxcloneError(
            f"could not make a folder beside {folder}: {error.strerror}; choose another with -o"
        ) from None
    try:
        write_sound(made / "dry.wav", result.dry, result.sample_rate, subtype="float")
        write_sound(made / "wet.wav", result.wet, result.sample_rate, subtype="float")
        (made / "capture.json").write_text(json.dumps(result.facts, indent=2) + "\n")
        if folder.is_dir():
            for name in FILES:
                (made / name).replace(folder / name)
        else:
            umask = os.umask(0)
            os.umask(umask)
            made.chmod(0o777 & ~umask)
            made.rename(folder)
    except OSError as error:
        raise FxcloneError(f"could not write {folder}: {error.strerror}; free some space or choose another") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def add_fact(result: CaptureResult, folder: Path, name: str, value: Any) -> None:
    """Add something found out later to the facts and to ``capture.json``."""
    result.facts[name] = value
    with atomic_output(folder / "capture.json", force=True) as path:
        path.write_text(json.dumps(result.facts, indent=2) + "\n")
