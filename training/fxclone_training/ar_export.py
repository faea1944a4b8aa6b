"""How an ``ar`` model writes itself as a streaming graph.

One hidden layer of ReLU folds into a single ``RNN`` node, three times cheaper than a ``Scan``: the delay line of past
outputs rides in the same state vector as the hidden units, shifted upwards so that ReLU is the identity on it (exact
but for rounding, while |y| is below the shift). ``RNN`` applies its activation to all that it stores, so y[n] itself is
not stored: it is affine in what is stored, y[n] = v[n] + skip . delay + out . h[n], and is taken outside the node for
the whole block.

Leaky averages of past outputs are linear and bounded, so they ride along; envelopes are never negative, and |y| is
max(y, 0) + max(-y, 0), two more units.

Everything else runs in a ``Scan``: a matrix product and an activation for each layer, and two products that move the
past on and put y in front. (tanh has the identity too, on a delay line scaled by 2^-13, but onnxruntime's ``RNN``
takes tanh from exponentials, which keep an absolute, not a relative precision: the error was 1e-4.)
"""

from __future__ import annotations

import numpy as np
import onnx

from fxclone_export.graph import Scan, StreamingGraph
from fxclone_training.ar import Ar

LONGEST_FOLDED = 100.0
"""Samples; the longest average that the folded form may carry."""
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
    graph.output(add_ar(graph, model, "audio", loudest=loudest, fold=fold))
    return graph.model()


def add_ar(
    graph: StreamingGraph, model: Ar, signal: str, *, loudest: float = 4.0, fold: bool = True, prefix: str = ""
) -> str:
    """Run ``signal`` (1, T) through the model inside a graph; returns the name of its output (1, T).

    ``prefix`` keeps the states of several models apart; see `export_ar` for the rest.
    """
    u, v = _input_part(graph, model, signal, prefix)
    if model.config.taps_y == 0:
        y = _memoryless(graph, model, u, v)
    elif fold and folds(model):
        y = _rnn(graph, model, u, v, 2.0 ** np.ceil(np.log2(max(loudest, 1e-3))), prefix)
    else:
        y = _scan(graph, model, u, v, prefix)
    return str(graph.op("Transpose", y, perm=[1, 0]))  # (T, 1) -> (1, T)


def folds(model: Ar) -> bool:
    """Whether the model can be one ``RNN`` node.

    Long averages cannot: each step rounds them at the size of the shift, and an average adds up what it was given.
    """
    c = model.config
    short = all(constant <= LONGEST_FOLDED for constant in c.averages)
    return c.layers == 1 and c.activation == "relu" and c.taps_y > 0 and short


def _weights(model: Ar) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()}


def _input_part(graph: StreamingGraph, model: Ar, signal: str, prefix: str) -> tuple[str, str]:
    """All that depends on the input alone, for the whole block: u (T, H), v (T, 1)."""
    w = _weights(model)
    m, H = model.config.m, model.config.width
    kernel = np.concatenate([w["w_x"], w["skip_x"][None]])  # (H+1, seen_x), newest first
    bias = np.concatenate([w["b_in"], w["b_out"]])
    heard = graph.with_history(signal, m - 1, name=prefix + "x")
    batched = graph.op("Unsqueeze", heard, graph.const(np.array([0])))
    taps = graph.const(kernel[:, None, m - 1 :: -1], "w_x")  # (H+1, 1, m), oldest first
    part = graph.op("Conv", batched, taps, graph.const(bias, "b_in"))  # (1, H+1, T)
    rows = graph.op("Transpose", graph.op("Squeeze", part, graph.const(np.array([0]))), perm=[1, 0])  # (T, H+1)
    if model.config.slow:
        slow = graph.leaky(signal, model.rates, len(model.config.averages), name=prefix + "slow_x")  # (T, slow)
        rows = graph.op("Add", rows, graph.op("MatMul", slow, graph.const(kernel[:, m:].T, "w_slow_x")))
    return graph.slice(rows, 0, H, 1), graph.slice(rows, H, H + 1, 1)


def _memoryless(graph: StreamingGraph, model: Ar, u: str, v: str) -> str:
    w = _weights(model)
    activation = _ONNX_ACTIVATION[model.config.activation]
    h = graph.op(activation, u)
    for layer in range(model.config.layers - 1):
        product = graph.op("MatMul", h, graph.const(w["hidden"][layer], "w"))
        h = graph.op(activation, graph.op("Add", product, graph.const(w["b_hidden"][layer], "b")))
    return str(graph.op("Add", v, graph.op("MatMul", h, graph.const(w["out"][:, None], "out"))))


def _rnn(graph: StreamingGraph, model: Ar, u: str, v: str, shift_by: float, prefix: str) -> str:
    """State after sample n: h[n]; y[n-1] ... y[n-K] and averages up to y[n-1], both shifted upwards; envelopes up to
    |y[n-2]|; max(y[n-1], 0) and max(-y[n-1], 0), of which the next envelopes are made.
    """  # fmt: skip
    w = _weights(model)
    c = model.config
    H, K, J, E = c.width, c.taps_y, len(c.averages), len(c.envelopes)
    average_rate, envelope_rate = np.split(model.rates.astype(np.float64), [J])
    averages, envelopes = slice(K, K + J), slice(K + J, K + J + E)
    folds_abs = 2 if E else 0
    N = H + K + J + E + folds_abs
    shift = np.concatenate([np.zeros(H), np.full(K + J, shift_by), np.zeros(E + folds_abs)])

    # The past at sample n (K + J + E values) as rows over the state after n-1, and over v[n-1].
    last_y = np.concatenate([w["out"], w["skip_y"], np.zeros(folds_abs)])  # y[n-1] = v[n-1] + last_y . state
    past, from_v = np.zeros((K + J + E, N)), np.zeros(K + J + E)
    past[0], from_v[0] = last_y, 1
    past[np.arange(1, K), H + np.arange(K - 1)] = 1
    past[averages] = average_rate[:, None] * last_y
    past[np.arange(K, K + J), H + np.arange(K, K + J)] += 1 - average_rate
    from_v[averages] = average_rate
    if E:
        past[np.arange(K + J, K + J + E), H + np.arange(K + J, K + J + E)] = 1 - envelope_rate
        past[envelopes, -2:] = envelope_rate[:, None]

    next_state = np.concatenate([w["w_y"] @ past, past, *([last_y[None], -last_y[None]] if E else [])])  # (N, N)
    v_column = np.concatenate([w["w_y"] @ from_v, from_v, [1, -1] if E else []])
    bias = shift - next_state @ shift  # the state is stored shifted: taken back before, added after
    W = np.zeros((N, H + 1))  # inputs of the node: u[n] (H), v[n-1]
    W[:H, :H] = np.eye(H)
    W[:, H] = v_column

    # v[n-1]: the row before the block is carried.
    v_history = str(graph.op("Concat", graph.state(prefix + "v", (1, 1)), v, axis=0))  # (1 + T, 1)
    graph.next_state(prefix + "v", graph.slice(v_history, -1, None, 0), (1, 1))
    v_before = graph.slice(v_history, 0, -1, 0)
    rows = graph.op("Unsqueeze", graph.op("Concat", u, v_before, axis=1), graph.const(np.array([1])))  # (T, 1, H+1)
    # A fresh state is all zeros by the format, so the shift comes in and goes out here.
    shift_name = graph.const(shift[None, None], "shift")
    before = graph.op("Add", graph.state(prefix + "rnn", (1, 1, N)), shift_name)
    weights = [graph.const(W[None], "W"), graph.const(next_state[None], "R")]
    biases = graph.const(np.concatenate([bias, np.zeros(N)])[None], "B")
    states, after = graph.op("RNN", rows, *weights, biases, "", before, outputs=2, hidden_size=N, activations=["Relu"])
    graph.next_state(prefix + "rnn", graph.op("Sub", after, shift_name), (1, 1, N))
    flat = graph.op("Squeeze", states, graph.const(np.array([1, 2])))  # (T, N)
    recurrent = graph.op("MatMul", flat, graph.const(last_y[:, None], "out"))
    recurrent = graph.op("Add", recurrent, graph.const(np.array([-last_y @ shift]), "unshift"))
    return str(graph.op("Add", v, recurrent))


def _scan(graph: StreamingGraph, model: Ar, u: str, v: str, prefix: str) -> str:
    """State: the past, newest first, then slow values. One product moves it on, another adds y."""
    w = _weights(model)
    c = model.config
    H, K, J, E = c.width, c.taps_y, len(c.averages), len(c.envelopes)
    average_rate, envelope_rate = np.split(model.rates.astype(np.float64), [J])
    S = K + J + E
    from_y = np.zeros(S)  # what y[n] adds to each value of the next past
    from_y[0], from_y[K : K + J] = 1, average_rate
    move = np.outer(w["skip_y"], from_y)  # row vector times this: the next past without what hidden units say
    move[np.arange(K - 1), np.arange(1, K)] += 1
    move[np.arange(K, S), np.arange(K, S)] += 1 - model.rates.astype(np.float64)
    v_row = graph.op("MatMul", v, graph.const(from_y[None], "from_y"))  # (T, S)

    body = Scan(["past", "u", "v"])
    activation = _ONNX_ACTIVATION[c.activation]
    h = body.op(activation, body.op("Gemm", "past", graph.const(w["w_y"].T, "w_y"), "u"))
    for layer in range(c.layers - 1):
        weights, bias = graph.const(w["hidden"][layer], "w"), graph.const(w["b_hidden"][layer], "b")
        h = body.op(activation, body.op("Gemm", h, weights, bias))
    linear = body.op("Gemm", "past", graph.const(move, "move"), "v")
    if E:  # envelopes move towards |y[n-1]|, the first value of the past
        to_envelopes = np.zeros((S, S))
        to_envelopes[0, K + J :] = envelope_rate
        linear = body.op("Gemm", body.op("Abs", "past"), graph.const(to_envelopes, "to_envelopes"), linear)
    after = body.op("Gemm", h, graph.const(np.outer(w["out"], from_y), "out"), linear)
    body.outputs = [after, h, linear]
    # The carried value holds y too, but an output may not be both carried and stacked without a copy per sample:
    # stack its two parts instead, and add them up for the whole block at once.
    stacked_h, stacked_linear = graph.scan({prefix + "y": (1, S)}, [(u, H), (v_row, S)], body, [H, S])
    axis = graph.const(np.array([1]))
    from_h = graph.op("MatMul", graph.op("Squeeze", stacked_h, axis), graph.const(w["out"][:, None], "out"))
    return str(graph.op("Add", from_h, graph.slice(graph.op("Squeeze", stacked_linear, axis), 0, 1, 1)))
