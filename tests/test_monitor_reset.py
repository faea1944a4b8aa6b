"""What is slow to reset, such as a plugin, is reset beside the sound; how much of the past is heard after a reset."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Breaks, Gain, Sound, playing, run

from fxclone.processor import Chain
from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.capacity import Capacity

RATE = 48_000


class SlowToReset(Gain):
    """Like a plugin; gives NaN at one block."""

    slow_reset = True
    breaks_at = 9_600

    def run(self, block):
        out = super().run(block)
        if self.breaks_at is not None and self.breaks_at <= self.total:
            out[:, -1], self.breaks_at = np.nan, None
        return out


class Remembers(Sound):
    state_bytes = 1_000_000


@pytest.mark.parametrize("made_slow_by", ["what it says", "what it remembers"])
def test_what_is_slow_to_reset_is_reset_by_another_and_until_then_the_dry_sound_plays(rng, made_slow_by):
    slow, asked = SlowToReset(2.0), []
    slow.slow_reset = made_slow_by == "what it says"
    chain = Chain([Sound() if slow.slow_reset else Remembers(), slow])
    monitor = StabilityMonitor(chain, ask_for_reset=lambda: asked.append(slow.resets))
    monitor.prepare(RATE, 64, 1)
    sound = playing(rng, RATE, 1.0)
    out = run(monitor, sound[:, :19_200])
    assert [trip.action for trip in monitor.status.trips] == ["soft reset"]
    assert asked == [slow.resets]  # once, and nothing has been done in the callback
    np.testing.assert_array_equal(out[:, 12_000:], sound[:, 12_000:19_200])
    monitor.serve()
    assert slow.resets == asked[0] + 1
    monitor.serve()
    assert slow.resets == asked[0] + 1
    back = run(monitor, sound[:, 19_200:])
    both, gain = np.concatenate([out, back], axis=1), 2.0
    assert np.abs(np.diff(both)).max() < gain * np.abs(np.diff(sound)).max() + 0.01
    np.testing.assert_allclose(back[:, 2_400:], gain * sound[:, 21_600:], atol=1e-6)
    assert not monitor.status.bypassed
    assert monitor.status.trip_count == 1


def test_a_bypassed_chain_is_not_tried_again_before_it_has_been_reset(rng):
    slow = SlowToReset(2.0)
    monitor = StabilityMonitor(slow, ask_for_reset=lambda: None)
    monitor.prepare(RATE, 64, 1)
    for _ in range(3):
        slow.breaks_at = 0
        run(monitor, playing(rng, RATE, 0.2))
        monitor.serve() if not monitor.status.bypassed else None
    assert monitor.status.bypassed
    sound = playing(rng, RATE, 8.0)
    resets = slow.resets
    np.testing.assert_array_equal(run(monitor, sound), sound)
    assert (monitor.status.bypassed, slow.resets) == (True, resets)
    monitor.serve()
    out = run(monitor, sound)
    assert not monitor.status.bypassed
    np.testing.assert_allclose(out[:, -RATE:], 2.0 * sound[:, -RATE:], atol=1e-6)


def test_a_reset_from_outside_is_one_that_was_asked_for(rng):
    slow = SlowToReset(2.0)
    monitor = StabilityMonitor(slow, ask_for_reset=lambda: None)
    monitor.prepare(RATE, 64, 1)
    slow.breaks_at = 640
    run(monitor, playing(rng, RATE, 0.05))
    monitor.reset()
    resets, sound = slow.resets, playing(rng, RATE, 0.1)
    monitor.serve()
    assert slow.resets == resets
    np.testing.assert_allclose(run(monitor, sound), 2 * sound, atol=1e-6)


def test_a_render_has_the_time_to_wait(rng):
    slow = SlowToReset(2.0)
    monitor = StabilityMonitor(slow)
    monitor.prepare(RATE, 64, 1)
    slow.breaks_at = 640
    resets = slow.resets
    run(monitor, playing(rng, RATE, 0.05))
    assert monitor.status.trip_count == 1
    assert slow.resets == resets + 1


@pytest.mark.parametrize(("speed", "past_ms"), [(4, 100), (3, 68), (2, 34), (1, 0), (0, 0)])
def test_a_machine_with_less_time_to_spare_hears_less_of_the_past(rng, speed, past_ms):
    monitor = StabilityMonitor(Breaks(9_600, np.nan))
    monitor.prepare(RATE, 64, 1)
    monitor.rewarm_speed = speed
    with np.errstate(all="ignore"):
        run(monitor, playing(rng, RATE, 0.4))
    assert monitor.status.trips[0].numbers["rewarm_ms"] == pytest.approx(past_ms, abs=0.1)


def test_the_speed_is_what_the_machine_has_to_spare():
    def cost(share):
        return Capacity(RATE, 48, share * 1e-3, 0.0, 0.0)

    assert [cost(share).speed_to_spare(cost(share)) for share in (0.1, 0.2, 0.3, 0.6, 2.0)] == [7, 3, 2, 1, 1]
    assert cost(0.5).speed_to_spare(cost(0.1)) == 3  # another chain runs beside it
