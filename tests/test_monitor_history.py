"""The past of a sound, in one piece."""

import numpy as np
import pytest

from fxclone.stability.history import History


@pytest.mark.parametrize("sizes", [(1,), (64,), (7, 64, 3, 1), (10,)])
def test_it_gives_any_moment_that_it_still_holds(rng, sizes):
    sound = rng.standard_normal((2, 2_000)).astype(np.float32)
    history = History(2, 100, 64)
    assert not history.past(100).any()
    padded = np.concatenate([np.zeros((2, 100), np.float32), sound], axis=1)
    at, turn = 0, 0
    while at < 1_900:
        size = sizes[turn % len(sizes)]
        history.push(sound[:, at : at + size])
        at, turn = at + size, turn + 1
        for n, ago in ((100, 0), (size, 0), (1, 99), (30, 50)):
            np.testing.assert_array_equal(history.past(n, ago), padded[:, 100 + at - ago - n : 100 + at - ago])
    history.clear()
    assert not history.past(100).any()
