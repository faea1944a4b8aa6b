"""Leaky averages of a signal as a streaming graph, sixteen samples at a time.

    s_j[n] = s_j[n-1] + rate_j (x[n] - s_j[n-1]),        out[n] = taps . (x[n], x[n-1], ...) + sums . s[n] + bias

Nothing here bends, so a whole frame of samples is one matrix product: of the frame, of the few samples before it, and
of the averages as they were when it began. Those pass from frame to frame in an ``RNN`` node whose activation is the
identity; its units hold all that the product needs, so nothing has to be put together. A block that is not a whole
number of frames is begun some samples earlier, with those that were heard last, from the state as it was then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from fxclone_export.graph import StreamingGraph

FRAME = 16
"""Samples of a frame; block sizes are multiples of it nearly everywhere."""
F64 = npt.NDArray[np.float64]


def taps_and_averages(
    graph: StreamingGraph,
    signal: str,
    taps: npt.NDArray[np.floating[Any]],
    sums: npt.NDArray[np.floating[Any]],
    rates: npt.NDArray[np.floating[Any]],
    bias: npt.NDArray[np.floating[Any]],
    *,
    name: str,
) -> str:
    """Sums of a mono signal's newest samples and of its leaky averages: ``(1, T)`` to ``(T, 1, rows)``.

    Parameters
    ----------
    graph : StreamingGraph
    signal : str
        Name of the signal.
    taps : ndarray [shape=(rows, m)]
        What each row takes of the newest samples, newest first.
    sums : ndarray [shape=(rows, averages)]
        What it takes of each average; the newest sample is in them.
    rates : ndarray [shape=(averages,)]
        How far each average moves towards the signal in one sample; above 0, below 1.
    bias : ndarray [shape=(rows,)]
    name : str
        Of the states.
    """
    taps, sums, bias = (np.asarray(part, np.float64) for part in (taps, sums, bias))
    if sums.shape[1] == 0:
        return _taps(graph, signal, taps, bias, name)
    if taps.shape[1] <= FRAME:
        return _in_frames(graph, signal, taps, sums, np.asarray(rates, np.float64), bias, name)
    rest = _in_frames(graph, signal, taps[:, :1], sums, np.asarray(rates, np.float64), bias, name)
    without = np.concatenate([np.zeros((len(taps), 1)), taps[:, 1:]], axis=1)
    return str(graph.op("Add", rest, _taps(graph, signal, without, np.zeros(len(taps)), name + ".taps")))


def _taps(graph: StreamingGraph, signal: str, taps: F64, bias: F64, name: str) -> str:
    heard = graph.op("Unsqueeze", graph.with_history(signal, taps.shape[1] - 1, name=name), graph.const([0]))
    kernel = graph.const(taps[:, None, ::-1], "taps")  # (rows, 1, m), oldest first
    return str(graph.op("Transpose", graph.op("Conv", heard, kernel, graph.const(bias, "bias")), perm=[2, 0, 1]))


def _in_frames(graph: StreamingGraph, signal: str, taps: F64, sums: F64, rates: F64, bias: F64, name: str) -> str:
    # What is carried: averages before the last frame, the samples that taps reach before it, the frame itself, and 1.
    (rows, m), J = taps.shape, len(rates)
    averages, before, frame, one = np.split(np.arange(J + m + FRAME), [J, J + m - 1, J + m - 1 + FRAME])
    units, newest = J + m + FRAME, frame[FRAME - m + 1 :]  # newest: what is `before` in the next frame
    state = graph.state(name, (1, 1, units))
    keep = 1 - rates
    kept = (keep**FRAME).astype(np.float32).astype(np.float64)
    share = (1 - kept) / (1 - keep**FRAME)  # else an average that is slow has a gain of its own, from rounding
    response = rates * keep ** np.arange(FRAME)[:, None]  # (FRAME, averages)

    W, R, B = np.zeros((units, FRAME)), np.zeros((units, units)), np.zeros(2 * units)
    W[frame], B[one] = np.eye(FRAME), 1
    R[averages, averages], R[before, newest] = kept, 1
    R[np.ix_(averages, frame)] = (share * response[::-1]).T
    say = np.zeros((units, FRAME, rows))
    say[one] = bias
    for n in range(FRAME):
        say[averages, n] = (sums * keep ** (n + 1)).T
        say[frame[n::-1], n] = response[: n + 1] @ sums.T + np.pad(taps, [(0, 0), (0, FRAME)])[:, : n + 1].T
        older = np.arange(n + 1, m)  # taps that reach back to before the frame
        say[before[m - 1 + n - older], n] = taps[:, older].T
    weights = [graph.const(part[None], "frames") for part in (W, R, B)]
    spoken = graph.const(say.reshape(units, FRAME * rows), "say")

    def frames_of(samples: str, start: str) -> tuple[str, str]:
        frames = graph.op("Reshape", samples, graph.const([-1, 1, FRAME]))
        states, after = graph.op("RNN", frames, *weights, "", start, outputs=2, hidden_size=units, **_IDENTITY)
        return graph.op("Reshape", graph.op("MatMul", states, spoken), graph.const([-1, 1, rows])), after

    earlier = np.zeros((FRAME, units, units))  # earlier[p]: the state p samples ago, as far as it still matters
    for p in range(1, FRAME):
        then = np.zeros((units, units))
        heard = np.concatenate([before, frame])[: m - 1 + FRAME - p]  # of these samples, oldest first
        then[newest, heard[len(heard) - m + 1 :]] = 1
        back = (keep ** (FRAME - p) / kept).astype(np.float32).astype(np.float64)
        gain = (1 - back * kept) / (1 - keep ** (FRAME - p))  # as `share`
        then[np.ix_(averages, frame[: FRAME - p])] = (gain * response[FRAME - p - 1 :: -1]).T
        then[averages] = (then[averages] - R[np.ix_(averages, frame)] @ then[frame]) / kept[:, None]
        then[averages, averages] = back
        earlier[p] = then.T

    def begun_earlier() -> list[str]:
        missing = graph.op("Mod", graph.op("Neg", graph.length(signal)), graph.const([FRAME]))
        start = graph.op("Sub", graph.const(one), missing)
        ago = graph.op("MatMul", state, graph.op("Gather", graph.const(earlier, "earlier"), missing, axis=0))
        last = graph.op("Slice", state, start, graph.const(one), graph.const([2]))
        longer = graph.op("Concat", graph.op("Squeeze", last, graph.const([0])), signal, axis=1)
        said, after = frames_of(longer, ago)
        return [graph.op("Slice", said, missing, graph.const([_ALL]), graph.const([0])), after]

    rest = graph.op("Cast", graph.op("Mod", graph.length(signal), graph.const([FRAME])), to=TensorProto.BOOL)
    said, after = graph.choose(rest, begun_earlier, lambda: list(frames_of(signal, state)))
    graph.next_state(name, after, (1, 1, units))
    return said


_ALL = np.iinfo(np.int64).max
_IDENTITY: dict[str, Any] = {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}
