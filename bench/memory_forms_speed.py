"""How fast the loops of family `ar` train: samples a second of processor time, on one core."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np
import torch

from fxclone.pairs import Pair
from fxclone.paths import atomic_output
from fxclone_training import memory_stages, pyramid_stages
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.ar_stages import without_taps
from fxclone_training.gauss_newton import FreeRun
from fxclone_training.online_newton import OnlineNewton
from fxclone_training.segments import Recording
from fxclone_training.streams import Streams
from fxclone_training.trainer import use_threads

RATE, STREAMS, SAMPLES, SECONDS = 48_000, 16, 1_024, 5
ROUNDS = 15


def _shapes() -> dict[str, ArConfig]:
    pedal, dynamics = memory_stages.PEDAL["standard"], memory_stages.DYNAMICS["standard"]
    return {
        "leaky averages, 16 tanh": pedal.config(RATE, "tanh"),
        "leaky averages, 16 ReLU": pedal.config(RATE, "relu"),
        "averages and envelopes, 16 tanh": without_taps(dynamics.config(RATE, "tanh")),
        "window of 32 and 31, 16 tanh": ArConfig(m=32, width=16),
        "pyramid of 512 and 16, 16 tanh": pyramid_stages.SIZES["standard"].config("tanh"),
        "window of 32 and 72, 2 x 32 tanh": ArConfig(m=32, past_outputs=72, layers=2, width=32),
    }


def measure(file: Path) -> None:
    """Time each shape and keep the figures."""
    use_threads(1)
    rng = np.random.default_rng(0)
    dry = (0.1 * rng.standard_normal((1, SECONDS * RATE))).astype(np.float32)
    rows = []
    for name, config in _shapes().items():
        model = _quiet(config)
        forward, both = _first_order(model, torch.from_numpy(dry[:, : STREAMS * SAMPLES]).view(STREAMS, 1, SAMPLES))
        second = _second_order(model, Pair(dry, np.tanh(3 * dry), RATE)) if config.layers == 1 else math.nan
        rows.append({
            "shape": name,
            "weights": model.parameter_count,
            "forward": forward,
            "both": both,
            "second_order": None if math.isnan(second) else second,
        })  # fmt: skip
        print(rows[-1], flush=True)
    told = {"rows": rows, "machine": common.machine("torch", "numba"), "streams": STREAMS, "samples": SAMPLES}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(file, force=True) as part:
        part.write_text(json.dumps(told, indent=1) + "\n")


def _quiet(config: ArConfig) -> Ar:
    """A model whose feedback is weak: its sound stays small, as trained models' does."""
    model = Ar(config, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.w_y.mul_(0.1)
        model.skip_x[0] = 0.5
    return model


def _first_order(model: Ar, x: torch.Tensor) -> tuple[float, float]:
    """Samples a second: forward, with all that the gradient needs; forward and backward."""
    state, grad = model.fresh_state(len(x)), torch.ones(x.shape)

    def both() -> None:
        model.zero_grad(set_to_none=True)
        model(x, state)[0].backward(grad)

    return x.numel() / _seconds(lambda: model(x, state)), x.numel() / _seconds(both)


def _second_order(model: Ar, pair: Pair) -> float:
    """Samples a second in steps of `online_newton`, as `memory_stages` makes them."""
    recording = Recording(pair, model.config)
    streams = Streams(
        recording,
        batch=memory_stages.STREAMS,
        block=memory_stages.BLOCK_SAMPLES,
        relative_weight=False,
        generator=torch.Generator().manual_seed(0),
        sample_rate=pair.sample_rate,
        stream_s=math.inf,
    )
    newton = OnlineNewton(model, power=float(recording.mean_y))

    def step() -> None:
        newton.step(FreeRun(model, streams, stride=memory_stages.STRIDE, sigma=1e-3), 0.01)

    return memory_stages.STREAMS * memory_stages.BLOCK_SAMPLES / _seconds(step, rounds=3)


def _seconds(work: Callable[[], object], *, rounds: int = ROUNDS) -> float:
    """Of processor time, the median."""
    times = []
    work()  # compiles
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return float(np.median(times))
