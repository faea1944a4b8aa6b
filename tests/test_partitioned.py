"""Long responses as streaming graphs: equal to direct convolution, whatever the blocks."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from scipy.signal import fftconvolve

from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone_export.battery import check_stream, require, run_in_chunks
from fxclone_export.graph import StreamingGraph
from fxclone_export.partitioned import FRAME, HEAD, convolve, shared_inputs
from fxclone_export.verify import fresh_streams
from fxclone_export.write import write_clone

RATE = 48_000
MIXED = (1000, 1, 7, 9000, 1024, 64, 3, 2048, 12_000, 1, 1, 129)


def responses_of(rng, channels_out, channels_in, taps):
    """Noise that falls by 60 dB, of unit energy: what a room does."""
    fall = 10 ** (-3 * np.arange(taps) / taps)
    noise = rng.standard_normal((channels_out, channels_in, taps)) * fall
    return noise / np.sqrt((noise**2).sum(axis=2, keepdims=True))


def convolved(responses, sound):
    """Direct convolution in double precision, cut to the length of the sound."""
    wet = [
        sum(fftconvolve(x.astype(float), h)[: sound.shape[1]] for x, h in zip(sound, row, strict=True))
        for row in responses
    ]
    return np.array(wet)


def model_of(responses):
    graph = StreamingGraph(responses.shape[1])
    graph.output(convolve(graph, "audio", responses), responses.shape[0])
    return graph.model()


def clone_of(responses, path):
    """A proven clone file, played from the file."""
    out, into, taps = responses.shape
    silence = np.zeros((1, 1), np.float32)
    meta = CloneMeta("room", "tail", RATE, SelfTest(silence, silence), into, out, tail_samples=taps)
    sound = (0.1 * np.random.default_rng(5).standard_normal((into, 30_000))).astype(np.float32)
    return write_clone(
        model_of(responses),
        meta,
        path,
        model=lambda dry: convolved(responses, dry).astype(np.float32),
        replay_sound=sound,
    )


def shapes_of(model):
    def dims(values):
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values if "state." in v.name}

    return dims(model.graph.input), {key.removeprefix("next_"): v for key, v in dims(model.graph.output).items()}


@pytest.mark.parametrize(
    ("channels_out", "channels_in", "taps"),
    [
        (1, 1, 1), (2, 1, 16), (1, 2, 17), (1, 1, 63), (2, 1, 64), (1, 2, 65), (2, 2, 500), (1, 1, 2047), (2, 2, 2048),
        (1, 1, 2049), (2, 1, 3072), (1, 2, 3073), (2, 2, 5000), (3, 2, 4097), (2, 1, 48_000), (2, 2, 20_000),
    ],
)  # fmt: skip
def test_equal_to_direct_convolution_in_any_blocks(tmp_path, rng, channels_out, channels_in, taps):
    responses = responses_of(rng, channels_out, channels_in, taps)
    clone = clone_of(responses, tmp_path / "room.onnx")
    assert clone.latency_samples == 0
    sound = (0.3 * rng.standard_normal((channels_in, 60_011))).astype(np.float32)
    expected = convolved(responses, sound)
    peak = np.abs(expected).max()
    stream = fresh_streams(clone)()
    whole = stream.process(sound)
    assert whole.shape == expected.shape
    assert_allclose(whole, expected, atol=2e-6 * peak, rtol=0)
    for sizes in (MIXED, (64,), (100,), (4096,)):
        stream.reset()
        out = run_in_chunks(stream, sound, sizes)
        assert_allclose(out, whole, atol=2e-6 * peak, rtol=0, err_msg=f"blocks of {sizes}")


@pytest.mark.parametrize("taps", [40, HEAD, HEAD + 2, 9000])
def test_single_samples_and_primes(tmp_path, rng, taps):
    responses = responses_of(rng, 2, 1, taps)
    stream = fresh_streams(clone_of(responses, tmp_path / "room.onnx"))()
    sound = (0.3 * rng.standard_normal((1, 2 * FRAME + 700))).astype(np.float32)
    expected = convolved(responses, sound)
    for sizes in ((1,), (7,), (FRAME - 1, 1, FRAME + 1), (FRAME,), (2 * FRAME, 5)):
        stream.reset()
        out = run_in_chunks(stream, sound, sizes)
        assert_allclose(out, expected, atol=1e-6 * np.abs(expected).max(), rtol=0, err_msg=f"blocks of {sizes}")


def test_every_delay_comes_out_where_it_belongs(tmp_path):
    """One tap at each border between the parts: an impulse comes back exactly there, in every block size."""
    places = [0, 1, 15, 16, 63, 64, HEAD - 1, HEAD, HEAD + 1, HEAD + FRAME - 1, HEAD + FRAME, HEAD + 5 * FRAME + 3]
    responses = np.zeros((1, 1, places[-1] + 1))
    responses[0, 0, places] = 1 + np.arange(len(places))
    stream = fresh_streams(clone_of(responses, tmp_path / "taps.onnx"))()
    for at in (0, 1, 63, 100, FRAME - 1, FRAME, FRAME + 1, 3000):
        sound = np.zeros((1, 16_000), np.float32)
        sound[0, at] = 1
        expected = np.zeros(16_000)
        expected[at + np.array(places)] = 1 + np.arange(len(places))
        for sizes in ((64,), (1000, 77), (16_000,)):
            stream.reset()
            assert_allclose(run_in_chunks(stream, sound, sizes)[0], expected, atol=2e-5)


@pytest.mark.parametrize(("channels_out", "channels_in", "taps"), [(2, 2, 900), (2, 2, 12_000), (2, 1, 5000)])
def test_the_battery(tmp_path, rng, channels_out, channels_in, taps):
    clone = clone_of(responses_of(rng, channels_out, channels_in, taps), tmp_path / "room.onnx")
    checks = check_stream(fresh_streams(clone), channels_in=channels_in, sample_rate=RATE)
    require(checks, name="a room")


def test_silence_after_the_tail_is_silence(tmp_path, rng):
    taps = 7000
    stream = fresh_streams(clone_of(responses_of(rng, 1, 1, taps), tmp_path / "room.onnx"))()
    stream.process(rng.uniform(-1, 1, (1, 20_000)).astype(np.float32))
    out = np.concatenate([stream.process(np.zeros((1, 500), np.float32)) for _ in range(40)], axis=1)
    assert np.abs(out[:, :taps]).max() > 0.01
    assert np.abs(out[:, taps + FRAME :]).max() < 1e-6


@pytest.mark.parametrize(("channels_in", "taps"), [(1, 100), (2, 5000), (2, 100_000)])
def test_states_are_few_fixed_and_their_shapes_are_kept(rng, channels_in, taps):
    model = model_of(responses_of(rng, 2, channels_in, taps))
    before, after = shapes_of(model)
    assert before == after
    floats = sum(int(np.prod(shape)) for shape in before.values())
    assert floats < channels_in * (2.2 * taps + 20_000) + 40_000
    onnx.checker.check_model(model, full_check=True)


def test_a_reverb_that_adds_its_inputs_up_needs_one_delay_line(tmp_path, rng):
    late = responses_of(rng, 2, 1, 9000)
    panned = late * np.array([0.8, -0.5])[None, :, None]
    panned[:, :, :100] += 0.3 * rng.standard_normal((2, 2, 100))  # an early part that tells left from right
    mix, rest = shared_inputs(panned[:, :, HEAD:])
    assert mix.shape == (1, 2)
    assert rest.shape == (2, 1, 9000 - HEAD)
    assert_allclose(np.einsum("ort,ri->oit", rest, mix), panned[:, :, HEAD:], atol=1e-9)
    shapes, _ = shapes_of(model_of(panned))
    assert shapes["state.tail.ring.in_place"][2] == 1
    sound = (0.3 * rng.standard_normal((2, 30_000))).astype(np.float32)
    out = run_in_chunks(fresh_streams(clone_of(panned, tmp_path / "room.onnx"))(), sound, MIXED)
    expected = convolved(panned, sound)
    assert_allclose(out, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


def test_measured_responses_that_almost_agree_share_a_delay_line_on_request(rng):
    late = responses_of(rng, 2, 1, 9000).repeat(2, axis=1)
    measured = late + 1e-3 * responses_of(rng, 2, 2, 9000)  # 60 dB below
    mix, _ = shared_inputs(measured)
    assert mix is None
    mix, rest = shared_inputs(measured, -50.0)
    assert mix.shape == (1, 2)
    error = np.einsum("ort,ri->oit", rest, mix) - measured
    assert 1e-8 < (error**2).sum() / (measured**2).sum() < 2e-6
    graph = StreamingGraph(2)
    graph.output(convolve(graph, "audio", measured, mix_floor_db=-50.0), 2)
    assert shapes_of(graph.model())[0]["state.tail.ring.in_place"][2] == 1


def test_inputs_with_tails_of_their_own_keep_their_delay_lines(rng):
    mix, rest = shared_inputs(responses_of(rng, 2, 2, 3000))
    assert mix is None
    assert rest.shape == (2, 2, 3000)
    silent, rest = shared_inputs(np.zeros((1, 2, 50)))
    assert silent is None
    assert rest.shape == (1, 2, 50)


def test_two_in_one_graph(tmp_path, rng):
    """A wet path beside a short one, after each other: names do not collide."""
    first, second = responses_of(rng, 1, 1, 4000), responses_of(rng, 2, 1, 6000)
    graph = StreamingGraph(1)
    graph.output(convolve(graph, convolve(graph, "audio", first, name="cabinet"), second, name="room"), 2)
    silence = np.zeros((1, 1), np.float32)
    sound = (0.1 * rng.standard_normal((1, 20_000))).astype(np.float32)
    write_clone(
        graph.model(),
        CloneMeta("both", "tail", RATE, SelfTest(silence, silence), 1, 2),
        tmp_path / "both.onnx",
        model=lambda dry: convolved(second, convolved(first, dry)).astype(np.float32),
        replay_sound=sound,
    )


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 1, 0)), np.zeros((1, 5)), np.full((1, 1, 3), np.nan), np.full((1, 1, 3000), np.inf)]
)
def test_responses_that_are_none(bad):
    with pytest.raises(UsageError, match="impulse responses"):
        convolve(StreamingGraph(1), "audio", bad)


def test_a_player_that_copies_every_state_hears_the_same(tmp_path, rng):
    """`Clone` writes the ring where it reads it (the states that end in ``in_place``); nobody has to."""
    clone = clone_of(responses_of(rng, 2, 2, 9000), tmp_path / "room.onnx")
    stream = fresh_streams(clone)()
    states = {i.name: np.zeros(i.shape, np.float32) for i in clone.session.get_inputs() if i.name != "audio"}
    assert any(name.endswith(".in_place") for name in states)
    names = ["audio_out", *("next_" + name for name in states)]
    for size in (64, 900, 60, 64, 5000, 1, 1024, 300, 64, 2048, 700):
        sound = (0.3 * rng.standard_normal((2, size))).astype(np.float32)
        out, *after = clone.session.run(names, {"audio": sound, **states})
        states = dict(zip(states, after, strict=True))
        np.testing.assert_array_equal(stream.process(sound), out)


@pytest.mark.parametrize("seed", range(6))
def test_random_lengths_in_random_blocks(tmp_path, seed):
    rng = np.random.default_rng(seed)
    out, into = rng.integers(1, 3, 2)
    responses = responses_of(rng, out, into, int(rng.integers(HEAD + 1, 12_000)))
    stream = fresh_streams(clone_of(responses, tmp_path / "room.onnx"))()
    sound = (0.3 * rng.standard_normal((into, 40_000))).astype(np.float32)
    expected = convolved(responses, sound)
    for sizes in (rng.integers(1, 2 * FRAME, 20), rng.integers(FRAME - 70, FRAME + 70, 20), rng.integers(64, 9000, 9)):
        stream.reset()
        found = run_in_chunks(stream, sound, sizes.tolist())
        assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max(), rtol=0, err_msg=f"blocks of {sizes}")
