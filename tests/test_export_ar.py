"""An ``ar`` model as an ONNX file: the same sound in any blocks, standard operators only, never written unproven."""

from dataclasses import asdict

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ar_models import TorchStream, one_pole, random_model

from fxclone.clone import clone_from_bytes, load_clone
from fxclone.clone_meta import METADATA_KEY, CloneMeta, SelfTest, parse_meta
from fxclone.errors import CloneFileError, UsageError
from fxclone.onnx_peek import ALLOWED_OPS, peek
from fxclone_export.battery import check_stream, require, run_in_chunks
from fxclone_export.graph import IR_VERSION, OPSET
from fxclone_export.verify import fresh_streams
from fxclone_export.write import REPLAY_CHUNKS, attach, replay_error, write_clone
from fxclone_training.ar_export import LONGEST_FOLDED, export_ar
from fxclone_training.memory_stages import DYNAMICS, PEDAL

RATE = 48_000
SLOW = tuple(np.geomspace(4, 8640, 8).tolist()), tuple(np.geomspace(53, 62_400, 8).tolist())
"""Time constants like those of a recipe: averages up to 180 ms, envelopes up to 1.3 s."""
LEAKY = {"envelopes": (30.0, 9.0), "attack": 1.0}
LONG = {"envelopes": SLOW[1], "attack": 1.0}
SHAPES = {
    "memoryless": ({"m": 1, "width": 8}, None),
    "no feedback": ({"m": 12, "past_outputs": 0, "layers": 3, "width": 6}, None),
    "no feedback, GELU": ({"m": 5, "past_outputs": 0, "layers": 2, "width": 6, "activation": "gelu"}, None),
    "fold, one tap": ({"m": 6, "past_outputs": 1, "width": 9, "activation": "relu"}, "RNN"),
    "fold": ({"m": 16, "width": 24, "activation": "relu"}, "RNN"),
    "fold, no inputs before": ({"m": 1, "past_outputs": 5, "width": 4, "activation": "relu"}, "RNN"),
    "fold without skip": ({"m": 8, "width": 12, "activation": "relu", "skip": False}, "RNN"),
    "fold, tanh, one tap": ({"m": 4, "past_outputs": 1, "width": 8}, "LSTM"),
    "fold, tanh": ({"m": 16, "width": 24}, "LSTM"),
    "fold, tanh, without skip": ({"m": 8, "width": 12, "skip": False}, "LSTM"),
    "scan, tanh": ({"m": 32, "layers": 2, "width": 16}, "Scan"),
    "scan, ReLU": ({"m": 8, "layers": 3, "width": 6, "activation": "relu"}, "Scan"),
    "scan, GELU": ({"m": 8, "past_outputs": 20, "layers": 2, "width": 6, "activation": "gelu"}, "Scan"),
    "fold, averages": ({"m": 8, "past_outputs": 3, "width": 9, "activation": "relu", "averages": (3.0, 70.0)}, "RNN"),
    "fold, envelopes": ({"m": 4, "past_outputs": 2, "width": 9, "activation": "relu"} | LEAKY, "RNN"),
    "fold, attack": (
        {"m": 4, "past_outputs": 2, "width": 9, "activation": "relu", "envelopes": (30.0, 9.0), "attack": 0.3},
        "RNN",
    ),
    "fold, both": (
        {"m": 16, "past_outputs": 8, "width": 16, "activation": "relu", "averages": (4.0, 80.0)} | LONG,
        "RNN",
    ),
    "fold without skip, both": (
        {"m": 1, "past_outputs": 2, "width": 7, "activation": "relu", "skip": False}
        | {"averages": (6.0,), "envelopes": (200.0,)},
        "RNN",
    ),
    "fold, tanh, averages": ({"m": 8, "past_outputs": 1, "width": 8, "averages": (3.0, 70.0)}, "LSTM"),
    "fold, tanh, envelopes": ({"m": 1, "past_outputs": 2, "width": 8} | LEAKY, "LSTM"),
    "fold, tanh, attack": (
        {"m": 1, "past_outputs": 2, "width": 8, "averages": (9.0,), "envelopes": (1.5, 30.0, 9.0), "attack": 0.3},
        "LSTM",
    ),
    "fold, tanh, both": ({"m": 16, "past_outputs": 8, "width": 16, "averages": SLOW[0]} | LONG, "LSTM"),
    "fold, averages of inputs above all": (
        {"m": 3, "past_outputs": 3, "width": 9, "activation": "relu", "averages": (3.0, 9.0, 70.0)}
        | {"past_averages": (50.0,), "envelopes": (30.0,)},
        "RNN",
    ),
    "fold, taps that are not heard": (
        {"m": 3, "past_outputs": 2, "width": 8, "activation": "relu", "averages": (3.0, 70.0), "envelopes": (30.0,)}
        | {"hears_taps": False},
        "RNN",
    ),
    "fold, tanh, averages of outputs alone": (
        {"m": 3, "past_outputs": 2, "width": 8, "averages": (), "past_averages": (3.0, 70.0)},
        "LSTM",
    ),
    "scan, averages of both, unlike": (
        {"m": 3, "layers": 2, "past_outputs": 3, "width": 8, "averages": (3.0, 70.0), "past_averages": (9.0,)},
        "Scan",
    ),
    "scan, averages": ({"m": 8, "layers": 2, "past_outputs": 1, "width": 8, "averages": (3.0, 70.0)}, "Scan"),
    "scan, envelopes": ({"m": 4, "layers": 2, "width": 8} | LEAKY, "Scan"),
    "scan, attack": ({"m": 4, "layers": 2, "width": 8, "envelopes": (1.5, 30.0, 9.0), "attack": 0.3}, "Scan"),
    "scan, both": (
        {"m": 16, "past_outputs": 8, "layers": 2, "width": 16, "averages": SLOW[0], "envelopes": SLOW[1]},
        "Scan",
    ),
    "scan, a window too long to fold": ({"m": LONGEST_FOLDED - 6, "width": 8}, "Scan"),
    "scan, GELU, both, without skip": (
        {"m": 5, "layers": 2, "width": 6, "activation": "gelu", "skip": False}
        | {"averages": (6.0,), "envelopes": (200.0,)},
        "Scan",
    ),
    "scan without skip": ({"m": 8, "layers": 1, "width": 10, "activation": "gelu", "skip": False}, "Scan"),
}


def meta(**changes):
    silence = np.zeros((1, 1), np.float32)
    facts = {"name": "test", "family": "ar", "sample_rate": RATE, "self_test": SelfTest(silence, silence)}
    return CloneMeta(**{**facts, **changes})


def moderate(rng, seconds):
    n = int(seconds * RATE)
    envelope = 0.05 + 0.95 * np.abs(np.sin(np.arange(n) / 9000))
    return (0.5 * envelope * rng.uniform(-1, 1, n)).astype(np.float32)[None, :]


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request):
    shape, recurrence = request.param
    made = random_model(1, **shape)
    made.recurrence = recurrence
    return made


@pytest.fixture
def small():
    return random_model(2, m=4, width=5)


def write(model, path, rng, *, played=None, **options):
    return write_clone(
        export_ar(model),
        meta(parameters=model.parameter_count),
        path,
        model=lambda dry: (played or model).run_freely(dry),
        replay_sound=moderate(rng, 0.3),
        **options,
    )


def test_onnxruntime_plays_what_torch_plays(model, rng):
    silence = SelfTest(np.zeros((1, 1), np.float32), model.run_freely(np.zeros((1, 1), np.float32)))
    clone = clone_from_bytes(attach(export_ar(model), meta(self_test=silence)))
    sound = moderate(rng, 2)
    clone.prepare(RATE, 8192, 1)
    out = run_in_chunks(clone, sound, (1, 7, 64, 501, 8192))
    own = run_in_chunks(TorchStream(model), sound, (997, 4096))
    assert out.shape == own.shape == (1, 2 * RATE)
    assert np.abs(out - own).max() <= 1e-5
    assert np.abs(own).max() > 0.01


def clone_of(model, **options):
    silence = SelfTest(np.zeros((1, 1), np.float32), model.run_freely(np.zeros((1, 1), np.float32)))
    return clone_from_bytes(attach(export_ar(model, **options), meta(self_test=silence)))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("memory", [*PEDAL.values(), *DYNAMICS.values()], ids=repr)
def test_every_size_of_memory_folds_and_is_the_same_in_both_forms(rng, memory, activation, fold):
    model = random_model(6, **asdict(memory.config(RATE, activation)))
    clone = clone_of(model, fold=fold)
    node = {"relu": "RNN", "tanh": "LSTM"}[activation]
    assert clone.ops & {"RNN", "LSTM", "Scan"} == {"RNN", node if fold else "Scan"}  # RNN: averages of x
    sound = moderate(rng, 1) + np.float32(0.1)  # an average that is not zero
    clone.prepare(RATE, 8192, 1)
    out, own = run_in_chunks(clone, sound, (64, 501, 8192)), model.run_freely(sound)
    assert out.shape == own.shape
    assert np.abs(out - own).max() <= 1e-5


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("level", [1e-4, 1e4])
@pytest.mark.parametrize("attack", [0.03, 1.0])
def test_any_level_is_held(rng, attack, level, activation, fold):
    """Nothing is offset: rounding is relative to what is carried, and no output is too loud."""
    shape = {"past_outputs": 3, "averages": (4000.0,), "envelopes": (4000.0,), "attack": attack}
    model = one_pole(0.9, m=2, activation=activation, **shape)
    with torch.no_grad():
        model.skip_y[3], model.skip_y[4] = 0.04, 0.04
    clone = clone_of(model, fold=fold)
    sound = np.float32(level) * moderate(rng, 1)
    clone.prepare(RATE, 8192, 1)
    out, own = run_in_chunks(clone, sound, (501, 8192)), model.run_freely(sound)
    assert out.shape == own.shape
    assert np.abs(own).max() > level
    assert np.abs(out - own).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["averages", "envelopes", "attack"])
def test_slow_values_alone_are_the_same(rng, kind, activation):
    """The output is one slow value of x and one of y, at full weight: nothing hides a drift of either."""
    shape = {"averages": SLOW[0][-1:]} if kind == "averages" else {"envelopes": SLOW[1][-1:]}
    shape["attack"] = 0.03 if kind == "attack" else 1.0
    model = one_pole(0.0, m=1, past_outputs=2, activation=activation, **shape)
    with torch.no_grad():
        model.skip_x[1], model.skip_y[2] = 0.5, 0.5
    clone = clone_of(model)
    sound = moderate(rng, 4) + np.float32(0.1)
    clone.prepare(RATE, 8192, 1)
    out, own = run_in_chunks(clone, sound, (501, 8192)), model.run_freely(sound)
    assert out.shape == own.shape
    # A value of 1.3 s adds up the rounding of tens of thousands of samples: some 2e-8 / rate = 1e-3 of one step.
    # What rises quickly and falls slowly stays near the peaks: it is larger, and here fed back at twice the gain.
    assert np.abs(out - own).max() <= {"averages": 1e-5, "envelopes": 2e-5, "attack": 1e-4}[kind]


def test_battery_on_the_file(model, rng, tmp_path):
    path = tmp_path / "clone.onnx"
    written = write(model, path, rng)
    assert written.file_name == str(path)
    clone = load_clone(path)
    checks = check_stream(fresh_streams(clone), channels_in=1, sample_rate=RATE, samples=2401)
    assert len(checks) >= 16
    require(checks, name="the clone")


def test_the_graph_is_standard_and_streams(model):
    graph = export_ar(model)
    onnx.checker.check_model(graph, full_check=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    assert graph.ir_version == IR_VERSION
    assert len(graph.functions) == 0
    seen = peek(graph.SerializeToString())
    assert seen.ops <= ALLOWED_OPS
    recurrent = seen.ops & {"RNN", "LSTM", "GRU", "Scan"}
    of_averages = {"RNN"} if model.config.averages else set()
    assert recurrent == of_averages | ({model.recurrence} if model.recurrence else set())

    def domains(part):
        for node in part.node:
            yield node.domain
            for attribute in node.attribute:
                yield from domains(attribute.g)

    assert set(domains(graph.graph)) == {""}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.graph.input, *graph.graph.output]
    }
    assert shapes["audio"] == shapes["audio_out"] == [1, "T"]
    states = {name for name in shapes if name.startswith("state.")}
    assert {name for name in shapes if name.startswith("next_state.")} == {"next_" + name for name in states}
    assert bool(states) == (model.config.m > 1 or model.config.taps_y > 0)
    for name in states:
        assert shapes[name] == shapes["next_" + name]
        assert all(isinstance(size, int) and size > 0 for size in shapes[name])


def test_the_weights_are_all_in_the_one_file(small, rng, tmp_path):
    write(small, tmp_path / "a.onnx", rng)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    loaded = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in loaded.graph.initializer)
    assert sum(np.prod(tensor.dims) for tensor in loaded.graph.initializer) >= small.parameter_count


def test_the_file_runs_without_fxclone(small, rng, tmp_path):
    """Plain onnxruntime and the rules of CLONE_FORMAT.md: zeros as fresh state, next_state back in."""
    write(small, tmp_path / "a.onnx", rng)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    state = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs() if item.name != "audio"}
    names = [item.name for item in session.get_outputs()]
    sound, parts = moderate(rng, 0.05), []
    for start in range(0, sound.shape[1], 100):
        outputs = dict(zip(names, session.run(names, {"audio": sound[:, start : start + 100], **state}), strict=True))
        parts.append(outputs["audio_out"])
        state = {name: outputs["next_" + name] for name in state}
    out = np.concatenate(parts, axis=1)
    assert out.shape == sound.shape
    np.testing.assert_allclose(out, small.run_freely(sound), atol=1e-5)


def test_the_self_test_is_the_models_own_sound(small, rng, tmp_path):
    write(small, tmp_path / "a.onnx", rng)
    stored = peek((tmp_path / "a.onnx").read_bytes()).metadata[METADATA_KEY]
    test = parse_meta(stored, name="a").self_test
    assert test.input.shape == test.output.shape == (1, 512)
    np.testing.assert_array_equal(test.output, small.run_freely(test.input))
    assert np.abs(test.input).max() > 0.3
    assert np.abs(np.diff(test.output)).max() > 1e-3
    assert load_clone(tmp_path / "a.onnx").self_test_error() <= test.tolerance <= 1e-3


@pytest.mark.parametrize("index", ["w_x", "w_y", "out", "skip_x", "skip_y", "b_out", "hidden", "b_hidden"])
def test_a_graph_that_differs_from_the_model_is_not_written(index, rng, tmp_path):
    model = random_model(3, m=4, layers=2, width=5)
    other = random_model(3, m=4, layers=2, width=5)
    with torch.no_grad():
        getattr(other, index).view(-1)[0] += 0.05
    with pytest.raises(CloneFileError) as caught:
        write(model, tmp_path / "a.onnx", rng, played=other)
    assert "differs" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_difference_that_the_self_test_cannot_see_is_not_written(rng, tmp_path):
    """1e-4 is allowed there, 1e-5 in the replay."""
    model, other = random_model(4, m=2, width=3), random_model(4, m=2, width=3)
    with torch.no_grad():
        other.b_out += 4e-5
    with pytest.raises(CloneFileError, match="was not written"):
        write(model, tmp_path / "a.onnx", rng, played=other)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_an_unstable_model_is_not_written(activation, rng, tmp_path):
    with pytest.raises(CloneFileError):
        write(one_pole(1.5, m=3, activation=activation), tmp_path / "a.onnx", rng)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_loud_model_is_written(activation, rng, tmp_path):
    model = random_model(5, m=3, width=4, activation=activation)
    with torch.no_grad():
        model.b_out += -30.0
    write(model, tmp_path / "a.onnx", rng)
    assert load_clone(tmp_path / "a.onnx").ops & {"RNN", "LSTM"}


def test_a_graph_of_other_channels_is_not_written(small, rng, tmp_path):
    with pytest.raises(CloneFileError):
        write_clone(
            export_ar(small), meta(channels_in=2), tmp_path / "a.onnx",
            model=lambda dry: small.run_freely(dry[:1]), replay_sound=moderate(rng, 0.1),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_without_force(small, rng, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        write(small, path, rng)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]
    write(small, path, rng, force=True)
    assert load_clone(path).meta.parameters == small.parameter_count
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]


def test_a_failed_export_leaves_the_old_file(small, rng, tmp_path):
    path = tmp_path / "a.onnx"
    write(small, path, rng)
    before = path.read_bytes()
    with pytest.raises(CloneFileError):
        write(small, path, rng, played=random_model(9, m=4, width=5), force=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]


def test_the_replay_measures_the_difference(small, rng):
    silence = SelfTest(np.zeros((1, 1), np.float32), small.run_freely(np.zeros((1, 1), np.float32)))
    clone = clone_from_bytes(attach(export_ar(small), meta(self_test=silence)))
    sound = moderate(rng, 0.5)
    error, limit = replay_error(clone, lambda dry: small.run_freely(dry) + np.float32(0.01), sound)
    assert error == pytest.approx(0.1, abs=1e-5)  # ten times its RMS
    assert limit == 1e-4
    assert replay_error(clone, lambda dry: small.run_freely(dry)[:, 1:], sound)[0] == float("inf")


def test_replay_blocks_are_of_every_kind():
    assert 1 in REPLAY_CHUNKS
    assert any(size % 2 and size > 1 for size in REPLAY_CHUNKS)
    assert len(set(REPLAY_CHUNKS)) >= 5


def test_exporting_leaves_the_model_as_it_was(small, rng):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    export_ar(small)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert export_ar(small).SerializeToString() == export_ar(small).SerializeToString()
