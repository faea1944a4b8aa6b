"""An hour of playing through each preset's clone, faster than real time: does the monitor keep quiet, does it drift?

One clone and one JSON file for each preset lie in a folder; what is there is not made again, so that a long run may be
stopped and gone on with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.audio import Audio
from fxclone.errors import FxcloneError
from fxclone.presets import available_presets
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.player import Session

sys.path.insert(0, str(common.ROOT / "tests"))
from normal_playing import RATE, drift_db, takes

BLOCK = 1024
"""As long as the monitor takes at once: what the clone does for each block is done rarely, and the hour is short."""
CEILING_DB = 6.0
"""High, so that it does not hide a drift."""
SLOWEST = 4.0
"""Times real time: below, an hour would take a quarter of one, and is left out."""
TRIAL_S = 3.0


@dataclass
class Hour:
    """What came of one preset. ``why`` says why nothing was played, ``asked`` how many minutes should be."""

    preset: str
    asked: float = 0.0
    why: str = ""
    family: str = ""
    esr_db: float | None = None
    minutes: float = 0.0
    trips: list[dict[str, Any]] = field(default_factory=list)
    drift_db: float = 0.0
    peak_db: float = -200.0
    not_finite: int = 0
    times_real_time: float = 0.0
    """By the processor's time: what else runs on the machine does not count."""

    def row(self) -> list[str]:
        """For the table."""
        esr = "-" if self.esr_db is None else f"{self.esr_db:.1f}"
        if self.why:
            return [self.preset, self.family or "-", esr, "-", "-", "-", "-", f"{self.times_real_time:.1f}"]
        return [
            self.preset,
            self.family,
            esr,
            f"{self.minutes:.1f}",
            str(len(self.trips)),
            f"{self.drift_db:+.4f}",
            f"{self.peak_db:.1f}",
            f"{self.times_real_time:.0f}",
        ]


HEAD = ("preset", "family", "ESR dB", "minutes", "trips", "drift dB", "peak dBFS", "x real time")


def make(folder: Path, *, minutes: float, seed: int, recordings: list[Audio], train_s: float) -> None:
    """Make what is missing in the folder, or too short: the quickest first, the large original designs last."""
    folder.mkdir(parents=True, exist_ok=True)
    speeds = {hour.preset: hour.times_real_time for hour in finished(folder)}
    names = sorted(name for name, preset in available_presets().items() if preset.effect)
    names.sort(key=lambda name: (name.startswith("seed"), -speeds.get(name, 0.0)))
    for name in names:
        report = folder / f"{name}.json"
        if _asked(report) < minutes:
            hour = _hour(name, folder, minutes, seed, recordings, train_s)
            hour.asked = minutes
            report.write_text(json.dumps(asdict(hour), indent=1))
            print(" | ".join([*hour.row(), hour.why]), file=sys.stderr, flush=True)
            for trip in hour.trips:
                print(f"  {trip}", file=sys.stderr, flush=True)


def finished(folder: Path) -> list[Hour]:
    """What lies in the folder."""
    found = [Hour(**json.loads(report.read_text())) for report in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda hour: hour.preset.startswith("seed"))


def _asked(report: Path) -> float:
    return float(json.loads(report.read_text())["asked"]) if report.exists() else -1.0


def _hour(name: str, folder: Path, minutes: float, seed: int, recordings: list[Audio], train_s: float) -> Hour:
    clone = folder / f"{name}.onnx"
    if not clone.exists():
        why = _train(name, clone, train_s, seed)
        if why:
            return Hour(name, why=why)
    try:
        options = PlayOptions(models=(clone,), null=True, anyway=True, block=BLOCK, ceiling_db=CEILING_DB)
        session = Session(options)
    except FxcloneError as error:
        return Hour(name, why=str(error))
    meta = session.clones[0].meta
    esr = meta.metrics.get("esr_db")
    hour = Hour(name, family=meta.family, esr_db=float(esr) if isinstance(esr, int | float) else None)
    hour.times_real_time = 1.0 / max(1e-9, session.capacity.load)
    if hour.times_real_time < SLOWEST:
        hour.why = f"{hour.times_real_time:.1f} x real time: too slow for an hour"
        return hour
    _play(session, hour, minutes, seed, recordings)
    return hour


def _train(name: str, clone: Path, seconds: float, seed: int) -> str:
    """Train as a user would; return what went wrong, if anything did."""
    command = [sys.executable, "-m", "fxclone.cli", "train", "--preset", name, "--seconds", f"{seconds:g}"]
    command += ["--threads", "1", "--seed", str(seed), "--runs", str(clone.parent / "runs"), "-o", str(clone), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and clone.exists():
        return ""
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    return f"not trained: {lines[-1]}"


def _play(session: Session, hour: Hour, minutes: float, seed: int, recordings: list[Audio]) -> None:
    engine = session.engine
    engine.settle()
    count = max(3, round(minutes))
    out = np.zeros((engine.channels_out, BLOCK), np.float32)
    first = last = None
    samples, spent, peak = 0, 0.0, 0.0
    for take in takes(count, 60.0 * minutes / count, RATE, session.tail_s, seed, recordings):
        power, loudest = 0.0, 0.0
        began = time.process_time()
        for start in range(0, take.shape[1] - BLOCK + 1, BLOCK):
            engine.process_into(take[:, start : start + BLOCK], out)
            power += float(np.vdot(out, out))
            loudest = max(loudest, float(np.abs(out).max()))
        spent += time.process_time() - began
        if engine.failure is not None:
            hour.why = str(engine.failure)
            return
        hour.not_finite += int(not np.isfinite(power))
        last = np.array([np.sqrt(power)])
        first = last if first is None else first
        samples += take.shape[1]
        peak = max(peak, loudest)
    hour.minutes = samples / RATE / 60
    hour.trips = session.parts[0].monitor.status.as_dicts()
    hour.drift_db = float(drift_db(first, last))
    hour.peak_db = float(20 * np.log10(max(peak, 1e-10)))
    hour.times_real_time = samples / RATE / spent
