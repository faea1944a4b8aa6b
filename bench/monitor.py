"""What the stability monitor costs, whether it keeps quiet while all is well, and how soon it sees each fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.audio import Audio
from fxclone.clone import Clone, load_clone
from fxclone.files import read_sound
from fxclone.presets import available_presets
from fxclone.stability import StabilityMonitor
from fxclone_realtime.ceiling import SoftCeiling

sys.path.insert(0, str(common.ROOT / "tests"))
import faulty_clones as faulty
import monitor_hours
from faults import Gain, playing
from normal_playing import Rendered, drift_db, levels_of, takes

RATE = faulty.RATE
BLOCKS = (32, 64, 128)
BLOCK = 64
QUIET_BLOCK = 512
HOURS_HEAD = "## An hour of each preset"
OTHERS = {
    "tanh of +40 dB": "tanh(drive=100)",
    "bitcrush, 8 kHz": "resample(target_sample_rate=8000) > bitcrush(bit_depth=8)",
    "ring modulator, 8 kHz": "ringmod(frequency_hz=8000)",
    "ring modulator, 23 kHz": "ringmod(frequency_hz=23000)",
    "flanger, feedback 0.9": "chorus(rate_hz=0.3, centre_delay_ms=2, feedback=0.9, mix=0.5)",
    "ladder, resonance 0.95": "ladder(resonance=0.95, cutoff_hz=800)",
    "limiter": "limiter",
}
"""Beside the presets: what looks most like a fault."""


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_monitor.md")
    ask.add_argument("--minutes", type=float, default=60.0, help="simulated playing for each effect and clone")
    ask.add_argument("--cost-seconds", type=float, default=6.0, help="of sound for each figure of cost")
    ask.add_argument("--clone", type=Path, action="append", default=[], help="watch this 48 kHz mono clone too")
    ask.add_argument("--hours", type=Path, help="train each preset's clone into this folder and play it for an hour")
    ask.add_argument("--hour-minutes", type=float, default=60.0, help="simulated playing for each of these")
    ask.add_argument("--train-seconds", type=float, default=45.0, help="for each of these that is not there yet")
    ask.add_argument("--only-hours", action="store_true", help="do nothing else; of the page only that section")
    ask.add_argument("--no-more-hours", action="store_true", help="only tell what --hours holds already")
    options = ask.parse_args()
    recordings = dry_recordings()
    hours = []
    if options.hours is not None:
        if not options.no_more_hours:
            monitor_hours.make(
                options.hours,
                minutes=options.hour_minutes,
                seed=options.seed,
                recordings=recordings,
                train_s=options.train_seconds,
            )
        hours = monitor_hours.finished(options.hours)
        if options.only_hours:
            section = hours_section(hours, options.train_seconds)
            there = common.DOCS / "bench_monitor.md"
            if options.write and there.exists():
                section = with_section(there.read_text(), section)
            common.publish(section.strip(), "bench_monitor.md", write=options.write)
            return
    here = common.machine("onnxruntime")
    matmul = common.Yardstick()
    matmul.measure(20)
    cost = cost_rows(options.cost_seconds, options.seed)
    faults = [fault_row(name, *case, options.seed) for name, case in FAULTS.items()]
    inputs = [input_row(name, bad, options.seed) for name, bad in INPUTS.items()]
    expressions = {name: preset.effect for name, preset in available_presets().items() if preset.effect} | OTHERS
    quiet = [quiet_row(name, text, options, recordings) for name, text in expressions.items()]
    clones = {"one-pole clone (twin on)": faulty.sound_one()}
    clones |= {f"clone: {path.stem}": load_clone(path) for path in options.clone}
    quiet += [quiet_clone_row(name, clone, options, recordings) for name, clone in clones.items()]
    trips = sum(int(row[2]) for row in quiet)
    also = ", recordings of guitars, a bass, drums, a trumpet and speech" if recordings else ""
    page = f"""# The stability monitor

{common.command()}

Machine: {here}. One thread, {RATE} Hz, seed {options.seed}.

## Cost

Time that the monitor adds to a block: the median over {options.cost_seconds:g} s of sound with it, less the median
without; in turns, so that what else runs on the machine meets both alike. The spectrum is looked at every 50 ms, in
parts: p99 has that in it, and what the machine did meanwhile. "Twin" is a clone with feedback, which is put to the test
every few seconds. Yardstick: a 256 x 256 matrix product in numpy took {1e3 * matmul.seconds:.2f} ms here.

{common.table(["what is watched", "block", "us a block", "% of the budget", "p99 us"], cost)}

## False alarms

{options.minutes:g} simulated minutes each, in blocks of {QUIET_BLOCK}: generated guitar, bass, drums, voice, power
chords that ring, held tones, noise, mains hum{also}, from 0 to -60 dBFS, with pauses. An effect plays
itself, rendered beforehand, with the levels that a training would have stored. A clone plays live; its first and its
last take are the same sound, and drift is how much louder the last came out. In all, {trips} trips.

{common.table(["effect", "minutes", "trips", "drift dB", "x real time"], quiet)}
{hours_section(hours, options.train_seconds)}
## Faults

Clones in onnxruntime that have a fault, in blocks of {BLOCK}, plucked notes at -10 dBFS from the first sample on. Peak:
the loudest that was heard, after the ceiling of 0 dBFS. Bypassed: when the dry sound took over for good, because the
fault came back.

{common.table(["fault", "trip", "after s", "peak dBFS", "not finite", "bypassed after s"], faults)}

Half a second of bad input to a clone that is well. Back: from the end of the cause until what is heard is, to 1e-4,
what the clone makes of that input, cleaned.

{common.table(["input", "trip", "peak dBFS", "not finite", "back after ms"], inputs)}"""
    common.publish(page, "bench_monitor.md", write=options.write)


def dry_recordings() -> list[Audio]:
    """Real playing, where there is any, (samples,) each."""
    if not common.DRY.is_dir():
        return []
    return [read_sound(path, sample_rate=RATE)[0][0] for path in sorted(common.DRY.glob("*.flac"))]


def hours_section(hours: list[monitor_hours.Hour], train_s: float) -> str:
    """The hour of each preset's clone."""
    if not hours:
        return ""
    played = [hour for hour in hours if not hour.why]
    trips = sum(len(hour.trips) for hour in played)
    drift = max((abs(hour.drift_db) for hour in played), default=0.0)
    left_out = "".join(f"\n- {hour.preset}: {hour.why}" for hour in hours if hour.why)
    together_h = sum(hour.minutes for hour in played) / 60
    return f"""
{HOURS_HEAD}

{common.command()}; {common.machine("onnxruntime")}

The clone that `fxclone train --preset NAME --seconds {train_s:g}` gives (120 for one that did not come out stable), in
the engine of `fxclone play`, faster than real time in blocks of {monitor_hours.BLOCK}: the same varied playing for all,
from 0 to -60 dBFS, with pauses. The first and the last minute are the same sound; drift is how much louder the last
came out. ESR is what so short a training came to beside whatever else the machine did: how stable a clone is, is the
question here, not how close. One with fewer minutes has yet to play the rest of its hour: `bench/monitor.py --hours
FOLDER --only-hours` goes on. The large original designs (seed-...) come last, and play only if they are quicker than
{monitor_hours.SLOWEST:g} x real time (see bench_live_cost.md).
{len(played)} clones, {together_h:.1f} hours: {trips} trips, and drift of at most {drift:.4f} dB.

{common.table(monitor_hours.HEAD, [hour.row() for hour in played])}
{f"{chr(10)}Not played:{chr(10)}{left_out}{chr(10)}" if left_out else ""}"""


def with_section(page: str, section: str) -> str:
    """The page with its section of hours replaced, or put before that of faults."""
    before, found, after = page.partition(HOURS_HEAD)
    if found:
        return before.rstrip("\n") + "\n" + section + "\n## " + after.partition("\n## ")[2]
    before, found, after = page.partition("## Faults")
    return before.rstrip("\n") + "\n" + section + "\n" + found + after


def cost_rows(seconds: float, seed: int) -> list[list[str]]:
    """Time with and without the monitor, in turns."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, make, channels in (
        ("nothing, mono", lambda: Gain(0.5), 1),
        ("nothing, stereo", lambda: Gain(0.5), 2),
        ("twin, mono", faulty.sound_one, 1),
    ):
        for block in BLOCKS:
            bare, watched = make(), StabilityMonitor(make())
            for processor in (bare, watched):
                processor.prepare(RATE, block, channels)
            sound = np.repeat(playing(rng, RATE, seconds), channels, axis=0)
            times: list[list[float]] = [[], []]
            for start in range(0, sound.shape[1] - block + 1, block):
                piece = np.ascontiguousarray(sound[:, start : start + block])
                for processor, spent in zip((bare, watched), times, strict=True):
                    began = time.perf_counter()
                    processor.process(piece)
                    spent.append(time.perf_counter() - began)
            without, with_it = (1e6 * np.array(spent[100:]) for spent in times)
            added = float(np.median(with_it) - np.median(without))
            late = float(np.percentile(with_it, 99) - np.median(without))
            budget = block / RATE * 1e6
            rows.append([name, str(block), f"{added:.0f}", f"{100 * added / budget:.1f}", f"{late:.0f}"])
    return rows


def quiet_row(name: str, expression: str, options, recordings: list[Audio]) -> list[str]:
    """Normal playing through an effect."""
    effect = Rendered(expression)
    monitor = StabilityMonitor(effect, levels_of(expression))

    def load(take: Audio) -> None:
        effect.load(take)

    return _quiet(name, monitor, effect.tail_samples / RATE, load, options, recordings)


def quiet_clone_row(name: str, clone: Clone, options, recordings: list[Audio]) -> list[str]:
    """Normal playing through a clone."""
    tail_s = clone.tail_samples / RATE
    return _quiet(name, StabilityMonitor(clone), tail_s, lambda take: None, options, recordings, live=True)


def _quiet(name, monitor, tail_s, load, options, recordings, *, live=False) -> list[str]:
    count = max(3, round(options.minutes))
    first = last = None
    samples, spent = 0, 0.0
    for take in takes(count, 60.0 * options.minutes / count, RATE, tail_s, options.seed, recordings):
        load(take)
        began = time.perf_counter()
        if first is None:
            monitor.prepare(RATE, QUIET_BLOCK, 1)
        parts = [monitor.process(take[:, i : i + QUIET_BLOCK]).copy() for i in range(0, take.shape[1], QUIET_BLOCK)]
        spent += time.perf_counter() - began
        last = np.concatenate(parts, axis=1)
        first = last if first is None else first
        samples += take.shape[1]
    drift = f"{drift_db(first, last):+.3f}" if live else "-"  # what was rendered beforehand cannot drift
    speed = samples / RATE / spent
    if monitor.status:
        print(f"{name}: {monitor.status}", file=sys.stderr)
    return [name, f"{samples / RATE / 60:.1f}", str(monitor.status.trip_count), drift, f"{speed:.0f}"]


FAULTS = {
    "feedback over 1": (faulty.over_one, 4.0),
    "NaN after 10 s of samples": (lambda: faulty.nan_after(10 * RATE), 12.0),
    "limit cycle, 3 kHz": (lambda: faulty.limit_cycle(3_000, 0.1), 8.0),
    "oscillation at Nyquist": (faulty.nyquist, 4.0),
    "DC that creeps up, 0.1 a second": (faulty.drift, 8.0),
    "a state that never forgets": (faulty.unforgetting, 14.0),
}


def heard(processor, sound: Audio) -> tuple[Audio, StabilityMonitor, int]:
    """What reaches the ears, the monitor, and how many samples of it were no numbers."""
    monitor = StabilityMonitor(processor)
    monitor.prepare(RATE, BLOCK, 1)
    ceiling = SoftCeiling(1, BLOCK, 1.0)
    out = np.empty_like(sound)
    broken = 0
    with np.errstate(all="ignore"):
        for start in range(0, sound.shape[1], BLOCK):
            here = out[:, start : start + BLOCK]
            here[...] = monitor.process(sound[:, start : start + BLOCK])
            broken += here.size - int(np.isfinite(here).sum())
            ceiling.apply(here)
    return out, monitor, broken


def fault_row(name: str, make: Callable[[], Clone], seconds: float, seed: int) -> list[str]:
    """A faulty clone, played."""
    sound = playing(np.random.default_rng(seed), RATE, seconds)
    out, monitor, broken = heard(make(), sound)
    trips = monitor.status.trips
    bypassed = [trip.time_s for trip in trips if "bypassed" in trip.action]
    what, when = (trips[0].what, f"{trips[0].time_s:.2f}") if trips else ("none", "-")
    later = f"{bypassed[0]:.2f}" if bypassed else "-"
    return [name, what, when, f"{20 * np.log10(np.abs(out).max()):.1f}", str(broken), later]


INPUTS = {
    "NaN": lambda sound: np.full_like(sound, np.nan),
    "+1000": lambda sound: np.full_like(sound, 1_000.0),
    "-1000": lambda sound: np.full_like(sound, -1_000.0),
    "DC of 0.9": lambda sound: np.full_like(sound, 0.9),
    "silence after loud": np.zeros_like,
    "full-scale noise": lambda sound: np.random.default_rng(1).uniform(-1, 1, sound.shape).astype(np.float32),
}


def input_row(name: str, bad: Callable[[Audio], Audio], seed: int) -> list[str]:
    """A bad input to a good clone."""
    sound = playing(np.random.default_rng(seed), RATE, 4.0)
    begins, ends = 2 * RATE, 2 * RATE + RATE // 2
    sound[:, begins:ends] = bad(sound[:, begins:ends])
    out, monitor, broken = heard(faulty.sound_one(), sound)
    clean = np.clip(np.nan_to_num(sound, nan=0.0), -4.0, 4.0)
    wrong = np.flatnonzero(np.abs(out - faulty.sound_one().render(clean))[0, ends:] > 1e-4)
    back_ms = 1e3 * (int(wrong[-1]) + 1) / RATE if wrong.size else 0.0
    told = monitor.status.trips[0].what if monitor.status else "none"
    return [name, told, f"{20 * np.log10(np.abs(out).max()):.1f}", str(broken), f"{back_ms:.1f}"]


if __name__ == "__main__":
    main()
