"""What the steps of family `wavenet` are worth: Adam or SOAP, on how much sound each.

Each way trains the same model of a .nam amp over the same guitars, for the same time, on one core; then it renders
guitars and a bass that it has not heard. What is done is kept and not repeated: run it in parts, and `--page` makes the
page of what is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts
import _kept
import numpy as np
import torch
from references_list import NAM
from references_sound import RATE, digest, learn_files, test_files, told

from fxclone.effects import effect
from fxclone.files import read_sound, resample
from fxclone.metrics import esr_db
from fxclone_training import wavenet_stages
from fxclone_training.recipe import Recipe
from fxclone_training.reference import EffectReference
from fxclone_training.session import Finished, Session
from fxclone_training.trainer import use_threads
from fxclone_training.wavenet import SIZES

DOCUMENT = "bench_wavenet_steps.md"
AMP = NAM / "A2.nam"
ADAM_RATE = 8e-3
"""The best of 0.008 and 0.016 after 2,000 steps of 256 samples."""
FIXED = (256, 512, 1024, 2048, 4096)
AS_IT_IS = "soap-as-it-is"
WAYS = [*(f"{kind}-{block}" for kind in ("adam", "soap") for block in FIXED), AS_IT_IS]


@dataclass(frozen=True)
class Result:
    """What is kept of a run: `way` is one of `WAYS`, `test_db` is of all test files end to end."""

    way: str
    budget_s: float
    seed: int
    digest: str
    held_db: float
    test_db: float
    steps: int
    machine: str


def file_of(folder: Path, way: str, budget_s: float, seed: int) -> Path:
    """Where a result is kept."""
    return folder / f"wavenet.{way}.{budget_s:g}s.seed{seed}.json"


def material() -> str:
    """Digest of all that is learnt from and judged by."""
    return digest([RATE], [AMP, *learn_files(), *test_files(Path())])


def descent_of(way: str) -> wavenet_stages.Descent:
    """How the steps are made; with Adam the process is changed for good."""
    if way == AS_IT_IS:
        return wavenet_stages.Descent()
    kind, block = way.split("-")
    if kind == "adam":
        wavenet_stages.Soap = lambda weights, lr: torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99))  # type: ignore
    rate = ADAM_RATE if kind == "adam" else wavenet_stages.Descent.rate
    return wavenet_stages.Descent(rate=rate, block=int(block), longer_from=())


def run(way: str, budget_s: float, seed: int) -> Result:
    """Train, and render the test files with what was best on held-back sound."""
    use_threads(1)
    recipe = Recipe(family="wavenet", size="standard", seconds=budget_s, sound_s=300.0, seed=seed)
    amp = effect(f"nam:{AMP}")
    found = EffectReference(amp, tuple(map(str, learn_files())), only_dry=True).material(recipe, RATE, "mono")
    session = Session(recipe, found.training, found.validation, torch.Generator().manual_seed(seed))
    try:
        cpu = torch.device("cpu")
        wavenet_stages.train(session, None, cpu, config=SIZES["standard"], descent=descent_of(way))
    except Finished:
        session.last_look()
    model = session.kept[0][1]
    sounds = [resample(*read_sound(path), RATE) for path in test_files(Path())]
    wet = np.concatenate([amp.render(sound, RATE) for sound in sounds], axis=1)
    said = np.concatenate([model.run_freely(sound) for sound in sounds], axis=1)
    where = common.machine("torch", "numba")
    return Result(way, budget_s, seed, material(), session.best_esr_db, esr_db(wet, said), session.steps, where)


def page(found: Sequence[Result]) -> str:
    """Markdown."""
    budgets = sorted({one.budget_s for one in found})
    rows = []
    for way in WAYS:
        mine = {one.budget_s: one for one in found if one.way == way}
        if mine:
            cells = [
                [f"{mine[b].held_db:.1f}", f"{mine[b].test_db:.1f}", f"{mine[b].steps:,}"] if b in mine else [""] * 3
                for b in budgets
            ]
            rows.append([_label(way), *(text for cell in cells for text in cell)])
    heads = [text for b in budgets for text in (f"held back, {b:g} s", f"test, {b:g} s", "steps")]
    machines = sorted({one.machine for one in found})
    return f"""# The steps of family wavenet

{common.command()}

A `standard` model of the amp A2 (`nam:A2.nam`), trained on {told(learn_files())}, which comes
again at other pitches and levels: 300 s in all. One core, seed 0. Held back is a part of that, by which the weights
were chosen and the steps tuned; the test is {told(test_files(Path()))}. Both
free-running, ESR in dB. 16 streams; what differs is how many samples of each a step sees.

{common.table(["", *heads], rows)}

Adam: rate {ADAM_RATE:g}. SOAP (`soap.py`): rate {wavenet_stages.Descent.rate:g}.

## Machine

{chr(10).join(f"- {machine}" for machine in machines)}"""


def _label(way: str) -> str:
    if way == AS_IT_IS:
        how = wavenet_stages.Descent()
        steps = " and ".join(f"{step:,}" for step in how.longer_from)
        return f"SOAP, {how.block:,}, twice as many from steps {steps} on: as it is"
    kind, block = way.split("-")
    return f"{'Adam' if kind == 'adam' else 'SOAP'}, {int(block):,}"


def main() -> int:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument("--ways", default=",".join(WAYS), help="names with commas between")
    ask.add_argument("--budget", type=float, default=300.0, help="seconds of training")
    ask.add_argument("--core", type=int, default=0, help="number of the core that all runs on")
    ask.add_argument("--home", type=Path, default=Path.home() / ".cache" / "fxclone-wavenet-steps", help="what is kept")
    ask.add_argument("--page", action="store_true", help="run nothing; the page of what is there")
    ask.add_argument("--one", default="", help="one run in this process: a way")
    options = ask.parse_args()
    if not AMP.exists() or not learn_files():
        print(f"left out: {AMP} and the guitars in {common.DRY} are not there", file=sys.stderr)
        return 0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    folder, failures = options.home / "results", 0
    if options.one:
        one = run(options.one, options.budget, options.seed)
        _kept.save(one, file_of(folder, options.one, options.budget, options.seed))
        print(f"{one.way}, {one.budget_s:g} s: held back {one.held_db:.1f}, test {one.test_db:.1f} dB", flush=True)
        return 0
    ways = [] if options.page else options.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        raise SystemExit(f"{', '.join(unknown)}; expected some of {', '.join(WAYS)}")
    for way in ways:
        if _kept.is_there(Result, file_of(folder, way, options.budget, options.seed), material()):
            continue
        again = [sys.executable, __file__, "--one", way, "--budget", options.budget, "--seed", options.seed]
        again += ["--core", options.core, "--home", options.home]
        failures += subprocess.run([str(word) for word in again], check=False).returncode != 0
    common.publish(page(list(_kept.results(Result, folder))), DOCUMENT, write=options.write)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
