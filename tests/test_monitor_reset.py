"""What is slow to reset, such as a plugin, is reset beside the sound; what is quick enough hears the past again."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from faults import Breaks, Gain, playing, run

from fxclone.errors import FxcloneError
from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.capacity import Capacity

RATE = 48_000


class SlowToReset(Gain):
    """Resets in its own time, and says in which thread; while that lasts nobody may play it."""

    slow_reset = True

    def __init__(self):
        super().__init__(2.0)
        self.go_on, self.threads, self.resetting, self.broken_at = threading.Event(), [], False, None
        self.fails = False

    def reset(self):
        super().reset()
        self.threads.append(threading.current_thread().name)
        if len(self.threads) > 1 and self.threads[-1] != "MainThread":
            self.resetting = True
            self.go_on.wait(10.0)
            if self.fails:
                raise FxcloneError("the plugin does not start again")
            self.resetting = False

    def run(self, block):
        assert not self.resetting
        out = super().run(block)
        if self.broken_at is not None and self.broken_at <= self.total:
            out[:, -1], self.broken_at = np.nan, None
        return out


def until(condition):
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_is_slow_to_reset_is_reset_beside_the_sound(rng):
    slow = SlowToReset()
    monitor = StabilityMonitor(slow, live=True)
    monitor.prepare(RATE, 64, 1)
    sound = playing(rng, RATE, 1.0)
    slow.broken_at = 9_600
    out = run(monitor, sound[:, :19_200])
    assert [trip.action for trip in monitor.status.trips] == ["soft reset"]
    until(lambda: slow.resetting)
    assert slow.threads[-1] == "reset"
    # dry, for as long as it takes, and without a step
    np.testing.assert_array_equal(out[:, 12_000:], sound[:, 12_000:19_200])
    slow.go_on.set()
    until(lambda: not slow.resetting)
    time.sleep(0.01)
    back = run(monitor, sound[:, 19_200:])
    assert np.abs(np.diff(np.concatenate([out, back], axis=1))).max() < 2.2 * np.abs(np.diff(sound)).max() + 0.01
    np.testing.assert_allclose(back[:, 4_800:], 2 * sound[:, 24_000:], atol=1e-6)
    assert not monitor.status.bypassed
    assert monitor.status.trip_count == 1


def test_a_reset_asked_for_from_outside_waits_until_it_is_done(rng):
    slow = SlowToReset()
    monitor = StabilityMonitor(slow, live=True)
    monitor.prepare(RATE, 64, 1)
    slow.broken_at = 640
    run(monitor, playing(rng, RATE, 0.05))
    slow.go_on.set()
    monitor.reset()
    sound = playing(rng, RATE, 0.1)
    np.testing.assert_allclose(run(monitor, sound), 2 * sound, atol=1e-6)
    assert set(slow.threads[1:]) <= {"reset", "MainThread"}


def test_a_reset_that_fails_is_told(rng):
    slow = SlowToReset()
    monitor = StabilityMonitor(slow, live=True)
    monitor.prepare(RATE, 64, 1)
    slow.broken_at, slow.fails = 640, True
    slow.go_on.set()
    run(monitor, playing(rng, RATE, 0.014))
    time.sleep(0.05)
    with pytest.raises(FxcloneError, match="does not start again"):
        run(monitor, playing(rng, RATE, 0.05))


def test_a_render_has_the_time_to_wait(rng):
    slow = SlowToReset()
    monitor = StabilityMonitor(slow)
    monitor.prepare(RATE, 64, 1)
    slow.broken_at = 640
    run(monitor, playing(rng, RATE, 0.05))
    assert monitor.status.trip_count == 1
    assert set(slow.threads) == {"MainThread"}


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
