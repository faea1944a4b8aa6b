"""How a ``recurrent`` model writes itself as a streaming graph: one ``LSTM`` node for the whole block.

    y[n-1] = v[n-1] + out . h[n-1]

where v, what skip and bias say, is affine in the window before. So the output that the LSTM hears is not fed back at
all: its part in h goes into the recurrent weights, its part in v into input weights that see one sample more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from fxclone_export.graph import StreamingGraph

if TYPE_CHECKING:
    from fxclone_training.recurrent import Recurrent

_TO_ONNX = [0, 2, 1, 3]
"""Gates i, f, o, g as ONNX has them: i, o, f, g."""


def export_recurrent(model: Recurrent) -> onnx.ModelProto:
    """Write the model as a streaming graph with the same weights."""
    graph = StreamingGraph()
    graph.output(add_recurrent(graph, model, "audio"))
    return graph.model()


def add_recurrent(graph: StreamingGraph, model: Recurrent, signal: str, *, prefix: str = "") -> str:
    """Run ``signal`` (1, T) through the model inside a graph; returns the name of its output (1, T)."""
    w = {name: value.detach().cpu().double().numpy() for name, value in model.weights().items()}
    m, H = model.config.m, model.config.units
    seen = m + 1 if model.config.feedback else m
    inputs = np.zeros((4 * H, seen))  # newest first
    inputs[:, :m] = w["x"]
    if model.config.feedback:
        inputs[:, 1:] += np.outer(w["y"], w["skip"])
    recurrent = (w["h"] + np.outer(w["out"], w["y"])).T  # (4 H, H)
    bias = w["b"] + w["y"] * w["b_out"]

    def ordered(gates: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(gates, 4)[place] for place in _TO_ONNX])

    # A window in each column, oldest first, and a 1 below it, for what is there in silence too.
    heard = graph.with_history(signal, seen - 1, name=prefix + "x")  # (1, seen - 1 + T)
    spread, one = graph.const(np.eye(seen + 1, seen)[:, None], "windows"), np.eye(seen + 1)[-1]
    windows = graph.op(
        "Conv", graph.op("Unsqueeze", heard, graph.const(np.array([0]))), spread, graph.const(one, "one")
    )
    rows = graph.op("Transpose", windows, perm=[2, 0, 1])  # (T, 1, seen + 1)
    shape = (1, 1, H)
    hidden, h, c = graph.op(
        "LSTM",
        rows,
        graph.const(np.concatenate([ordered(inputs)[:, ::-1], ordered(bias)[:, None]], axis=1)[None], "w_x"),
        graph.const(ordered(recurrent)[None], "w_h"),
        "",
        "",
        graph.state(prefix + "h", shape),
        graph.state(prefix + "c", shape),
        outputs=3,
        hidden_size=H,
    )
    graph.next_state(prefix + "h", h, shape)
    graph.next_state(prefix + "c", c, shape)
    skip = np.zeros(seen)
    skip[:m] = w["skip"]
    everything = graph.op("Concat", graph.op("Squeeze", hidden, graph.const(np.array([1]))), rows, axis=2)
    read = graph.const(np.concatenate([w["out"], skip[::-1], w["b_out"]])[:, None], "read")
    return str(graph.op("Reshape", graph.op("MatMul", everything, read), graph.const(np.array([1, -1]))))
