"""What a room does, in figures: each of them on responses whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.errors import UsageError
from fxclone.metrics_room import (
    echo_density,
    energy_decay_db,
    mean_echo_density,
    stereo_correlation,
    stereo_correlation_by_octave,
    t20_s,
    t30_s,
)

RATE = 48_000


def decaying_noise(rng, t60_s, seconds=2.0, channels=2):
    time_s = np.arange(int(seconds * RATE)) / RATE
    noise = rng.standard_normal((channels, time_s.size))
    return (noise * 10 ** (-3 * time_s / t60_s)).astype(np.float32)


@pytest.mark.parametrize("t60_s", [0.4, 1.1])
def test_decay_times_are_those_of_an_exponential_decay(rng, t60_s):
    response = decaying_noise(rng, t60_s)
    assert t20_s(response, RATE) == pytest.approx(t60_s, rel=0.03)
    assert t30_s(response, RATE) == pytest.approx(t60_s, rel=0.03)


def test_a_pure_exponential_has_exactly_its_decay_time():
    response = (10 ** (-3 * np.arange(2 * RATE) / RATE / 0.5)).astype(np.float32)[None]
    assert t30_s(response, RATE) == pytest.approx(0.5, rel=1e-3)


def test_a_response_that_does_not_decay_far_enough_has_no_decay_time():
    # An abrupt end is a decay too for the backward integral, but not one over three samples.
    assert np.isnan(t30_s(np.eye(1, 4_800, dtype=np.float32), RATE))


def test_the_decay_curve_begins_at_0_db_and_never_rises(rng):
    curve = energy_decay_db(decaying_noise(rng, 0.3))
    assert curve.shape == (2 * RATE,)
    assert curve[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(curve) <= 1e-12).all()


def test_echo_density_is_1_for_noise_and_low_for_single_echoes(rng):
    noise = decaying_noise(rng, 1.0, seconds=1.0)
    assert echo_density(noise, RATE).mean() == pytest.approx(1.0, abs=0.03)
    sparse = np.zeros((1, RATE), np.float32)
    sparse[0, :: RATE // 50] = 1.0
    assert echo_density(sparse, RATE).mean() < 0.1


def test_echo_density_grows_as_echoes_gather(rng):
    few, many = (np.zeros((1, RATE), np.float32) for _ in range(2))
    few[0, rng.integers(0, RATE, 400)] = 1.0
    many[0, rng.integers(0, RATE, 8_000)] = 1.0
    assert mean_echo_density(few, RATE) < 0.7 * mean_echo_density(many, RATE)


def test_what_is_near_silence_before_the_first_echo_has_no_density(rng):
    response = decaying_noise(rng, 0.5)
    late = np.concatenate([1e-9 * rng.standard_normal((2, 4_800)).astype(np.float32), response], axis=1)
    assert echo_density(late, RATE)[:10].max() == 0.0


def test_stereo_correlation_of_mono_of_opposites_and_of_two_rooms(rng):
    one, other = decaying_noise(rng, 0.5)
    assert stereo_correlation(np.stack([one, 0.5 * one])) == pytest.approx(1.0)
    assert stereo_correlation(np.stack([one, -one])) == pytest.approx(-1.0)
    assert abs(stereo_correlation(np.stack([one, other]))) < 0.05
    assert np.isnan(stereo_correlation(np.stack([one, 0 * one])))


def test_stereo_correlation_by_octave_sees_where_the_channels_differ(rng):
    from scipy import signal

    low_pass = signal.butter(6, 700, "lowpass", fs=RATE, output="sos")
    one, other = decaying_noise(rng, 0.5)
    common = signal.sosfiltfilt(low_pass, one)
    own = [channel - signal.sosfiltfilt(low_pass, channel) for channel in (one, other)]
    bands = stereo_correlation_by_octave(np.stack([common + part for part in own]).astype(np.float32), RATE)
    assert list(bands) == ["125", "250", "500", "1000", "2000", "4000", "8000"]
    assert bands["250"] > 0.95
    assert abs(bands["4000"]) < 0.1


@pytest.mark.parametrize(
    ("measure", "response"),
    [
        (lambda r: t30_s(r, RATE), np.zeros((1, 4_800), np.float32)),
        (lambda r: echo_density(r, RATE), np.ones((1, 100), np.float32)),
        (stereo_correlation, np.ones((1, 100), np.float32)),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(measure, response):
    with pytest.raises(UsageError, match="expected") as caught:
        measure(response)
    assert "\n" not in str(caught.value)
