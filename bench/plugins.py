"""How well five free VST3 plugins are cloned, from the command line, judged on real guitars that no clone has heard."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import soundfile

from fxclone.effects.plugin_find import installed_plugins
from fxclone.signals import training_sound

DOCUMENT = "bench_plugins.md"
SAMPLE_RATE = 48_000
PLUGINS = {
    "ZamTube": "vst3:ZamTube(tube_drive=5)",
    "ZamAutoSat": "vst3:ZamAutoSat",
    "ZamEQ2": "vst3:ZamEQ2(boost_cut_1_db=12, frequency_1_hz=800, boost_cut_2_db=-12, frequency_2_hz=3000)",
    "ZamPhono": "vst3:ZamPhono",
    "ZamComp": "vst3:ZamComp(threshold_db=-35, ratio=6, makeup_db=12)",
}
"""zam-plugins of Debian, each at settings at which it does something that one hears; what is not said is default."""


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument("--plugins", default=",".join(PLUGINS), help="some of these names, with commas between")
    ask.add_argument("--seconds", type=float, default=300.0, help="of training for each, at most")
    options = ask.parse_args()
    names = [name.strip() for name in options.plugins.split(",")]
    here = {address.path.stem for address in installed_plugins()}
    for name in names:
        if name not in PLUGINS:
            ask.error(f"no plugin {name!r} here; expected some of {', '.join(PLUGINS)}")
        if name not in here:
            ask.error(f"{name} is not installed; on Debian: apt install zam-plugins")
    machine = common.machine("onnxruntime", "torch", "numba", "pedalboard")
    rows, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        dry, what = test_sounds(Path(folder), options.seed)
        print(f"judged on {what}", flush=True)
        for name in names:
            try:
                rows.append(clone_and_judge(name, dry, Path(folder), options.seconds, options.seed))
            except RuntimeError as error:
                failures.append(f"- {name} failed: {error}")
                rows.append([name, *["-"] * 7])
            print(" ".join(rows[-1]), *failures[-1:], flush=True)
    head = ["plugin", "ESR dB", "worst 100 ms dB", "lag", "held-back ESR dB", "train s", "in all s", "weights"]
    settings = "\n".join(f"- `{PLUGINS[name]}`" for name in names)
    page = f"""# Clones of five plugins

{common.command()}

Machine: {machine}. Seed {options.seed}.

Each clone is made from the command line, `fxclone train --effect PLUGIN --seconds {options.seconds:g}`, on generated
sound only; each is judged with `fxclone evaluate` against the plugin itself. The plugins are those of Debian's package
zam-plugins, at settings at which one hears them:

{settings}

All errors are free-running: the clone file in onnxruntime, over whole files from a fresh state. Judged on {what}.

- ESR: sum of squared error over sum of squares, all files end to end, in dB. Lag in samples. Held-back: ESR on
  generated sound that training did not use, by which it chose the weights.
- Train s: until the target, a standstill, or the end of the budget. In all: with rendering, looking at the plugin,
  export and proof.

{common.table(head, rows)}

{chr(10).join(failures)}""".rstrip()
    common.publish(page, DOCUMENT, write=options.write)


def test_sounds(folder: Path, seed: int) -> tuple[list[Path], str]:
    """The real guitars and basses; where they are absent, generated sound that no training here uses."""
    files = sorted([*common.DRY.glob("*_guitar.flac"), *common.DRY.glob("*_bass.flac")])
    if files:
        seconds = sum(soundfile.info(path).duration for path in files)
        return files, f"{seconds:.0f} s of real direct guitar and bass ({', '.join(path.stem for path in files)})"
    path = folder / "generated.wav"
    soundfile.write(path, training_sound(30.0, SAMPLE_RATE, seed=seed + 1001).T, SAMPLE_RATE, subtype="FLOAT")
    return [path], f"30 s of generated sound (seed {seed + 1001}), because the real files are absent"


def clone_and_judge(name: str, dry: list[Path], folder: Path, seconds: float, seed: int) -> list[str]:
    """One row: what the command line says of one plugin."""
    clone, reference = folder / f"{name}.onnx", PLUGINS[name]
    began = time.perf_counter()
    trained = fxclone(
        *("train", "--effect", reference, "--seconds", f"{seconds:g}", "--seed", str(seed), "--threads", "1"),
        *("-o", str(clone), "--runs", str(folder / "runs"), "--sample-rate", str(SAMPLE_RATE)),
    )
    took_s = time.perf_counter() - began
    sounds = [text for path in dry for text in ("--dry", str(path))]
    total = fxclone("evaluate", "--model", str(clone), *sounds, "--effect", reference)
    total = total.get("total", total)
    lag = f"{total['lag_samples']:+.2f}" + (" inverted" if total["polarity"] < 0 else "")
    return [
        name,
        f"{total['esr_db']:.1f}",
        f"{total['worst_100ms_esr_db']:.1f}",
        lag,
        f"{trained['esr_db']:.1f}",
        f"{trained['seconds']:.0f}",
        f"{took_s:.0f}",
        f"{trained['parameters']:,}",
    ]


def fxclone(*arguments: str) -> dict[str, Any]:
    """Run a command with --json, and return what it prints."""
    code = "import sys; from fxclone.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    main()
