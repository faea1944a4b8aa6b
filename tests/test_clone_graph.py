"""Graphs that a clone may not hold are refused before they run, or by the first thing they do."""

import numpy as np
import onnx
import pytest
from clone_files import AUDIO, WET, as_model, float_of, packed, passing, refused, value
from onnx import TensorProto, helper, numpy_helper

from fxclone.clone import clone_from_bytes


def test_external_data(tmp_path, monkeypatch):
    model = as_model([helper.make_node("Mul", ["audio", "g"], ["audio_out"])], [("g", float_of([1.0]))])
    (tmp_path / "weights.bin").write_bytes(float_of([1.0]).tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    monkeypatch.chdir(tmp_path)
    refused(packed(model), "another file")


@pytest.mark.parametrize("place", ["initializer", "node"])
def test_external_data_inside_a_sparse_tensor(tmp_path, monkeypatch, place):
    (tmp_path / "weights.bin").write_bytes(float_of([1.0]).tobytes())
    sparse = onnx.SparseTensorProto(dims=[1])
    sparse.values.CopyFrom(numpy_helper.from_array(float_of([1.0]), "g"))
    sparse.values.ClearField("raw_data")
    sparse.values.data_location = TensorProto.EXTERNAL
    sparse.values.external_data.add(key="location", value="weights.bin")
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), "i"))
    multiply = helper.make_node("Mul", ["audio", "g"], ["audio_out"])
    if place == "initializer":
        model = as_model([multiply])
        model.graph.sparse_initializer.append(sparse)
    else:
        model = as_model([helper.make_node("Constant", [], ["g"], sparse_value=sparse), multiply])
    monkeypatch.chdir(tmp_path)
    refused(packed(model), "another file")


def test_external_data_inside_a_node(tmp_path, monkeypatch):
    constant = numpy_helper.from_array(float_of([1.0]), "g")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.bin")
    nodes = [
        helper.make_node("Constant", [], ["g"], value=constant),
        helper.make_node("Mul", ["audio", "g"], ["audio_out"]),
    ]
    monkeypatch.chdir(tmp_path)
    refused(packed(as_model(nodes)), "another file")


def test_a_custom_operator_domain():
    node = helper.make_node("FusedGemm", ["audio"], ["audio_out"], domain="com.microsoft")
    refused(packed(as_model([node], opset="com.microsoft")), "com.microsoft.FusedGemm")
    node = helper.make_node("Identity", ["audio"], ["audio_out"], domain="evil.example")
    refused(packed(as_model([node], opset="evil.example")), "evil.example.Identity")


@pytest.mark.parametrize("op", ["Loop", "RandomNormal", "RandomUniformLike", "StringConcat", "Bernoulli", ""])
def test_an_operator_that_no_clone_needs(op):
    refused(packed(as_model([helper.make_node(op, ["audio"], ["audio_out"])])), "may not")


def branch(op):
    return helper.make_graph([helper.make_node(op, ["audio"], ["b"])], "branch", [], [value("b", [1, "T"])])


def test_a_branch_is_fine_and_what_is_in_it_is_seen():
    condition = ("c", np.array(True))
    node = helper.make_node("If", ["c"], ["audio_out"], then_branch=branch("Identity"), else_branch=branch("Neg"))
    assert clone_from_bytes(packed(as_model([node], [condition]))).name == "test"
    node = helper.make_node("If", ["c"], ["audio_out"], then_branch=branch("Identity"), else_branch=branch("Bernoulli"))
    refused(packed(as_model([node], [condition])), "'Bernoulli'")


def test_a_real_loop():
    condition = ("c", np.array(True))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("a", [1, "T"])],
        [value("go_on", [], TensorProto.BOOL), value("b", [1, "T"])],
    )
    node = helper.make_node("Loop", ["", "c", "audio"], ["audio_out"], body=body)
    refused(packed(as_model([node], [condition])), "'Loop'")


def test_a_bad_operator_inside_a_scan():
    body = helper.make_graph(
        [helper.make_node("Bernoulli", ["a"], ["b"])], "body", [value("a", [1])], [value("b", [1])]
    )
    node = helper.make_node("Scan", ["audio"], ["audio_out"], body=body, num_scan_inputs=1)
    refused(packed(as_model([node])), "Bernoulli")


def test_operators_of_its_own():
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 20)]
    )
    node = helper.make_node("Twice", ["audio"], ["audio_out"], domain="mine")
    refused(packed(as_model([node], opset="mine", functions=[function])))


def test_a_fixed_block_length():
    model = passing(inputs=(value("audio", [1, 64]),), outputs=(value("audio_out", [1, 64]),))
    refused(packed(model), "block length is fixed")


STATE = value("state.s", [1, 3])
NEXT = value("next_state.s", [1, 3])
SOUND = helper.make_node("Identity", ["audio"], ["audio_out"])
CARRY = helper.make_node("Identity", ["state.s"], ["next_state.s"])


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs"),
    [
        ([SOUND], (AUDIO, STATE), (WET,)),
        ([SOUND, helper.make_node("Constant", [], ["next_state.s"], value_floats=[0.0])], (AUDIO,), (WET, NEXT)),
        ([SOUND, helper.make_node("Neg", ["state.s"], ["next_state.t"])], (AUDIO, STATE),
         (WET, value("next_state.t", [1, 3]))),
        ([helper.make_node("Neg", ["sound"], ["audio_out"])], (value("sound", [1, "T"]),), (WET,)),
        ([helper.make_node("Neg", ["audio"], ["wet"])], (AUDIO,), (value("wet", [1, "T"]),)),
        ([SOUND], (AUDIO, value("knobs", [1])), (WET,)),
        ([SOUND], (AUDIO, value("extra", [1])), (WET,)),
        ([SOUND, CARRY], (AUDIO, value("state.s", [1, "N"])), (WET, value("next_state.s", [1, "N"]))),
        ([SOUND, CARRY], (AUDIO, value("state.s", [1, 0])), (WET, value("next_state.s", [1, 0]))),
        ([SOUND], (value("audio", [2, "T"]),), (value("audio_out", [2, "T"]),)),
        ([SOUND], (value("audio", ["T"]),), (value("audio_out", ["T"]),)),
        ([SOUND], (value("audio", [1, 1, "T"]),), (value("audio_out", [1, 1, "T"]),)),
        ([SOUND], (value("audio", [1, "T"], TensorProto.INT32),), (value("audio_out", [1, "T"], TensorProto.INT32),)),
        ([SOUND], (value("audio", [1, "T"], TensorProto.DOUBLE),), (value("audio_out", [1, "T"], TensorProto.DOUBLE),)),
        ([SOUND, CARRY], (AUDIO, value("state.s", [1], TensorProto.INT64)),
         (WET, value("next_state.s", [1], TensorProto.INT64))),
    ],
    ids=["no next_state", "no state", "another next_state", "no audio", "no audio_out", "knobs unannounced", "extra",
         "state of no size", "empty state", "stereo", "1-D", "3-D", "integers", "doubles", "integer state"],
)  # fmt: skip
def test_an_interface_that_is_not_a_clones(nodes, inputs, outputs):
    refused(packed(as_model(nodes, inputs=inputs, outputs=outputs)), "not a valid clone")


@pytest.mark.parametrize("shape", [[2**25], [2**20, 2**10], [2**31, 2**33], [2**32, 2**32], [2**62, 4]])
def test_a_huge_state(shape):
    model = as_model(
        [SOUND, CARRY], inputs=(AUDIO, value("state.s", shape)), outputs=(WET, value("next_state.s", shape))
    )
    refused(packed(model), "states take more than")


@pytest.mark.parametrize("shape", [["T"], [1, 1, "T"], [2, "T"], []])
def test_an_output_of_another_shape(shape):
    kept = {1: ("ReduceSum", [0]), 3: ("Unsqueeze", [0]), 0: ("ReduceSum", [0, 1])}
    if len(shape) == 2:
        nodes = [helper.make_node("Concat", ["audio", "audio"], ["audio_out"], axis=0)]
        weights = []
    else:
        op, axes = kept[len(shape)]
        more = {"keepdims": 0} if op == "ReduceSum" else {}
        nodes = [helper.make_node(op, ["audio", "axes"], ["audio_out"], **more)]
        weights = [("axes", np.array(axes))]
    model = as_model(nodes, weights, outputs=(value("audio_out", shape),))
    refused(packed(model))


def test_an_output_of_another_length():
    nodes = [helper.make_node("Concat", ["audio", "audio"], ["audio_out"], axis=1)]
    refused(packed(as_model(nodes, outputs=(value("audio_out", [1, "U"]),))), "self-test")


def test_a_next_state_of_another_shape():
    nodes = [SOUND, helper.make_node("Concat", ["state.s", "state.s"], ["next_state.s"], axis=1)]
    model = as_model(nodes, inputs=(AUDIO, STATE), outputs=(WET, value("next_state.s", [1, "N"])))
    refused(packed(model))


def test_a_clone_that_gives_nan():
    nodes = [helper.make_node("Log", ["minus"], ["n"]), helper.make_node("Add", ["audio", "n"], ["audio_out"])]
    refused(packed(as_model(nodes, [("minus", float_of([-1.0]))])), "self-test")


def test_a_graph_that_onnxruntime_refuses():
    nodes = [helper.make_node("Add", ["audio", "nowhere"], ["audio_out"])]
    refused(packed(as_model(nodes)), "refused by onnxruntime")
    refused(packed(as_model([helper.make_node("MatMul", ["audio"], ["audio_out"])])), "refused by onnxruntime")


def test_too_deep_and_too_many():
    graph = branch("Identity")
    for _ in range(20):
        node = helper.make_node("Scan", ["audio"], ["b"], body=graph, num_scan_inputs=1)
        graph = helper.make_graph([node], "g", [], [value("b", [1, "T"])])
    model = passing()
    model.graph.node.extend(graph.node)
    refused(packed(model), "nests graphs deeper")
    many = as_model([helper.make_node("Identity", ["audio"], [f"n{n}"]) for n in range(20_001)])
    refused(packed(many), "more than 20000 nodes")
