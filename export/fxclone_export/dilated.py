"""Dilated causal convolutions with carried history: the layers of a WaveNet in as few nodes as there can be.

At blocks of 64 samples a node costs about as much as the work in it, so: one ``Conv`` with dilation over history and
block (onnxruntime runs the activation behind it in the same step), one ``Conv`` of one tap and one ``Add`` for the
stream, and the outputs of all layers are read at the end, all at once.

Signals here are ``(1, channels, T)``, as ``Conv`` takes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone_export.graph import StreamingGraph

Floats = npt.NDArray[np.floating[Any]]


def with_past(graph: StreamingGraph, signal: str, samples: int, *, channels: int, name: str) -> str:
    """``(1, channels, T)`` to ``(1, channels, samples + T)``: what came before the block, carried as a state."""
    if samples == 0:
        return signal
    shape = (1, channels, samples)
    joined = str(graph.op("Concat", graph.state(name, shape), signal, axis=2))
    graph.next_state(name, graph.slice(joined, -samples, None, 2), shape)
    return joined


def pointwise(graph: StreamingGraph, signal: str, weights: Floats, bias: Floats | None = None) -> str:
    """Mix channels: weights ``(out, in)``, bias ``(out,)``."""
    inputs = [signal, graph.const(np.asarray(weights)[:, :, None], "w")]
    return str(graph.op("Conv", *inputs, *([] if bias is None else [graph.const(bias, "b")])))


def gated_conv(
    graph: StreamingGraph, signal: str, weights: Floats, bias: Floats, *, dilation: int, gated: bool, name: str
) -> str:
    """tanh of a dilated causal convolution, times the sigmoid of another if gated: ``(1, channels, T)``.

    Parameters
    ----------
    graph : StreamingGraph
    signal : str
        ``(1, channels in, T)``.
    weights : ndarray [shape=(filters, channels in, taps)]
        Oldest tap first. Filters are the channels out, or twice as many if gated: those of the tanh, then those of the
        sigmoid.
    bias : ndarray [shape=(filters,)]
    dilation : int
        Samples from tap to tap.
    gated : bool
    name : str
        Of the state.
    """
    filters, channels, taps = weights.shape
    heard = with_past(graph, signal, (taps - 1) * dilation, channels=channels, name=name)
    curves = slice(0, filters // 2 if gated else filters)

    def conv(part: slice) -> str:
        inputs = heard, graph.const(weights[part], "w"), graph.const(bias[part], "b")
        return str(graph.op("Conv", *inputs, dilations=[dilation]))

    curve = str(graph.op("Tanh", conv(curves)))
    if not gated:
        return curve
    return str(graph.op("Mul", curve, graph.op("Sigmoid", conv(slice(filters // 2, filters)))))
