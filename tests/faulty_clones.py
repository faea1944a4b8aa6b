"""Real clones, in onnxruntime, that have each of the faults which the stability monitor is there for."""

from __future__ import annotations

import numpy as np
from clone_files import packed
from onnx import TensorProto

from fxclone.clone import clone_from_bytes
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone_export.graph import StreamingGraph

RATE = 48_000
LOOKS_FINE = {"small_gain": 0.9, "contracting": True, "lyapunov_per_sample": -0.01, "return_ms": 20.0}
"""What was measured when the clone was still well."""


def recurrent(turn, hear, say, *, bias=0.0, activation="Tanh", direct=1.0, certificate=LOOKS_FINE, **facts):
    """y[n] = direct x[n] + say . s[n], s[n] = activation(turn s[n-1] + hear x[n] + bias)."""
    turn, hear, say = (np.atleast_1d(np.asarray(each, float)) for each in (turn, hear, say))
    width = len(hear)
    shaped = {"activation_alpha": [1.0], "activation_beta": [0.0]} if activation == "Affine" else {}
    graph = StreamingGraph()
    column = graph.op("Unsqueeze", graph.op("Transpose", "audio", perm=[1, 0]), graph.const(np.array([1])))
    states, after = graph.op(
        "RNN",
        column,
        graph.const(hear.reshape(1, width, 1)),
        graph.const(turn.reshape(1, width, width)),
        graph.const(np.concatenate([np.full((1, width), bias), np.zeros((1, width))], axis=1)),
        "",
        graph.state("s", (1, 1, width)),
        outputs=2,
        hidden_size=width,
        activations=[activation],
        **shaped,
    )
    graph.next_state("s", after, (1, 1, width))
    rows = graph.op("Squeeze", states, graph.const(np.array([1, 2])))
    said = graph.op("Transpose", graph.op("MatMul", rows, graph.const(say.reshape(width, 1))), perm=[1, 0])
    graph.output(graph.op("Add", graph.op("Mul", "audio", graph.const(np.array([direct], np.float32))), said))
    return loaded(graph, certificate=certificate, **facts)


def loaded(graph, *, certificate=LOOKS_FINE, **facts):
    """The clone of this graph, with levels as of a training at full scale."""
    silence = np.zeros((1, 16), np.float32)
    levels = {"dry_peak": 1.0, "wet_peak": 1.0, "wet_rms": 0.1, "wet_dc": 0.0}
    meta = CloneMeta(
        "faulty", "test", RATE, SelfTest(silence, silence), levels=levels, certificate=dict(certificate), **facts
    )
    data = packed(graph.model(), meta)
    clone = clone_from_bytes(data, self_test=False)
    clone.file = data
    return clone


def written(clone, path):
    """A clone of this module as a file."""
    path.write_bytes(clone.file)
    return path


def turning(hz, gain=1.0):
    """A rotation: with gain 1 it neither grows nor dies."""
    angle = 2 * np.pi * hz / RATE
    return gain * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def over_one():
    """Feedback pushed over 1: whatever it has heard grows by 12 dB in 58 ms."""
    return recurrent([[1.0005]], [1.0], [0.1], activation="Affine")


def limit_cycle(hz=700.0, level=0.3):
    """Once it has heard something, a tone that never ends, whatever is played."""
    return recurrent(turning(hz, 1.05), [0.5, 0.0], [level / 0.38, 0.0])


def nyquist():
    """Once it has heard something, it changes its sign at every sample."""
    return recurrent([[-1.3]], [0.5], [0.3])


def drift():
    """DC that creeps up by 0.1 a second."""
    return recurrent([[1.0]], [0.0], [1.0], bias=0.1 / RATE, activation="Affine")


def unforgetting(level=0.02):
    """Never forgets: what it heard goes on for ever, quietly."""
    return recurrent(turning(900.0), [1.0, 0.0], [level, 0.0], activation="Affine")


def sound_one():
    """A clone with feedback that is as well as its certificate says."""
    return recurrent([[0.9]], [0.1], [0.5])


def nan_after(samples):
    """Plays well, and gives NaN once it has run for so long since its reset."""
    graph = StreamingGraph()
    length = graph.op("Cast", graph.length("audio"), to=TensorProto.FLOAT)
    count = graph.op("Add", graph.state("count", (1,)), length)
    graph.next_state("count", count, (1,))
    left = graph.op("Sub", graph.const(np.array([samples], np.float32)), count)
    nothing = graph.op("Mul", graph.op("Sqrt", left), graph.const(np.zeros(1, np.float32)))
    graph.output(graph.op("Add", "audio", nothing))
    return loaded(graph)
