"""Small files that ask for much: memory that a clone may not take, sizes that wrap, fields that hide."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
from clone_files import AUDIO, GOOD, RATE, as_model, float_of, good_meta, packed, passing, refused, value
from onnx import TensorProto, helper, numpy_helper

from fxclone.cli import run
from fxclone.clone import MAX_MEMORY_BYTES, clone_from_bytes
from fxclone.commands.evaluate import _tidy
from fxclone.commands.info import _speed, describe
from fxclone.errors import CloneFileError, UsageError

# Memory


def silenced(nodes, big, weights):
    """Add the largest of a huge tensor, times zero, to the sound: the clone passes its self-test if it gets so far."""
    return as_model(
        [
            *nodes,
            helper.make_node("ReduceMax", [big], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "nothing"], ["silence"]),
            helper.make_node("Add", ["audio", "silence"], ["audio_out"]),
        ],
        [*weights, ("nothing", float_of(0.0))],
    )


def doubled(first, axis, times=15):
    names = [first, *(f"c{n}" for n in range(times))]
    return [helper.make_node("Concat", [a] * 4, [b], axis=axis) for a, b in pairwise(names)]


LONG = float_of(np.ones((2**15, 1)))
GREEDY = {
    "constants joined again and again": silenced(doubled("seed", 0), "c14", [("seed", float_of([[1.0]]))]),
    "sound joined again and again": silenced(doubled("audio", 0), "c14", []),
    "outer product": silenced(
        [helper.make_node("MatMul", ["column", "row"], ["big"])], "big", [("column", LONG), ("row", LONG.T)]
    ),
    "broadcast": silenced(
        [helper.make_node("Add", ["column", "row"], ["big"])], "big", [("column", LONG), ("row", LONG.T)]
    ),
    "padding of a convolution": silenced(
        [
            helper.make_node("Unsqueeze", ["audio", "first"], ["batch"]),
            helper.make_node("Conv", ["batch", "kernel"], ["big"], pads=[2**29, 2**29]),
        ],
        "big",
        [("kernel", float_of([[[1.0]]])), ("first", np.array([0]))],
    ),
    "one row many times": silenced(
        [helper.make_node("Gather", ["row", "again"], ["big"], axis=0)],
        "big",
        [("row", LONG.T), ("again", np.zeros(2**15, np.int32))],
    ),
}

MEASURE = """
import resource, sys
from fxclone.clone import clone_from_bytes
from fxclone.errors import CloneFileError
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    clone_from_bytes(data)
except CloneFileError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("kind", GREEDY)
def test_a_small_file_that_asks_for_gibibytes(tmp_path, kind):
    """Each asks for 4 GiB; without a limit it gets them."""
    path = tmp_path / "greedy.onnx"
    path.write_bytes(packed(GREEDY[kind]))
    assert path.stat().st_size < 2**19
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    said, _, grown_kib = done.stdout.strip().rpartition("\n")
    assert "needs more memory than the 2 GiB" in said
    assert "Traceback" not in done.stderr
    assert int(grown_kib) * 2**10 < MAX_MEMORY_BYTES


def test_a_good_clone_plays_after_a_greedy_one():
    refused(packed(GREEDY["outer product"]), "needs more memory")
    assert clone_from_bytes(GOOD).self_test_error() < 1e-6


@pytest.mark.parametrize("op", "ConstantOfShape Expand Tile Range Pad Einsum DFT GatherND ScatterND Resize".split())
def test_operators_that_make_a_size_out_of_a_value(op):
    refused(packed(as_model([helper.make_node(op, ["audio"], ["audio_out"])])), f"{op!r}", "may not")


# Tensors and fields


def test_a_tensor_that_claims_more_than_it_holds():
    model = as_model([helper.make_node("Mul", ["audio", "g"], ["audio_out"])], [("g", float_of([1.0]))])
    for dims in ([2**40], [-1], [2**32, 2**32], [1000, 1000]):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        refused(packed(model), "claims to be larger")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32])
@pytest.mark.parametrize("raw", [True, False])
def test_honest_tensors_are_let_through(kind, raw):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    array = np.zeros(3000, dtype)
    tensor = helper.make_tensor("t", kind, [3000], array.tobytes() if raw else array.tolist(), raw=raw)
    model = passing()
    model.graph.initializer.append(tensor)
    assert clone_from_bytes(packed(model)).name == "test"


def sparse():
    out = onnx.SparseTensorProto(dims=[1])
    out.values.CopyFrom(numpy_helper.from_array(float_of([1.0]), "g"))
    out.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), "i"))
    return out


def test_sparse_tensors_are_refused_even_without_another_file():
    constant = helper.make_node("Constant", [], ["g"])
    constant.attribute.append(helper.make_attribute("sparse_value", sparse()))
    several = helper.make_node("Identity", ["audio"], ["audio_out"])
    several.attribute.append(helper.make_attribute("more", [sparse(), sparse()]))
    initial = passing()
    initial.graph.sparse_initializer.append(sparse())
    for model in (as_model([constant]), as_model([several]), initial):
        refused(packed(model), "sparse tensor")


def test_a_field_number_beyond_32_bits_is_no_hiding_place():
    """Parsers keep 32 bits of a field's key, so 2**32 + key would be read as key."""
    hidden = b"".join([varint(2**32 + (7 << 3 | 2)), varint(0)])
    refused(packed(passing()) + hidden, "not an ONNX model")


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_graphs_for_training():
    model = passing()
    model.training_info.add().initialization.name = "first"
    refused(packed(model), "for training")


# Interface


def test_knobs_that_the_graph_does_not_have():
    nodes = [
        helper.make_node("ReduceSum", ["knobs"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["audio", "sum"], ["audio_out"]),
    ]
    knob = {"name": "drive", "minimum": 0, "maximum": 2, "default": 1}
    for shape, count, good in (([1], 1, True), (["K"], 1, True), ([1], 2, False), ([1, 1], 1, False), ([], 1, False)):
        data = packed(as_model(nodes, inputs=(AUDIO, value("knobs", shape))), knobs=[knob] * count)
        if good:
            assert len(clone_from_bytes(data).meta.knobs) == count
        else:
            refused(data, "not a valid clone", "knobs")


@pytest.mark.parametrize(
    "edit",
    [
        {"knobs": [{"name": "drive", "minimum": 0, "maximum": 2, "default": 1}] * 33},
        {"knobs": [{"name": 5, "minimum": 0, "maximum": 2, "default": 1}]},
        {"knobs": [{"name": "drive", "unit": None, "minimum": 0, "maximum": 2, "default": 1}]},
        {"knobs": [{"name": "drive", "minimum": 0, "maximum": True, "default": 1}]},
        {"knobs": [{"name": "drive", "minimum": 0, "maximum": 1e300, "default": 1}]},
        {"format_version": 1.0},
        {"name": 5},
        {"metrics": [["esr_db", 1]]},
        {"training": {"seconds": float("inf")}},
        {"calibration_dbu": {"input": "12"}},
    ],
)
def test_metadata_of_another_type(edit):
    assert len(refused(packed(passing(), **edit), "damaged")) < 300


@pytest.mark.parametrize("max_block", [0, -1])
def test_no_block_is_wrong_use(max_block):
    with pytest.raises(UsageError, match="at least 1"):
        clone_from_bytes(GOOD).prepare(RATE, max_block, 1)


def test_an_output_of_another_length_is_noticed_while_playing():
    nodes = [helper.make_node("Concat", ["audio", "audio"], ["audio_out"], axis=1)]
    clone = clone_from_bytes(packed(as_model(nodes, outputs=(value("audio_out", [1, "U"]),))), self_test=False)
    clone.prepare(RATE, 64, 1)
    with pytest.raises(CloneFileError, match=r"shape \(1, 20\), expected \(1, 10\)"):
        clone.process(np.zeros((1, 10), np.float32))


# What the commands say


@pytest.mark.parametrize("head", [b"RIFF....WAVEfmt ", b"fLaC....", b"OggS....", b"ID3.....", b"FORM....AIFF"])
def test_a_sound_file_is_called_one(head):
    refused(head + bytes(range(256)), "is a sound file", "expected a clone file")


def test_a_bare_command_prints_the_help(capsys):
    assert run([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("Usage: fxclone")
    assert "\n  render" in said.out


def test_an_unknown_effect_with_and_without_neighbours(capsys):
    assert run(["effects", "nosuch"]) == 2
    assert capsys.readouterr().err == 'fxclone: there is no effect "nosuch" (fxclone effects lists them all)\n'
    assert run(["effects", "tahn"]) == 2
    assert '"tahn"; did you mean tanh' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (20.8 / 28.6, "0.73 x real time: too slow to play live"),
        (0.051, "0.051 x real time: too slow to play live"),
        (1.04, "1.0 x real time"),
        (9.96, "10 x real time"),
        (104.0, "100 x real time"),
    ],
)
def test_speed_in_two_digits(times, says):
    assert _speed(times) == says


def test_info_says_free_running_once_and_cannot_be_steered():
    meta = good_meta(
        metrics={"esr_db": -40.0, "sound": "held-back training material, free-running"},
        training={"reference": "red\x1b[31m", "seconds": "many"},
        certificate={"small_gain": "x", "return_ms": []},
    )
    rows = dict(describe(clone_from_bytes(packed(passing(), meta)), 1.0))
    assert rows["error"] == "-40.0 dB free-running (held-back training material)"
    assert rows["clone of"] == "red?[31m"
    assert rows["stability"] == "a disturbed state did not return"
    broken = good_meta(metrics={"esr_db": "good"})
    assert dict(describe(clone_from_bytes(packed(passing(), broken)), 1.0))["error"].startswith("unknown")


def test_no_minus_zero():
    assert f"{_tidy(-0.001, 2):.2f}" == "0.00"
    assert f"{_tidy(float('nan'), 2):.2f}" == "nan"
