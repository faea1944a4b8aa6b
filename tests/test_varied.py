"""More of the same playing: other pitches and levels, never louder than it may be, and the sound itself first."""

import numpy as np
import pytest

from fxclone.varied import LEVELS_DB, SEMITONES, varied

RATE = 16_000


def pitch_hz(sound):
    """Of a sine, by its spectrum's peak."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.argmax(spectrum) * RATE / len(sound)


@pytest.fixture
def tone():
    return 0.4 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE).astype(np.float32)[None]


def test_it_begins_with_the_sound_itself_and_is_as_long_as_asked(tone):
    for samples in (1, 5_000, RATE, 3 * RATE + 7, 12 * RATE):
        out = varied(tone, RATE, samples)
        assert out.shape == (1, samples)
        assert out.dtype == np.float32
        n = min(samples, RATE)
        np.testing.assert_array_equal(out[:, :n], tone[:, :n])


def test_each_variation_has_its_own_pitch_and_level(tone):
    out = varied(tone, RATE, 12 * RATE)[0]
    start, heard = RATE, []
    for turn in range(len(LEVELS_DB)):
        speed = 2 ** (SEMITONES[turn] / 12)
        samples = round(RATE * RATE / round(RATE * speed))
        part = out[start : start + samples]
        assert pitch_hz(part) == pytest.approx(500 * speed, rel=0.01)
        level_db = 20 * np.log10(np.abs(part[500:-500]).max() / 0.4)
        assert level_db == pytest.approx(min(LEVELS_DB[turn], -20 * np.log10(0.4)), abs=0.1)
        heard.append((round(pitch_hz(part)), round(level_db)))
        start += samples
    assert len(set(heard)) == len(LEVELS_DB)


def test_no_variation_clips(tone):
    loud = varied(tone / 0.4, RATE, 10 * RATE)
    assert np.abs(loud).max() <= 1 + 1e-6
    over = varied(3 * tone / 0.4, RATE, 10 * RATE)  # what is over full scale already is not held to it
    assert 2.9 < np.abs(over).max() <= 3 + 1e-5


def test_stereo_stays_together(tone):
    both = np.concatenate([tone, 0.5 * tone])
    out = varied(both, RATE, 5 * RATE)
    np.testing.assert_allclose(out[1], 0.5 * out[0], atol=1e-6)
