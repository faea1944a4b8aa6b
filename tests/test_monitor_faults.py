"""Real faulty clones and impossible inputs: nothing unbearable gets out, sound is back at once, all of it is told."""

from __future__ import annotations

import faulty_clones as faulty
import numpy as np
import pytest
from faults import playing, run

from fxclone.stability import StabilityMonitor
from fxclone_realtime.ceiling import SoftCeiling

RATE = faulty.RATE
BACK = round(0.050 * RATE)


def heard(processor, sound, block=128):
    """What reaches the ears, and the monitor."""
    monitor = StabilityMonitor(processor)
    monitor.prepare(RATE, block, sound.shape[0])
    ceiling = SoftCeiling(monitor.channels_out, block, 1.0)
    with np.errstate(all="ignore"):
        out = run(monitor, sound, (block,))
    for start in range(0, out.shape[1], block):
        ceiling.apply(out[:, start : start + block])
    assert out.shape == sound.shape
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    return out, monitor


def kinds(monitor):
    return {trip.what for trip in monitor.status.trips}


def level_db(sound):
    return 20 * np.log10(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


FAULTS = {
    "feedback over 1": (faulty.over_one, "runaway level", 1.0),
    "limit cycle": (lambda: faulty.limit_cycle(3_000, 0.1), "limit cycle", 3.5),
    "Nyquist": (faulty.nyquist, "oscillation near Nyquist", 1.0),
    "DC drift": (faulty.drift, "DC", 3.0),
    "never forgets": (faulty.unforgetting, "twin state does not converge", 5.0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_clone_is_caught_while_it_is_played(rng, name):
    make, what, within_s = FAULTS[name]
    sound = playing(rng, RATE, 9.0)
    out, monitor = heard(make(), sound)
    first = monitor.status.trips[0]
    assert first.what == what
    assert first.time_s < within_s
    assert first.numbers
    assert first.action == "soft reset"
    assert what in str(monitor.status)
    # there is never a hole: wet or dry, something of the playing is heard all the time
    for start in range(0, out.shape[1] - RATE // 10, RATE // 20):
        here = slice(start, start + RATE // 10)
        if level_db(sound[:, here]) > -40:
            assert level_db(out[:, here]) > level_db(sound[:, here]) - 12


@pytest.mark.parametrize("name", ["feedback over 1", "limit cycle", "Nyquist"])
def test_a_fault_that_lasts_ends_in_the_dry_sound(rng, name):
    make, _, _ = FAULTS[name]
    sound = playing(rng, RATE, 9.0)
    out, monitor = heard(make(), sound)
    bypassed = next(trip for trip in monitor.status.trips if trip.action.startswith("bypassed to dry"))
    dry_from = round((bypassed.time_s + 0.1) * RATE)
    np.testing.assert_array_equal(out[:, dry_from : dry_from + RATE], sound[:, dry_from : dry_from + RATE])


def test_a_clone_that_gives_nan_after_a_minute_of_samples_plays_on(rng):
    minute = 60 * RATE
    clone = faulty.nan_after(minute)
    monitor = StabilityMonitor(clone)
    monitor.prepare(RATE, 512, 1)
    sound = playing(rng, RATE, 2.0)
    with np.errstate(all="ignore"):
        for _ in range(29):
            run(monitor, sound, (512,))
        assert not monitor.status
        out = np.concatenate([run(monitor, sound, (512,)) for _ in range(2)], axis=1)
    (trip,) = monitor.status.trips
    assert (trip.what, trip.action) == ("not finite", "soft reset")
    assert trip.time_s == pytest.approx(60.0, abs=0.02)
    assert np.isfinite(out).all()
    at = minute - 29 * 2 * RATE
    heard_again = np.concatenate([sound, sound], axis=1)
    assert np.abs(np.diff(out)).max() < np.abs(np.diff(heard_again)).max() + 0.01
    np.testing.assert_array_equal(out[:, : at - 512], heard_again[:, : at - 512])
    np.testing.assert_array_equal(out[:, at + BACK + 512 :], heard_again[:, at + BACK + 512 :])


INPUTS = {
    "NaN": (np.nan, "input out of range"),
    "infinity": (-np.inf, "input out of range"),
    "1000": (1_000.0, "input out of range"),
    "-1000": (-1_000.0, "input out of range"),
    "DC": (0.9, None),
    "silence": (0.0, None),
}


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("name", INPUTS)
def test_sound_is_back_at_once_when_a_bad_input_ends(rng, name, block):
    value, told = INPUTS[name]
    sound = playing(rng, RATE, 4.0, level=0.8)
    begins, ends = RATE, 2 * RATE
    bad = sound.copy()
    bad[:, begins:ends] = value
    out, monitor = heard(faulty.sound_one(), bad, block)
    assert [trip.what for trip in monitor.status.trips] == ([told] if told else [])
    if told:
        assert monitor.status.trips[0].time_s == pytest.approx(1.0, abs=block / RATE)
    clean = sound.copy()
    clean[:, begins:ends] = np.clip(np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0), -4.0, 4.0)
    expected = faulty.sound_one().render(clean)
    quiet = np.abs(expected[:, ends + BACK :]) < 0.89  # the ceiling bends what is above
    np.testing.assert_allclose(out[:, ends + BACK :][quiet], expected[:, ends + BACK :][quiet], atol=1e-5)


def test_full_scale_noise_is_no_fault_of_the_clone(rng):
    sound = np.concatenate(
        [playing(rng, RATE, 1.0), rng.uniform(-1, 1, (1, 3 * RATE)), playing(rng, RATE, 1.0)], axis=1
    ).astype(np.float32)
    _, monitor = heard(faulty.sound_one(), sound)
    assert not monitor.status, monitor.status


def test_after_a_reset_the_clone_has_heard_what_was_played_before(rng):
    """A slow clone started afresh would be wrong for as long as it remembers; one that was re-warmed is right."""
    slow = {"small_gain": 0.999, "return_ms": 80.0}

    def make():
        return faulty.recurrent([[0.999]], [0.001], [1.0], activation="Affine", certificate=slow)

    class BreaksOnce:
        def __init__(self, inner, at):
            self.inner, self.at, self.done = inner, at, False
            self.latency_samples = self.tail_samples = 0

        def prepare(self, *shape):
            self.inner.prepare(*shape)
            self.seen = 0

        def reset(self):
            self.inner.reset()

        def process(self, block):
            out = self.inner.process(block)
            self.seen += block.shape[1]
            if self.seen >= self.at and not self.done:
                self.done = True
                out[:, 0] = np.nan
            return out

    sound = playing(rng, RATE, 2.0)
    sound += np.float32(0.2)  # what the slow part holds on to
    right = make().render(sound)
    after = slice(RATE + BACK + 256, RATE + 2 * BACK)
    wrong = {}
    for speed in (4, 1):
        monitor = StabilityMonitor(BreaksOnce(make(), RATE), rewarm_speed=speed)
        monitor.prepare(RATE, 128, 1)
        out = run(monitor, sound, (128,))
        (trip,) = monitor.status.trips
        assert trip.numbers["rewarm_ms"] == (100 if speed == 4 else 0)
        wrong[speed] = np.abs(out[:, after] - right[:, after]).max()
    assert wrong[1] > 0.02
    assert wrong[4] < 0.1 * wrong[1]


def test_re_warming_costs_no_more_than_it_may(rng):
    clone = faulty.nan_after(RATE // 2)
    samples: list[int] = []
    plain = clone.process
    clone.process = lambda block: (samples.append(block.shape[1]), plain(block))[1]
    monitor = StabilityMonitor(clone)
    monitor.prepare(RATE, 64, 1)
    most = 0
    sound = playing(rng, RATE, 0.7)
    with np.errstate(all="ignore"):
        for start in range(0, sound.shape[1] - 63, 64):
            samples.clear()
            monitor.process(sound[:, start : start + 64])
            most = max(most, sum(samples))
            assert all(n <= 64 for n in samples)
    assert monitor.status.trip_count == 1
    assert 64 < most <= 4 * 64
