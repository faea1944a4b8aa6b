"""Clones of real devices, from recordings of them: trained by the command line, judged on other recordings."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _common as common  # first: it sets thread counts

PAIRS = common.ROOT.parent / "shared" / "data" / "pairs"
DEVICES = {
    "ts9": "Ibanez TS9, drive full, guitar",
    "la2a": "LA-2A optical compressor",
    "akai_tape": "tape recorder, 7060 samples late, wow and flutter",
    "smallstone_A": "Small Stone phaser",
    "donner_flanger": "flanger",
}


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_pairs.md")
    ask.add_argument("--pairs", default=",".join(DEVICES), help="some of these names, with commas between")
    ask.add_argument("--seconds", type=float, default=30.0, help="of training for each, at most")
    ask.add_argument("--threads", type=int, default=1, help="for training")
    options = ask.parse_args()
    here = common.machine("onnxruntime", "torch", "numba")
    rows = []
    for name in [name.strip() for name in options.pairs.split(",")]:
        folder = PAIRS / name
        if not (folder / "test_wet.flac").exists():
            print(f"{name}: no recordings in {folder}")
            continue
        rows.append(judged(name, folder, options.seconds, options.threads, options.seed))
        print(" ".join(rows[-1]), flush=True)
    head = ["device", "ESR dB", "worst 100 ms dB", "lag left", "latency removed", "held-back ESR dB", "train s"]
    head += ["in all s", "family", "weights", "check"]
    devices = "\n".join(f"- {name}: {text}" for name, text in DEVICES.items())
    page = f"""# Clones of real devices, from recordings

{common.command()}

Machine: {here}. {options.seconds:g} s of training at most, {options.threads} thread(s), seed {options.seed}.

`fxclone train --dry train_dry.flac --wet train_wet.flac`, without further options but the time; then
`fxclone evaluate` of the clone file, free-running over the whole test recording in one run. The recordings are public
and not part of the project:

{devices}

- ESR: sum of squared error over sum of squares on the test recording. Lag left: of the clone against it, in samples.
- Latency removed: samples taken out before training. Held-back: ESR on what the training recording gave to judge by.
- In all: start-up, checking, aligning, training, export.

{common.table(head, rows)}"""
    common.publish(page, "bench_pairs.md", write=options.write)


def judged(name: str, folder: Path, seconds: float, threads: int, seed: int) -> list[str]:
    """Train from the command line and evaluate from the command line."""
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "clone.onnx"
        began = time.perf_counter()
        made = fxclone(
            *("train", "--dry", folder / "train_dry.flac", "--wet", folder / "train_wet.flac", "-o", model, "--json"),
            *("--seconds", seconds, "--threads", threads, "--seed", seed, "--runs", Path(place) / "runs"),
        )
        taken = time.perf_counter() - began
        told = fxclone(
            *("evaluate", "--model", model, "--json"),
            *("--dry", folder / "test_dry.flac", "--wet", folder / "test_wet.flac"),
        )
    total = told.get("total", told)
    removed = [take["latency_removed_samples"] for take in made["alignment"]["takes"]]
    return [
        name,
        f"{total['esr_db']:.1f}",
        f"{total['worst_100ms_esr_db']:.1f}",
        f"{total['lag_samples']:+.2f}",
        f"{removed[0]:.1f}",
        f"{made['esr_db']:.1f}",
        f"{made['seconds']:.0f}",
        f"{taken:.0f}",
        made["family"],
        f"{made['parameters']:,}",
        made["check"]["verdict"],
    ]


def fxclone(*words: object) -> dict:
    """Run the command; what it printed."""
    command = [Path(sys.executable).parent / "fxclone", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    out: dict = json.loads(done.stdout)
    return out


if __name__ == "__main__":
    main()
