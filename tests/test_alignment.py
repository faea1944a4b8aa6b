"""The lag, polarity, level and drift of a pair are found, with an honest confidence."""

import json

import numpy as np
import pytest
from scipy import signal

from fxclone.alignment import align_pair, apply_alignment
from fxclone.alignment_phase import SIZE, Response, pure_delay
from fxclone.files import resample
from fxclone.signals import training_sound

RATE = 44_100


@pytest.fixture(scope="module")
def dry():
    return training_sound(6.0, RATE, seed=11)


def late(sound, lag):
    """``sound`` later by any number of samples, exactly: a phase ramp on the whole of it between wide zeros."""
    room = 1 << 13
    padded = np.pad(sound.astype(np.float64), ((0, 0), (room, room)))
    size = padded.shape[1]
    ramp = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * lag)
    moved = np.fft.irfft(np.fft.rfft(padded) * ramp, size)
    return moved[:, room : room + sound.shape[1]].astype(np.float32)


@pytest.mark.parametrize("lag", [0.0, -1.0, 163.25, 4000.6, -37.41])
def test_a_delay_is_found_to_a_fraction_of_a_sample(dry, lag):
    found = align_pair(dry, late(dry, lag), RATE)
    assert found.lag_samples == pytest.approx(lag, abs=0.01)
    assert found.confident
    assert found.polarity == 1
    assert found.drift_ppm == 0.0
    assert found.wander_samples < 0.01


@pytest.mark.parametrize("gain_db", [-40.0, 20.0])
@pytest.mark.parametrize("polarity", [1, -1])
def test_level_and_polarity_are_told_and_do_not_move_the_lag(dry, gain_db, polarity):
    found = align_pair(dry, polarity * 10 ** (gain_db / 20) * late(dry, 61.3), RATE)
    assert found.lag_samples == pytest.approx(61.3, abs=0.01)
    assert found.polarity == polarity
    assert found.polarity_confidence > 0.95
    assert found.gain_db == pytest.approx(gain_db, abs=0.1)


def test_noise_costs_little(dry, rng):
    wet = late(dry, 250.5)
    wet = wet + (0.1 * wet.std() * rng.standard_normal(wet.shape)).astype(np.float32)
    found = align_pair(dry, wet, RATE)
    assert found.lag_samples == pytest.approx(250.5, abs=0.05)
    assert found.confident


@pytest.mark.parametrize(
    "effect",
    [
        pytest.param(lambda x: np.tanh(5 * x), id="overdrive"),
        pytest.param(lambda x: np.tanh(100 * x), id="fuzz"),
        pytest.param(lambda x: np.clip(30 * x, -1, 1), id="hard clip"),
        pytest.param(lambda x: np.maximum(np.tanh(20 * x), -0.2), id="asymmetric"),
    ],
)
def test_distortion_does_not_move_the_lag(dry, effect):
    found = align_pair(dry, -late(effect(dry), 480.25), RATE)
    assert found.lag_samples == pytest.approx(480.25, abs=0.05)
    assert found.confident
    assert found.polarity == -1


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("cutoff_hz", [1000, 8000])
def test_a_low_pass_is_not_latency(dry, order, cutoff_hz):
    filtered = signal.sosfilt(signal.butter(order, cutoff_hz, fs=RATE, output="sos"), dry)
    found = align_pair(dry, late(filtered, 33.0), RATE)
    assert found.lag_samples == pytest.approx(33.0, abs=0.1)
    assert found.confident or order > 2


def test_a_low_pass_under_noise_is_not_claimed_to_be_sure(dry, rng):
    filtered = signal.sosfilt(signal.butter(4, 1000, fs=RATE, output="sos"), dry)
    filtered += 0.1 * filtered.std() * rng.standard_normal(filtered.shape)
    found = align_pair(dry, filtered.astype(np.float32), RATE)
    assert abs(found.lag_samples) < 25.0
    assert not found.confident


def test_reverberation_after_the_direct_sound_is_not_latency(dry, rng):
    tail = rng.standard_normal(RATE // 2) * 10 ** (-3 * np.arange(RATE // 2) / (RATE // 2))
    response = np.concatenate([[1.0], np.zeros(600), 0.008 * tail])
    found = align_pair(dry, late(signal.oaconvolve(dry, response[None])[:, : dry.shape[1]], 90.5), RATE)
    assert found.lag_samples == pytest.approx(90.5, abs=0.1)


@pytest.mark.parametrize("ppm", [150.0, -60.0])
def test_drift_is_told_from_a_late_start(dry, ppm):
    lag = 700.4
    upsampled = 8 * np.fft.irfft(np.fft.rfft(dry[0].astype(np.float64)), 8 * dry.shape[1])
    places = 8 * (np.arange(dry.shape[1]) - lag) / (1 + ppm * 1e-6)
    wet = np.interp(places, np.arange(len(upsampled)), upsampled, left=0.0).astype(np.float32)[None]
    found = align_pair(dry, wet, RATE)
    assert found.drift_ppm == pytest.approx(ppm, abs=1.0)
    assert found.drift_confidence > 0.5
    assert found.lag_samples == pytest.approx(lag, abs=0.1)
    points = [point for point in found.track if point.confidence > 0.9]
    assert len(points) > 10
    for point in points:
        assert point.lag_samples == pytest.approx(lag + ppm * 1e-6 * point.time_s * RATE, abs=0.2)
    aligned = apply_alignment(dry, wet, RATE, found)
    again = align_pair(aligned.dry, aligned.wet, RATE)
    assert abs(again.lag_samples) < 0.1
    assert again.drift_ppm == pytest.approx(0.0, abs=1.0)


def test_a_lag_that_wobbles_is_told_as_wander(dry):
    n = np.arange(dry.shape[1])
    wobble = 50.0 + 3.0 * np.sin(2 * np.pi * 0.6 * n / RATE)
    wet = np.interp(n - wobble, n, dry[0]).astype(np.float32)[None]
    found = align_pair(dry, wet, RATE)
    assert found.lag_samples == pytest.approx(50.0, abs=4.0)
    assert found.wander_samples > 1.0
    assert not found.confident


def test_a_steady_tone_fits_at_many_lags_and_so_is_not_sure():
    tone = (0.5 * np.sin(2 * np.pi * 220.0 / RATE * np.arange(4 * RATE)))[None].astype(np.float32)
    assert not align_pair(tone, late(tone, 300.0), RATE).confident


def test_another_sound_is_not_sure(dry):
    other = training_sound(6.0, RATE, seed=12)
    found = align_pair(dry, other, RATE)
    assert not found.confident
    assert found.drift_ppm == 0.0


@pytest.mark.parametrize("silent", ["dry", "wet"])
def test_silence_has_no_lag(dry, silent):
    zeros = np.zeros_like(dry)
    found = align_pair(zeros, dry, RATE) if silent == "dry" else align_pair(dry, zeros, RATE)
    assert np.isnan(found.lag_samples)
    assert (found.confidence, found.polarity, found.track) == (0.0, 0, ())
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["lag_samples"] is None


@pytest.mark.parametrize("samples", [1, 50, 3000])
def test_a_snippet_is_no_crash(dry, samples):
    start = int(np.argmax(np.abs(dry[0]))) - samples // 2
    found = align_pair(dry[:, start : start + samples], dry[:, start : start + samples], RATE)
    assert np.isnan(found.lag_samples) or abs(found.lag_samples) < samples


def test_channels_and_lengths_may_differ(dry):
    stereo = np.stack([dry[0], -dry[0]])  # cancels in the mix
    wet = np.concatenate([late(dry, 12.0), np.zeros((1, 20_000), np.float32)], axis=1)
    found = align_pair(stereo, wet, RATE)
    assert found.lag_samples == pytest.approx(12.0, abs=0.01)
    assert found.polarity == 1
    assert align_pair(dry, wet[:, : 4 * RATE], RATE).lag_samples == pytest.approx(12.0, abs=0.01)


def test_how_far_to_look_can_be_said(dry):
    wet = np.pad(dry, ((0, 0), (2 * RATE, 0)))
    assert align_pair(dry, wet, RATE, max_lag_s=3.0).lag_samples == 2 * RATE
    assert not align_pair(dry, wet, RATE, max_lag_s=0.5).confident


def test_everything_goes_into_json(dry):
    found = json.loads(json.dumps(align_pair(dry, dry, RATE).as_dict(), allow_nan=False))
    assert found["lag_samples"] == 0.0
    assert found["confident"] is True
    assert set(found["track"][0]) == {"time_s", "lag_samples", "confidence"}


@pytest.mark.parametrize("rates", [(32_000, 44_100), (16_000, 48_000), (44_100, 48_000)])
def test_sound_that_does_not_fill_its_rate_is_no_filter(rates):
    made = training_sound(6.0, rates[0], seed=2)
    dry, wet = resample(made, *rates), resample(late(made, 37.3), *rates)
    found = align_pair(dry, wet, rates[1])
    assert found.lag_samples == pytest.approx(37.3 * rates[1] / rates[0], abs=0.01)
    assert found.confident


def test_a_distortion_at_a_lower_rate_is_exact_but_for_whole_samples():
    made = training_sound(6.0, 32_000, seed=2)
    dry, wet = resample(made, 32_000, 44_100), resample(late(-0.5 * np.tanh(2 * made), 37.3), 32_000, 44_100)
    found = align_pair(dry, wet, 44_100)
    truth = 37.3 * 44_100 / 32_000
    assert found.lag_samples == pytest.approx(truth, abs=0.1)
    removed = apply_alignment(dry, wet, 44_100, found).removed_samples
    assert truth - 2.1 < removed < truth + 0.1


@pytest.mark.parametrize("seen", [0.4, 0.9, 1.0])
@pytest.mark.parametrize("reading", [None, *range(12)])
def test_each_reading_of_a_response_gives_a_delay_however_much_of_it_is_seen(seen, reading):
    bins = SIZE // 2 + 1
    w = np.pi * np.arange(bins) / (bins - 1)
    error = np.where(np.arange(bins) < seen * bins, 1e-3, 10.0)
    ones = np.ones(bins)
    response = Response(np.exp(-1j * w * 0.25), error, ones, 1e-6 * ones, 1.0, bins, bins)
    found = pure_delay(response, 3.0, reading)
    assert np.isfinite(found.uncertainty_samples)
    assert found.polarity == 1
    if reading in (None, 0):
        assert found.lag_samples == pytest.approx(3.25, abs=0.01)
