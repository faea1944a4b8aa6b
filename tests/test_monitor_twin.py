"""The twin: the same input from a disturbed state, heard in small pieces, and what its verdict is."""

from __future__ import annotations

import faulty_clones as faulty
import numpy as np
import pytest
from faults import Gain, playing, run

from fxclone.processor import Chain
from fxclone.resampled import Resampled
from fxclone.stability.twin_watch import Twin, with_twins

RATE = faulty.RATE


def put_to_the_test(clone, sound, sizes=(64,), channels=1):
    twin = Twin(clone)
    twin.prepare(RATE, 256, channels)
    return twin, run(twin, sound, sizes)


@pytest.mark.parametrize("sizes", [(1,), (64,), (7, 256, 33)])
def test_the_clone_itself_is_heard_untouched(rng, sizes):
    sound = playing(rng, RATE, 0.3 if sizes == (1,) else 3.0)
    clone = faulty.sound_one()
    expected = clone.render(sound)
    _, out = put_to_the_test(clone, sound, sizes)
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("level", [1.0, 0.001, 0.0])
def test_a_clone_that_forgets_passes_every_test(rng, channels, level):
    sound = np.repeat(playing(rng, RATE, 8.0, level=1.0), channels, axis=0) * np.float32(level)
    twin, _ = put_to_the_test(faulty.sound_one(), sound, channels=channels)
    assert twin.tests >= 3
    assert twin.fault is None


@pytest.mark.parametrize("sizes", [(32,), (64,), (100, 256)])
def test_one_that_does_not_forget_is_found(rng, sizes):
    twin, _ = put_to_the_test(faulty.unforgetting(), playing(rng, RATE, 12.0), sizes)
    assert twin.fault is not None
    what, numbers = twin.fault
    assert what == "twin state does not converge"
    assert numbers["late_db"] > numbers["early_db"] - 6
    twin.reset()
    assert twin.fault is None


def test_one_that_diverges_is_found_although_it_took_long_to_forget_when_it_was_well():
    slow = {"small_gain": 1.5, "return_ms": 3_000.0}
    facts = {"activation": "Affine", "certificate": slow}
    grows = faulty.recurrent(faulty.turning(900.0, 1.0006), [1.0, 0.0], [0.2, 0.0], **facts)
    twin, _ = put_to_the_test(grows, np.zeros((1, 20 * RATE), np.float32), (256,))
    assert twin.fault is not None
    stays = faulty.recurrent(faulty.turning(900.0, 0.99999), [1.0, 0.0], [0.2, 0.0], **facts)
    twin, _ = put_to_the_test(stays, np.zeros((1, 20 * RATE), np.float32), (256,))
    assert twin.fault is None


def test_it_is_spread_over_the_blocks(rng):
    twin = Twin(faulty.sound_one())
    twin.prepare(RATE, 64, 1)
    pieces: list[int] = []
    plain = twin._twin.process
    twin._twin.process = lambda block: (pieces.append(block.shape[1]), plain(block))[1]
    sound = playing(rng, RATE, 6.0)
    blocks, most = 0, 0
    for start in range(0, sound.shape[1] - 63, 64):
        before = len(pieces)
        twin.process(sound[:, start : start + 64])
        assert len(pieces) - before <= 1
        most = max([most, *pieces[before:]])
        blocks += 1
    assert most <= 16
    assert 0 < sum(pieces) < 0.1 * 64 * blocks


def test_only_clones_with_feedback_are_tested():
    feeds_back, echoes = faulty.sound_one(), faulty.sound_one()
    echoes.meta.certificate.update(small_gain=0.5, loop_gain=0.5)
    none, unknown = (
        faulty.recurrent([[0.0]], [1.0], [1.0], certificate=certificate) for certificate in ({"small_gain": 0.0}, {})
    )
    for processor in (none, unknown, echoes, Gain(), Chain([none, Gain()]), Resampled(none, RATE)):
        assert with_twins(processor) == (processor, [])
    for processor in (feeds_back, Chain([none, Resampled(Chain([Gain(), feeds_back]), RATE)])):
        watched, twins = with_twins(processor)
        assert [twin.clone for twin in twins] == [feeds_back]
        assert watched is not processor
