"""Clone files written by hand, good and bad, for the tests of loading: no training, no torch."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fxclone.clone import clone_from_bytes
from fxclone.clone_meta import METADATA_KEY, CloneMeta, SelfTest
from fxclone.errors import CloneFileError

RATE = 44_100
AUDIO = helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "T"])
WET = helper.make_tensor_value_info("audio_out", TensorProto.FLOAT, [1, "T"])


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def float_of(x):
    return np.asarray(x, np.float32)


def as_model(nodes, weights=(), inputs=(AUDIO,), outputs=(WET,), opset="", **changes):
    graph = helper.make_graph(
        nodes, "clone", list(inputs), list(outputs), [numpy_helper.from_array(array, name) for name, array in weights]
    )
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(opset, 1)] if opset else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **changes)


def delay_model(extra=()):
    """y[n] = x[n] + x[n-1] / 2: one state, cheap."""
    nodes = [
        helper.make_node("Concat", ["state.x", "audio"], ["heard"], axis=1),
        helper.make_node("Slice", ["heard", "zero", "minus_one", "one"], ["before"]),
        helper.make_node("Slice", ["heard", "minus_one", "end", "one"], ["next_state.x"]),
        helper.make_node("Mul", ["before", "half"], ["quiet"]),
        helper.make_node("Add", ["audio", "quiet"], ["audio_out"]),
        *extra,
    ]
    ints = {"zero": 0, "one": 1, "minus_one": -1, "end": 2**62}
    weights = [(name, np.array([number])) for name, number in ints.items()] + [("half", float_of([0.5]))]
    return as_model(nodes, weights, (AUDIO, value("state.x", [1, 1])), (WET, value("next_state.x", [1, 1])))


def delayed(x):
    return float_of(x + 0.5 * np.pad(x, ((0, 0), (1, 0)))[:, :-1])


def passing(**changes):
    """The smallest clone there is."""
    return as_model([helper.make_node("Identity", ["audio"], ["audio_out"])], **changes)


def good_meta(output=None, **changes):
    sound = float_of(np.linspace(-0.5, 0.5, 300))[None]
    facts = {"name": "test", "family": "hand", "sample_rate": RATE, "tail_samples": 1}
    return CloneMeta(**{**facts, "self_test": SelfTest(sound, sound if output is None else output(sound)), **changes})


def packed(model, meta=None, **edits):
    """The bytes of a clone file, with its metadata edited."""
    facts = json.loads((meta or good_meta()).to_json())
    for key, new in edits.items():
        if new is DROP:
            del facts[key]
        else:
            facts[key] = new
    return with_text(model, json.dumps(facts))


def with_text(model, text):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    helper.set_model_props(copy, {METADATA_KEY: text})
    return copy.SerializeToString()


DROP = object()
GOOD = packed(delay_model(), good_meta(delayed))


def refused(data, *says, **options):
    """The one-line error that these bytes give."""
    with pytest.raises(CloneFileError) as caught:
        clone_from_bytes(data, name="bad.onnx", **options)
    message = str(caught.value)
    assert "bad.onnx" in message
    assert len(message) < 600
    for part in says:
        assert part in message
    return message
