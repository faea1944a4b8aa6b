"""What ``fxclone train`` does: settle what to train, show how it goes, write the clone, say what came out."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from rich.console import Console

from fxclone.commands.info import cost_us_per_sample
from fxclone.errors import CloneFileError, FxcloneError
from fxclone.evaluate import verdict
from fxclone_training.face import Face
from fxclone_training.finish import WrittenClone, finish_best
from fxclone_training.losses_text import LossText
from fxclone_training.plan import Plan, TrainRequest, make_plan
from fxclone_training.reference import Material
from fxclone_training.runs import RunFolder
from fxclone_training.session import Moment
from fxclone_training.trainer import Trained, pick_device, train, use_threads

NO_COPY_DB = -10.0
"""Above this nobody would call it a copy."""


def run_training(request: TrainRequest) -> None:
    """The whole command."""
    console = Console(stderr=True, quiet=request.quiet or request.as_json)
    threads = use_threads(request.threads)
    pick_device(request.device)
    plan = make_plan(request)
    with console.status(f"looking at {plan.reference.expression}"):
        material = plan.reference.material(plan.recipe, plan.sample_rate, plan.channels)
    training, validation, notes = material.training, material.validation, list(material.notes)
    plan, said = stopping_at_noise(plan, material)
    recipe = plan.recipe
    for note in [*notes, *said, *LossText.parse(recipe.loss).advice]:
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
            tell=lambda sentence: console.print(sentence, highlight=False, soft_wrap=True),
            start=plan.start,
            device=request.device,
            render=plan.reference.render,
        )
    diary.write(lambda: run.draw(result.log, f"{plan.reference.expression}: {result.esr_db:.1f} dB"))
    provenance = {
        **plan.as_dict(),
        **plan.reference.provenance(),  # what it was, not where it lay
        **material.facts,
        **result.findings,
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
            latency_samples=material.latency_samples,
            refused=refused,
        )
    except FxcloneError as error:
        # Not lost: the weights are in the run's folder, and a second of training is enough to export them again.
        kept = f"; the weights are kept: fxclone train --resume {run.path} --seconds 1 -o FILE" if diary.works else ""
        raise FxcloneError(f"{error}{kept}") from error
    _report(request, plan, material, run, result, written, time.perf_counter() - began)


def stopping_at_noise(plan: Plan, material: Material) -> tuple[Plan, list[str]]:
    """Training ends where only the recording's noise is left to learn, unless the user chose another end."""
    floor_db = material.floor_db
    if floor_db is None or plan.own_target or floor_db <= plan.recipe.target_esr_db:
        return plan, []
    target = round(min(0.0, floor_db), 1)
    recipe = plan.recipe.with_settings({"target_esr_db": target})
    return replace(plan, recipe=recipe), [
        f"noise in the recording permits {target:.1f} dB at best; training stops there (--target-esr-db goes on)"
    ]


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
    material: Material,
    run: RunFolder,
    result: Trained,
    written: WrittenClone,
    seconds_in_all: float,
) -> None:
    clone, model, esr_db = written.clone, written.model, written.esr_db
    words = verdict(written.comparison)
    cost_us = cost_us_per_sample(clone)
    facts: dict[str, Any] = {
        "model": str(plan.output),
        "family": clone.meta.family,
        "seconds": round(result.seconds, 2),
        "seconds_in_all": round(seconds_in_all, 2),
        "esr_db": round(esr_db, 2),
        "parameters": clone.meta.parameters,
        "cost_us_per_sample": round(cost_us, 3),
        **model.facts(),
        "steps": result.steps,
        "ended": result.reason,
        "effect": plan.reference.expression,
        "sample_rate": plan.sample_rate,
        "run": str(run.path),
        "metrics": clone.meta.metrics,
        "certificate": clone.meta.certificate,
        **material.facts,
        **result.findings,
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
        share = 1e-4 * cost_us * plan.sample_rate
        sys.stdout.write(f"playing it takes {share:.1f} % of a core here ({cost_us:.2f} us a sample, blocks of 64)\n")
        sys.stdout.write(f"log, weights and curves are in {run.path}\n")
        sys.stdout.write(f"play it: fxclone play --model {plan.output}\n")
