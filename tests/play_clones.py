"""Small clone files for the tests of playing, written by hand: no training, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fxclone.clone_meta import METADATA_KEY, CloneMeta, SelfTest


def write_clone(path: Path, nodes, weights, *, states=(), sample_rate=48_000, reference, **meta) -> Path:
    """Write a mono clone; ``reference`` gives the self-test's output."""
    values = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "T"])]
    outputs = [helper.make_tensor_value_info("audio_out", TensorProto.FLOAT, [1, "T"])]
    for state in states:
        values.append(helper.make_tensor_value_info(f"state.{state}", TensorProto.FLOAT, [1]))
        outputs.append(helper.make_tensor_value_info(f"next_state.{state}", TensorProto.FLOAT, [1]))
    graph = helper.make_graph(
        nodes, "clone", values, outputs, [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    test = np.linspace(-0.5, 0.5, 256, dtype=np.float32)[None, :]
    about = CloneMeta(
        name=path.stem,
        family="test",
        sample_rate=sample_rate,
        self_test=SelfTest(test, reference(test).astype(np.float32)),
        levels={"dry_peak": 1.0, "wet_peak": 1.0},
        **meta,
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, about.to_json()
    onnx.save(model, str(path))
    return path


def drive_clone(path: Path, sample_rate=48_000) -> Path:
    """y = tanh(3 x)."""
    nodes = [helper.make_node("Mul", ["audio", "g"], ["louder"]), helper.make_node("Tanh", ["louder"], ["audio_out"])]
    weights = {"g": np.array([3.0], np.float32)}
    return write_clone(path, nodes, weights, sample_rate=sample_rate, reference=lambda x: np.tanh(3 * x))


def failing_clone(path: Path, good_samples: int) -> Path:
    """Passes sound through, and gives NaN once it has run for ``good_samples`` since its reset."""
    nodes = [
        helper.make_node("Shape", ["audio"], ["size"], start=1, end=2),
        helper.make_node("Cast", ["size"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["state.count", "length"], ["next_state.count"]),
        helper.make_node("Sub", ["limit", "next_state.count"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),  # NaN below 0
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["audio", "nothing"], ["audio_out"]),
    ]
    weights = {"limit": np.array([good_samples], np.float32), "zero": np.zeros(1, np.float32)}
    return write_clone(path, nodes, weights, states=["count"], reference=lambda x: x)


def heavy_clone(path: Path, layers: int = 40) -> Path:
    """Passes sound through, after far more arithmetic than any machine can do in time."""
    size = 768
    nodes = [helper.make_node("MatMul", ["first", "audio"], ["h0"])]
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", ["square", f"h{layer}"], [f"h{layer + 1}"]))
    nodes += [
        helper.make_node("MatMul", ["last", f"h{layers}"], ["mixed"]),
        helper.make_node("Add", ["audio", "mixed"], ["audio_out"]),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "first": rng.standard_normal((size, 1)).astype(np.float32),
        "square": (rng.standard_normal((size, size)) / size**0.5).astype(np.float32),
        "last": np.zeros((1, size), np.float32),
    }
    return write_clone(path, nodes, weights, reference=lambda x: x)


def late_clone(path: Path, sample_rate: int) -> Path:
    """Passes sound through untouched, at a rate of its own."""
    return write_clone(
        path,
        [helper.make_node("Identity", ["audio"], ["audio_out"])],
        {},
        sample_rate=sample_rate,
        reference=lambda x: x,
    )
