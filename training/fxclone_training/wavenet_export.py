"""How a ``wavenet`` model writes itself as a streaming graph: see `fxclone_export.dilated` for its layers.

What a gate says in silence is not taken off in the graph: it is constant, so it goes into the bias behind it.
"""

from __future__ import annotations

import numpy as np
import onnx

from fxclone_export.dilated import gated_conv, pointwise, with_past
from fxclone_export.graph import StreamingGraph
from fxclone_training.wavenet import WaveNet


def export_wavenet(model: WaveNet) -> onnx.ModelProto:
    """Write the model as a streaming graph with the same weights."""
    graph = StreamingGraph()
    graph.output(add_wavenet(graph, model, "audio"))
    return graph.model()


def add_wavenet(graph: StreamingGraph, model: WaveNet, signal: str, *, prefix: str = "") -> str:
    """Run ``signal`` (1, T) through the model inside a graph; returns the name of its output (1, T).

    ``prefix`` keeps the states of several models apart.
    """
    c = model.config
    w = {name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()}
    scale_in, scale_out = float(w["scale_in"]), float(w["scale_out"])
    curves = np.tanh(w["bias"][:, : c.channels])
    rest = curves / (1 + np.exp(-w["bias"][:, c.channels :])) if c.gated else curves  # (layers, channels)

    audio = str(graph.op("Unsqueeze", signal, graph.const(np.array([0]))))  # (1, 1, T)
    z, said = pointwise(graph, audio, scale_in * w["w_in"][:, None]), []
    for place, dilation in enumerate(c.dilations):
        weights = w["conv"][place].transpose(1, 2, 0)
        name = f"{prefix}layer{place}"
        said.append(gated_conv(graph, z, weights, w["bias"][place], dilation=dilation, gated=c.gated, name=name))
        if place < c.layers - 1:
            mix = w["mix"][place]
            z = str(graph.op("Add", z, pointwise(graph, said[-1], mix, -mix @ rest[place])))

    out_scale = 1.0 if c.head else scale_out
    everything = str(graph.op("Concat", *said, axis=1)) if len(said) > 1 else said[0]
    read = np.concatenate(list(w["read"]), axis=1)  # (outputs, layers * channels)
    silent = -read @ rest.ravel()
    if c.head:
        bent = graph.op("Tanh", pointwise(graph, everything, read, silent + w["head_bias"]))
        silent_head = np.array([w["b_out"][0] - w["head_out"] @ np.tanh(w["head_bias"])])
        y = pointwise(graph, bent, scale_out * w["head_out"][None], scale_out * silent_head)
    else:
        y = pointwise(graph, everything, out_scale * read, out_scale * (silent + w["b_out"]))
    if c.skip:
        heard = with_past(graph, audio, c.skip - 1, channels=1, name=prefix + "skip")
        taps = graph.const(scale_in * scale_out * w["skip"][None, None], "skip")
        y = str(graph.op("Add", y, graph.op("Conv", heard, taps)))
    return str(graph.op("Squeeze", y, graph.const(np.array([0]))))
