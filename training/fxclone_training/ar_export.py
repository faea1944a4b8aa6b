"""How an ``ar`` model writes itself as a streaming graph.

One hidden layer of ReLU folds into a single ``RNN`` node, three times cheaper than a ``Scan``: the delay line of past
outputs rides in the same state vector as the hidden units, shifted upwards so that ReLU is the identity on it (exact
but for rounding, while |y| is below the shift). ``RNN`` applies its activation to all that it stores, so y[n] itself is
not stored: it is affine in what is stored, y[n] = v[n] + skip . delay + out . h[n], and is taken outside the node for
the whole block.

Everything else runs in a ``Scan``: a matrix product and an activation for each layer, and two products that shift the
past outputs and put y in front. (tanh has the identity too, on a delay line scaled by 2^-13, but onnxruntime's ``RNN``
takes tanh from exponentials, which keep an absolute, not a relative precision: the error was 1e-4.)
"""

from __future__ import annotations

import numpy as np
import onnx

from fxclone_export.graph import Scan, StreamingGraph
from fxclone_training.ar import Ar

_ONNX_ACTIVATION = {"tanh": "Tanh", "relu": "Relu", "gelu": "Gelu"}


def export_ar(model: Ar, *, loudest: float = 4.0, fold: bool = True) -> onnx.ModelProto:
    """Write the model as a streaming graph with the same weights.

    Parameters
    ----------
    model : Ar
    loudest : float
        Largest |y| that the folded form must carry: its shift is the next power of two. Rounding grows with it.
    fold : bool
        Whether the form in one ``RNN`` node may be used.
    """
    graph = StreamingGraph()
    u, v = _input_part(graph, model)
    if model.config.taps_y == 0:
        y = _memoryless(graph, model, u, v)
    elif fold and folds(model):
        y = _rnn(graph, model, u, v, 2.0 ** np.ceil(np.log2(max(loudest, 1e-3))))
    else:
        y = _scan(graph, model, u, v)
    graph.output(graph.op("Transpose", y, perm=[1, 0]))  # (T, 1) -> (1, T)
    return graph.model()


def folds(model: Ar) -> bool:
    """Whether the model can be one ``RNN`` node."""
    return model.config.layers == 1 and model.config.activation == "relu" and model.config.taps_y > 0


def _weights(model: Ar) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()}


def _input_part(graph: StreamingGraph, model: Ar) -> tuple[str, str]:
    """All that depends on the input alone, for the whole block: u (T, H), v (T, 1)."""
    w = _weights(model)
    m, H = model.config.m, model.config.width
    kernel = np.concatenate([w["w_x"], w["skip_x"][None]])[:, None, ::-1]  # (H+1, 1, m), oldest tap first
    bias = np.concatenate([w["b_in"], w["b_out"]])
    heard = graph.with_history("audio", m - 1, name="x")
    batched = graph.op("Unsqueeze", heard, graph.const(np.array([0])))
    part = graph.op("Conv", batched, graph.const(kernel, "w_x"), graph.const(bias, "b_in"))  # (1, H+1, T)
    rows = graph.op("Transpose", graph.op("Squeeze", part, graph.const(np.array([0]))), perm=[1, 0])  # (T, H+1)
    return graph.slice(rows, 0, H, 1), graph.slice(rows, H, H + 1, 1)


def _memoryless(graph: StreamingGraph, model: Ar, u: str, v: str) -> str:
    w = _weights(model)
    activation = _ONNX_ACTIVATION[model.config.activation]
    h = graph.op(activation, u)
    for layer in range(model.config.layers - 1):
        product = graph.op("MatMul", h, graph.const(w["hidden"][layer], "w"))
        h = graph.op(activation, graph.op("Add", product, graph.const(w["b_hidden"][layer], "b")))
    return str(graph.op("Add", v, graph.op("MatMul", h, graph.const(w["out"][:, None], "out"))))


def _rnn(graph: StreamingGraph, model: Ar, u: str, v: str, shift_by: float) -> str:
    """State after sample n: h[n] (H), then y[n-1] ... y[n-K] (K), the latter shifted upwards inside the node."""
    w = _weights(model)
    H, K = model.config.width, model.config.taps_y
    N = H + K
    # Past outputs as rows over the state after n-1: y[n-1] = v[n-1] + last_y . state, then the stored y[n-2], ...
    last_y = np.concatenate([w["out"], w["skip_y"]])
    past = np.zeros((K, N))
    past[0] = last_y
    past[np.arange(1, K), H + np.arange(K - 1)] = 1
    unshift = np.full(K, -shift_by)  # what the shift adds to each, taken back
    unshift[0] = -shift_by * w["skip_y"].sum()

    R = np.concatenate([w["w_y"] @ past, past])
    bias = np.concatenate([w["w_y"] @ unshift, unshift + shift_by])
    W = np.zeros((N, H + 1))  # inputs of the node: u[n] (H), v[n-1]
    W[:H, :H] = np.eye(H)
    W[:H, H] = w["w_y"][:, 0]
    W[H, H] = 1

    # v[n-1]: the row before the block is carried.
    v_history = str(graph.op("Concat", graph.state("v", (1, 1)), v, axis=0))  # (1 + T, 1)
    graph.next_state("v", graph.slice(v_history, -1, None, 0), (1, 1))
    v_before = graph.slice(v_history, 0, -1, 0)
    rows = graph.op("Unsqueeze", graph.op("Concat", u, v_before, axis=1), graph.const(np.array([1])))  # (T, 1, H+1)
    # A fresh state is all zeros by the format, so the shift comes in and goes out here.
    shift = graph.const(np.where(np.arange(N) < H, 0.0, shift_by)[None, None], "shift")
    before = graph.op("Add", graph.state("rnn", (1, 1, N)), shift)
    weights = [graph.const(W[None], "W"), graph.const(R[None], "R")]
    biases = graph.const(np.concatenate([bias, np.zeros(N)])[None], "B")
    states, after = graph.op("RNN", rows, *weights, biases, "", before, outputs=2, hidden_size=N, activations=["Relu"])
    graph.next_state("rnn", graph.op("Sub", after, shift), (1, 1, N))
    flat = graph.op("Squeeze", states, graph.const(np.array([1, 2])))  # (T, N)
    recurrent = graph.op("MatMul", flat, graph.const(last_y[:, None], "out"))
    recurrent = graph.op("Add", recurrent, graph.const(unshift[:1], "unshift"))
    return str(graph.op("Add", v, recurrent))


def _scan(graph: StreamingGraph, model: Ar, u: str, v: str) -> str:
    """State: past outputs, newest first. A product shifts them, another adds y: cheaper than cutting and joining."""
    w = _weights(model)
    H, K, L = model.config.width, model.config.taps_y, model.config.layers
    activation = _ONNX_ACTIVATION[model.config.activation]
    shift = np.zeros((K, K))  # row vector times this: y of the skip path first, the rest one step older
    shift[:, 0] = w["skip_y"]
    shift[np.arange(K - 1), np.arange(1, K)] = 1
    first = np.zeros((H, K))
    first[:, 0] = w["out"]
    pads = graph.const(np.array([0, 0, 0, K - 1]))
    v_row = graph.op("Pad", v, pads) if K > 1 else v  # (T, K): v in the first column

    body = Scan(["past", "u", "v"])
    h = body.op(activation, body.op("Gemm", "past", graph.const(w["w_y"].T, "w_y"), "u"))
    for layer in range(L - 1):
        weights, bias = graph.const(w["hidden"][layer], "w"), graph.const(w["b_hidden"][layer], "b")
        h = body.op(activation, body.op("Gemm", h, weights, bias))
    linear = body.op("Gemm", "past", graph.const(shift, "shift"), "v")
    body.outputs = [body.op("Gemm", h, graph.const(first, "out"), linear), h, linear]
    # The carried value holds y too, but an output may not be both carried and stacked without a copy per sample:
    # stack its two parts instead, and add them up for the whole block at once.
    stacked_h, stacked_linear = graph.scan({"y": (1, K)}, [(u, H), (v_row, K)], body, [H, K])
    axis = graph.const(np.array([1]))
    from_h = graph.op("MatMul", graph.op("Squeeze", stacked_h, axis), graph.const(w["out"][:, None], "out"))
    return str(graph.op("Add", from_h, graph.slice(graph.op("Squeeze", stacked_linear, axis), 0, 1, 1)))
