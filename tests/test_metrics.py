"""Every figure is checked against a case whose answer is known."""

import json
import math

import numpy as np
import pytest

from fxclone.errors import FxcloneError
from fxclone.metrics import (
    a_weighted_esr,
    a_weighting,
    alignment,
    compare,
    error_db_by_band,
    esr,
    esr_db,
    esr_db_by_level,
    lag_samples,
    mr_stft,
    worst_window,
    worst_window_esr_db,
)

RATE = 48_000


def noise(rng, channels=1, samples=RATE, level=0.1):
    return (level * rng.standard_normal((channels, samples))).astype(np.float32)


def sine(hz, seconds=1.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def fractional_delay(sound, samples):
    bins = np.arange(sound.shape[1] // 2 + 1)
    spectrum = np.fft.rfft(sound) * np.exp(-2j * np.pi * bins * samples / sound.shape[1])
    return np.fft.irfft(spectrum, sound.shape[1]).astype(np.float32)


def test_esr_of_a_known_error(rng):
    wet = noise(rng, channels=2)
    assert esr(wet, wet) == 0.0
    assert esr_db(wet, wet) == -200.0
    assert esr(wet, np.zeros_like(wet)) == pytest.approx(1.0)
    assert esr(wet, -wet) == pytest.approx(4.0)
    assert esr_db(wet, wet * np.float32(0.9)) == pytest.approx(-20.0, abs=1e-3)


def test_esr_takes_channels_together_and_long_sounds_in_pieces(rng):
    wet = np.stack([np.full(2_500_000, 1.0), np.full(2_500_000, 0.1)]).astype(np.float32)
    estimate = wet.copy()
    estimate[1] = 0.0
    assert esr(wet, estimate) == pytest.approx(0.01 / 1.01, rel=1e-5)


def test_esr_of_silence_and_of_nan():
    silence = np.zeros((1, 100), np.float32)
    hiss = np.full((1, 100), 1e-3, np.float32)
    assert esr(silence, silence) == 0.0
    assert esr(silence, hiss) == math.inf
    assert esr(hiss, np.full_like(hiss, np.nan)) == math.inf


def test_different_shapes_are_refused():
    with pytest.raises(FxcloneError, match=r"\(1, 10\).*\(1, 11\)"):
        esr(np.zeros((1, 10), np.float32), np.zeros((1, 11), np.float32))


@pytest.mark.parametrize("delay", [0.0, 37.0, -12.0, 0.25, 12.3, -800.5])
@pytest.mark.parametrize("inverted", [False, True])
def test_lag_and_polarity_to_a_fraction_of_a_sample(rng, delay, inverted):
    wet = np.cumsum(noise(rng, samples=200_000), axis=1)
    wet = (wet - np.convolve(wet[0], np.full(500, 1 / 500), "same")).astype(np.float32)
    wet[:, :2000] = wet[:, -2000:] = 0.0
    estimate = 0.5 * fractional_delay(wet, delay) * (-1 if inverted else 1)
    found = alignment(wet, estimate)
    assert found.lag_samples == pytest.approx(delay, abs=0.01)
    assert lag_samples(wet, estimate) == found.lag_samples
    assert found.polarity == (-1 if inverted else 1)
    assert found.gain_db == pytest.approx(-6.02, abs=0.02)
    assert found.confidence > 0.99


def test_lag_survives_distortion_and_noise(rng):
    wet = noise(rng, samples=100_000)
    estimate = np.tanh(5 * np.roll(wet, 3, axis=1)) + noise(rng, samples=100_000, level=0.05)
    assert alignment(wet, estimate.astype(np.float32)).lag_samples == pytest.approx(3.0, abs=0.05)


def test_lag_of_silence_is_undefined():
    silence = np.zeros((1, 1000), np.float32)
    found = alignment(silence, silence)
    assert math.isnan(found.lag_samples)
    assert found.polarity == 0


def test_a_weighting_matches_the_standards_table():
    table = [
        -39.4,
        -26.2,
        -16.1,
        -8.6,
        -3.2,
        0.0,
        1.2,
        1.0,
        -1.1,
        -6.6,
    ]  # at the exact 1/1 octaves, 31.6 Hz to 15.8 kHz
    got = 20 * np.log10(a_weighting(1000.0 * 10.0 ** (0.3 * np.arange(-5, 5))))
    np.testing.assert_allclose(got, table, atol=0.06)


def test_a_weighted_esr_hears_treble_and_forgives_bass():
    wet = sine(1000)
    rumble, hiss = sine(31.5, level=0.05), sine(2000, level=0.05)
    plain = 10 * math.log10(0.01)
    assert 10 * math.log10(a_weighted_esr(wet, wet + rumble, RATE)) == pytest.approx(plain - 39.4, abs=0.2)
    assert 10 * math.log10(a_weighted_esr(wet, wet + hiss, RATE)) == pytest.approx(plain + 1.2, abs=0.2)


def test_error_lies_in_its_octave_and_bands_add_up_to_the_esr(rng):
    wet = sine(250)
    estimate = wet + sine(4000, level=0.05)
    bands = error_db_by_band(wet, estimate, RATE)
    assert list(bands) == ["31.5", "63", "125", "250", "500", "1k", "2k", "4k", "8k", "16k"]
    assert bands["4k"] == pytest.approx(-20.0, abs=0.1)
    assert max(value for band, value in bands.items() if band != "4k") < -55
    estimate = wet + noise(rng)
    total = sum(10 ** (value / 10) for value in error_db_by_band(wet, estimate, RATE).values())
    assert total == pytest.approx(esr(wet, estimate), rel=1e-3)
    assert list(error_db_by_band(wet, estimate, 8000))[-1] == "4k"


def test_mr_stft_equals_the_published_definition(rng):
    """A direct, slow computation of spectral convergence and log-magnitude L1 as auraloss defines them."""
    wet, estimate = noise(rng, samples=6000), noise(rng, samples=6000)
    want = 0.0
    for size, hop, length in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = np.zeros(size)
        left = (size - length) // 2
        window[left : left + length] = np.hanning(length + 1)[:-1]
        mags = []
        for sound in (wet[0], estimate[0]):
            padded = np.pad(sound.astype(np.float64), size // 2, mode="reflect")
            frames = [padded[i : i + size] * window for i in range(0, padded.size - size + 1, hop)]
            mags.append(np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, 1e-8)))
        y, e = mags
        want += np.linalg.norm(y - e) / np.linalg.norm(y) + np.mean(np.abs(np.log(y) - np.log(e)))
    assert mr_stft(wet, estimate, RATE) == pytest.approx(want / 3, rel=1e-4)
    assert mr_stft(wet, wet, RATE) == 0.0
    assert mr_stft(wet, -wet, RATE) == pytest.approx(0.0, abs=1e-6)  # why polarity is reported beside it


def test_worst_window_is_found_and_quiet_ones_do_not_count(rng):
    wet = noise(rng, samples=2 * RATE)
    wet[:, : RATE // 2] *= 1e-4
    estimate = wet * np.float32(0.999)
    estimate[:, : RATE // 2] = 0.0  # wrong, but 80 dB below the rest
    at = round(1.2 * RATE)
    estimate[:, at : at + 4800] *= -1
    worst, start = worst_window(wet, estimate, RATE)
    assert start == at
    assert worst == pytest.approx(6.0, abs=0.1)
    assert worst_window_esr_db(wet, estimate, RATE) == worst


def test_esr_by_level_sorts_by_the_input(rng):
    dry = np.concatenate([level * np.ones((1, 4800), np.float32) for level in (0.05, 0.5, 1.0, 2.0, 1e-5)], axis=1)
    wet = dry.copy()
    estimate = dry.copy()
    estimate[:, :4800] *= np.float32(0.9)
    by_level = esr_db_by_level(dry, wet, estimate, RATE)
    assert set(by_level) == {"-30..-20", "-10..0", "above 0"}
    assert by_level["-30..-20"] == pytest.approx(-20.0, abs=0.01)
    assert by_level["-10..0"] == -200.0


def test_comparison_is_json_safe_whatever_happens(rng):
    wet = noise(rng)
    for estimate in (wet, np.zeros_like(wet), np.full_like(wet, np.nan)):
        for reference in (wet, np.zeros_like(wet)):
            result = compare(reference, estimate, RATE, wet).as_dict()
            assert json.loads(json.dumps(result, allow_nan=False))["samples"] == RATE
    good = compare(wet, wet * np.float32(1.01), RATE, wet).as_dict()
    assert good["esr_db"] == pytest.approx(-40.0, abs=0.01)
    assert good["level_difference_db"] == pytest.approx(0.086, abs=0.01)
    assert good["esr_db_by_level"]
    offset = compare(wet, wet + np.float32(0.01), RATE)
    assert offset.dc == pytest.approx(0.01, rel=1e-3)
    assert offset.esr_db_by_level == {}


def test_one_sample_can_be_compared():
    one = np.ones((1, 1), np.float32)
    assert compare(one, one, 8000, one).esr == 0.0
