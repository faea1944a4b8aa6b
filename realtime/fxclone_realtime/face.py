"""What the player sees: a header, a live line on a terminal, and a summary."""

from __future__ import annotations

import math
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from fxclone_realtime.facts import Facts
from fxclone_realtime.meters import Meters

if TYPE_CHECKING:
    from fxclone_realtime.devices import DeviceInfo

METER_CELLS = 14
STEREO_CELLS = 8
"""There are three meters then."""
METER_FLOOR_DB = -60.0
AUDIBLE_TAIL_S = 0.1
"""The header tells of longer ones."""
REFRESH_S = 0.1
HOLD_S = 1.5
"""How long a peak stays marked."""
SILENT_INPUT, SILENT_S = 1e-4, 10.0
"""Under -80 dBFS for so long, nothing is plugged in."""
POOR_PRIORITY = "no raised priority"
BUSY_S, MOST_XRUNS, BUSY_LOAD = 5.0, 3, 0.5
"""So many drop-outs in that time, and they are explained. From that load on it is the clone itself."""


class Playing(Protocol):
    """What is shown: a `Session`, or the other process that runs one."""

    @property
    def facts(self) -> Facts:
        """What stays."""

    @property
    def meters(self) -> Meters:
        """What changes."""


def header(facts: Facts) -> str:
    """One line: chain, devices, rate, channels, block, latency, tail, and how to stop."""
    latency = facts.latency_ms
    device = "null device (no sound card)" if facts.device == "null" else facts.device
    if facts.input_file is not None:
        device += f", from {facts.input_file}"
    device_ms = latency["device_in"] + latency["device_out"]
    tail = f", tail {facts.tail_s:.1f} s" if facts.tail_s >= AUDIBLE_TAIL_S else ""
    return (
        f"{facts.chains[0]} on {device}: {facts.sample_rate} Hz, {facts.sound}, blocks of {facts.block}, "
        f"latency {device_ms:.1f} ms (device) + {latency['clone']:.1f} ms (clone){tail}. Ctrl-C stops."
    )


def meter(peak: float, cells: int = METER_CELLS, *, held: float = 0.0, clipped: bool = False) -> str:
    """A level as a bar from -60 dBFS to 0, with a mark where the highest of late was, and a number."""
    full = _cells(peak, cells)
    bar = list("█" * full + "·" * (cells - full))
    mark = _cells(held, cells) - 1
    if mark >= full:
        bar[mark] = "▏"
    shown = "CLIP" if clipped else f"{_db(peak):4.0f}" if _db(peak) > -100 else " off"
    return f"{''.join(bar)}{shown}"


def _db(peak: float) -> float:
    return 20.0 * math.log10(peak) if math.isfinite(peak) and peak > 1e-10 else -200.0


def _cells(peak: float, cells: int) -> int:
    return round(cells * min(1.0, max(0.0, 1.0 - _db(peak) / METER_FLOOR_DB)))


class PeakHold:
    """The highest of the last while, for one meter."""

    def __init__(self) -> None:
        self.peak, self._at = 0.0, 0.0

    def follow(self, peak: float, now: float) -> float:
        """Take a new peak, return the one to mark."""
        if not peak < self.peak or now - self._at > HOLD_S:
            self.peak, self._at = peak, now
        return self.peak


class Face:
    """On a terminal, three lines that are redrawn in place, and what happens above them; else only what happens."""

    def __init__(self) -> None:
        self.shown = sys.stdout.isatty()
        self._drawn_at = 0.0
        self._lines = 0
        self._facts: Facts | None = None
        self._hints = Hints()
        self._view = View()

    def tick(self, playing: Playing) -> None:
        """Draw, if it is time to."""
        facts, before = playing.facts, self._facts
        self._facts = facts
        if before is None or (before.device, before.sample_rate) != (facts.device, facts.sample_rate):
            for note in facts.notes:
                self.say(note)
            self.say(header(facts))
            if POOR_PRIORITY in facts.priority:
                self.say(f"the sound has {facts.priority}; drop-outs are likelier")
            self._hints, self._view = Hints(), View()
        now = time.perf_counter()
        if now - self._drawn_at < REFRESH_S:
            return
        self._drawn_at = now
        lines = self._view.lines(playing, now)
        for hint in self._hints.take(playing, self._view.dry_peak, now):
            self.say(hint)
        if self.shown:
            self._wipe()
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be wiped
            sys.stdout.write("\n".join("\r\x1b[K" + line[:width] for line in lines))
            sys.stdout.flush()
            self._lines = len(lines)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._wipe()
        _say(text)

    def end(self) -> None:
        """Remove the lines that do not stay."""
        self._wipe()

    def _wipe(self) -> None:
        if self._lines:
            sys.stdout.write("\r\x1b[K" + "\x1b[1A\r\x1b[K" * (self._lines - 1))
            sys.stdout.flush()
            self._lines = 0


class Hints:
    """What a player should hear about while playing, once for each time it begins."""

    def __init__(self) -> None:
        self._silent_since: float | None = None
        self._told_silence = False
        self._told_busy_at = -math.inf
        self._xruns: list[tuple[float, int]] = []

    def take(self, playing: Playing, dry_peak: float, now: float) -> list[str]:
        """What is new."""
        facts = playing.facts
        hints = []
        if dry_peak >= SILENT_INPUT:
            self._silent_since, self._told_silence = None, False
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > SILENT_S and not self._told_silence and facts.device != "null":
            self._told_silence = True
            hints.append("nothing comes in: is the cable in, the gain up, and --input-channel the right one?")
        meters = playing.meters
        self._xruns = [each for each in self._xruns if now - each[0] < BUSY_S]
        self._xruns.append((now, meters.xruns))
        if meters.xruns - self._xruns[0][1] >= MOST_XRUNS and now - self._told_busy_at > 6 * BUSY_S:
            self._told_busy_at = now
            hints.append(cannot_keep_up(facts, meters))
        return hints


def cannot_keep_up(facts: Facts, meters: Meters) -> str:
    """Say why there are drop-outs and what would help."""
    load = max(meters.load, facts.load)
    if load >= BUSY_LOAD:
        return f"drop-outs: this machine cannot keep up, blocks take {100 * load:.0f} % of their time; {facts.advice}"
    larger = 2 * facts.block
    return (
        f"drop-outs: the clone needs only {100 * load:.0f} % of the time, something else holds up the sound; close "
        f"other programs, or use --block {larger} ({facts.priority})"
    )


class View:
    """Peaks as they are held from one drawing to the next."""

    def __init__(self) -> None:
        self.dry_peak = 0.0
        self._holds: list[PeakHold] = []
        self._clips = (0, 0)
        self._clipped_at = [-math.inf, -math.inf]

    def lines(self, playing: Playing, now: float) -> list[str]:
        """Levels, state and keys."""
        return [self.levels(playing, now), state_text(playing), keys_text(playing.facts)]

    def levels(self, playing: Playing, now: float) -> str:
        """Meters, load and drop-outs; fits 80 columns."""
        meters, facts = playing.meters, playing.facts
        dry, wet = meters.take_peaks()
        self.dry_peak = dry
        clips = (meters.dry_clipped_blocks, meters.clipped_blocks)
        for side in (0, 1):
            if clips[side] != self._clips[side]:
                self._clipped_at[side] = now
        self._clips = clips
        dry_clipped, wet_clipped = (now - at < HOLD_S for at in self._clipped_at)
        stereo = facts.wet_channels == len(wet) == 2
        outs, cells = (list(wet), STEREO_CELLS) if stereo else ([max(wet)], METER_CELLS)
        self._holds += [PeakHold() for _ in range(1 + len(outs) - len(self._holds))]
        held = [hold.follow(peak, now) for hold, peak in zip(self._holds, [dry, *outs], strict=False)]
        shown = [meter(dry, cells, held=held[0], clipped=dry_clipped)]
        shown += [
            meter(each, cells, held=mark, clipped=wet_clipped) for each, mark in zip(outs, held[1:], strict=False)
        ]
        state = "BYPASS" if meters.bypassed or meters.bypass else f"trips {meters.trip_count}"
        load = min(999.0, 100 * meters.load)
        return f"in {shown[0]} out {' '.join(shown[1:])} cpu {load:3.0f}% xruns {meters.xruns} {state}"


def live_text(playing: Playing) -> str:
    """The line with the meters, with one for each output if they differ; fits 80 columns."""
    return View().levels(playing, time.perf_counter())


def state_text(playing: Playing) -> str:
    """What is heard and how: bypass, chain, mix, gains, latency, the longest callback."""
    meters, facts = playing.meters, playing.facts
    if meters.bypassed:
        heard = "DRY: the monitor has taken the clone out"
    elif meters.bypass:
        heard = "BYPASS: dry"
    elif meters.against:
        heard = f"ORIGINAL: {facts.against}"
    elif meters.voice < len(facts.chains):
        heard = facts.chains[meters.voice]
    else:
        heard = f"chain {meters.voice + 1}"
    latency, worst = facts.latency_ms["total"], 100 * meters.times.max_s / facts.budget_s
    figures = (
        f"mix {100 * meters.mix:.0f}%  in {meters.in_gain_db:+.0f}  out {meters.out_gain_db:+.0f} dB  "
        f"{latency:.1f} ms  worst {min(9999.0, worst):.0f}%"
    )
    room = 79 - len(figures) - 2
    return f"{heard if len(heard) <= room else heard[: room - 1] + '…':<{room}}  {figures}"


def keys_text(facts: Facts) -> str:
    """Which keys do what."""
    keys = ["b bypass"]
    if facts.against is not None:
        keys.append("a original")
    if len(facts.chains) > 1:
        keys.append("n next")
    return "  ".join([*keys, "m M mix", "- + volume", "[ ] drive", "q quit"])


def summary(report: dict[str, Any]) -> str:
    """A few lines at the end."""
    took, budget = report["callback_ms"], report["budget_ms"]
    lines = [
        f"played {report['seconds']:.1f} s in {report['blocks']} blocks, {report['xruns']} xruns; callback "
        f"p50 {took['p50']:.2f}, p99 {took['p99']:.2f}, p99.9 {took['p999']:.2f}, max {took['max']:.2f} ms "
        f"of {budget:.2f} ms"
    ]
    if report["first_sound_s"] is not None:
        lines[0] += f"; first sound after {report['first_sound_s']:.2f} s"
    if report["xruns"] and took["p50"] > 0.5 * budget:
        lines.append("drop-outs: a larger --block or a smaller model would help")
    elif report["xruns"]:
        lines.append("drop-outs: the model is quick enough; other programs held up this one (a larger --block helps)")
    if report["trip_count"]:
        bypass = ", now bypassed to dry" if report["bypassed"] else ""
        lines.append(f"the stability monitor stepped in {report['trip_count']} times{bypass}")
    if report.get("reconnects"):
        times = "once" if report["reconnects"] == 1 else f"{report['reconnects']} times"
        lines.append(f"the device was lost and came back {times}")
    for path in report["recordings"]:
        lost = (
            f" ({report['record_lost_samples']} samples lost: the disk is slow)"
            if report["record_lost_samples"]
            else ""
        )
        lines.append(f"wrote {path}{lost}")
    return "\n".join(lines)


def device_table(devices: list[DeviceInfo]) -> str:
    """All devices, one per line, the defaults marked."""
    rows = [("", "index", "name", "host API", "in", "out", "default Hz", "low latency ms", "usable Hz")]
    for d in devices:
        mark = (">" if d.is_default_input else " ") + ("<" if d.is_default_output else " ")
        rates = sorted(set(d.input_rates_hz) | set(d.output_rates_hz))
        both = f"{d.low_latency_in_ms:g} / {d.low_latency_out_ms:g}"
        usable = " ".join(f"{rate / 1000:g}k" for rate in rates) or "none of the usual"
        rows.append(
            (
                mark,
                str(d.index),
                d.name,
                d.host_api,
                str(d.inputs),
                str(d.outputs),
                str(d.default_rate_hz),
                both,
                usable,
            )
        )
    rows.append(("", "null", "no sound card: paced by the clock", "fxclone", "1", "2", "any", "1 block", "any"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    if not devices:
        return f"No audio devices on this machine. `fxclone play --device null` plays without one.\n{table}"
    return f"{table}\n> default input, < default output; choose with --input-device and --output-device"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
