"""What a clone costs while it plays: microseconds a sample by block size, the worst block, and offline speed.

The weights are small and random: cost depends on the shape of a model, not on what it has learnt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np
import onnx
import torch

from fxclone.audio import Audio
from fxclone.clone import Clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.files import write_sound
from fxclone.render import render_file
from fxclone.signals import training_sound
from fxclone_export.graph import StreamingGraph
from fxclone_export.write import write_clone
from fxclone_training import memory_stages, recurrent, wavenet
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.ar_stages import without_taps
from fxclone_training.family import Model
from fxclone_training.recurrent import RecurrentConfig
from fxclone_training.trainer import use_threads
from fxclone_training.wavenet import WaveNetConfig

SAMPLE_RATE = 48_000
BLOCKS = (32, 64, 128, 1024)
HEAVY_WEIGHTS = 50_000
"""Models above this are timed over less sound."""
ENGINES = ("Scan", "LSTM", "RNN", "Conv")
"""What does most of the work: the first of these that a graph has."""

Shape = ArConfig | RecurrentConfig | WaveNetConfig


def _shapes() -> dict[str, Shape]:
    """Every size of every family, and what is worth knowing beside them."""
    out: dict[str, Shape] = {}
    for kind, sizes in (("pedal", memory_stages.PEDAL), ("dynamics", memory_stages.DYNAMICS)):
        for size, memory in sizes.items():
            for activation in ("tanh", "relu"):
                shape = without_taps(memory.config(SAMPLE_RATE, activation))
                out[f"ar memory, {kind}, {size}, {activation}"] = shape
        two = replace(without_taps(sizes["standard"].config(SAMPLE_RATE, "tanh")), layers=2)
        out[f"ar memory, {kind}, 2 x 16 tanh"] = two
    out["ar without memory, 16 tanh"] = ArConfig(1, 0, 1, 16, "tanh")
    for m in (4, 16, 32):
        for activation in ("tanh", "relu"):
            out[f"ar window, m={m}, 16 {activation}"] = ArConfig(m, None, 1, 16, activation)
    out["ar window, m=32, 2 x 32 tanh"] = ArConfig(32, None, 2, 32, "tanh")
    out |= {f"recurrent, {size}": config for size, config in recurrent.SIZES.items()}
    out |= {f"wavenet, {size}": config for size, config in wavenet.SIZES.items()}
    out["seed, m=128, 6 x 256 gelu"] = ArConfig(128, None, 6, 256, "gelu", skip=False)
    return out


SHAPES = _shapes()
Row = tuple[str, Clone, list[common.Timing]]
"""Name, clone, and a timing for each block size."""


def untrained(shape: Shape, seed: int) -> Model:
    """A model with random weights."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(shape, RecurrentConfig):
        return recurrent.Recurrent(shape, generator=generator)
    if isinstance(shape, WaveNetConfig):
        return wavenet.WaveNet(shape, generator=generator)
    model = Ar(shape, generator=generator)
    with torch.no_grad():  # small ones, so that it is stable
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


def clone_of(name: str, graph: onnx.ModelProto, model: Callable[[Audio], Audio], weights: int, path: Path) -> Clone:
    """Write a graph as a proven clone file."""
    silence = np.zeros((1, 1), np.float32)
    meta = CloneMeta(name, "ar", SAMPLE_RATE, SelfTest(silence, silence), parameters=weights)
    return write_clone(
        graph, meta, path, model=model, replay_sound=training_sound(0.5, SAMPLE_RATE, seed=9), force=True
    )


def bare_call() -> onnx.ModelProto:
    """Nothing at all: what the call from Python costs."""
    graph = StreamingGraph()
    graph.output("audio")
    return graph.model()


def empty_scan() -> onnx.ModelProto:
    """A loop over samples that hands each on: what onnxruntime's Scan costs before any work is done in it."""
    graph = StreamingGraph()
    rows = str(graph.op("Transpose", "audio", perm=[1, 0]))
    last, stacked = graph.repeat(
        [(graph.state("last", (1,)), (1,))],
        [(rows, (1,))],
        lambda names: [graph.op("Identity", names[0]), graph.op("Identity", names[1])],
        [(1,)],
    )
    graph.next_state("last", last, (1,))
    graph.output(graph.op("Transpose", stacked, perm=[1, 0]))
    return graph.model()


def make_clones(shapes: dict[str, Shape], seed: int, folder: Path) -> dict[str, Clone]:
    """Every shape as a clone file, and two that show what is overhead."""
    overhead = {"nothing (the call alone)": bare_call(), "nothing, in a Scan": empty_scan()}
    clones = {
        name: clone_of(name, graph, lambda x: x, 0, folder / f"overhead-{place}.onnx")
        for place, (name, graph) in enumerate(overhead.items())
    }
    for name, shape in shapes.items():
        model = untrained(shape, seed)
        path = folder / f"{len(clones)}.onnx"
        graph = next(iter(model.graphs(1.0)))
        clones[name] = clone_of(name, graph, model.run_freely, model.parameter_count, path)
    return clones


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_live_cost.md")
    ask.add_argument("--seconds", type=float, default=4.0, help="sound for each block size and round")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--render-seconds", type=float, default=30.0, help="length of the file to render")
    ask.add_argument("--no-heavy", action="store_true", help="leave out the seed's shape")
    options = ask.parse_args()
    use_threads(1)
    here = common.machine("onnxruntime", "onnx", "torch")
    shapes = {name: shape for name, shape in SHAPES.items() if not (options.no_heavy and name.startswith("seed"))}
    yardstick = common.Yardstick()
    yardstick.measure(20)
    with tempfile.TemporaryDirectory() as folder:
        clones = make_clones(shapes, options.seed, Path(folder))
        live = live_rows(clones, options, yardstick)
        offline = [render_row(name, clone, options, Path(folder)) for name, clone in clones.items()]
    matmul_ms = yardstick.seconds * 1e3
    head = ["model", "runs in", "weights", *(f"{block}" for block in BLOCKS), "% of a core", "matmuls / s", "p99.9 ms"]
    head += ["worst ms"]
    rows = [finish_row(row, yardstick.seconds) for row in live]
    budget = 64 / SAMPLE_RATE * 1e3
    page = f"""# What a clone costs while it plays

{common.command()}

Machine: {here}. One thread. Seed {options.seed}.

Untrained models with small random weights, exported to clone files and run in onnxruntime through
`fxclone.clone.Clone.process`, mono at {SAMPLE_RATE} Hz, on generated sound: {options.seconds:g} s for each block size
and round, {options.rounds} rounds (above {HEAVY_WEIGHTS} weights: a tenth of it, {max(2, options.rounds // 2)} rounds).

## Live

- {", ".join(map(str, BLOCKS))}: microseconds a sample at that block size (of the median block in the quietest round).
  Real time at {SAMPLE_RATE} Hz is {1e6 / SAMPLE_RATE:.1f}.
- The other columns are at 64-sample blocks, whose budget is {budget:.2f} ms. % of a core: while playing.
- Matmuls / s: the cost of one second of sound in the yardstick, 256 x 256 float32 matrix products in numpy
  ({matmul_ms:.3f} ms each, timed between the rounds of this run). Compare runs and machines by this column, not by
  microseconds.
- p99.9 and worst: over the blocks of all rounds. This machine is shared: a worst block that "nothing" has too is the
  machine's, not the model's.

- Runs in: what does most of the work. `ar memory` are the sizes that `fxclone train --family ar` makes of what is like
  a pedal, or follows the level (`--size`); `ar window` what it makes of effects that remember a few samples.

{common.table(head, rows)}

## Offline

`fxclone.render.render_file` on a {options.render_seconds:g} s mono file, 24-bit WAV to 24-bit WAV, once (models above
{HEAVY_WEIGHTS} weights: 2 s of sound).

{common.table(["model", "seconds", "x real time"], offline)}"""
    common.publish(page, "bench_live_cost.md", write=options.write)


def live_rows(clones: dict[str, Clone], options, yardstick: common.Yardstick) -> list[Row]:
    """Time every clone at every block size: a round of all, then the next, so that a busy minute hits one round."""
    times: dict[tuple[str, int], list[np.ndarray]] = {(name, block): [] for name in clones for block in BLOCKS}
    for turn in range(options.rounds):
        for name, clone in clones.items():
            heavy = clone.meta.parameters > HEAVY_WEIGHTS
            if heavy and turn >= max(2, options.rounds // 2):
                continue
            dry = training_sound(options.seconds / (10 if heavy else 1), SAMPLE_RATE, seed=options.seed + 1)
            for block in BLOCKS:
                times[name, block].append(common.time_blocks(clone, dry, block, 1, yardstick).times)
    return [
        (name, clone, [common.Timing(block, np.concatenate(times[name, block])) for block in BLOCKS])
        for name, clone in clones.items()
    ]


def quietest_us(timing: common.Timing) -> float:
    """Microseconds a sample of the median block, in the round with the fewest interruptions."""
    return float(np.median(timing.times, axis=1).min()) / timing.block * 1e6


def finish_row(row: Row, yardstick_s: float) -> list[str]:
    """Figures to text."""
    name, clone, timings = row
    at_64 = timings[BLOCKS.index(64)]
    return [
        name,
        next((engine for engine in ENGINES if engine in clone.ops), "-"),
        f"{clone.meta.parameters:,}",
        *(f"{quietest_us(timing):.2f}" for timing in timings),
        f"{1e-4 * quietest_us(at_64) * SAMPLE_RATE:.1f}",
        f"{quietest_us(at_64) * 1e-6 * SAMPLE_RATE / yardstick_s:.1f}",
        f"{at_64.percentile_ms(99.9):.3f}",
        f"{at_64.percentile_ms(100):.3f}",
    ]


def render_row(name: str, clone: Clone, options, folder: Path) -> list[str]:
    """Render a file with one clone."""
    seconds = 2.0 if clone.meta.parameters > HEAVY_WEIGHTS else options.render_seconds
    source, target = folder / f"dry-{seconds:g}.wav", folder / "wet.wav"
    if not source.exists():
        write_sound(source, training_sound(seconds, SAMPLE_RATE, seed=options.seed + 2), SAMPLE_RATE, subtype="PCM_24")
    report = render_file([clone], source, target, force=True)
    return [name, f"{report.wall_s:.2f}", f"{report.times_real_time:.1f}"]


if __name__ == "__main__":
    main()
