"""What each contestant's model costs while it plays, each in the fastest player that there is for it.

fxclone's own is its clone file. LSTMs are written as ONNX `LSTM` nodes and run by fxclone's player, after proof that
they sound like the trainer's own output. Neural Amp Modeler's WaveNet has a C++ player that no package index has: its
cost is quoted, as a multiple of the LSTM-32 node on the machine where both were measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.audio import Audio
from fxclone.clone import Clone, clone_from_bytes
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.evaluate import run_free
from fxclone_export.graph import StreamingGraph
from fxclone_export.write import attach

BLOCK, ROUNDS, SECONDS = 64, 3, 3.0
QUOTED_WAVENET_US, QUOTED_LSTM32_US = 0.77, 0.35
"""Microseconds a sample: Neural Amp Modeler's C++ player with its standard WaveNet, and an LSTM-32 node in onnxruntime,
both measured earlier on one x86 machine with AVX-512."""
UNITS = 32
SILENCE_SAMPLES = 48_000
"""What Neural Amp Modeler's export lets an LSTM hear before the first sample."""
SAMPLE_RATE = 48_000


@dataclass(frozen=True, eq=False)
class LstmWeights:
    """Layers of (W (4H, inputs), R (4H, H), bias (4H)) in the order i, f, g, o; then a linear output.

    Attributes
    ----------
    layers : sequence of tuples of ndarray
    head, head_bias : ndarray [shape=(H,)], float
    skip : bool
        Whether the input is added to the output.
    silence_samples : int
        How much silence brings it to its state before the first sample.
    """

    layers: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
    head: np.ndarray
    head_bias: float
    skip: bool = False
    silence_samples: int = 0

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(part.size for layer in self.layers for part in layer) + self.head.size + 1


def lstm_clone(weights: LstmWeights, sample_rate: int, name: str) -> Clone:
    """A clone out of ``LSTM`` nodes."""
    graph = StreamingGraph()
    units = weights.head.size
    signal = graph.op("Unsqueeze", graph.op("Transpose", "audio", perm=[1, 0]), graph.const(np.array([1])))  # (T, 1, 1)
    for place, (w, r, bias) in enumerate(weights.layers):
        w, r, bias = (_as_onnx(part) for part in (w, r, bias))
        states = [graph.state(f"{part}{place}", (1, 1, units)) for part in "hc"]
        both = np.concatenate([bias, np.zeros_like(bias)])
        out, *after = graph.op(
            "LSTM",
            signal,
            *(graph.const(part[None], hint) for part, hint in ((w, "w"), (r, "r"), (both, "b"))),
            "",
            *states,
            outputs=3,
            hidden_size=units,
        )
        for part, value in zip("hc", after, strict=True):
            graph.next_state(f"{part}{place}", value, (1, 1, units))
        signal = graph.op("Squeeze", out, graph.const(np.array([1])))  # (T, 1, H)
    rows = graph.op("Squeeze", signal, graph.const(np.array([1])))  # (T, H)
    column = graph.op(
        "Gemm", rows, graph.const(weights.head[:, None], "head"), graph.const(np.array([weights.head_bias], np.float32))
    )
    wet = graph.op("Transpose", column, perm=[1, 0])
    graph.output(graph.op("Add", wet, "audio") if weights.skip else wet)
    nothing = np.zeros((1, 1), np.float32)
    meta = CloneMeta(name, "recurrent", sample_rate, SelfTest(nothing, nothing), parameters=weights.count,
                     prewarm_samples=weights.silence_samples)  # fmt: skip
    return clone_from_bytes(attach(graph.model(), meta), name=name, self_test=False)


def _as_onnx(rows: np.ndarray) -> np.ndarray:
    """Gates from i, f, g, o to i, o, f, g."""
    i, f, g, o = np.split(np.asarray(rows, np.float32), 4)
    return np.concatenate([i, o, f, g])


def lstm32_weights(file: Path) -> LstmWeights:
    """What `contest_lstm` exports."""
    with np.load(file) as all_of_it:
        w, r = all_of_it["rec.weight_ih_l0"], all_of_it["rec.weight_hh_l0"]
        bias = all_of_it["rec.bias_ih_l0"] + all_of_it["rec.bias_hh_l0"]
        return LstmWeights([(w, r, bias)], all_of_it["lin.weight"][0], float(all_of_it["lin.bias"][0]), skip=True)


def nam_lstm_weights(file: Path, silence_samples: int) -> LstmWeights:
    """A .nam file of an LSTM: for each layer [W | R] row by row, bias, h0, c0; then the output's weights and bias."""
    told = json.loads(file.read_text())
    config, flat = told["config"], np.asarray(told["weights"], np.float32)
    units = config["hidden_size"]
    layers = []
    for place in range(config["num_layers"]):
        inputs = config["input_size"] if place == 0 else units
        both, flat = flat[: 4 * units * (inputs + units)].reshape(4 * units, -1), flat[4 * units * (inputs + units) :]
        layers.append((both[:, :inputs], both[:, inputs:], flat[: 4 * units]))
        flat = flat[6 * units :]  # bias, h0, c0: those two come of the silence that it starts with
    if flat.size != units + 1:
        raise SystemExit(f"{file}: {flat.size} weights left for the output; expected {units + 1}")
    return LstmWeights(layers, flat[:units], float(flat[units]), silence_samples=silence_samples)


def fixed_lstm32() -> Clone:
    """The yardstick: an LSTM-32 node with small random weights."""
    rng = np.random.default_rng(0)
    shapes = (4 * UNITS, 1), (4 * UNITS, UNITS), (4 * UNITS,)
    layer = tuple(0.1 * rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    weights = LstmWeights([(layer[0], layer[1], layer[2])], 0.1 * rng.standard_normal(UNITS, dtype=np.float32), 0.0)
    return lstm_clone(weights, SAMPLE_RATE, "yardstick")


def cost_of(clone: Clone, dry: Audio) -> float:
    """Microseconds a sample at 64-sample blocks, one thread: the median block."""
    part = dry[:, : round(SECONDS * clone.sample_rate)]
    return common.time_blocks(clone, part, BLOCK, ROUNDS, common.Yardstick()).us_per_sample


def yardsticks() -> dict[str, float]:
    """The same work on every machine: a 256 x 256 matrix product in numpy, and an LSTM-32 node in onnxruntime."""
    matmul = common.Yardstick()
    matmul.measure(50)
    noise = 0.1 * np.random.default_rng(1).standard_normal((1, SAMPLE_RATE)).astype(np.float32)
    return {"matmul_ms": matmul.seconds * 1e3, "lstm32_us": cost_of(fixed_lstm32(), noise)}


def proven(clone: Clone, dry: Audio, expected: np.ndarray) -> float:
    """By how much the player's sound differs from the trainer's own rendering, at most."""
    return float(np.abs(run_free(clone, dry, clone.sample_rate)[0] - expected).max())
