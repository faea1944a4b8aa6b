"""What the player sees: a header, a live line on a terminal, and a summary."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxclone_realtime.devices import DeviceInfo
    from fxclone_realtime.player import Session

METER_CELLS = 14
STEREO_CELLS = 8
"""There are three meters then."""
METER_FLOOR_DB = -60.0
AUDIBLE_TAIL_S = 0.1
"""The header tells of longer ones."""
REFRESH_S = 0.1


def header(session: Session) -> str:
    """One line: models, devices, rate, channels, block, latency, tail, and how to stop."""
    engine, latency = session.engine, session.latency_ms
    names = " > ".join(clone.name for clone in session.clones)
    device = "null device (no sound card)" if session.device.name == "null" else session.device.name
    if session.options.input_file is not None:
        device += f", from {session.options.input_file.name}"
    device_ms = latency["device_in"] + latency["device_out"]
    tail = f", tail {session.tail_s:.1f} s" if session.tail_s >= AUDIBLE_TAIL_S else ""
    return (
        f"{names} on {device}: {engine.sample_rate} Hz, {session.sound}, blocks of {engine.max_block}, "
        f"latency {device_ms:.1f} ms (device) + {latency['clone']:.1f} ms (clone){tail}. Ctrl-C stops."
    )


def meter(peak: float, cells: int = METER_CELLS) -> str:
    """A level as a bar from -60 dBFS to 0 and a number."""
    db = 20.0 * math.log10(peak) if math.isfinite(peak) and peak > 1e-10 else -200.0
    full = round(cells * min(1.0, max(0.0, 1.0 - db / METER_FLOOR_DB)))
    shown = f"{db:4.0f}" if db > -100 else " off"
    return f"{'█' * full}{'·' * (cells - full)}{shown}"


class LiveLine:
    """Redraws one line in place, ten times a second, and prints trips above it. Silent unless on a terminal."""

    def __init__(self) -> None:
        self.shown = sys.stdout.isatty()
        self._drawn_at = 0.0
        self._told = 0
        self._header_done = False

    def tick(self, session: Session) -> None:
        """Draw, if it is time to; called from the main thread, never from the audio callback."""
        if not self._header_done:
            self._header_done = True
            for note in session.notes:
                _say(note)
            _say(header(session))
        trips = session.monitor.status.trips
        while self._told < len(trips):
            self._wipe()
            _say(f"monitor {trips[self._told]}")
            self._told += 1
        now = time.perf_counter()
        if self.shown and now - self._drawn_at >= REFRESH_S:
            self._drawn_at = now
            sys.stdout.write("\r\x1b[K" + live_text(session))
            sys.stdout.flush()

    def end(self) -> None:
        """Remove the line."""
        self._wipe()

    def _wipe(self) -> None:
        if self.shown:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


def live_text(session: Session) -> str:
    """The live line, with a meter for each output if they differ; fits 80 columns."""
    meters = session.engine.meters
    dry, wet = meters.take_peaks()
    load = 100 * meters.last_callback_s / session.engine.budget_s
    state = "BYPASS" if session.monitor.status.bypassed else f"trips {session.monitor.status.trip_count}"
    if session.engine.wet_channels == len(wet) == 2:
        levels = f"in {meter(dry, STEREO_CELLS)} out {' '.join(meter(each, STEREO_CELLS) for each in wet)}"
    else:
        levels = f"in {meter(dry)} out {meter(max(wet))}"
    return f"{levels} cpu {load:3.0f}% xruns {meters.xruns} {state}"


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
    if report["record"]:
        lost = (
            f" ({report['record_lost_samples']} samples lost: the disk is slow)"
            if report["record_lost_samples"]
            else ""
        )
        lines.append(f"wrote {report['record']}{lost}")
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
