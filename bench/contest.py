"""fxclone against other trainers: same recordings, same core, same wall-clock; judged free-running on other recordings.

Each contestant is a process of its own on the cores given. The clock runs from the first step of its optimiser (for
fxclone: from the start of training, its first fits included). Trainers whose rates do not depend on the budget run
once, for the longest, and are looked at on the way; fxclone runs once for each budget. What is done is kept and not
repeated: run it in parts, and `--page` makes the page of what is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import contest_cost as cost
import numpy as np
from contest_pairs import DEVICES, Material, prepared
from contest_result import Result, is_there, results

from fxclone.audio import Audio
from fxclone.clone import load_clone
from fxclone.files import read_sound
from fxclone.metrics import compare, esr_db

HERE = Path(__file__).resolve().parent
DOCUMENT = "bench_contest.md"
NAM_OLD, NAM_NEW = "0.12.3", "0.13.0"
"""Of Neural Amp Modeler: the last version with the standard presets, and the newest."""
START_S, LOOK_S = 60.0, 30.0
"""What a run takes besides training, about: starting, and rendering at each budget. For the plan only."""
TOO_LONG = 3.0
"""A peer that takes so many times its budget, and ten minutes, is ended."""


@dataclass(frozen=True)
class Peer:
    """Another trainer: its script, what to tell it, and the version of Neural Amp Modeler it runs in, if any."""

    script: str
    kind: str = ""
    nam: str = ""


PEERS = {
    "nam-wavenet": Peer("contest_nam.py", "wavenet", NAM_OLD),
    "nam-lstm": Peer("contest_nam.py", "lstm", NAM_OLD),
    "nam-a2": Peer("contest_nam.py", "a2", NAM_NEW),
    "lstm-32": Peer("contest_lstm.py"),
}
CONTESTANTS = ("fxclone", *PEERS)


@dataclass(frozen=True)
class Place:
    """Where things are, and on which cores they run."""

    home: Path
    cores: tuple[int, ...]
    seed: int

    @property
    def results(self) -> Path:
        return self.home / "results"

    def python(self, peer: Peer) -> Path:
        """The interpreter that runs a peer."""
        if not peer.nam:
            return Path(sys.executable)
        path = self.home / f"nam-{peer.nam}" / "bin" / "python"
        if not path.exists():
            raise SystemExit(f"{path} is missing; make it with: {Path(sys.executable)} bench/contest.py --install")
        return path


@dataclass(frozen=True)
class Task:
    """One run: a contestant, a pair, and the budgets that it gives results for."""

    contestant: str
    material: Material
    budgets_s: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return max(self.budgets_s) + START_S + LOOK_S * len(self.budgets_s)

    def __str__(self) -> str:
        return f"{self.material.name}, {self.contestant}, {', '.join(f'{b:g}' for b in self.budgets_s)} s"


def tasks(
    materials: Sequence[Material], names: Sequence[str], budgets: Sequence[float], place: Place, again: set[str]
) -> Iterator[Task]:
    """What is left to do."""
    for material in materials:
        for name in names:
            left = tuple(
                budget
                for budget in sorted(budgets)
                if name in again
                or not is_there(place.results, material.name, name, budget, place.seed, material.digest)
            )
            if name == "fxclone":
                yield from (Task(name, material, (budget,)) for budget in left)
            elif left:
                yield Task(name, material, left)


def run(task: Task, place: Place) -> list[Result]:
    """Do it; what came out is saved at once."""
    here = common.machine("onnxruntime", "torch", "numba")
    here = here.replace(f" {len(place.cores)} cores", f" {os.cpu_count()} cores", 1)  # of which it may use some
    work = place.home / "runs" / f"{task.material.name}.{task.contestant}.{max(task.budgets_s):g}s.seed{place.seed}"
    work.mkdir(parents=True, exist_ok=True)
    for old in (*work.glob("look-*.json"), *work.glob("test-*.npy")):
        old.unlink()
    before = cost.yardsticks()
    looks = _fxclone(task, place, work) if task.contestant == "fxclone" else _peer(task, place, work)
    after = cost.yardsticks()
    dry, rate = task.material.read("test_dry")
    wet, _ = task.material.read("test_wet")
    price = _price(task, work, looks, dry) if looks else {}
    done = []
    for budget, facts, estimate in looks:
        result = Result(
            pair=task.material.name,
            contestant=task.contestant,
            budget_s=budget,
            seed=place.seed,
            digest=task.material.digest,
            training=facts,
            test=compare(wet, estimate[None], rate, dry).as_dict() | _after_the_start(wet, estimate[None], rate),
            cost=price,
            yardstick={name: (before[name] + after[name]) / 2 for name in before},
            machine=here,
            when=datetime.now().isoformat(timespec="minutes"),
            cores=list(place.cores),
        )
        result.save(place.results)
        done.append(result)
    return done


def _after_the_start(wet: Audio, estimate: Audio, rate: int) -> dict[str, float | None]:
    """ESR without the first second: the recordings are cut from longer ones, and begin in the middle of a sound."""
    known = slice(rate, None)
    value = esr_db(wet[:, known], estimate[:, known])
    return {"esr_after_1s_db": value if np.isfinite(value) else None}


Look = tuple[float, dict[str, Any], np.ndarray]


def _fxclone(task: Task, place: Place, work: Path) -> list[Look]:
    """The public commands: train, render."""
    (budget,) = task.budgets_s
    command, model, rendered = Path(sys.executable).parent / "fxclone", work / "clone.onnx", work / "test.wav"
    training = [
        *(command, "train", "--dry", task.material.file("train_dry"), "--wet", task.material.file("train_wet")),
        *("--no-align", "--anyway", "--seconds", budget, "--threads", len(place.cores), "--seed", place.seed),
        *("-o", model, "--force", "--runs", work / "runs", "--json"),
    ]
    used = watched(training, work / "train.log", len(place.cores), work)
    if used.code:
        _tell_failure(task, work / "train.log")
        return []
    told = json.loads((work / "train.log.out").read_text())
    rendering = [command, "render", "--model", model, task.material.file("test_dry"), "-o", rendered, "--force"]
    used_again = watched([*rendering, "--no-tail", "--bit-depth", "float"], work / "render.log", 1, work)
    if used_again.code:
        _tell_failure(task, work / "render.log")
        return []
    estimate, _ = read_sound(rendered)
    facts = {
        "budget_s": budget,
        "seconds": told["seconds"],
        "prepared_s": max(0.0, used.seconds - told["seconds"]),
        "cpu_share": used.cpu_s / used.seconds,
        "steps": told["steps"],
        "parameters": told["parameters"],
        "peak_mb": used.peak_mb,
        "held_error_db": told["esr_db"],
        "ended": told["ended"],
        "settings": {"family": told["family"]},
        "versions": {},
    }
    return [(budget, facts, estimate[0])]


def _peer(task: Task, place: Place, work: Path) -> list[Look]:
    """One run for all budgets; also of a run that broke off, what it had given."""
    peer = PEERS[task.contestant]
    job = {
        "sounds": str(task.material.sounds),
        "folder": str(work),
        "budgets_s": task.budgets_s,
        "seed": place.seed,
        "threads": len(place.cores),
    }
    (work / "job.json").write_text(json.dumps(job))
    script = [place.python(peer), HERE / peer.script, work / "job.json", *([peer.kind] if peer.kind else [])]
    limit_s = TOO_LONG * max(task.budgets_s) + 600.0
    used = watched(script, work / "train.log", len(place.cores), work, limit_s=limit_s)
    if used.code:
        _tell_failure(task, work / "train.log")
    looks = []
    for budget in task.budgets_s:
        if (work / f"look-{budget:g}.json").exists():
            facts = json.loads((work / f"look-{budget:g}.json").read_text()) | {"peak_mb": used.peak_mb}
            looks.append((budget, facts, np.load(work / f"test-{budget:g}.npy")))
    return looks


def _price(task: Task, work: Path, looks: Sequence[Look], dry: np.ndarray) -> dict[str, Any]:
    """What the model of the last budget costs live, where a player is here."""
    if task.contestant == "fxclone":
        return {"us_per_sample": cost.cost_of(load_clone(work / "clone.onnx"), dry), "player": "fxclone"}
    kind = PEERS[task.contestant].kind
    gain = 1.0
    if task.contestant == "lstm-32":
        weights = cost.lstm32_weights(work / "weights.npz")
    elif kind == "lstm":
        gain = json.loads((work / "model.json").read_text())["gain"]
        weights = cost.nam_lstm_weights(work / "model.json", silence_samples=cost.SILENCE_SAMPLES)
    else:
        return {}
    clone = cost.lstm_clone(weights, task.material.facts["sample_rate"], task.contestant)
    return {
        "us_per_sample": cost.cost_of(clone, dry),
        "player": "LSTM nodes in fxclone",
        "differs_by": cost.proven(clone, dry, looks[-1][2] * gain) / gain,
    }


@dataclass(frozen=True)
class Used:
    """What a process took."""

    code: int
    seconds: float
    cpu_s: float
    peak_mb: float


def watched(words: Sequence[object], log: Path, threads: int, folder: Path, *, limit_s: float | None = None) -> Used:
    """Run a command to its end; its largest resident memory is read while it runs."""
    environment = {**os.environ, "PYTHONPATH": ""} | {
        f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")
    }
    began, peak_kb = time.perf_counter(), 0
    with log.open("w") as errors, log.with_name(log.name + ".out").open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in words], stdout=output, stderr=errors, env=environment, cwd=folder
        )
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                peak_kb = max(peak_kb, _peak_kb(process.pid))
                if limit_s is not None and time.perf_counter() - began > limit_s:
                    process.kill()
                time.sleep(0.1)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    return Used(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak_kb / 1024)


def _peak_kb(pid: int) -> int:
    """Largest resident memory so far; not that of rusage, which a new process takes over from the one that began it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _tell_failure(task: Task, log: Path) -> None:
    last = "\n".join(log.read_text().splitlines()[-5:])
    print(f"{task}: failed; {log} ends:\n{last}", file=sys.stderr, flush=True)


def install(home: Path) -> None:
    """Make the environments of Neural Amp Modeler."""
    for wanted in (NAM_OLD, NAM_NEW):
        folder = home / f"nam-{wanted}"
        print(f"making {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            str(common.ROOT / "constraints.txt"),
        ]
        subprocess.run([*pip, f"neural-amp-modeler=={wanted}"], check=True)


def main() -> int:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument(
        "--pairs", default=",".join(DEVICES), help="names with commas between, or folders with four recordings"
    )
    ask.add_argument("--contestants", default=",".join(CONTESTANTS), help="some of these names")
    ask.add_argument("--budgets", default="90,300", help="seconds of training")
    ask.add_argument("--cores", default="0", help="numbers of the cores they get, with commas between")
    ask.add_argument("--home", type=Path, default=Path.home() / ".cache" / "fxclone-contest", help="where all is kept")
    ask.add_argument("--again", default="", help="contestants whose runs are repeated")
    ask.add_argument("--install", action="store_true", help="make the environments of Neural Amp Modeler, and end")
    ask.add_argument("--plan", action="store_true", help="say what is left to do and how long it takes, and end")
    ask.add_argument("--page", action="store_true", help="run nothing; the page of what is there")
    options = ask.parse_args()
    if options.install:
        install(options.home)
        return 0
    names = [name.strip() for name in options.contestants.split(",")]
    if unknown := set(names) - set(CONTESTANTS):
        raise SystemExit(f"{', '.join(unknown)}; expected some of {', '.join(CONTESTANTS)}")
    cores = tuple(int(core) for core in options.cores.split(","))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    place = Place(options.home, cores, options.seed)
    failures = 0
    if not options.page:
        materials = [prepared(name.strip(), options.home / "pairs") for name in options.pairs.split(",")]
        budgets = [float(text) for text in options.budgets.split(",")]
        left = list(tasks(materials, names, budgets, place, set(options.again.split(","))))
        print(f"{len(left)} runs, about {sum(task.seconds for task in left) / 60:.0f} minutes on core {options.cores}")
        for task in left:
            print(f"- {task}: {task.seconds / 60:.1f} minutes", flush=True)
        for task in [] if options.plan else left:
            done = run(task, place)
            failures += len(done) < len(task.budgets_s)
            for one in done:
                print(f"{one.pair} {one.contestant} {one.budget_s:g} s: {one.esr_db:.1f} dB", flush=True)
    if options.page or options.write:
        from contest_page import draw, page

        found = list(results(place.results))
        common.publish(page(found, options.home / "pairs"), DOCUMENT, write=options.write)
        if options.write:
            draw(found, common.DOCS / "bench_contest.png")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
