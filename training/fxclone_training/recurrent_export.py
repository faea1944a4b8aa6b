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

    heard = graph.with_history(signal, seen - 1, name=prefix + "x")  # (1, seen - 1 + T)
    batched = graph.op("Unsqueeze", heard, graph.const(np.array([0])))
    spread = graph.const(np.eye(seen)[:, None], "windows")  # a window in each column, oldest first
    windows = graph.op("Transpose", graph.op("Conv", batched, spread), perm=[2, 0, 1])  # (T, 1, seen)
    shape = (1, 1, H)
    hidden, h, c = graph.op(
        "LSTM",
        windows,
        graph.const(ordered(inputs)[None, :, ::-1], "w_x"),
        graph.const(ordered(recurrent)[None], "w_h"),
        graph.const(np.concatenate([ordered(bias), np.zeros(4 * H)])[None], "b"),
        "",
        graph.state(prefix + "h", shape),
        graph.state(prefix + "c", shape),
        outputs=3,
        hidden_size=H,
    )
    graph.next_state(prefix + "h", h, shape)
    graph.next_state(prefix + "c", c, shape)
    said = graph.op(
        "MatMul", graph.op("Squeeze", hidden, graph.const(np.array([1, 2]))), graph.const(w["out"][:, None], "out")
    )
    skip = np.zeros(seen)
    skip[:m] = w["skip"]
    linear = graph.op("Conv", batched, graph.const(skip[None, None, ::-1], "skip"), graph.const(w["b_out"], "b_out"))
    flat = graph.op("Squeeze", linear, graph.const(np.array([0])))  # (1, T)
    return str(graph.op("Add", graph.op("Transpose", said, perm=[1, 0]), flat))
