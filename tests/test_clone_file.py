"""Clone files: bytes that are no clone, and metadata that is not to be trusted, give one clear error each."""

import json

import numpy as np
import onnx
import pytest
from clone_files import (
    AUDIO,
    DROP,
    GOOD,
    RATE,
    as_model,
    delayed,
    good_meta,
    packed,
    passing,
    refused,
    value,
    with_text,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from fxclone.clone import clone_from_bytes, load_clone
from fxclone.clone_meta import FORMAT_VERSION, parse_meta
from fxclone.errors import CloneFileError
from fxclone.processor import Processor


def test_a_good_file_loads(tmp_path):
    (tmp_path / "good.onnx").write_bytes(GOOD)
    clone = load_clone(tmp_path / "good.onnx")
    assert (clone.name, clone.sample_rate, clone.channels_in, clone.tail_samples) == ("test", RATE, 1, 1)
    assert clone.ops == {"Concat", "Slice", "Mul", "Add"}
    assert isinstance(clone, Processor)


# Bytes that are no clone


def test_an_empty_file(tmp_path):
    (tmp_path / "bad.onnx").touch()
    with pytest.raises(CloneFileError, match=r"bad\.onnx is empty"):
        load_clone(tmp_path / "bad.onnx")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(CloneFileError, match=r"gone\.onnx does not exist"):
        load_clone(tmp_path / "gone.onnx")
    with pytest.raises(CloneFileError, match="is a folder"):
        load_clone(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 10, 1000, 100_000])
def test_random_bytes(rng, size):
    for _ in range(20):
        refused(rng.bytes(size))


@pytest.mark.parametrize("head", [b"RIFF....WAVEfmt ", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"{}", b"\0" * 64, b"onnx"])
def test_other_kinds_of_file(head):
    refused(head + bytes(range(256)))


@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_a_file_cut_short(percent):
    refused(GOOD[: len(GOOD) * percent // 100])


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_a_file_cut_just_before_its_end(missing):
    refused(GOOD[:-missing])


def test_bytes_flipped_at_random_never_crash(rng):
    """Most are refused; what still loads passed its self-test, so it sounds right."""
    loaded = 0
    for _ in range(150):
        data = bytearray(GOOD)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            clone = clone_from_bytes(bytes(data))
        except CloneFileError:
            continue
        loaded += 1
        assert clone.self_test_error() <= 1e-2
    assert 0 < loaded < 150


def test_a_model_that_is_no_clone():
    refused(passing().SerializeToString(), "is an ONNX model but not a clone", "fxclone train")


def test_a_model_without_a_graph():
    model = onnx.ModelProto(ir_version=9)
    refused(with_text(model, good_meta().to_json()), "no ONNX graph")


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(CloneFileError, match="at most"):
        load_clone(path)


# Metadata


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99, 2**40])
def test_a_newer_format(version):
    refused(packed(passing(), format_version=version), f"clone format {version}", "update fxclone")


@pytest.mark.parametrize("version", [0, -1, "1", None, DROP, 1.5, True, [1]])
def test_a_format_that_never_was(version):
    refused(packed(passing(), format_version=version), "damaged")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "17", '"text"', "\0", "[" * 100_000, '{"format_version": 1}'])
def test_metadata_that_is_no_object(text):
    refused(with_text(passing(), text), "damaged")


BAD_VALUES = {
    "sample_rate": [0, 7999, 400_000, 44100.5, "44100", None, True, 10**400],
    "channels_in": [0, 9, -1, "1", None],
    "channels_out": [0, 9, [1]],
    "latency_samples": [-1, 10**12, 1.5],
    "receptive_field_samples": [0, -3, None],
    "prewarm_samples": [-1, 10**12, "0"],
    "tail_samples": [-1, 10**12, {}],
    "parameters": [-1, 2**40, "many"],
    "knobs": [5, [1], [{"name": "drive"}], ["drive"], {"drive": 1}],
    "levels": [[1], 3, {"wet_peak": "loud"}, {"wet_peak": None}, {"wet_peak": float("nan")}, {"wet_peak": 10**400}],
    "training": [3, "words", [1]],
    "calibration_dbu": [[1], {"input": "loud"}, {"input": 10**400}],
    "self_test": [DROP, None, [], {}, "x", {"input": "", "output": "", "tolerance": 1e-4}],
    "name": [DROP],
    "family": [DROP],
}


@pytest.mark.parametrize(("key", "bad"), [(key, bad) for key, values in BAD_VALUES.items() for bad in values])
def test_a_value_out_of_bounds(key, bad):
    refused(packed(passing(), **{key: bad}), "damaged")


@pytest.mark.parametrize(
    "knob",
    [
        {"name": "drive", "minimum": 1, "maximum": 0, "default": 0.5},
        {"name": "drive", "minimum": 0, "maximum": 1, "default": 2},
        {"name": "drive", "minimum": 0, "maximum": 1, "default": float("nan")},
        {"name": "drive", "minimum": "a", "maximum": "c", "default": "b"},
        {"name": "drive", "minimum": 0, "maximum": 1, "default": 0.5, "colour": "red"},
        {"name": "drive", "minimum": [0], "maximum": [1], "default": [0.5]},
    ],
)
def test_a_knob_without_a_range(knob):
    nodes = [
        helper.make_node("ReduceSum", ["knobs"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["audio", "sum"], ["audio_out"]),
    ]
    model = as_model(nodes, inputs=(AUDIO, value("knobs", [1])))
    refused(packed(model, knobs=[knob]), "damaged")


def self_test(**changes):
    return {**json.loads(good_meta().to_json())["self_test"], **changes}


@pytest.mark.parametrize(
    "change",
    [
        {"input": ""},
        {"input": "AAAA"},  # three bytes are no float
        {"input": "not base 64!"},
        {"input": "ÄÖÜ"},
        {"input": 5},
        {"input": "AADAfw=="},  # NaN
        {"output": "AACAfw=="},  # infinity
        {"input": "A" * 2_000_000},
        {"tolerance": "small"},
        {"tolerance": None},
        {"tolerance": 10**400},
    ],
)
def test_a_damaged_self_test(change):
    refused(packed(passing(), self_test=self_test(**change)), "damaged")


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0])
def test_a_self_test_that_nothing_could_pass(tolerance):
    refused(packed(passing(), self_test=self_test(tolerance=tolerance)))


def test_a_failing_self_test():
    data = packed(passing(), good_meta(lambda x: 1.01 * x))
    refused(data, "fails its self-test", "differs by 0.005", "export it again")
    assert clone_from_bytes(data, self_test=False).name == "test"


def test_a_self_test_cannot_ask_for_nothing():
    """However large the tolerance in the file, a wrong sound is wrong."""
    refused(packed(passing(), good_meta(lambda x: 1.1 * x), self_test=self_test(tolerance=1e9, output=quiet())))


def quiet():
    return json.loads(good_meta(lambda x: 0.1 * x).to_json())["self_test"]["output"]


def test_a_self_test_of_another_length():
    refused(packed(passing(), good_meta(lambda x: x[:, :-1])), "self-test")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=8)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted(json.loads(good_meta().to_json()))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))
def test_metadata_fuzz(changes):
    facts = {**json.loads(good_meta().to_json()), **changes}
    try:
        meta = parse_meta(json.dumps(facts), name="fuzz")
    except CloneFileError:
        return
    assert meta.format_version == FORMAT_VERSION
    assert 1 <= meta.channels_in <= 8
    assert 8000 <= meta.sample_rate <= 384_000
    assert np.isfinite(meta.self_test.input).all()
    json.dumps(meta.as_dict())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(key=st.sampled_from(["input", "output", "tolerance"]), new=JSON)
def test_self_test_fuzz(key, new):
    facts = json.loads(good_meta().to_json())
    facts["self_test"][key] = new
    try:
        meta = parse_meta(json.dumps(facts), name="fuzz")
    except CloneFileError:
        return
    assert meta.self_test.input.shape[0] == 1
    assert meta.self_test.tolerance <= 1e-2 or np.isnan(meta.self_test.tolerance)


def test_metadata_survives_the_round_trip():
    meta = good_meta(
        delayed, latency_samples=3, prewarm_samples=10, parameters=7, levels={"wet_peak": 0.5},
        metrics={"esr_db": -40.0, "lag_samples": None}, calibration_dbu={"input": 12.0},
    )  # fmt: skip
    again = parse_meta(meta.to_json(), name="again")
    assert again.as_dict() == meta.as_dict()
    np.testing.assert_array_equal(again.self_test.output, meta.self_test.output)
