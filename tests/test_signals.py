"""Training sound: reproducible, its own at each seed, in every kind and at every level."""

import itertools
from math import gcd

import numpy as np
import pytest
import soxr

from fxclone.errors import UsageError
from fxclone.signals import KINDS, LADDER_DBFS, LADDER_STEP, phrase, training_sound

RATE = 48_000


def rms_levels_db(sound, sample_rate):
    n = sample_rate // 20
    frames = sound[: sound.size // n * n].reshape(-1, n)
    return 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-14)


@pytest.fixture(scope="module")
def minute():
    return training_sound(60, RATE, seed=1)[0]


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_arguments_give_the_same_samples(rate, channels):
    first, again = (training_sound(3.3337, rate, seed=5, channels=channels) for _ in range(2))
    assert first.shape == (channels, round(3.3337 * rate))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all()
    assert 0.9 < np.abs(first).max() <= 1.0


def test_seeds_share_no_take():
    one, other = (training_sound(10, RATE, seed=seed)[0] for seed in (1, 2))
    size = 2 * one.size
    spectra = [np.fft.rfft(sound, size) for sound in (one, other)]
    cross = np.fft.irfft(spectra[0] * np.conj(spectra[1]))  # at any lag
    energy = np.sqrt(np.sum(one**2.0) * np.sum(other**2.0))
    assert np.abs(cross).max() / energy < 0.25


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("silence",)])
def test_no_phrase_is_the_same_under_another_seed(kind):
    one, other = (phrase(kind, 1.0, RATE, np.random.default_rng(seed))[0] for seed in (1, 2))
    assert one.shape == other.shape == (RATE,)
    similarity = abs(np.dot(one, other)) / np.sqrt(np.dot(one, one) * np.dot(other, other))
    assert similarity < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("seconds", [0.0002, 0.011, 0.7])
def test_every_kind_at_any_rate_and_length(kind, rate, seconds, rng):
    sound = phrase(kind, seconds, rate, rng)
    assert sound.shape == (1, round(seconds * rate))
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "silence"])
def test_a_phrase_peaks_at_full_scale_and_has_no_offset_to_speak_of(kind):
    for seed in range(6):
        sound = phrase(kind, 2.0, RATE, np.random.default_rng(seed))
        assert np.abs(sound).max() == pytest.approx(1.0, abs=1e-6)
        assert abs(sound.mean()) < (0.3 if kind in ("clicks", "tones") else 0.03)  # steps and 1 Hz sines have one


def test_silence_is_silent(rng):
    levels = [np.abs(phrase("silence", 0.5, RATE, rng)).max() for _ in range(10)]
    assert max(levels) < 1e-4
    assert min(levels) == 0.0
    assert max(levels) > 0.0


@pytest.mark.parametrize("seed", range(4))
def test_ten_seconds_reach_from_near_silence_to_full_scale(seed):
    sound = training_sound(10, RATE, seed=seed)[0]
    assert np.abs(sound).max() == 1.0
    levels = rms_levels_db(sound, RATE)
    for low in range(-60, -10, 10):
        assert np.sum((levels >= low) & (levels < low + 10)) >= 3, f"{low} dB"
    assert np.sum(levels > -10) >= 5


def test_a_minute_dwells_in_every_level_band_and_leans_to_the_loud_end(minute):
    levels = rms_levels_db(minute, RATE)
    counts = np.histogram(levels, bins=[-60, -50, -40, -30, -20, -10, 0.1])[0]
    assert len(levels) == 1200
    assert counts.min() >= 40
    assert counts[3:].sum() > counts[:3].sum()


def test_each_kind_alone_meets_the_whole_ladder():
    for kind in ("plucked", "noise", "drums"):
        levels = rms_levels_db(training_sound(30, 16_000, seed=3, kinds=[kind])[0], 16_000)
        assert np.percentile(levels, 97) > -20, kind
        assert np.percentile(levels, 20) < -40, kind


@pytest.mark.parametrize("seed", range(4))
def test_the_wave_between_the_samples_goes_beyond_full_scale(seed):
    sound = training_sound(30, RATE, seed=seed)[0]
    between = soxr.resample(sound, RATE, 4 * RATE)
    assert between.size == 4 * sound.size
    assert np.sum(np.abs(between) > 1.06) > 40


def test_the_ladder_reaches_every_rung_from_every_kind():
    assert gcd(LADDER_STEP, len(LADDER_DBFS)) == 1
    assert min(low for low, _ in LADDER_DBFS) == -60
    assert (0.0, 0.0) in LADDER_DBFS


def test_the_spectrum_is_filled_from_20_hz_to_20_khz_and_falls_like_playing(minute):
    power = np.abs(np.fft.rfft(minute)) ** 2
    f = np.fft.rfftfreq(minute.size, 1 / RATE)
    edges = 20 * 2 ** np.arange(0, 10.01)
    bands = np.array([power[(f >= a) & (f < b)].sum() for a, b in itertools.pairwise(edges)])
    bands_db = 10 * np.log10(bands / bands.sum())
    assert len(bands_db) == 10
    assert bands_db.min() > -25
    assert bands_db[3:6].mean() > bands_db[-1]


def test_strings_fall_off_above_the_pickup_and_ring_at_their_pitch():
    sound = np.concatenate([phrase("chords", 2, RATE, np.random.default_rng(s))[0] for s in range(8)])
    power = np.abs(np.fft.rfft(sound)) ** 2
    f = np.fft.rfftfreq(sound.size, 1 / RATE)
    assert power[(f > 8000)].sum() < 0.02 * power.sum()
    assert power[(f < 60)].sum() < 0.02 * power.sum()


@pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
@pytest.mark.parametrize("f0_hz", [55.0, 82.41, 441.3, 930.0])
def test_a_string_is_in_tune(rate, f0_hz, rng):
    from fxclone.signals.strings import guitar, string

    sound = string(f0_hz, rate, rate, guitar(rng), rng, t60_s=3.0)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 8 * sound.size))
    f = np.arange(spectrum.size) * rate / (8 * sound.size)
    near = (f > 0.9 * f0_hz) & (f < 1.1 * f0_hz)
    cents = 1200 * np.log2(f[near][np.argmax(spectrum[near])] / f0_hz)
    assert abs(cents) < 12


def test_stereo_is_sometimes_equal_and_sometimes_not():
    left, right = training_sound(60, 16_000, seed=2, channels=2)
    frames = [np.stack([c[: c.size // 800 * 800].reshape(-1, 800) for c in (left, right)])][0]
    equal = (frames[0] == frames[1]).all(axis=1)
    assert len(equal) == 1200
    assert 0.1 < equal.mean() < 0.9


def test_only_the_chosen_kinds_are_used():
    sound = training_sound(5, RATE, seed=1, kinds=["silence"])
    assert np.abs(sound).max() < 1e-4
    steady = training_sound(5, RATE, seed=1, kinds=["noise", "drums"])
    assert np.abs(steady).max() == 1.0


@pytest.mark.parametrize("samples", [1, 7, 480])
def test_the_shortest_sounds_have_their_length(samples):
    assert training_sound(samples / RATE, RATE, seed=0).shape == (1, samples)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"seconds": 0}, "length above 0"),
        ({"seconds": float("nan")}, "length above 0"),
        ({"sample_rate": 4000}, "sample rate 4000"),
        ({"seed": -1}, "seed -1"),
        ({"channels": 0}, "0 channels"),
        ({"kinds": ["kazoo"]}, "kazoo.*plucked"),
        ({"kinds": []}, "no kind"),
    ],
)
def test_wrong_use_is_told(kwargs, said):
    with pytest.raises(UsageError, match=said):
        training_sound(**{"seconds": 1, "sample_rate": RATE, "seed": 0} | kwargs)
