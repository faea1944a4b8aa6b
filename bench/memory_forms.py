"""What each form of memory is worth to `ar`: window, pyramid of averages, leaky averages; and family `recurrent`.

Each form is trained for the same time on the same recording by the same steps, and its clone file is judged
free-running on a test recording that it has not seen. What is done is kept and not repeated: run it in parts, and
`--page` makes the page of what is there.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import _common as common  # first: it sets thread counts
import _kept
import contest_cost as cost
from contest_pairs import DEVICES, Material, prepared

from fxclone.evaluate import run_free
from fxclone.metrics import compare
from fxclone.recorded import Treatment, read_recording
from fxclone.takes import Take
from fxclone_training import ar_stages, memory_stages, memory_start, pyramid_stages
from fxclone_training.ar_config import ArConfig
from fxclone_training.finish import finish_best
from fxclone_training.recipe import Recipe
from fxclone_training.session import Moment
from fxclone_training.trainer import train, use_threads

DOCUMENT = "bench_memory_forms.md"
PREPARE_S = 40.0
"""What a run takes besides training, about: starting, export, rendering, timing. For the plan only."""
EVERYTHING_S = 1200.0
"""All of the recording is learned from, but for what is held back."""


@dataclass(frozen=True)
class Window:
    """The plain window, for `memory_stages` in place of its own memories: as many values to see."""

    width: int = 16
    m: int = 32

    def config(self, sample_rate: int, activation: str) -> ArConfig:
        """The shape at any rate."""
        return ArConfig(m=self.m, width=self.width, activation=activation)


def _set(owner: ModuleType | type, name: str, value: object) -> None:
    """Change a setting of a module or class, in the process of one run."""
    if not hasattr(owner, name):
        raise SystemExit(f"{owner.__name__} has no {name}; this bench has to follow it")
    setattr(owner, name, value)


def _window() -> None:
    for tiers in ("PEDAL", "DYNAMICS"):
        _set(memory_stages, tiers, {"standard": Window()})


def _far() -> None:
    standard = pyramid_stages.SIZES["standard"]
    _set(pyramid_stages, "SIZES", {"standard": replace(standard, past_octaves=6)})


def _without_race() -> None:
    chosen = ar_stages.choose
    _set(ar_stages, "choose", lambda found: replace(chosen(found), driven=None))


def _from_nothing() -> None:
    """A plain gain and random units: no race, no least squares, no steps one sample ahead."""

    def started(pair: Any, config: ArConfig, source: Any, start: Any) -> Any:
        model = memory_stages.Ar(config, generator=source.generator)
        x, y = source.recording.x, source.recording.y
        model.skip_x.data[0] = (x @ y) / x.square().sum().clamp(min=1e-20)
        return model

    _set(memory_stages, "started", started)
    _set(memory_stages, "fit_last", lambda model, source, sigma: None)
    _set(memory_stages, "ONE_STEPS", 0)


def _single_units() -> None:
    _set(memory_start, "_pairs", memory_start.single_units)


def _noise(relative: float) -> None:
    _set(memory_stages, "NOISE", relative)
    _set(memory_stages, "LEVEL_NOISE", relative)


def _fresh(seconds: float) -> None:
    _set(memory_stages, "FRESH_EVERY_S", seconds)


def _attack(share: float) -> None:
    usual = memory_stages.Memory.config

    def config(self: memory_stages.Memory, sample_rate: int, activation: str) -> ArConfig:
        return replace(usual(self, sample_rate, activation), attack=share)

    _set(memory_stages.Memory, "config", config)


def _fewer(averages: int) -> None:
    _set(memory_stages, "PEDAL", {"standard": replace(memory_stages.PEDAL["standard"], averages=averages)})


@dataclass(frozen=True)
class Form:
    """What is compared: a recipe, and what is changed beside it."""

    label: str
    recipe: dict[str, Any]
    change: Callable[[], object] = lambda: None


LONG = {"family": "ar", "memory": "long", "size": "standard"}
FORMS = {
    "window": Form("window, 32 inputs and 31 past outputs", LONG, _window),
    "pyramid": Form("pyramid, 512 and 16", LONG | {"memory": "pyramid"}),
    "pyramid-far": Form("pyramid, 512 and 256", LONG | {"memory": "pyramid"}, _far),
    "pyramid-large": Form("pyramid, 4,096 and 64", LONG | {"memory": "pyramid", "size": "large"}),
    "leaky": Form("leaky averages", LONG),
    "grown": Form("window, by `--memory window`", {"family": "ar", "memory": "window"}),
    "recurrent": Form("family recurrent, large", {"family": "recurrent", "size": "large"}),
}
WORTH = {
    "leaky": Form("leaky averages, as they are", LONG),
    "no-noise": Form("no noise on the free run", LONG, lambda: _noise(0.0)),
    "no-one-step": Form("no steps one sample ahead", LONG, lambda: _set(memory_stages, "ONE_STEPS", 0)),
    "no-race": Form("no race: random units", LONG, _without_race),
    "single": Form("units one by one, not in pairs", LONG, _single_units),
    "no-trust": Form("no price for what a step moves", LONG, lambda: _set(memory_stages, "TRUST", 0.0)),
    "nothing": Form("none of the start: random units, a plain gain", LONG, _from_nothing),
    "alike": Form("all samples weigh the same", LONG | {"loss": "mse"}),
    "all-past": Form(
        "as many averages of y as of x", LONG, lambda: _set(memory_stages, "of_past_outputs", lambda averages: averages)
    ),
    "less-noise": Form("a twentieth of the error as noise", LONG, lambda: _noise(0.05)),
    "taps": Form("hears its last outputs", LONG, lambda: _set(ar_stages, "without_taps", lambda config: config)),
}
BEGUN = {
    "carried": Form("never begun anew from silence", LONG, lambda: _fresh(math.inf)),
    "fresh-8": Form("begun anew every 8 s", LONG, lambda: _fresh(8.0)),
    "fresh-2": Form("begun anew every 2 s", LONG, lambda: _fresh(2.0)),
    "fresh-1": Form("begun anew every second", LONG, lambda: _fresh(1.0)),
}
"""How often a recording begins anew from silence, for what follows the level; elsewhere it changes nothing."""
ATTACKS = {
    f"attack-{share:g}": Form(
        f"in {share:g} of the release" if share < 1 else "no sooner than they fall", LONG, partial(_attack, share)
    )
    for share in (1.0, 0.3, 0.03, 0.01)
}
"""How soon envelopes rise."""
CHEAP = {
    f"{activation}-{averages}": Form(
        f"16 units of {activation}, {averages} averages", LONG | {"activation": activation}, partial(_fewer, averages)
    )
    for activation in ("tanh", "relu")
    for averages in (14, 10, 8)
    if (activation, averages) != ("tanh", 14)  # that is what fxclone has
}
TRIED_ON = (
    dict.fromkeys(WORTH.keys() - FORMS, ("ts9", "la2a"))
    | dict.fromkeys(["single", "no-trust", "less-noise", "taps", *BEGUN, *ATTACKS], ("la2a",))
    | dict.fromkeys(["no-race", *CHEAP], ("ts9",))
)
"""What does not concern every pair."""
ALL = FORMS | WORTH | ATTACKS | BEGUN | CHEAP


@dataclass(frozen=True)
class Cell:
    """One run."""

    pair: str
    form: str
    budget_s: float
    seed: int

    @property
    def file_name(self) -> str:
        """Where its result is kept."""
        return f"{self.pair}.{self.form}.{self.budget_s:g}s.seed{self.seed}.json"

    def __str__(self) -> str:
        return f"{self.pair}, {self.form}, {self.budget_s:g} s, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What is kept of a run.

    Attributes
    ----------
    pair, form : str
    budget_s : float
        Of training.
    seed : int
    digest : str
        Of the material.
    test : dict
        `fxclone.metrics.Comparison` of the whole test recording: the clone file, free-running.
    held_db : float
        On held-back sound.
    model : str
        Its shape.
    weights, steps : int
    us_per_sample : float
        The clone file at blocks of 64.
    lstm32_us : float
        An LSTM-32 node, timed right after.
    curve : list
        Seconds, and the best on held-back sound until then.
    cpu_share : float
        Of the training's wall-clock.
    machine, when : str
    """

    pair: str
    form: str
    budget_s: float
    seed: int
    digest: str
    test: dict[str, Any]
    held_db: float
    model: str
    weights: int
    steps: int
    us_per_sample: float
    lstm32_us: float
    curve: list[tuple[float, float]]
    cpu_share: float
    machine: str
    when: str

    @property
    def esr_db(self) -> float:
        """On the test recording; +99 for an output that is not finite."""
        value = self.test["esr_db"]
        return 99.0 if value is None else float(value)


def results(folder: Path) -> list[Result]:
    """Everything that is there."""
    return list(_kept.results(Result, folder))


def run(cell: Cell, material: Material, folder: Path) -> Result:
    """Train, write the clone file, render the test with it. In a process of its own: it may change settings."""
    form = ALL[cell.form]
    form.change()
    use_threads(1)
    recipe = Recipe(**form.recipe, seconds=cell.budget_s, seed=cell.seed)
    dry, rate = material.read("test_dry")
    wet, _ = material.read("test_wet")
    parts = read_recording(
        [Take(material.file("train_dry"), material.file("train_wet"))],
        name=cell.pair,
        sample_rate=rate,
        seconds=EVERYTHING_S,
        validation_seconds=recipe.validation_s,
        seed=cell.seed,
        treatment=Treatment(align=False, anyway=True),
    )
    curve: list[tuple[float, float]] = []

    def listen(moment: Moment) -> None:
        curve.append((round(moment.seconds, 2), round(moment.best_esr_db, 3)))

    began, worked = time.perf_counter(), time.process_time()
    trained = train(parts.training, parts.validation, recipe, listen=listen)
    share = (time.process_time() - worked) / (time.perf_counter() - began)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{cell.file_name.removesuffix('.json')}.onnx"
    about = {"name": cell.pair, "provenance": {"bench": str(cell)}, "force": True}
    written = finish_best(trained.candidates, parts.training, parts.validation, file, **about)
    estimate = run_free(written.clone, dry, rate)
    result = Result(
        **asdict(cell),
        digest=material.digest,
        test=compare(wet, estimate, rate, dry).as_dict(),
        held_db=written.esr_db,
        model=written.model.describe(),
        weights=written.model.parameter_count,
        steps=trained.steps,
        us_per_sample=cost.cost_of(written.clone, dry),
        lstm32_us=cost.yardsticks()["lstm32_us"],
        curve=curve,
        cpu_share=share,
        machine=common.machine("onnxruntime", "torch", "numba"),
        when=datetime.now().isoformat(timespec="minutes"),
    )
    _kept.save(result, folder / cell.file_name)
    return result


def left(cells: list[Cell], digests: dict[str, str], folder: Path) -> Iterator[Cell]:
    """What is not there yet, with this very material."""
    there = {(one.pair, one.form, one.budget_s, one.seed): one.digest for one in results(folder)}
    for cell in cells:
        if there.get((cell.pair, cell.form, cell.budget_s, cell.seed)) != digests[cell.pair]:
            yield cell


def wanted(pairs: list[str], forms: list[str], budget_s: float, seeds: int) -> list[Cell]:
    """Every form on the pairs that it is tried on."""
    return [
        Cell(pair, form, budget_s, seed)
        for seed in range(seeds)
        for pair in pairs
        for form in ALL
        if form in forms and pair in TRIED_ON.get(form, pairs)
    ]


def main() -> int:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument("--pairs", default=",".join(DEVICES), help="names with commas between")
    ask.add_argument("--forms", default=",".join(ALL), help="some of these names")
    ask.add_argument("--budget", type=float, default=300.0, help="seconds of training")
    ask.add_argument("--seeds", type=int, default=1, help="so many, from 0")
    ask.add_argument("--core", type=int, default=0, help="number of the core that all runs on")
    ask.add_argument("--home", type=Path, default=Path.home() / ".cache" / "fxclone-memory-forms", help="what is kept")
    ask.add_argument("--plan", action="store_true", help="say what is left to do and how long it takes, and end")
    ask.add_argument("--throughput", action="store_true", help="time the compiled loops, keep that, and end")
    ask.add_argument("--page", action="store_true", help="run nothing; the page of what is there")
    ask.add_argument("--one", default="", help="one run in this process: PAIR,FORM,SECONDS,SEED")
    options = ask.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    folder, failures = options.home / "results", 0
    if options.one:
        pair, form, seconds, seed = options.one.split(",")
        cell = Cell(pair, form, float(seconds), int(seed))
        one = run(cell, prepared(pair, options.home / "pairs"), folder)
        print(f"{cell}: {one.esr_db:.1f} dB, {one.us_per_sample:.2f} us a sample, {one.steps} steps", flush=True)
        return 0
    if options.throughput:
        from memory_forms_speed import measure

        measure(options.home / "throughput.json")
    elif not options.page:
        names = options.forms.split(",")
        if unknown := set(names) - set(ALL):
            raise SystemExit(f"{', '.join(unknown)}; expected some of {', '.join(ALL)}")
        pairs = options.pairs.split(",")
        digests = {name: prepared(name, options.home / "pairs").digest for name in pairs}
        todo = list(left(wanted(pairs, names, options.budget, options.seeds), digests, folder))
        minutes = sum(cell.budget_s + PREPARE_S for cell in todo) / 60
        print(f"{len(todo)} runs, about {minutes:.0f} minutes on core {options.core}", flush=True)
        for cell in todo:
            if options.plan:
                print(f"- {cell}")
                continue
            asked = f"{cell.pair},{cell.form},{cell.budget_s:g},{cell.seed}"
            again = [sys.executable, __file__, "--one", asked, "--home", options.home, "--core", options.core]
            failures += subprocess.run([str(word) for word in again], check=False).returncode != 0
    if options.page or options.write:
        from memory_forms_page import draw, page

        found = results(folder)
        common.publish(page(found, options.home / "throughput.json"), DOCUMENT, write=options.write)
        if options.write:
            draw(found, common.DOCS / "bench_memory_forms.png")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
