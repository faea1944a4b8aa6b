"""How an ``ar`` model writes itself as a streaming graph.

All that a model carries is one vector z: its hidden units, y[n] as far as it is linear, the outputs and the slow values
before. Each sample is one matrix product and one step that bends some of them (`_Recursion`):

    z[n] = bend( R z[n-1] + W heard[n] )        y[n] = read . z[n]

What was heard is all that is linear in the input, its newest samples and its averages: that is known for the whole
block before the recursion begins (`fxclone_export.averages`). The recursion runs

- for one hidden layer of ReLU in one ``RNN`` node. It bends everything, so what is linear is carried as a pair,
  relu(s) and relu(-s): exact, at any size, and rounded no more than s itself.
- for one hidden layer of tanh in one ``LSTM`` node that bends its gates and nothing else. A cell is what goes in times
  its input gate: tanh(20) = 1 there leaves it linear, 1 goes in and the gate hears all for a hidden unit. So this is
  exact too.
- for everything else, and where z is so long that a node's matrices cost more, in a ``Scan``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
import torch

from fxclone_export.averages import taps_and_averages
from fxclone_export.graph import StreamingGraph
from fxclone_training.ar import Ar
from fxclone_training.pyramid import fold

LONGEST_FOLDED = 80
"""Values of z; with more, a node costs more than a ``Scan``, whose matrices are smaller."""
_ONNX_ACTIVATION = {"tanh": "Tanh", "relu": "Relu", "gelu": "Gelu"}
_ONE = 20.0
"""Its tanh is 1."""
_STEEP = 2.0**24
"""s tanh(_STEEP s) is |s| but for 2e-8."""
F64 = npt.NDArray[np.float64]


def export_ar(model: Ar, *, loudest: float = 4.0, fold: bool = True) -> onnx.ModelProto:
    """Write the model as a streaming graph with the same weights.

    Parameters
    ----------
    model : Ar
    loudest : float
        The largest output that is asked for. Every form here holds any level, so it is not looked at.
    fold : bool
        Whether the forms in one node may be used.
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
    model = folded(model)
    heard = _heard(graph, model, signal, prefix)
    if model.config.taps_y == 0:
        y = _memoryless(graph, model, heard)
    elif not (fold and folds(model)):
        y = _scan(graph, model, heard, prefix)
    elif model.config.activation == "relu":
        y = _rnn(graph, model, heard, prefix)
    else:
        y = _lstm(graph, model, heard, prefix)
    return str(graph.op("Reshape", y, graph.const(np.array([1, -1]))))


def folds(model: Ar) -> bool:
    """Whether the model can be one node, and is cheaper so."""
    c = model.config
    rise, fall = model.rates_y.T
    values = c.width + c.past_reach + c.slow_y + len(c.envelopes) + 2 * int((rise > fall).sum())
    return c.layers == 1 and c.taps_y > 0 and c.activation in ("relu", "tanh") and values <= LONGEST_FOLDED


@torch.no_grad()
def folded(model: Ar) -> Ar:
    """The same model with its blocks written out as taps."""
    c = model.config
    plain = Ar(replace(c, m=c.reach, past_outputs=c.past_reach, blocks=(), past_blocks=()))
    of_x, of_y = (c.m, c.blocks), (c.taps_y, c.past_blocks)
    seen = {"w_x": of_x, "skip_x": of_x, "w_y": of_y, "skip_y": of_y}
    for name, value in model.state_dict().items():
        plain.state_dict()[name].copy_(fold(value, *seen[name]) if name in seen else value)
    return plain


def _weights(model: Ar) -> dict[str, F64]:
    return {name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()}


def _heard(graph: StreamingGraph, model: Ar, signal: str, prefix: str) -> str:
    """All that depends on inputs alone, (T, 1, columns): u (H), v, then |x| if there are envelopes."""
    w, c = _weights(model), model.config
    of_x = np.concatenate([w["w_x"], w["skip_x"][None]])
    taps, sums, _ = np.split(of_x, [c.m, c.m + len(c.averages)], axis=1)
    bias, rates = np.concatenate([w["b_in"], w["b_out"]]), model.rates[: len(c.averages), 1]
    rows = taps_and_averages(graph, signal, taps, sums, rates, bias, name=prefix + "x")
    if c.envelopes:
        size = graph.op("Reshape", graph.op("Abs", signal), graph.const([-1, 1, 1]))
        rows = str(graph.op("Concat", rows, size, axis=2))
    return rows


def _memoryless(graph: StreamingGraph, model: Ar, heard: str) -> str:
    w = _weights(model)
    H, activation = model.config.width, _ONNX_ACTIVATION[model.config.activation]
    h = graph.op(activation, graph.slice(heard, 0, H, 2))
    for layer in range(model.config.layers - 1):
        product = graph.op("MatMul", h, graph.const(w["hidden"][layer], "w"))
        h = graph.op(activation, graph.op("Add", product, graph.const(w["b_hidden"][layer], "b")))
    linear = graph.slice(heard, H, H + 1, 2)
    return str(graph.op("Add", linear, graph.op("MatMul", h, graph.const(w["out"][:, None], "out"))))


@dataclass(frozen=True)
class _Recursion:
    """z[n] = bend(R z[n-1] + W heard[n]), y[n] = read . z[n], z = 0 when fresh.

    In z lie the hidden units, |y[n-1]| if there are envelopes, y[n] without what hidden units add to it, y[n-1] to
    y[n-K+1], averages and envelopes of y, and envelopes of x. Where an envelope e of q rises faster (by a) than it
    falls (by r), it is the sum of two values, and the second lies at the end:

        e - r e + r q    and    max((a - r) (q - e), 0),        or, if that bends to its size instead,
        e - s e + s q    and    |(a - r) / 2 (q - e)|           with s = (a + r) / 2

    A slow value keeps a part of itself and nothing else adds to that number in R: it must not be rounded.
    """

    R: F64  # (N, N)
    W: F64  # (N, heard)
    read: F64  # (N,)
    linear: int  # the place of y[n]'s linear part
    magnitudes: slice  # of |y[n-1]|
    slow: slice  # averages and envelopes
    rises: slice  # what envelopes rise by, in all or in part
    steps: F64  # how much of q - e that is, each
    positive: list[int]  # envelopes


def _recursion(model: Ar, *, sizes: bool = False) -> _Recursion:
    """``sizes``: what bends becomes its size, as |y[n-1]| does, instead of nothing where it is below zero."""
    w, c = _weights(model), model.config
    H, K, J, E, slow = c.width, c.taps_y, len(c.averages_y), len(c.envelopes), c.slow_y
    of_x = c.m + len(c.averages)  # where envelopes of x begin
    rise, fall = model.rates_y.astype(np.float64).T
    uneven = np.flatnonzero(rise[J:] > fall[J:])  # of the envelopes
    step = (rise - fall) / 2 if sizes else rise - fall
    rate = fall + step if sizes else fall  # of what is kept
    linear = H + (1 if E else 0)
    first = linear + K  # of the slow values
    last = first + slow + E
    averages = first + np.arange(J)
    envelopes = [first + J + np.arange(E), first + slow + np.arange(E)]  # of y, of x
    rises = [last + np.arange(len(uneven)) + side * len(uneven) for side in (0, 1)]
    N, P = last + 2 * len(uneven), K + slow + E
    read = np.zeros(N)
    read[:H], read[linear] = w["out"], 1

    # Rows over z[n-1], |x[n]|: first what the model sees at n of its past, y[n-1] to y[n-K], then slow values.
    seen = np.zeros((P, N + 1))
    seen[0, :N] = read
    seen[np.arange(1, K), linear + np.arange(1, K)] = 1
    seen[K + np.arange(J), averages] = 1 - rate[:J]  # averages hear the newest sample
    seen[K : K + J, :N] += rate[:J, None] * read
    values = [slice(K + J, K + slow), slice(K + slow, P)]
    for side in (0, 1):
        seen[values[side], envelopes[side]] = np.eye(E)
        seen[values[side].start + uneven, rises[side]] = 1

    z = np.zeros((N, N + 1))  # before it bends
    z[:H] = np.concatenate([w["w_y"], w["w_x"][:, of_x:]], axis=1) @ seen
    z[H:linear] = seen[0]
    z[linear] = np.concatenate([w["skip_y"], w["skip_x"][of_x:]]) @ seen
    z[linear + 1 : first] = seen[: K - 1]
    z[averages] = seen[K : K + J]
    for side in (0, 1):
        e = seen[values[side]]
        towards = np.eye(1, N + 1, (H, N)[side]) - e
        z[envelopes[side]] = e + rate[J:, None] * towards
        z[rises[side]] = step[J + uneven, None] * towards[uneven]
    return _Recursion(
        R=z[:, :N],
        W=np.concatenate([np.eye(N, H), np.eye(N)[:, [linear]], z[:, N : N + min(E, 1)]], axis=1),
        read=read,
        linear=linear,
        magnitudes=slice(H, linear),
        slow=slice(first, last),
        rises=slice(last, N),
        steps=np.tile(step[J + uneven], 2),
        positive=[*envelopes[0], *envelopes[1], *rises[0], *rises[1]],
    )


def _rnn(graph: StreamingGraph, model: Ar, heard: str, prefix: str) -> str:
    """z as what ReLU leaves of it and, where it may be negative, of -z."""
    z = _recursion(model)
    N = len(z.read)
    signed = np.setdiff1d(np.arange(model.config.width, N), z.positive)
    split = np.concatenate([np.eye(N), -np.eye(N)[signed]])  # (units, N)
    joined = split.T.copy()
    joined[z.magnitudes] = np.abs(joined[z.magnitudes])  # max(y, 0) + max(-y, 0)
    units = len(split)
    shape = (1, 1, units)
    weights = [graph.const((split @ z.W)[None], "W"), graph.const((split @ z.R @ joined)[None], "R")]
    before = graph.state(prefix + "z", shape)
    states, after = graph.op("RNN", heard, *weights, "", "", before, outputs=2, hidden_size=units, activations=["Relu"])
    graph.next_state(prefix + "z", after, shape)
    return str(graph.op("MatMul", states, graph.const((z.read @ joined)[:, None], "read")))


def _lstm(graph: StreamingGraph, model: Ar, heard: str, prefix: str) -> str:
    """z as outputs and cells alike. Slow values stay, and what is added to them is small: so they are rounded least."""
    z = _recursion(model, sizes=True)
    N = len(z.read)
    hidden, rest = slice(0, model.config.width), slice(model.config.width, None)
    # Rows of each gate over (z before, heard, 1); ONNX has them in the order input, output, forget, cell.
    step = np.concatenate([z.R, z.W, np.zeros((N, 1))], axis=1)
    gate_in, gate_out, forget, cell = (np.zeros_like(step) for _ in range(4))
    gate_in[hidden], cell[hidden, -1] = step[hidden], 1  # tanh(what it hears) * 1
    gate_in[rest, -1], cell[rest] = _ONE, step[rest]  # tanh(20) * what it hears
    gate_in[z.magnitudes] = _STEEP * step[z.magnitudes]  # tanh(2^24 y) * y
    gate_in[z.rises] = _STEEP * step[z.rises] / z.steps[:, None]
    gate_out[:, -1] = _ONE
    forget[z.slow, -1] = _ONE  # elsewhere tanh(0)
    cell[z.slow, z.slow] -= np.eye(z.slow.stop - z.slow.start)
    R, W, bias = np.split(np.concatenate([gate_in, gate_out, forget, cell]), [N, step.shape[1] - 1], axis=1)
    shape = (1, 1, N)
    before = graph.state(prefix + "z", shape)
    states, after = graph.op(
        "LSTM",
        heard,
        graph.const(W[None], "W"),
        graph.const(R[None], "R"),
        graph.const(np.concatenate([bias[:, 0], np.zeros(4 * N)])[None], "B"),
        "",
        before,
        before,
        outputs=2,
        hidden_size=N,
        activations=["Tanh", "Affine", "Affine"],
        activation_alpha=[1.0, 1.0],
        activation_beta=[0.0, 0.0],
    )
    graph.next_state(prefix + "z", after, shape)
    return str(graph.op("MatMul", states, graph.const(z.read[:, None], "read")))


def _scan(graph: StreamingGraph, model: Ar, heard: str, prefix: str) -> str:
    """z without its hidden units: what they say is in y already.

    A node costs some 0.25 microseconds, whatever it computes, and another 0.3 if what it makes needs memory; what is
    handed out for every sample has its place already. So there are few nodes, and what they make is handed out (except
    between a product and its activation: onnxruntime makes one node of these).
    """
    w, z, c = _weights(model), _recursion(model), model.config
    N = len(z.read)
    H, S, y_place = c.width, N - c.width, z.linear - c.width
    R = z.R[:, H:].T
    rows = graph.op("Squeeze", heard, graph.const(np.array([1])))
    u = str(graph.op("MatMul", rows, graph.const(z.W[:H].T, "u"))) if c.envelopes else graph.slice(rows, 0, H, 1)
    v = str(graph.op("MatMul", rows, graph.const(z.W[H:].T, "v")))
    before = graph.state(prefix + "z", (1, S))
    activation = _ONNX_ACTIVATION[c.activation]
    slopes = np.ones(S)
    slopes[:y_place], slopes[z.rises.start - H :] = -1, 0  # |y[n-1]|, and what is above zero

    def build(names: Sequence[str]) -> Sequence[str]:
        past, u_row, v_row = names
        h = graph.op(activation, graph.op("Gemm", past, graph.const(R[:, :H], "hear"), u_row))
        made = [h]
        for layer in range(c.layers - 1):
            weights, bias = graph.const(w["hidden"][layer], "w"), graph.const(w["b_hidden"][layer], "b")
            h = graph.op(activation, graph.op("Gemm", h, weights, bias))
            made.append(h)
        linear = graph.op("Gemm", past, graph.const(R[:, H:], "move"), v_row)
        made.append(linear)
        if c.envelopes:
            linear = graph.op("PRelu", linear, graph.const(slopes, "slopes"))
            made.append(linear)
        say = graph.const(np.outer(w["out"], np.eye(S)[y_place]), "out")
        return [graph.op("Gemm", h, say, linear), *made]

    wide = [(1, H)] * c.layers + [(1, S)] * (2 if c.envelopes else 1)
    after, *made = graph.repeat([(before, (1, S))], [(u, (H,)), (v, (S,))], build, wide)
    graph.next_state(prefix + "z", after, (1, S))
    # z holds y too, but what is carried cannot be handed out without a copy: its two parts can.
    from_h = graph.op("MatMul", made[c.layers - 1], graph.const(w["out"][:, None], "out"))
    return str(graph.op("Add", from_h, graph.slice(made[-1], y_place, y_place + 1, 2)))
