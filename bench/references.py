"""How good clones of effects, presets and amps are: by the real command, judged on guitars and a bass it never heard.

Each clone is a process of its own, `fxclone train`; `fxclone evaluate` judges the file that it wrote, free-running,
against the reference itself. What is done is kept and not repeated: run it in parts, stop it, go on; `--page` makes the
page of what is there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import _common as common  # first: it sets thread counts
import contest_cost as cost
from contest import watched
from references_limits import limits
from references_list import GROUPS, NAM, Case
from references_page import page
from references_result import Result, is_there, results
from references_sound import RATE, digest, learn_files, test_files, told

from fxclone.clone import load_clone
from fxclone.files import read_sound

DOCUMENT = "bench_references.md"
AROUND_S = 60.0
"""What a run takes besides training, about: starting, making sound, looking at the effect, export, judging. For the
plan only."""
KEPT = ("seconds", "esr_db", "parameters", "family", "steps", "ended", "auto",
        "m", "past_outputs", "averages", "envelopes", "layers", "width", "activation",
        "units", "channels", "direct_taps", "after_taps", "front")  # fmt: skip
"""Of what `fxclone train --json` says."""
FXCLONE = Path(sys.executable).parent / "fxclone"


@dataclass(frozen=True)
class Task:
    """One clone to be made and judged."""

    group: str
    case: Case
    seconds: float
    seed: int
    threads: int
    test: tuple[Path, ...]
    learn: tuple[Path, ...]

    @property
    def words(self) -> list[object]:
        """Of the command, but for where it writes."""
        own = [word for path in self.learn for word in ("--dry", path)]
        own += ["--only-dry"] if own else []
        return ["train", *self.case.words, "--seconds", f"{self.seconds:g}", "--threads", self.threads,
                "--seed", self.seed, *own]  # fmt: skip

    @property
    def shown(self) -> str:
        """The command as a user would type it, files without their folders."""
        words = [self.case.shown if word == self.case.effect else word for word in self.words]
        return shlex.join(["fxclone", *(word.name if isinstance(word, Path) else str(word) for word in words)])

    @property
    def digest(self) -> str:
        """Of the command, what it reads, and the test sound."""
        amp = (Path(self.case.effect[4:]),) if self.case.effect.startswith("nam:") else ()
        return digest([self.shown, self.case.effect if not amp else ""], [*self.test, *self.learn, *amp])

    def __str__(self) -> str:
        return f"{self.group} {self.case.name}, {self.seconds:g} s"


def tasks(options: Any, test: tuple[Path, ...], folder: Path) -> Iterator[Task]:
    """What is left to do."""
    wanted = {name.strip() for name in options.only.split(",") if name.strip()}
    known: set[str] = set()
    for name in options.group:
        group = GROUPS[name]
        cases = group.cases()
        known |= {case.name for case in cases}
        learn = learn_files() if group.own_sound else ()
        if not cases or (group.own_sound and not learn):
            print(f"{name}: left out, its files are not in {NAM if not cases else common.DRY}", file=sys.stderr)
        for case in cases if learn or not group.own_sound else ():
            task = Task(name, case, options.seconds or group.seconds, options.seed, options.threads, test, learn)
            done = is_there(folder, name, case.name, task.seconds, task.seed, task.digest)
            if (not wanted or case.name in wanted) and (options.again or not done):
                yield task
    if wanted - known:
        raise SystemExit(f"--only {', '.join(sorted(wanted - known))}; expected some of {', '.join(sorted(known))}")


def run(task: Task, home: Path) -> Result | None:
    """Train, judge, save; None if the run was ended from outside."""
    here = common.machine("onnxruntime", "torch", "numba", "pedalboard")
    here = re.sub(r", \d+ cores", f", {os.cpu_count()} cores", here, count=1)  # of which it may use some
    work = home / "runs" / f"{task.group}.{task.case.name}.{task.seconds:g}s.seed{task.seed}"
    work.mkdir(parents=True, exist_ok=True)
    model = work / "clone.onnx"
    model.unlink(missing_ok=True)
    before = cost.yardsticks()
    output = ("-o", model, "--runs", work / "runs", "--json")
    used = watched([FXCLONE, *task.words, *output], work / "train.log", task.threads, work)
    if used.code < 0:
        return None
    training: dict[str, Any] = {"in_all_s": used.seconds, "cpu_share": used.cpu_s / used.seconds / task.threads,
                                "peak_mb": used.peak_mb}  # fmt: skip
    test: dict[str, Any] = {}
    by_file: dict[str, float | None] = {}
    price = None
    if used.code:
        words = (work / "train.log").read_text().strip().splitlines() or [f"exit code {used.code}"]
        training["failed"] = words[-1].removeprefix("fxclone: ")
    else:
        said = json.loads((work / "train.log.out").read_text())
        training |= {key: said[key] for key in KEPT if key in said}
        test, by_file = judged(task, model, work)
        price = cost.cost_of(load_clone(model), read_sound(task.test[0], sample_rate=RATE)[0][:1])
    after = cost.yardsticks()
    result = Result(
        group=task.group,
        name=task.case.name,
        budget_s=task.seconds,
        seed=task.seed,
        digest=task.digest,
        command=task.shown,
        training=training,
        test=test,
        by_file=by_file,
        limits=limits(task.case, task.test),
        cost_us=price,
        heard=told(task.test),
        learned=told(task.learn) if task.learn else "",
        yardstick={name: (before[name] + after[name]) / 2 for name in before},
        machine=here,
        when=datetime.now().isoformat(timespec="minutes"),
    )
    result.save(home / "results")
    return result


def judged(task: Task, model: Path, work: Path) -> tuple[dict[str, Any], dict[str, float | None]]:
    """The figures of all test sound end to end, and the ESR of each file."""
    sounds = [word for path in task.test for word in ("--dry", path)]
    words = [FXCLONE, "evaluate", "--model", model, "--effect", task.case.effect, *sounds, "--json"]
    used = watched(words, work / "evaluate.log", 1, work)
    if used.code:
        raise SystemExit(f"{task}: {(work / 'evaluate.log').read_text()}")
    said = json.loads((work / "evaluate.log.out").read_text())
    files = {Path(one["dry"]).stem: one["esr_db"] for one in said.pop("files")}
    return {key: value for key, value in said.items() if key not in ("model", "reference")}, files


def told_result(result: Result) -> str:
    """One line for the terminal."""
    if result.failed:
        return f"{result.group} {result.name} {result.budget_s:g} s failed: {result.failed}"
    return (
        f"{result.group} {result.name} {result.budget_s:g} s: {result.esr_db:.1f} dB, "
        f"{result.training['family']}, {result.training['in_all_s']:.0f} s in all"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument("--group", nargs="+", choices=GROUPS, default=list(GROUPS), help="what is cloned")
    ask.add_argument("--only", default="", help="some of their references, with commas between")
    ask.add_argument("--seconds", type=float, default=None, help="of training for each; the group's own if not given")
    ask.add_argument("--threads", type=int, default=1, help="for training")
    ask.add_argument(
        "--home", type=Path, default=Path.home() / ".cache" / "fxclone-references", help="where all is kept"
    )
    ask.add_argument("--again", action="store_true", help="repeat what is there")
    ask.add_argument("--plan", action="store_true", help="say what is left to do and how long it takes, and end")
    ask.add_argument("--page", action="store_true", help="run nothing; the page of what is there")
    options = ask.parse_args(arguments)
    home = options.home.absolute()
    failures = 0
    if not options.page:
        left = list(tasks(options, test_files(home), home / "results"))
        seconds = sum(task.seconds + AROUND_S for task in left)
        print(f"{len(left)} clones, about {seconds / 60:.0f} minutes", flush=True)
        if options.plan:
            for task in left:
                print(f"- {task}", flush=True)
            return 0
        for task in left:
            result = run(task, home)
            failures += result is None or bool(result.failed)
            print(told_result(result) if result else f"{task}: ended from outside; not kept", flush=True)
    common.publish(page(list(results(home / "results")), options.seed), DOCUMENT, write=options.write)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
