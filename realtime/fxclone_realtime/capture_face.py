"""What whoever captures sees: a level meter with advice, a progress bar, and a summary with the next command."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from fxclone_realtime.capture_level import LevelAdvice
from fxclone_realtime.face import meter

BAR_CELLS = 24
REFRESH_S = 0.1


class TerminalFace:
    """Redraws one line in place on a terminal; elsewhere only the lines that stay. Silent if ``quiet``."""

    def __init__(self, *, quiet: bool = False, interactive: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stdout.isatty()
        self._interactive = interactive
        self._drawn_at = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        self._wipe()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def level(self, advice: LevelAdvice, peak: float) -> None:
        """The return's meter and what to do."""
        hint = " (Enter goes on)" if self._interactive else ""
        self._draw(f"{meter(peak)}  {advice.text}{hint}")

    def wants_on(self) -> bool:
        """Whether Enter was pressed since the last call."""
        return self._interactive and enter_pressed()

    def progress(self, done_s: float, total_s: float, what: str) -> None:
        """The bar."""
        share = min(1.0, done_s / max(total_s, 1e-9))
        cells = round(BAR_CELLS * share)
        bar = "█" * cells + "·" * (BAR_CELLS - cells)
        self._draw(f"{what} {bar} {done_s:.0f} of {total_s:.0f} s  (Ctrl-C keeps what is whole)")

    def end(self) -> None:
        """Remove the live line."""
        self._wipe()

    def _draw(self, text: str) -> None:
        now = time.perf_counter()
        if self._live and now - self._drawn_at >= REFRESH_S:
            self._drawn_at = now
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken back
            sys.stdout.write("\r\x1b[K" + text[:width])
            sys.stdout.flush()

    def _wipe(self) -> None:
        if self._live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


def enter_pressed() -> bool:
    """Whether a line is waiting on the terminal; takes it. Never waits itself."""
    if sys.platform == "win32":
        import msvcrt

        pressed = False
        while msvcrt.kbhit():
            pressed = msvcrt.getwch() in "\r\n" or pressed
        return pressed
    import select

    if not select.select([sys.stdin], [], [], 0.0)[0]:
        return False
    sys.stdin.readline()
    return True


def train_command(folder: Path) -> str:
    """The command that makes a clone of a capture."""
    return f"fxclone train --dry {shlex.quote(str(folder / 'dry.wav'))} --wet {shlex.quote(str(folder / 'wet.wav'))}"


def summary(facts: dict[str, Any], folder: Path) -> str:
    """A few lines at the end."""
    latency = facts["latency"]
    kept = sum(part["kept"] for part in facts["parts"])
    lines = ["stopped early; what is whole is kept"] if facts["interrupted"] else []
    lines += [f"kept {facts['seconds']:.1f} s: {kept} of {len(facts['parts'])} parts, {facts['retakes']} retaken"]
    if latency["round_trip_samples"] is not None:
        line = f"round trip {latency['round_trip_ms']:.2f} ms ({latency['round_trip_samples']:.2f} samples)"
        if latency["pedal_samples"] is not None:
            pedal_ms = 1e3 * latency["pedal_samples"] / facts["sample_rate"]
            line += f", of which the pedal {pedal_ms:.2f} ms ({latency['pedal_samples']:.2f} samples)"
        turned = {1: "not inverted", -1: "inverted"}.get(facts["polarity"], "polarity unknown")
        lines.append(f"{line}; {turned}")
    noise = facts["noise_floor_dbfs"]
    floor = "" if noise is None else f", noise floor {noise:.0f} dBFS"
    lines.append(f"return peaks at {facts['wet_peak_dbfs']:.1f} dBFS{floor}".replace("-", "−"))
    lines += [f"note: {note}" for note in facts["notes"]]
    lines.append(f"wrote {folder}/dry.wav, wet.wav and capture.json")
    return "\n".join(lines)
