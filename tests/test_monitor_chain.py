"""A chain is watched between its links too: no fault of one is hidden by the next, or handed on to it."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Breaks, Gain, Sound, playing, run

from fxclone.processor import Chain
from fxclone.resampled import Resampled
from fxclone.stability.checkpoint import Checkpoint, with_checkpoints
from fxclone.stability.known import parts_of
from fxclone.stability.monitor import StabilityMonitor

RATE = 48_000


class Scrubs(Sound):
    """As hosts of plugins do: NaN is silence, and full scale is the most there is."""

    def process(self, block):
        return np.clip(np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)


@pytest.mark.parametrize("sizes", [(64,), (1, 17, 64)])
def test_a_chain_that_is_well_sounds_as_without(sizes, rng):
    sound = playing(rng, RATE, 0.3)
    monitor = StabilityMonitor(Chain([Gain(0.5), Gain(-1.0), Chain([Gain(2.0), Gain(0.25)])]))
    monitor.prepare(RATE, 64, 1)
    np.testing.assert_array_equal(run(monitor, sound, sizes), -0.25 * sound)
    assert not monitor.status


@pytest.mark.parametrize(("value", "what"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e6, "runaway level")])
def test_what_the_next_link_would_hide_is_found(value, what, rng):
    sound = playing(rng, RATE, 1.0)
    monitor = StabilityMonitor(Chain([Breaks(RATE // 2, value, stop=RATE // 2 + 64), Scrubs(), Gain(0.5)]))
    monitor.prepare(RATE, 64, 1)
    out = run(monitor, sound)
    assert [trip.what for trip in monitor.status.trips] == [what]
    assert monitor.status.trips[0].time_s == pytest.approx(0.5, abs=64 / RATE)
    back = RATE // 2 + round(0.1 * RATE)
    np.testing.assert_allclose(out[:, back:], 0.5 * sound[:, back:], atol=1e-6)


def test_a_fault_stays_until_the_reset_and_gives_silence_meanwhile():
    check = Checkpoint()
    check.prepare(RATE, 64, 2)
    good, bad = np.full((2, 64), 0.5, np.float32), np.full((2, 64), np.nan, np.float32)
    assert check.process(good) is good
    assert not check.process(bad).any()
    assert check.process(good[:, :5]).shape == (2, 5)
    assert not check.process(good).any()
    assert check.fault == ("not finite", {"bad_samples": 128.0})
    check.reset()
    assert check.process(good) is good
    assert check.fault is None
    assert check.process(good[:, :0]).shape == (2, 0)


def test_there_is_one_between_any_two_links_also_at_another_rate():
    inner = Resampled(Chain([Gain(), Gain()]), 44_100)
    parts = [type(part).__name__ for part in parts_of(with_checkpoints(Chain([Gain(), inner])))]
    assert parts == ["Gain", "Checkpoint", "Gain", "Checkpoint", "Gain"]
    alone = Gain()
    assert with_checkpoints(alone) is alone


def test_between_links_the_largest_value_counts_and_not_the_power(rng):
    sound = np.full((2, 64), 99.0, np.float32)
    point = Checkpoint()
    point.prepare(RATE, 64, 2)
    np.testing.assert_array_equal(point.process(sound), sound)
    assert point.fault is None
    sound[1, 5] = -101.0
    assert not point.process(sound).any()
    assert point.fault[0] == "runaway level"
