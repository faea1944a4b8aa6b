"""How far results depend on the seed: `ar` on a compressor, from many starts, with and without what is done about it.

A compressor in software is learned from made sound, with other weights and other noise for each seed, in so many steps,
and judged on other made sound, free-running. `fxclone train` takes family `dynamics` for such an effect; here `ar` is
held to it, because what matters is known.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from unittest.mock import patch

import _common as common  # first: it sets thread counts
import torch

from fxclone.effects import effect
from fxclone.metrics import esr_db
from fxclone.pairs import Pair, effect_pair
from fxclone_training import memory_stages, memory_start
from fxclone_training.ar_stages import without_taps
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Session
from fxclone_training.trainer import use_threads

DOCUMENT = "bench_starts.md"
RATE = 16_000
COMPRESSOR = "compressor(threshold_db=-30, ratio=4, attack_ms=5, release_ms=100)"
LEARNT_S, HELD_S, OTHER_S = 16, 3, 8


SINGLE = (memory_start, "_pairs", memory_start.single_units)
FREE = (memory_stages, "TRUST", 0.0)
STUBBORN = (memory_stages, "QUIETER", 1.0)
WAYS = {
    "as it is": (),
    "units one by one, not in pairs": (SINGLE,),
    "no price for what a step moves": (FREE,),
    "feedback is never turned down": (STUBBORN,),
    "none of the three": (SINGLE, FREE, STUBBORN),
}


def run(way: str, size: str, steps: int, seed: int, pairs: Sequence[Pair]) -> tuple[float, float]:
    """Error on held-back and on other sound, dB."""
    learnt, held, other = pairs
    recipe = Recipe(family="ar", seconds=1e5, max_steps=steps, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with ExitStack() as stack:
        for owner, name, value in WAYS[way]:
            stack.enter_context(patch.object(owner, name, value))
        session = Session(recipe, learnt, held, generator)
        try:
            memory_stages.train(session, without_taps(memory_stages.DYNAMICS[size].config(RATE, "tanh")), None)
        except Finished:
            session.last_look()
    return session.best_esr_db, esr_db(other.wet, session.kept[0][1].run_freely(other.dry))


def page(rows: Sequence[Sequence[object]], size: str, steps: int, seeds: int) -> str:
    """What is kept in docs/."""
    head = [
        "",
        *(f"{where}, {which}" for where in ("held back", "other sound") for which in ("worst", "median", "best")),
    ]
    return f"""# How far results depend on the seed

`.venv/bin/python bench/starts.py --size {size} --steps {steps} --seeds {seeds} --write`

{__doc__.splitlines()[0]}

pedalboard's `{COMPRESSOR}` at {RATE / 1000:g} kHz, {LEARNT_S} s of made sound,
size {size}, tanh, {steps} steps, {seeds} seeds of weights and noise. Error on the {HELD_S} s that are held back, and on
{OTHER_S} s of other sound, free-running, ESR in dB.

{common.table(head, rows)}

- Pairs of units hear the same level, and opposite sound (`memory_start.py`).
- The price of a step is counted at what units hear (`trust.py`); without it, weights of units that say little go to
  hundreds, and they become switches.
- Where training has to go back to the best model so far, and that one howls too, its feedback is turned down.

{common.machine("torch", "pedalboard")}"""


def main() -> int:
    ask = common.parser(__doc__.splitlines()[0], document=DOCUMENT)
    ask.add_argument("--size", default="standard", choices=sorted(memory_stages.DYNAMICS), help="of the model")
    ask.add_argument("--steps", type=int, default=130, help="of training")
    ask.add_argument("--seeds", type=int, default=6, help="how many, from --seed on")
    options = ask.parse_args()
    use_threads(1)
    lengths = enumerate((LEARNT_S, HELD_S, OTHER_S), 1)
    pairs, rows = [effect_pair(effect(COMPRESSOR), seconds, RATE, seed=one) for one, seconds in lengths], []
    for way in WAYS:
        found = []
        for seed in range(options.seed, options.seed + options.seeds):
            found.append(run(way, options.size, options.steps, seed, pairs))
            print(f"{way}, seed {seed}: held back {found[-1][0]:.1f}, other sound {found[-1][1]:.1f} dB", flush=True)
        figures = [f"{pick(each):.1f}" for each in zip(*found, strict=True) for pick in (max, statistics.median, min)]
        rows.append([way, *figures])
    common.publish(page(rows, options.size, options.steps, options.seeds), DOCUMENT, write=options.write)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
