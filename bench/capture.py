"""Does a clone of a captured pedal equal one trained on the exact pair? The whole way, from the command line.

JACK's dummy driver is the sound card and another JACK client the pedal (tests/jack_pedal.py): tanh, latency, gain,
inversion. `fxclone capture` plays and records; `fxclone train` trains once on what it wrote and once on the same dry
sound with the formula itself as wet; both clones are judged on sound that neither has heard, against the formula.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.alignment_apply import read_between
from fxclone.clone import load_clone
from fxclone.evaluate import evaluate_pair, total_of
from fxclone.files import read_sound, write_sound
from fxclone.metrics import Comparison
from fxclone.signals import training_sound

sys.path.insert(0, str(common.ROOT / "tests"))
from jack import JackServer, jack_server
from jack_pedal import Pedal, PedalSettings

SAMPLE_RATE = 48_000
PERIOD = 1024
WITHIN_DB = 1.0


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_capture.md")
    ask.add_argument("--seconds", type=float, default=20.0, help="of training, each")
    ask.add_argument("--signal-seconds", type=float, default=75.0, help="length of the test signal")
    ask.add_argument("--latency-ms", type=float, default=3.7)
    ask.add_argument("--gain-db", type=float, default=-6.0)
    ask.add_argument("--drive-db", type=float, default=12.0, help="before the tanh")
    ask.add_argument("--noise-db", type=float, default=-200.0, help="of the pedal, dBFS")
    ask.add_argument("--keep", type=Path, default=None, help="folder for the capture and the clones")
    options = ask.parse_args()
    settings = PedalSettings(
        drive_db=options.drive_db,
        gain_db=options.gain_db,
        inverted=True,
        latency_samples=options.latency_ms * SAMPLE_RATE / 1000,
        noise_db=options.noise_db,
    )
    here = common.machine("onnxruntime", "torch", "sounddevice")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        facts = captured(settings, folder, options.signal_seconds)
        dry, _ = read_sound(folder / "pedal" / "dry.wav")
        formula = Pedal(settings, SAMPLE_RATE).formula
        write_sound(folder / "exact.wav", formula(dry).astype(np.float32), SAMPLE_RATE, subtype="float", force=True)
        wet, _ = read_sound(folder / "pedal" / "wet.wav")
        moved = read_between(wet[0], facts["latency"]["left_samples"], 1.0, wet.shape[1]).astype(np.float32)
        write_sound(folder / "moved.wav", moved[None, :], SAMPLE_RATE, subtype="float", force=True)
        wets = {
            "captured": folder / "pedal" / "wet.wav",
            "captured, moved by the markers": folder / "moved.wav",
            "exact": folder / "exact.wav",
        }
        results = {
            name: judged(trained(folder, name, wet, options.seconds, options.seed), settings, options.seed)
            for name, wet in wets.items()
        }
    apart = results["captured"].esr_db - results["exact"].esr_db
    latency = facts["latency"]
    rows = [
        [
            name,
            f"{r.esr_db:.2f}",
            f"{r.worst_100ms_esr_db:.1f}",
            f"{r.lag_samples:+.4f}",
            r.polarity,
            f"{r.gain_db:+.3f}",
        ]
        for name, r in results.items()
    ]
    page = f"""# A captured pedal against the exact pair

{common.command()}

Machine: {here}. One thread, seed {options.seed}.

The pedal: tanh after {options.drive_db:g} dB, {options.gain_db:g} dB, inverted, {options.latency_ms:g} ms late
({settings.latency_samples:g} samples), noise {options.noise_db:g} dBFS; a JACK client of its own. Captured through
PortAudio and JACK with {facts["signal_seconds"]:g} s of test signal: {facts["retakes"]} parts retaken,
{facts["xruns"]} drop-outs reported, pedal latency measured {latency["pedal_samples"]} samples, polarity {facts["polarity"]}, drift
{latency["drift_ppm"]} ppm. Each clone was trained for at most {options.seconds:g} s and is judged free-running
on 30 s of generated sound of another seed, against the formula without latency. "Moved by the markers" takes the
latency, with its fraction, from capture.json and not from training's own comparison of the two sounds.

{common.table(["trained on", "ESR dB", "worst 100 ms dB", "lag", "polarity", "gain dB"], rows)}

The captured one is {apart:+.2f} dB from the exact one: {"within" if apart <= WITHIN_DB else "NOT within"} {WITHIN_DB:g} dB.
"""
    common.publish(page, "bench_capture.md", write=options.write)


def captured(settings: PedalSettings, folder: Path, seconds: float) -> dict[str, Any]:
    """Run the pedal and `fxclone capture`, and return what it found out."""
    with jack_server(rate=SAMPLE_RATE, period=PERIOD) as server:
        pedal = start_pedal(server, settings)
        try:
            asked = ["capture", "--device", "pedal", "--loopback-channel", "2", "--seconds", str(seconds), "--json"]
            out = fxclone([*asked, "--force", "-o", str(folder / "pedal")], server.environment)
        finally:
            pedal.terminate()
            pedal.wait(timeout=10)
    facts: dict[str, Any] = json.loads(out)
    print(f"captured {facts['seconds']} s, {facts['retakes']} parts retaken", file=sys.stderr)
    return facts


def start_pedal(server: JackServer, settings: PedalSettings) -> subprocess.Popen[str]:
    """The other JACK client, once it is ready."""
    arguments = {
        "--latency-ms": 1000 * settings.latency_samples / SAMPLE_RATE,
        "--drive-db": settings.drive_db,
        "--gain-db": settings.gain_db,
        "--noise-db": settings.noise_db,
    }
    program = [sys.executable, str(common.ROOT / "tests" / "jack_pedal.py"), "--invert"]
    program += [f"{name}={value}" for name, value in arguments.items()]
    process = subprocess.Popen(program, env=server.environment, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise SystemExit("the pedal does not start")
    return process


def trained(folder: Path, name: str, wet: Path, seconds: float, seed: int) -> Path:
    """`fxclone train` on a pair; returns the clone file."""
    clone = folder / f"{name.split(',')[-1].split()[-1]}.onnx"
    pair = ["--dry", str(folder / "pedal" / "dry.wav"), "--wet", str(wet)]
    how = ["--seconds", str(seconds), "--seed", str(seed), "--threads", "1", "--runs", str(folder / "runs"), "--quiet"]
    fxclone(["train", *pair, *how, "--force", "-o", str(clone)], dict(os.environ))
    print(f"trained on the {name} pair", file=sys.stderr)
    return clone


def judged(clone_file: Path, settings: PedalSettings, seed: int) -> Comparison:
    """The clone against the formula on sound that no training here used."""
    clone = load_clone(clone_file)
    dry = 0.7 * training_sound(30.0, SAMPLE_RATE, seed=seed + 1001)
    wet = Pedal(settings, SAMPLE_RATE).formula(dry).astype(np.float32)
    return total_of([evaluate_pair(clone, dry, wet, SAMPLE_RATE)])


def fxclone(arguments: list[str], environment: dict[str, str]) -> str:
    """Run one command and return what it printed; stops the bench if it fails."""
    command = [sys.executable, "-m", "fxclone.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"fxclone {arguments[0]} failed: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
