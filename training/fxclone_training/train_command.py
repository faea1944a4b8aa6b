"""What ``fxclone train`` does: settle what to train, show how it goes, write the clone, say what came out."""

from __future__ import annotations

import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from fxclone.audio import valid_sample_rate
from fxclone.effects import Effect, effect, parse_settings
from fxclone.errors import CloneFileError, FxcloneError, UsageError
from fxclone.evaluate import verdict
from fxclone.pairs import training_and_validation
from fxclone.paths import check_target
from fxclone.presets import load_preset
from fxclone_training.face import Face
from fxclone_training.family import Model
from fxclone_training.finish import WrittenClone, finish_best
from fxclone_training.recipe import Recipe
from fxclone_training.runs import RunFolder
from fxclone_training.session import Moment
from fxclone_training.trainer import Trained, pick_device, train, use_threads

DEFAULT_SAMPLE_RATE = 48_000
NO_COPY_DB = -10.0
"""Above this nobody would call it a copy."""
SHAPE = ("m", "past_outputs", "layers", "width", "activation")


@dataclass(frozen=True)
class TrainRequest:
    """The command line, as given."""

    effect: str | None
    settings: tuple[str, ...]
    preset: str | None
    dry: tuple[Path, ...]
    only_dry: bool
    output: Path | None
    force: bool
    recipe: dict[str, Any]
    sample_rate: int | None
    device: str
    threads: int | None
    resume: str | None
    runs: Path
    as_json: bool
    quiet: bool


@dataclass(frozen=True)
class Plan:
    """What was settled before any long work starts."""

    reference: Effect
    recipe: Recipe
    sample_rate: int
    dry: tuple[str, ...]
    only_dry: bool
    output: Path
    start: Model | None = None
    run: RunFolder | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; enough to take the run up again."""
        return {
            "effect": self.reference.expression,
            "recipe": self.recipe.as_dict(),
            "sample_rate": self.sample_rate,
            "dry": list(self.dry),
            "only_dry": self.only_dry,
            "output": str(self.output),
        }


def run_training(request: TrainRequest) -> None:
    """The whole command."""
    console = Console(stderr=True, quiet=request.quiet or request.as_json)
    threads = use_threads(request.threads)
    pick_device(request.device)
    plan = make_plan(request)
    recipe = plan.recipe
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training, validation = training_and_validation(
            plan.reference,
            seconds=recipe.sound_s,
            validation_seconds=recipe.validation_s,
            sample_rate=plan.sample_rate,
            seed=recipe.seed,
            dry=plan.dry or None,
            mix_generated=not plan.only_dry,
        )
    for note in [*(str(entry.message) for entry in caught), *training.notes, *_notes(plan.reference, plan.sample_rate)]:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
    run = plan.run or RunFolder.create(request.runs, plan.reference.name, plan.as_dict())
    began = time.perf_counter()

    diary = _Diary(run, console)

    def listen(moment: Moment) -> None:
        face.show(moment)
        diary.write(lambda: run.write_log([moment]))

    with _stop_on_interrupt() as stopped, Face(console, recipe) as face:
        console.print(
            f"cloning {plan.reference.expression} at {plan.sample_rate} Hz, {training.seconds:.0f} s of sound, "
            f"up to {recipe.seconds:g} s on {threads} thread{'s' if threads > 1 else ''}; Ctrl-C keeps the best so far",
            highlight=False,
            soft_wrap=True,
        )
        result = train(
            training,
            validation,
            recipe,
            listen=listen,
            keep=lambda model, esr_db: diary.write(lambda: run.save_weights(model, esr_db)),
            should_stop=lambda: stopped[0],
            start=plan.start,
            device=request.device,
        )
    diary.write(lambda: run.draw(result.log, f"{plan.reference.expression}: {result.esr_db:.1f} dB"))
    provenance = {
        **plan.as_dict(),
        "dry": [Path(path).name for path in plan.dry],  # what it was, not where it lay
        "output": plan.output.name,
        "reference": plan.reference.expression,
        "seconds": round(result.seconds, 2),
        "steps": result.steps,
        "ended": result.reason,
    }

    def refused(esr_db: float, error: CloneFileError) -> None:
        console.print(f"note: a model of {esr_db:.1f} dB is left out: {error}", style="yellow", soft_wrap=True)

    try:
        written = finish_best(
            result.candidates,
            training,
            validation,
            plan.output,
            name=plan.reference.name,
            provenance=provenance,
            force=request.force,
            latency_samples=plan.reference.latency_samples(plan.sample_rate),
            refused=refused,
        )
    except FxcloneError as error:
        # Not lost: the weights are in the run's folder, and a second of training is enough to export them again.
        kept = f"; the weights are kept: fxclone train --resume {run.path} --seconds 1 -o FILE" if diary.works else ""
        raise FxcloneError(f"{error}{kept}") from error
    _report(request, plan, run, result, written, time.perf_counter() - began)


class _Diary:
    """Writes to the folder of the run; when that fails, training goes on without it."""

    def __init__(self, run: RunFolder, console: Console) -> None:
        self.run, self.console, self.works = run, console, True

    def write(self, action: Callable[[], None]) -> None:
        """Do ``action``, unless one before it has failed."""
        if not self.works:
            return
        try:
            action()
        except (OSError, FxcloneError) as error:
            self.works = False
            self.console.print(f"note: {self.run.path} is not kept any more: {error}", style="yellow", soft_wrap=True)


def make_plan(request: TrainRequest) -> Plan:
    """Check everything that can be checked at once, so that no long work ends in a usage error."""
    if request.resume is not None:
        return _resumed(request)
    expression, recipe = request.effect, Recipe()
    if request.preset is not None:
        preset = load_preset(request.preset)
        expression = request.effect or preset.effect
        recipe = recipe.with_settings(preset.recipe)
    if expression is None:
        also = f" (the preset {request.preset} has none)" if request.preset else ""
        raise UsageError(f"no reference effect given{also}; add --effect NAME, see: fxclone effects")
    reference = effect(expression, parse_settings(request.settings))
    recipe = recipe.with_settings(request.recipe)
    if request.only_dry and not request.dry:
        raise UsageError("--only-dry needs --dry FILE_OR_FOLDER")
    output = _target(request.output or Path(f"{reference.name}.onnx"), force=request.force)
    rate = valid_sample_rate(request.sample_rate or DEFAULT_SAMPLE_RATE)
    return Plan(reference, recipe, rate, tuple(str(path) for path in request.dry), request.only_dry, output)


def _resumed(request: TrainRequest) -> Plan:
    if request.effect or request.preset or request.dry or request.settings or request.sample_rate:
        raise UsageError("--resume takes effect, preset, sound and rate from the run; leave those options out")
    for name in SHAPE:
        if name in request.recipe:
            raise UsageError(f"--resume takes the model's shape from the run; leave --{name.replace('_', '-')} out")
    run = RunFolder.open(str(request.resume), request.runs)
    config = run.config()
    try:
        recipe = Recipe().with_settings(config["recipe"]).with_settings(request.recipe)
        reference = effect(config["effect"])
        output = request.output or Path(config["output"])
        dry, only_dry, rate = tuple(config["dry"]), bool(config["only_dry"]), valid_sample_rate(config["sample_rate"])
        if not all(isinstance(path, str) for path in dry):
            raise TypeError("dry is not a list of files")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--resume {request.resume}: its config.json is incomplete ({error}); start anew") from error
    if output.exists() and not request.force:
        raise UsageError(f"{output} exists already (this run's own clone?); add --force to replace it, or -o FILE")
    _target(output, force=request.force)
    return Plan(reference, recipe, rate, dry, only_dry, output, run.load_weights(), run)


def _target(path: Path, *, force: bool) -> Path:
    target = check_target(path, force=force)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"-o {target}: a clone is an ONNX file; give it a name that ends in .onnx")
    return target


def _notes(reference: Effect, sample_rate: int) -> list[str]:
    notes = []
    if reference.time_varying:
        notes.append(
            f"{reference.name} varies with time by itself; this model cannot know its phase, expect a rough copy"
        )
    if reference.stereo:
        notes.append(f"{reference.name} has a stereo image; this clone is mono")
    if reference.tail_s and reference.tail_s > 0.1:
        notes.append(f"{reference.name} rings for {reference.tail_s:.1f} s; this model remembers milliseconds")
    latency = reference.latency_samples(sample_rate)
    if latency:
        notes.append(f"{reference.name} is {latency} samples late; the clone will be as late")
    return notes


@contextmanager
def _stop_on_interrupt() -> Iterator[list[bool]]:
    """The first Ctrl-C asks training to end, the second ends the program."""
    stopped = [False]

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stopped[0]:
            raise KeyboardInterrupt
        stopped[0] = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _report(
    request: TrainRequest,
    plan: Plan,
    run: RunFolder,
    result: Trained,
    written: WrittenClone,
    seconds_in_all: float,
) -> None:
    clone, model, esr_db = written.clone, written.model, written.esr_db
    words = verdict(written.comparison)
    facts: dict[str, Any] = {
        "model": str(plan.output),
        "family": clone.meta.family,
        "seconds": round(result.seconds, 2),
        "seconds_in_all": round(seconds_in_all, 2),
        "esr_db": round(esr_db, 2),
        "parameters": clone.meta.parameters,
        **model.facts(),
        "steps": result.steps,
        "ended": result.reason,
        "effect": plan.reference.expression,
        "sample_rate": plan.sample_rate,
        "run": str(run.path),
        "metrics": clone.meta.metrics,
        "certificate": clone.meta.certificate,
    }
    if request.as_json:
        sys.stdout.write(json.dumps(facts, allow_nan=False) + "\n")
        return
    sys.stdout.write(
        f"wrote {plan.output}: {esr_db:.1f} dB free-running on held-back sound, {clone.meta.parameters} weights "
        f"({model.describe()}), {result.seconds:.1f} s of training ({result.reason})\n"
    )
    if esr_db > NO_COPY_DB:
        sys.stdout.write(
            f"this is not a copy yet ({words}): the effect may need more memory than this model has, or more "
            "time (--resume last --force)\n"
        )
    if not request.quiet:
        sys.stdout.write(f"{words}\n" if esr_db <= NO_COPY_DB else "")
        sys.stdout.write(f"log, weights and curves are in {run.path}\n")
        sys.stdout.write(f"play it: fxclone play --model {plan.output}\n")
