"""The stability monitor: what it catches, what it does about it, and that it keeps quiet otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from faults import Breaks, Drive, Feedback, Gain, Offset, Raises, Rings, Sound, playing, run

from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.ceiling import SoftCeiling

RATE = 48_000


def watched(inner, levels=None, channels=1, max_block=256):
    monitor = StabilityMonitor(inner, levels)
    monitor.prepare(RATE, max_block, channels)
    return monitor


def kinds(monitor):
    return [trip.what for trip in monitor.status.trips]


@pytest.mark.parametrize("sizes", [(1,), (64,), (7, 256, 33)])
def test_while_all_is_well_the_wet_sound_passes_untouched(rng, sizes):
    sound = playing(rng, RATE, 0.3)
    monitor = watched(Gain(0.5))
    np.testing.assert_array_equal(run(monitor, sound, sizes), sound * np.float32(0.5))
    assert not monitor.status
    assert str(monitor.status) == "no trips"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 50.0])
@pytest.mark.parametrize("size", [1, 64, 200])
def test_one_bad_sample_is_a_soft_reset_without_a_bang(rng, value, size):
    sound = playing(rng, RATE, 0.5, level=0.5)
    monitor = watched(Breaks(RATE // 4, value, every=10**9))
    with np.errstate(all="ignore"):
        out = run(monitor, sound, (size,))
    assert out.shape == sound.shape
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= np.abs(sound).max()
    assert kinds(monitor) == ["runaway level" if value == 50.0 else "not finite"]
    (trip,) = monitor.status.trips
    assert trip.action == "soft reset"
    assert trip.numbers["rewarm_ms"] == 100
    assert trip.time_s == pytest.approx(0.25, abs=size / RATE)
    # the largest step is hardly larger than the music's own
    assert np.abs(np.diff(out)).max() < np.abs(np.diff(sound)).max() + 0.01
    # sound is back, exactly, within 50 ms
    back = RATE // 4 + RATE // 20
    np.testing.assert_array_equal(out[:, back:], sound[:, back:])
    assert monitor.inner.resets == 2


def test_a_lasting_fault_ends_in_the_dry_sound_and_says_so(rng):
    sound = playing(rng, RATE, 2.0)
    monitor = watched(Breaks(RATE // 2))
    out = run(monitor, sound)
    assert np.isfinite(out).all()
    assert [trip.action.split(",")[0] for trip in monitor.status.trips] == [
        "soft reset",
        "soft reset",
        "bypassed to dry",
    ]
    assert monitor.status.bypassed
    assert "not finite" in str(monitor.status)
    np.testing.assert_array_equal(out[:, RATE:], sound[:, RATE:])


def test_it_comes_back_by_itself_when_the_fault_is_over(rng):
    class Half(Breaks):
        def run(self, block):
            return super().run(block) * np.float32(0.5)

    sound = playing(rng, RATE, 8.0)
    monitor = watched(Half(RATE // 2, stop=RATE // 2 + 500))
    out = run(monitor, sound, (256,))
    assert np.isfinite(out).all()
    assert not monitor.status.bypassed
    assert monitor.status.recoveries == 1
    np.testing.assert_array_equal(out[:, 7 * RATE :], sound[:, 7 * RATE :] * np.float32(0.5))
    assert np.abs(np.diff(out)).max() < np.abs(np.diff(sound)).max() + 0.02


def test_a_fault_that_stays_is_tried_ever_more_rarely(rng):
    monitor = watched(Breaks(0))
    run(monitor, np.zeros((1, 60 * RATE), np.float32), (256,))
    assert monitor.status.trip_count == 3 + 3  # tries after 5, 10 and 20 s more
    assert monitor.status.bypassed


def test_the_dry_sound_in_bypass_lines_up_with_a_late_processor(rng):
    inner = Breaks(0)
    inner.latency_samples = 37
    sound = playing(rng, RATE, 0.5)
    monitor = watched(inner)
    out = run(monitor, sound)
    assert monitor.latency_samples == 37
    start = RATE // 10
    np.testing.assert_array_equal(out[:, start + 37 :], sound[:, start:-37])


def test_feedback_over_one_is_caught_before_it_is_loud(rng):
    sound = playing(rng, RATE, 0.5)
    monitor = watched(Feedback(1.01))
    out = run(monitor, sound)
    assert "runaway level" in kinds(monitor)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 4.0 * 1.0


def test_the_limit_comes_from_what_training_saw(rng):
    sound = playing(rng, RATE, 0.3, level=0.9)
    loud = {"dry_peak": 1.0, "wet_peak": 10.0}
    monitor = watched(Gain(10.0), loud)
    run(monitor, sound)
    assert not monitor.status
    monitor = watched(Gain(10.0), {"dry_peak": 1.0, "wet_peak": 0.9})
    run(monitor, sound)
    assert "runaway level" in kinds(monitor)


def test_playing_louder_than_in_training_is_no_alarm(rng):
    monitor = watched(Gain(2.0), {"dry_peak": 0.1, "wet_peak": 0.2})
    run(monitor, playing(rng, RATE, 1.0, level=1.0))
    assert not monitor.status


@pytest.mark.parametrize("value", [np.nan, np.inf, -1000.0, 1000.0])
def test_an_impossible_input_never_reaches_the_processor_and_is_told_once(rng, value):
    sound = playing(rng, RATE, 0.5)
    sound[:, 5_000:9_000] = value
    monitor = watched(Gain(1.0))
    out = run(monitor, sound)
    assert kinds(monitor) == ["input out of range"]
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 4.0
    np.testing.assert_array_equal(out[:, 9_100:], sound[:, 9_100:])


@pytest.mark.parametrize("size", [16, 64, 256])
def test_dc_that_the_input_does_not_have_is_caught(rng, size):
    sound = playing(rng, RATE, 2.0, level=0.05)
    monitor = watched(Offset(0.3))
    run(monitor, sound, (size,))
    assert "DC" in kinds(monitor)
    assert 0.2 < monitor.status.trips[0].numbers["mean"] < 0.4


def test_dc_in_the_input_is_not_the_processors_fault():
    monitor = watched(Gain(2.0), max_block=256)
    run(monitor, np.full((1, 3 * RATE), 0.4, np.float32), (256,))
    assert not monitor.status


@pytest.mark.parametrize("size", [16, 64, 256])
def test_an_output_that_goes_on_in_silence_is_stopped(rng, size):
    sound = np.concatenate([playing(rng, RATE, 0.5), np.zeros((1, 3 * RATE), np.float32)], axis=1)
    monitor = watched(Rings())
    out = run(monitor, sound, (size,))
    assert kinds(monitor) == ["output goes on in silence"]
    assert np.abs(out[:, -RATE // 2 :]).max() == 0.0
    assert np.abs(np.diff(out)).max() < 0.3


def test_a_tail_that_dies_away_is_left_alone_however_long(rng):
    sound = np.concatenate([playing(rng, RATE, 0.5), np.zeros((1, 6 * RATE), np.float32)], axis=1)
    monitor = watched(Rings(fall=0.1 ** (1 / (3 * RATE))))  # 20 dB in 3 s
    run(monitor, sound, (256,))
    assert not monitor.status


def test_hiss_made_loud_by_a_high_gain_amp_is_no_ringing(rng):
    hiss = (1e-5 * rng.standard_normal((1, 4 * RATE))).astype(np.float32)
    monitor = watched(Drive(gain=1_000.0, bias=0.0))
    out = run(monitor, hiss, (256,))
    assert np.abs(out).max() > 0.01
    assert not monitor.status


@pytest.mark.parametrize("level_db", [-60, -20, 0])
@pytest.mark.parametrize("inner", [Gain(1.0), Gain(4.0), Drive(), Drive(20.0, 0.6)], ids=["1", "4", "drive", "biased"])
def test_no_false_alarm_on_real_playing_at_any_level(shared_data, level_db, inner):
    files = sorted((shared_data / "dry").glob("*.flac"))
    assert len(files) >= 3
    for file in files:
        sound, rate = soundfile.read(file, frames=6 * 44_100, dtype="float32", always_2d=True)
        sound = sound[:, :1].T
        sound = np.ascontiguousarray(sound / np.abs(sound).max() * np.float32(10 ** (level_db / 20)))
        monitor = StabilityMonitor(inner)
        monitor.prepare(rate, 256, 1)
        run(monitor, sound, (256,))
        assert not monitor.status, f"{file.name}: {monitor.status}"


def test_stereo_and_a_change_of_channels(rng):
    class Widen(Sound):
        channels_out = 2

        def run(self, block):
            out = np.repeat(block, 2, axis=0)
            if self.total > RATE // 10:
                out[1, -1] = np.nan
            return out

    monitor = watched(Widen())
    sound = playing(rng, RATE, 0.5)
    out = run(monitor, sound)
    assert out.shape == (2, sound.shape[1])
    assert monitor.channels_out == 2
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[1, RATE // 4 :], sound[0, RATE // 4 :])  # the dry sound, to both


def test_reset_ends_the_bypass_and_the_status_remembers(rng):
    monitor = watched(Breaks(0, stop=RATE // 5))
    run(monitor, np.zeros((1, RATE // 5), np.float32))
    assert monitor.status.bypassed
    monitor.inner.total = RATE
    monitor.reset()
    sound = playing(rng, RATE, 0.1)
    np.testing.assert_array_equal(run(monitor, sound), sound)
    assert not monitor.status.bypassed
    assert monitor.status.trip_count == 3


def test_the_status_stays_small_and_is_json(rng):
    monitor = watched(Gain(1.0))
    block = np.zeros((1, 64), np.float32)
    for n in range(1_000):
        monitor.process(block if n % 2 else block + np.float32(np.nan))
    assert monitor.status.trip_count == 500
    assert len(monitor.status.trips) == 200
    assert json.loads(json.dumps(monitor.status.as_dicts(), allow_nan=False))[0]["what"] == "input out of range"


def test_an_exception_is_not_hidden():
    with pytest.raises(RuntimeError, match="broke"):
        watched(Raises()).process(np.zeros((1, 8), np.float32))


def test_the_ceiling_leaves_quiet_sound_alone_and_lets_nothing_past(rng):
    ceiling = SoftCeiling(2, 1_000, 0.5)
    quiet = rng.uniform(-0.44, 0.44, (2, 1_000)).astype(np.float32)
    kept = quiet.copy()
    ceiling.apply(quiet)
    np.testing.assert_array_equal(quiet, kept)
    loud = np.linspace(-2, 2, 2_000, dtype=np.float32).reshape(2, 1_000)
    ceiling.apply(loud)
    assert np.abs(loud).max() <= 0.5
    assert (np.diff(loud.ravel()) >= 0).all()
    bad = np.array([[np.nan, np.inf, -np.inf, 1e38], [0.0, 0.1, -0.1, -1e38]], np.float32)
    ceiling.apply(bad)
    np.testing.assert_allclose(bad, [[0, 0, 0, 0.5], [0, 0.1, -0.1, -0.5]])


def test_it_says_how_loud_the_input_was_before_it_was_clamped(rng):
    monitor = watched(Gain(0.5))
    assert monitor.dry_peak == 0.0
    for size in (64, 3_000):
        monitor.prepare(RATE, size, 1)
        block = rng.uniform(-0.25, 0.25, (1, size)).astype(np.float32)
        block[0, 7] = -0.75
        monitor.process(block)
        assert monitor.dry_peak == 0.75
        block[0, 9] = 1e6
        monitor.process(block)
        assert monitor.dry_peak == 1e6
        block[0, 11] = np.nan
        monitor.process(block)
        assert np.isnan(monitor.dry_peak)
