"""Does playing keep up? `fxclone play` on a real stream, beside a callback that only copies its input.

JACK's dummy driver is the sound card (48 kHz; its period is the block). Both programs are clients of the same server at
the same time: `fxclone play` with its stability monitor on, its meters drawn on a terminal of 80 columns, looping
music; and a Python callback that does nothing but copy, with the same priority. What both suffer is the machine's.
After each case a third one, with the same kind of stream and the same priority, does one small numpy sum over and over,
as often as it takes to be busy for as long as the median block of `fxclone play`: how much later than usual that ends
is the machine's too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import numpy as np

sys.path.insert(0, str(common.ROOT / "tests"))

SAMPLE_RATE = 48_000
BUSY_TRIALS, BUSY_TRIAL_S = 5, 0.4
"""How often, and for how long each, the busy callback tries how much it has to do."""
SHARE = 0.5
"""Of the budget that 99.9 % of the callbacks may take."""


@dataclass(frozen=True)
class Case:
    """What is played."""

    block: int
    channels: int = 1
    clones: int = 1

    @property
    def name(self) -> str:
        """For the table."""
        sound = {1: "mono", 2: "stereo"}[self.channels]
        return f"block {self.block}, {sound}" + (f", chain of {self.clones}" if self.clones > 1 else "")


MAIN = Case(64)
OTHERS = (
    Case(64, 2),
    Case(64, 1, 3),
    Case(32),
    Case(32, 2),
    Case(32, 1, 3),
    Case(128),
    Case(128, 2),
    Case(128, 1, 3),
)


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_live_engine.md")
    ask.add_argument("--minutes", type=float, default=10.0, help="of block 64, mono")
    ask.add_argument("--other-minutes", type=float, default=1.0, help="of each other case")
    ask.add_argument("--busy-minutes", type=float, default=0.3, help="of the busy callback after each case")
    ask.add_argument("--model", type=Path, default=None, help="clone to play, mono and 48 kHz; else an untrained one")
    ask.add_argument(
        "--only", action="append", default=[], help="such a case, by the name it has in the table; several"
    )
    options = ask.parse_args()
    here = common.machine("onnxruntime", "sounddevice")
    cases = [(MAIN, options.minutes), *((case, options.other_minutes) for case in OTHERS)]
    if unknown := set(options.only) - {case.name for case, _ in cases}:
        raise SystemExit(f"no case {', '.join(unknown)}; there are: {'; '.join(case.name for case, _ in cases)}")
    cases = [(case, minutes) for case, minutes in cases if not options.only or case.name in options.only]
    stolen = Stolen()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or untrained_clone(Path(folder), options.seed)
        rows, verdicts = [], []
        for case, minutes in cases:
            reports = measured(case, minutes, options.busy_minutes, model, Path(folder), options.seed)
            rows.append(row_of(case, minutes, *reports))
            verdicts += failings(case, *reports)
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
        end = stolen.text()
        end += "" if options.only else latency_section(Path(folder), model)
    common.publish(page(options, here, model, rows, verdicts, end), "bench_live_engine.md", write=options.write)


class Stolen:
    """The time that a host takes from the virtual machine in which this runs (Linux), by the kernel's own counters."""

    def __init__(self) -> None:
        self._began, self._before_s = time.perf_counter(), self._taken_s()

    @staticmethod
    def _taken_s() -> float | None:
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
            return int(fields[8]) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return None

    def text(self) -> str:
        """A sentence for the page; empty where nothing was taken, or nobody knows."""
        now_s = self._taken_s()
        taken_s = 0.0 if now_s is None or self._before_s is None else now_s - self._before_s
        if taken_s <= 0.0:
            return ""
        minutes = (time.perf_counter() - self._began) / 60.0
        return (
            f" This one is a virtual machine: its host took {1e3 * taken_s / minutes:.0f} ms a minute from its "
            f"{os.cpu_count()} cores,\nwhich no priority prevents."
        )


def untrained_clone(folder: Path, seed: int) -> Path:
    """The shape that a preset trains, with small random weights: cost depends on the shape alone."""
    from live_cost import SHAPES, make_clones

    name = "ar window, m=16, 16 relu"
    make_clones({name: SHAPES[name]}, seed, folder)
    (path,) = [path for path in folder.glob("*.onnx") if not path.name.startswith("overhead")]
    return path


Report = dict[str, Any]


def measured(
    case: Case, minutes: float, busy_minutes: float, model: Path, folder: Path, seed: int
) -> tuple[Report, Report, Report]:
    """Run `fxclone play` and the copying callback side by side, then the busy one; return their reports."""
    from jack import jack_server

    from fxclone.files import write_sound
    from fxclone.signals import training_sound

    take = folder / f"take-{case.channels}.wav"
    if not take.exists():
        sides = [training_sound(20.0, SAMPLE_RATE, seed=seed + side)[0] for side in range(case.channels)]
        write_sound(take, np.stack(sides), SAMPLE_RATE, subtype="float")
    seconds = 60.0 * minutes
    me = [sys.executable, str(Path(__file__).resolve())]
    sounds = folder / "sounds"
    sounds.unlink(missing_ok=True)
    job = {"models": [str(model)] * case.clones, "take": str(take), "block": case.block, "seconds": seconds}
    job["sounds"] = str(sounds)
    with jack_server(SAMPLE_RATE, case.block) as server:
        files = {name: folder / f"{name}.json" for name in ("play", "plain", "busy")}
        for file in files.values():
            file.unlink(missing_ok=True)
        plain = subprocess.Popen(
            [*me, "--as", "plain", json.dumps({**job, "report": str(files["plain"])})], env=server.environment
        )
        time.sleep(1.0)
        on_a_terminal([*me, "--as", "play", json.dumps({**job, "report": str(files["play"])})], server.environment)
        usual_s = 1e-3 * json.loads(files["play"].read_text())["callback_ms"]["p50"]
        job = {"block": case.block, "seconds": 60.0 * busy_minutes, "busy_s": usual_s, "report": str(files["busy"])}
        subprocess.run([*me, "--as", "busy", json.dumps(job)], env=server.environment, check=True)
        plain.terminate()
        plain.wait(timeout=30)
    played, copied, busied = (json.loads(file.read_text()) for file in files.values())
    return played, copied, busied


def on_a_terminal(command: list[str], environment: dict[str, str]) -> None:
    """Run a program on a terminal of 80 columns that somebody looks at."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as program:
        os.close(theirs)
        with suppress(OSError):
            while os.read(ours, 4096):
                pass
        os.close(ours)
    if program.returncode:
        raise SystemExit(f"playing failed with exit code {program.returncode}")


def play(job: dict[str, Any]) -> None:
    """What `fxclone play` does, but the report goes to a file."""
    from fxclone_realtime.face import Face
    from fxclone_realtime.keys import commands
    from fxclone_realtime.live import LivePlayer
    from fxclone_realtime.options import PlayOptions

    options = PlayOptions(
        models=tuple(Path(model) for model in job["models"]),
        input_file=Path(job["take"]),
        loop=True,
        block=job["block"],
        duration_s=job["seconds"],
        reconnect_s=0.0,
        anyway=True,
    )

    class Telling(Face):
        """Says when it begins, so that both count the same time."""

        def tick(self, playing: Any) -> None:
            super().tick(playing)
            Path(job["sounds"]).touch()

    with commands(keyboard=True, control=None) as lines:
        player = LivePlayer(options, face=Telling(), lines=lines, stopped=lambda: False, began_s=time.perf_counter())
        report, error = player.run()
    if error is not None:
        raise error
    Path(job["report"]).write_text(json.dumps(report))


def plain(job: dict[str, Any]) -> None:
    """A callback that only copies; it counts while the other one sounds."""
    import signal

    from fxclone_realtime.interpreter import audio_priority, raise_priority
    from fxclone_realtime.meters import Meters
    from fxclone_realtime.portaudio import count_flags, load_portaudio

    sd = load_portaudio()
    counts = [Meters(job["block"] / SAMPLE_RATE, 2) for _ in range(3)]  # before, meanwhile, after
    meters = counts[0]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    def callback(indata: Any, outdata: Any, frames: int, clock: Any, status: Any) -> None:
        # `meters` is the one that counts just now
        began = time.perf_counter()
        if not counts[0].blocks:
            raise_priority()
        if status:
            count_flags(meters, status)
        outdata[:] = indata
        meters.block_done(frames, began, time.perf_counter())

    common_options = {"samplerate": SAMPLE_RATE, "blocksize": job["block"], "dtype": "float32", "latency": "low"}
    with audio_priority(), sd.Stream(**common_options, channels=2, callback=callback):
        while not Path(job["sounds"]).exists() and not ended.wait(0.02):
            pass
        meters = counts[1]
        ended.wait(job["seconds"] - 0.1)
        meters = counts[2]
        ended.wait()
    meters = counts[1]
    report = {"callback_ms": meters.times.summary_ms(), "xruns": meters.xruns, "blocks": meters.blocks}
    Path(job["report"]).write_text(json.dumps(report))
    os._exit(0)


def busy(job: dict[str, Any]) -> None:
    """A callback that adds numbers for as long as it is told; how many it has to add is found out before it counts."""
    from fxclone_realtime.awake import processor_awake
    from fxclone_realtime.interpreter import audio_priority, raise_priority
    from fxclone_realtime.meters import Meters
    from fxclone_realtime.portaudio import count_flags, load_portaudio

    sd = load_portaudio()
    counts = [Meters(job["block"] / SAMPLE_RATE, 2) for _ in range(BUSY_TRIALS + 1)]
    for each in counts:
        each.touch()
    meters, turns = counts[0], range(1)
    numbers, more = np.zeros(64, np.float32), np.ones(64, np.float32)

    def callback(outdata: Any, frames: int, clock: Any, status: Any) -> None:
        # `meters` and `turns` are those of just now
        began = time.perf_counter()
        if not counts[0].blocks:
            raise_priority()
        if status:
            count_flags(meters, status)
        for _ in turns:
            np.add(numbers, more, out=numbers)
        outdata.fill(0.0)
        meters.block_done(frames, began, time.perf_counter())

    options = {"samplerate": SAMPLE_RATE, "blocksize": job["block"], "dtype": "float32", "latency": "low"}
    with audio_priority(), processor_awake(), sd.OutputStream(**options, channels=2, callback=callback):
        for trial in range(BUSY_TRIALS):
            time.sleep(BUSY_TRIAL_S)
            took = max(1e-6, counts[trial].times.quantile_s(0.5))
            turns = range(max(1, min(4 * len(turns), round(len(turns) * job["busy_s"] / took))))
            meters = counts[trial + 1]
        time.sleep(job["seconds"])
        meters = counts[0]
    counted = counts[-1]
    report = {"callback_ms": counted.times.summary_ms(), "xruns": counted.xruns, "blocks": counted.blocks}
    Path(job["report"]).write_text(json.dumps(report))
    os._exit(0)


HEAD = (
    "case",
    "minutes",
    "budget ms",
    "p50",
    "p99",
    "p99.9",
    "worst",
    "p99.9 of budget",
    "busy p99.9 of budget",
    "busy worst",
    "xruns",
    "trips",
    "copy p99.9",
    "copy worst",
    "copy xruns",
)


def row_of(case: Case, minutes: float, played: Report, plain_one: Report, busy_one: Report) -> list[str]:
    """Figures to text."""
    took, copied, burnt = (each["callback_ms"] for each in (played, plain_one, busy_one))
    budget = played["budget_ms"]
    return [
        case.name,
        f"{minutes:g}",
        f"{budget:.3f}",
        *(f"{took[key]:.3f}" for key in ("p50", "p99", "p999", "max")),
        f"{100 * took['p999'] / budget:.0f} %",
        f"{100 * burnt['p999'] / budget:.0f} %",
        f"{burnt['max']:.3f}",
        str(played["xruns"]),
        str(played["trip_count"]),
        *(f"{copied[key]:.3f}" for key in ("p999", "max")),
        str(plain_one["xruns"]),
    ]


def failings(case: Case, played: Report, plain_one: Report, busy_one: Report) -> list[str]:
    """What falls short of the aim."""
    found = []
    share, busy_share = (each["callback_ms"]["p999"] / played["budget_ms"] for each in (played, busy_one))
    if share > SHARE:
        found.append(
            f"{case.name}: 99.9 % of the callbacks end within {100 * share:.0f} % of the budget, not {100 * SHARE:.0f} "
            f"% (those of the busy callback within {100 * busy_share:.0f} %)"
        )
    # Not the same moments to the block: one is counted a little earlier, and that much is chance.
    suffered = plain_one["xruns"] * played["blocks"] / max(1, plain_one["blocks"])
    if played["xruns"] > suffered + suffered**0.5:
        found.append(f"{case.name}: {played['xruns']} xruns, the copying callback had {plain_one['xruns']}")
    if played["trip_count"]:
        found.append(f"{case.name}: the stability monitor stepped in {played['trip_count']} times")
    return found


def page(
    options: argparse.Namespace,
    here: str,
    model: Path,
    rows: list[list[str]],
    verdicts: list[str],
    end: str,
) -> str:
    """All of it."""
    aim = "Every case is within the aim." if not verdicts else "Short of the aim:\n\n- " + "\n- ".join(verdicts)
    what = model.name if options.model else "an untrained model (ar, m = 16, 16 relu units, one RNN node)"
    return f"""# Playing on a real stream

{common.command()}

Machine: {here}. Seed {options.seed}.

`fxclone play` through PortAudio on JACK's dummy driver at {SAMPLE_RATE} Hz, whose period is the block: {what}, music in
a loop, the stability monitor on, meters on a terminal of 80 columns, keys read. Side by side with it, in the same
server, a Python callback that only copies its input ("copy"), at the same priority. Times are of the callback, in ms.
The aim: 99.9 % of the callbacks within half of their budget, and no more xruns than the copying callback has (n of
those may as well be n + √n: the two are not counted over the same blocks).

After each case, for {options.busy_minutes:g} minutes in the same server, "busy": a callback of the same kind and
priority that does one small numpy sum over and over, as often as makes its median block as long as ours. It has no
model, no monitor, next to no memory and no meters beside it: what its 99.9 % and its worst block have beyond that
median is the machine's.

{common.table(HEAD, rows)}

{aim}

xruns are what the driver reports to each client. On a machine that does other work at the same time, a worst callback
that "copy" has too is the machine's.{end}"""


def latency_section(folder: Path, model: Path) -> str:
    """Measure the round trip."""
    from live_latency import HEAD as LATENCY_HEAD
    from live_latency import latency_rows

    return f"""

## Latency

The same server, patient, its client's output connected with its input: sweeps go round, and the samples until they are
back are counted (`fxclone latency`), beside a stream without anything of fxclone. The aim: the device's own latency
plus what the clone declares, to the sample.

{common.table(LATENCY_HEAD, latency_rows(folder, model))}"""


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--as":
        {"play": play, "plain": plain, "busy": busy}[sys.argv[2]](json.loads(sys.argv[3]))
    else:
        main()
