"""A loaded clone as a processor: any blocks, lanes, rates, rejected blocks, the fresh state."""

import numpy as np
import pytest
from clone_files import AUDIO, GOOD, RATE, WET, as_model, delayed, float_of, good_meta, packed, value
from onnx import TensorProto, helper

from fxclone.clone import Clone, clone_from_bytes
from fxclone.clone_meta import SelfTest
from fxclone.errors import FxcloneError, UsageError


@pytest.fixture
def clone():
    made = clone_from_bytes(GOOD)
    made.prepare(RATE, 4096, 1)
    return made


def in_blocks(clone, sound, size):
    return np.concatenate([clone.process(sound[:, i : i + size]) for i in range(0, sound.shape[1], size)], axis=1)


@pytest.mark.parametrize("size", [1, 7, 64, 333, 5000])
def test_any_blocks_give_the_same_sound(clone, rng, size):
    sound = float_of(0.3 * rng.standard_normal((1, 1001)))
    out = in_blocks(clone, sound, size)
    assert out.shape == sound.shape
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, delayed(sound), atol=1e-6)


def test_mono_clones_run_a_lane_for_each_channel(clone, rng):
    sound = float_of(0.3 * rng.standard_normal((3, 400)))
    clone.prepare(RATE, 64, 3)
    assert clone.channels_out == 3
    out = in_blocks(clone, sound, 64)
    assert out.shape == sound.shape
    np.testing.assert_allclose(out, delayed(sound), atol=1e-6)


def stereo_clone():
    """Swaps left and right."""
    left_right = [value("audio", [2, "T"])], [value("audio_out", [2, "T"])]
    node = helper.make_node("Gather", ["audio", "order"], ["audio_out"], axis=0)
    model = as_model([node], [("order", np.array([1, 0]))], *left_right)
    sound = float_of([[0.1, 0.2], [0.3, -0.4]])
    return clone_from_bytes(
        packed(model, good_meta(channels_in=2, channels_out=2, self_test=SelfTest(sound, sound[::-1])))
    )


def test_stereo_clones(rng):
    clone = stereo_clone()
    clone.prepare(RATE, 64, 2)
    sound = float_of(rng.uniform(-1, 1, (2, 50)))
    np.testing.assert_array_equal(clone.process(sound), sound[::-1])
    clone.prepare(RATE, 64, 1)
    np.testing.assert_array_equal(clone.process(sound[:1]), sound[[0, 0]])
    with pytest.raises(UsageError, match="takes 2 channels; it was given 6"):
        clone.prepare(RATE, 64, 6)


def test_a_mono_clone_with_a_stereo_output(rng):
    node = helper.make_node("Concat", ["audio", "minus"], ["audio_out"], axis=0)
    nodes = [helper.make_node("Neg", ["audio"], ["minus"]), node]
    model = as_model(nodes, outputs=(value("audio_out", [2, "T"]),))
    test = SelfTest(float_of([[0.5, -0.25]]), float_of([[0.5, -0.25], [-0.5, 0.25]]))
    clone = clone_from_bytes(packed(model, good_meta(channels_out=2, self_test=test)))
    sound = float_of(rng.uniform(-1, 1, (1, 50)))
    clone.prepare(RATE, 64, 1)
    assert clone.channels_out == 2
    np.testing.assert_array_equal(clone.process(sound), np.concatenate([sound, -sound]))


def test_another_rate_is_wrong_use(clone):
    with pytest.raises(UsageError, match="runs at 44100 Hz; it was asked to run at 48000 Hz"):
        clone.prepare(48_000, 64, 1)


@pytest.mark.parametrize("channels", [0, -1])
def test_no_channels_is_wrong_use(clone, channels):
    with pytest.raises(UsageError):
        clone.prepare(RATE, 64, channels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_block_is_rejected_and_the_state_kept(clone, rng, bad):
    sound = float_of(0.3 * rng.standard_normal((1, 200)))
    first = clone.process(sound[:, :100])
    broken = sound[:, 100:].copy()
    broken[0, 50] = bad
    with pytest.raises(FxcloneError, match="NaN or infinity"):
        clone.process(broken)
    second = clone.process(sound[:, 100:])
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), delayed(sound), atol=1e-6)


def test_an_empty_block_changes_nothing(clone, rng):
    sound = float_of(0.3 * rng.standard_normal((1, 20)))
    first = clone.process(sound[:, :10])
    assert clone.process(sound[:, :0]).shape == (1, 0)
    np.testing.assert_allclose(np.hstack([first, clone.process(sound[:, 10:])]), delayed(sound), atol=1e-6)
    clone.prepare(RATE, 64, 2)
    assert clone.process(np.zeros((2, 0), np.float32)).shape == (2, 0)


@pytest.mark.parametrize("shape", [(2, 10), (10,), (1, 1, 10), (0, 10)])
def test_a_block_of_another_shape(clone, shape):
    with pytest.raises(FxcloneError, match="channels"):
        clone.process(np.zeros(shape, np.float32))


def test_a_clone_that_was_never_prepared_says_so():
    with pytest.raises(FxcloneError, match="prepared"):
        clone_from_bytes(GOOD).process(np.zeros((1, 4), np.float32))


def test_reset_is_fresh(clone, rng):
    sound = float_of(0.3 * rng.standard_normal((1, 50)))
    first = clone.process(sound)
    assert np.abs(clone.process(sound) - first).max() > 0.01
    clone.reset()
    np.testing.assert_array_equal(clone.process(sound), first)


def test_rendering_leaves_the_running_state_alone(clone, rng):
    sound = float_of(0.3 * rng.standard_normal((1, 300)))
    first = clone.process(sound[:, :100])
    np.testing.assert_allclose(clone.render(sound, block_samples=77), delayed(sound), atol=1e-6)
    assert clone.render(np.repeat(sound, 4, axis=0)).shape == (4, 300)
    with pytest.raises(FxcloneError):
        clone.render(np.full((2, 5), np.nan, np.float32))
    second = clone.process(sound[:, 100:])
    np.testing.assert_allclose(np.hstack([first, second]), delayed(sound), atol=1e-6)


def test_rendering_nothing(clone):
    assert clone.render(np.zeros((1, 0), np.float32)).shape == (1, 0)


def test_two_clones_of_one_session_are_independent(clone, rng):
    twin = Clone(clone.session, clone.meta)
    twin.prepare(RATE, 64, 1)
    sound = float_of(0.3 * rng.standard_normal((1, 60)))
    clone.process(sound)
    np.testing.assert_allclose(twin.process(sound), delayed(sound), atol=1e-6)


def test_prewarm_runs_silence_before_the_first_sample():
    """A counter as state: the fresh state has counted the prewarm, in whatever blocks."""
    nodes = [
        helper.make_node("Shape", ["audio"], ["size"], start=1, end=2),
        helper.make_node("Cast", ["size"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["state.count", "length"], ["next_state.count"]),
        helper.make_node("Mul", ["state.count", "tiny"], ["offset"]),
        helper.make_node("Add", ["audio", "offset"], ["audio_out"]),
    ]
    one = value("state.count", [1]), value("next_state.count", [1])
    model = as_model(nodes, [("tiny", float_of([2.0**-14]))], (AUDIO, one[0]), (WET, one[1]))
    clone = clone_from_bytes(packed(model, good_meta(prewarm_samples=5000)), self_test=False)
    clone.prepare(RATE, 64, 1)
    assert clone.process(np.zeros((1, 1), np.float32))[0, 0] == np.float32(5000 * 2.0**-14)
    clone.reset()
    assert clone.process(np.zeros((1, 1), np.float32))[0, 0] == np.float32(5000 * 2.0**-14)
