"""Reverbs, delays, cabinets: how near their clones are on real sound, and whether they are the same rooms."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.audio import Audio, power_to_db
from fxclone.clone import Clone, load_clone
from fxclone.effects import Effect, effect
from fxclone.errors import FxcloneError
from fxclone.evaluate import run_free
from fxclone.files import read_sound, write_sound
from fxclone.metrics import esr
from fxclone.metrics_room import mean_echo_density, stereo_correlation, t20_s, t30_s
from fxclone.signals import training_sound

RATE = 48_000
SOUNDS = ("speech_libri_3436", "drums_synth", "celestial_guitar")
RING_S = 4.0
"""Silence behind each sound: the tail is judged too."""
RESPONSE_S = 8.0
EXACT_DB = -150.0


@dataclass(frozen=True)
class Case:
    """A reference, the seconds it may train for, and the error it must reach."""

    effect: str
    seconds: float
    wanted_db: float
    room: bool = False


CASES = {
    "room 0.25": Case("reverb(room_size=0.25)", 60, -45, room=True),
    "room 0.5": Case("reverb(room_size=0.5)", 60, -45, room=True),
    "room 0.9": Case("reverb(room_size=0.9)", 60, -45, room=True),
    "delay": Case("delay(delay_seconds=0.3, feedback=0.4, mix=0.5)", 60, -60),
    "cabinet response": Case("convolution(impulse_response=\"{short}\")", 60, -60),
    "hall response": Case("convolution(impulse_response=\"{long}\")", 60, -60),
    "distortion > reverb": Case("distortion(drive_db=20) > reverb", 120, -30),
    "distortion > cabinet": Case("distortion(drive_db=20) > cabinet", 120, -30),
    "ZamVerb": Case("vst3:ZamVerb", 60, -40),
}  # fmt: skip


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_tail.md")
    ask.add_argument("--cases", default=",".join(CASES), help="some of these names, with commas between")
    ask.add_argument("--threads", type=int, default=2, help="for training")
    options = ask.parse_args()
    names = [name.strip() for name in options.cases.split(",")]
    here = common.machine("onnxruntime", "torch", "pedalboard")
    sounds = test_sounds()
    rows, rooms, failures = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        made = impulse_responses(Path(folder), options.seed)
        for name in names:
            case = CASES[name]
            text = case.effect.format(**made)
            try:
                reference = effect(text)
                facts, clone, taken = cloned(text, case, Path(folder), options)
            except (FxcloneError, subprocess.CalledProcessError) as error:
                failures.append(f"- {name} was left out: {error}")
                continue
            errors = [error_db(clone, reference, dry) for dry in sounds.values()]
            tail_s = clone.tail_samples / RATE
            about = [f"{case.wanted_db:.0f}", f"{taken:.0f}", f"{tail_s:.2f}", f"{facts['parameters']:,}"]
            rows.append([name, *("exact" if db < EXACT_DB else f"{db:.1f}" for db in errors), *about])
            print(" ".join(rows[-1]), flush=True)
            if case.room:
                rooms.append([name, *room_figures(clone, reference)])
    publish(here, options, list(sounds), rows, rooms, failures)


def cloned(text: str, case: Case, folder: Path, options: object) -> tuple[dict, Clone, float]:
    """Train from the command line; the facts that it prints, the clone, and all the time it took."""
    target = folder / "clone.onnx"
    command = [Path(sys.executable).parent / "fxclone", "train", "--effect", text, "--seconds", case.seconds]
    command += ["--threads", options.threads, "--seed", options.seed, "-o", target, "--force", "--json"]
    command += ["--runs", folder / "runs"]
    began = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout), load_clone(target), time.perf_counter() - began


def error_db(clone: Clone, reference: Effect, dry: Audio) -> float:
    """Free-running ESR of the clone file over a whole sound and its tail."""
    sound = np.pad(dry, ((0, 0), (0, round(RING_S * RATE))))
    wet = rendered(reference, sound, clone.channels_out)
    return power_to_db(esr(wet, run_free(clone, sound, RATE)))


def rendered(reference: Effect, sound: Audio, channels: int) -> Audio:
    """The reference over mono sound, in as many channels as the clone gives."""
    late = reference.latency_samples(RATE)
    sound = np.pad(np.repeat(sound, channels, axis=0), ((0, 0), (0, late)))
    return reference.render(sound, RATE)[:, late:]


def room_figures(clone: Clone, reference: Effect) -> list[str]:
    """What a room is known by, of the reference's impulse response, and how far the clone's is off, in percent."""
    impulse = np.zeros((1, round(RESPONSE_S * RATE)), np.float32)
    impulse[0, 0] = 0.5
    own, theirs = run_free(clone, impulse, RATE), rendered(reference, impulse, 2)
    out = []
    for figure in (
        lambda response: t20_s(response, RATE),
        lambda response: t30_s(response, RATE),
        lambda response: mean_echo_density(response, RATE),
        stereo_correlation,
    ):
        true, cloned_value = figure(theirs), figure(own)
        out.append(f"{true:.3f} ({100 * (cloned_value / true - 1):+.2f} %)")
    return out


def test_sounds() -> dict[str, Audio]:
    """Real sound that no training here has heard; made sound of another seed where that is absent."""
    files = {name: common.DRY / f"{name}.flac" for name in SOUNDS}
    if not all(path.exists() for path in files.values()):
        return {"made sound": training_sound(20.0, RATE, seed=1001)}
    return {name: read_sound(path, sample_rate=RATE, channels=1)[0] for name, path in files.items()}


def impulse_responses(folder: Path, seed: int) -> dict[str, str]:
    """Two responses as files: decaying noise of 50 ms and of 2 s, with a direct sound."""
    rng = np.random.default_rng(seed + 7)
    out = {}
    for name, seconds in (("short", 0.05), ("long", 2.0)):
        time_s = np.arange(round(seconds * RATE)) / RATE
        response = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / seconds)
        response *= 0.3 / np.sqrt(np.square(response).sum())
        response[0] = 0.5
        path = folder / f"{name}.wav"
        write_sound(path, response[None].astype(np.float32), RATE)
        out[name] = str(path)
    return out


def publish(here: str, options: object, sounds: list[str], rows: list, rooms: list, failures: list[str]) -> None:
    """The page."""
    head = ["reference", *(f"{name}, dB" for name in sounds), "wanted, dB", "s in all", "tail, s", "weights"]
    room_head = ["reference", "T20, s", "T30, s", "echo density", "stereo correlation"]
    room_part = f"\n\n{common.table(room_head, rooms)}" if rooms else ""
    page = f"""# How good clones with long memory are

{common.command()}

Machine: {here}. Training on {options.threads} threads, seed {options.seed}, 60 s of generated sound.

Each was trained by `fxclone train --effect ...` without further options but the time ("s in all" is the whole command:
start-up, rendering, training, export). Errors are ESR of the clone file, free-running over whole sounds that training
never heard, with {RING_S:g} s of silence behind, mono in, stereo out where the effect is stereo.

{common.table(head, rows)}

The same rooms by their impulse responses ({RESPONSE_S:g} s), reference, and in brackets how far the clone's is off:
T20 and T30 of ISO 3382, mean normalised echo density (Abel and Huang 2006), correlation of left and right.{room_part}

{chr(10).join(failures)}""".rstrip()
    common.publish(page, "bench_tail.md", write=options.write)


if __name__ == "__main__":
    if shutil.which("git") is None:
        sys.stderr.write("git is missing: the page will not say which code this was\n")
    main()
