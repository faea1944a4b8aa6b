"""How a clone carries its state: buffers of its own, untouched by a block that fails."""

import numpy as np
import pytest
from clone_files import AUDIO, GOOD, RATE, WET, as_model, delayed, float_of, good_meta, packed, value
from onnx import helper

from fxclone.clone import Clone, clone_from_bytes
from fxclone.errors import CloneFileError, FxcloneError


def test_what_was_returned_is_not_overwritten_by_the_next_block(rng):
    clone = clone_from_bytes(GOOD)
    clone.prepare(RATE, 64, 1)
    sound = float_of(0.3 * rng.standard_normal((1, 640)))
    parts = [clone.process(sound[:, i : i + 64]) for i in range(0, 640, 64)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), delayed(sound), atol=1e-6)


def test_blocks_that_are_views_of_something_larger(rng):
    clone = clone_from_bytes(GOOD)
    clone.prepare(RATE, 64, 1)
    frames = float_of(0.3 * rng.standard_normal((640, 2)))
    parts = [clone.process(frames[i : i + 64, 1:].T) for i in range(0, 640, 64)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), delayed(frames[:, 1:].T), atol=1e-6)


def sum_clone(name):
    """A running sum of each block's first sample, in a state of that name."""
    nodes = [
        helper.make_node("Slice", ["audio", "zero", "one", "one"], ["first"]),
        helper.make_node("Add", [f"state.{name}", "first"], [f"next_state.{name}"]),
        helper.make_node("Add", ["audio", f"next_state.{name}"], ["audio_out"]),
    ]
    weights = [("zero", np.array([0])), ("one", np.array([1]))]
    states = value(f"state.{name}", [1, 1]), value(f"next_state.{name}", [1, 1])
    data = packed(as_model(nodes, weights, (AUDIO, states[0]), (WET, states[1])), good_meta())
    return clone_from_bytes(data, self_test=False)


@pytest.mark.parametrize("name", ["sum", "sum.in_place"])
def test_a_state_in_two_buffers_or_in_one(name):
    clone = sum_clone(name)
    clone.prepare(RATE, 8, 1)
    twin = Clone(clone.session, clone.meta)
    twin.prepare(RATE, 8, 1)
    ones = np.ones((1, 3), np.float32)
    assert [clone.process(ones)[0, 0] for _ in range(4)] == [2, 3, 4, 5]
    assert twin.process(ones)[0, 0] == 2
    np.testing.assert_array_equal(clone.render(ones)[0], [2, 2, 2])
    assert clone.process(ones)[0, 0] == 6
    clone.reset()
    assert clone.process(ones)[0, 0] == 2


def test_a_block_that_fails_leaves_the_state_as_it_was():
    """The graph multiplies 3 x 1 with T x T of the block: only T = 1 and T = 3 work."""
    nodes = [
        helper.make_node("Add", ["state.s", "one"], ["next_state.s"]),
        helper.make_node("Add", ["audio", "three"], ["fits"]),
        helper.make_node("Mul", ["audio", "next_state.s"], ["loud"]),
        helper.make_node("Slice", ["fits", "zero", "zero", "axis"], ["none"]),
        helper.make_node("Concat", ["loud", "none"], ["audio_out"], axis=1),
    ]
    weights = [
        ("one", float_of([[1.0]])),
        ("three", float_of([[0.0, 0.0, 0.0]])),
        ("zero", np.array([0])),
        ("axis", np.array([1])),
    ]
    states = value("state.s", [1, 1]), value("next_state.s", [1, 1])
    data = packed(as_model(nodes, weights, (AUDIO, states[0]), (WET, states[1])), good_meta())
    clone = clone_from_bytes(data, self_test=False)
    clone.prepare(RATE, 8, 1)
    ones = np.ones((1, 8), np.float32)
    assert clone.process(ones[:, :3])[0].tolist() == [1, 1, 1]
    with pytest.raises(CloneFileError, match="failed while running"):
        clone.process(ones[:, :5])
    assert clone.process(ones[:, :3])[0].tolist() == [2, 2, 2]


def test_huge_numbers_are_numbers():
    """Their power is not: it overflows."""
    clone = clone_from_bytes(GOOD)
    clone.prepare(RATE, 8, 1)
    huge = np.full((1, 8), 1e30, np.float32)
    np.testing.assert_allclose(clone.process(huge), delayed(huge), rtol=1e-6)
    for bad in (np.nan, np.inf):
        broken = huge.copy()
        broken[0, 3] = bad
        with pytest.raises(FxcloneError, match="NaN or infinity"):
            clone.process(broken)


def test_an_onnxruntime_of_which_we_know_only_what_it_promises(rng):
    class Promised:
        def __init__(self, session):
            self.io_binding, self.run_with_iobinding = session.io_binding, session.run_with_iobinding
            self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    known = clone_from_bytes(GOOD)
    clone = Clone(Promised(known.session), known.meta)
    clone.prepare(RATE, 64, 1)
    sound = float_of(0.3 * rng.standard_normal((1, 640)))
    parts = [clone.process(sound[:, i : i + 64]) for i in range(0, 640, 64)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), delayed(sound), atol=1e-6)
