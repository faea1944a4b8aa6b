"""What a pair says of the effect: how linear, how noisy, whether it repeats itself, whether it moves by itself."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.check_defects import flat_tops
from fxclone.check_motion import motion, with_replicate
from fxclone.check_system import clipping_shows, coherence, envelope_match, noise, quiet_spans, replicate
from fxclone.effects import effect
from fxclone.signals import training_sound

RATE = 48_000


@pytest.fixture(scope="module")
def playing() -> np.ndarray:
    return training_sound(24.0, RATE, seed=11, kinds=("plucked", "chords", "bass", "voice"))[0]


def wet_of(expression: str, dry: np.ndarray) -> np.ndarray:
    return effect(expression).render(dry[None], RATE)[0]


def test_coherence_is_one_for_a_filter_and_less_for_distortion(playing):
    figures = [coherence(playing, wet_of(e, playing), RATE).total for e in ("lowpass", "tanh", "distortion")]
    assert figures[0] > 0.999
    assert figures[0] > figures[1] + 0.02 > figures[2] + 0.04


def test_coherence_of_strangers_is_none(playing, rng):
    stranger = rng.standard_normal(playing.shape[0]).astype(np.float32)
    assert coherence(playing, stranger, RATE).total < 0.01


def test_noise_is_measured_where_the_dry_sound_is_silent(playing, rng):
    dry = np.concatenate([playing[: 4 * RATE], np.zeros(RATE, np.float32), playing[4 * RATE : 8 * RATE]])
    hiss = 10 ** (-62 / 20) * rng.standard_normal(dry.shape[0]).astype(np.float32)
    found = noise(dry, wet_of("tanh", dry) + hiss, RATE)
    assert found.exact
    assert found.floor_db == pytest.approx(-62.0, abs=0.5)
    assert sum(span.stop - span.start for span in quiet_spans(dry, RATE)) > 0.6 * RATE


def test_without_silence_the_noise_is_bounded_from_above(playing, rng):
    dry = (playing + 0.003 * rng.standard_normal(playing.shape[0])).astype(np.float32)
    hiss = 10 ** (-50 / 20) * rng.standard_normal(dry.shape[0]).astype(np.float32)
    found = noise(dry, np.tanh(dry) + hiss, RATE)
    assert not found.exact
    assert -52.0 < found.floor_db < -35.0


def test_a_reverb_that_rings_into_the_silence_is_not_noise(playing):
    dry = np.concatenate([playing[: 4 * RATE], np.zeros(RATE // 2, np.float32), playing[4 * RATE : 8 * RATE]])
    assert not noise(dry, wet_of("reverb(room_size=0.9)", dry), RATE).exact


@pytest.fixture(scope="module")
def twice(playing) -> np.ndarray:
    """Two seconds that come again at the end."""
    return np.concatenate([playing[: 12 * RATE], playing[3 * RATE : 5 * RATE]])


@pytest.mark.parametrize("expression", ["tanh", "compressor", "distortion > lowpass"])
def test_a_passage_played_twice_is_found_and_comes_out_the_same(twice, expression):
    found = replicate(twice, wet_of(expression, twice), RATE)
    assert found is not None
    assert found.second_s - found.first_s == pytest.approx(9.0, abs=1e-6)
    assert found.seconds > 0.8
    assert found.self_esr < 1e-3


def test_noise_shows_twice_in_the_difference_of_passages(twice, rng):
    wet = wet_of("tanh", twice)
    first = replicate(twice, wet, RATE)
    noisy = wet + 0.01 * rng.standard_normal(wet.shape[0]).astype(np.float32)
    found = replicate(twice, noisy, RATE)
    assert first is not None
    assert found is not None
    assert found.exact
    start = round((found.first_s + 0.3) * RATE)
    power = np.mean(wet[start : start + round(found.seconds * RATE)] ** 2)
    assert found.self_esr / 2 == pytest.approx(1e-4 / power, rel=0.5)


def test_a_phaser_does_not_repeat_itself(twice):
    wet = wet_of("phaser(rate_hz=0.37)", twice)
    found = replicate(twice, wet, RATE)
    assert found is not None
    assert found.self_esr > 0.03
    moving = with_replicate(motion(twice, wet, RATE), found, noise(twice, wet, RATE), 0.1)
    assert moving.moving


def test_no_passage_comes_twice(playing):
    assert replicate(playing[: 10 * RATE], playing[: 10 * RATE], RATE) is None


@pytest.mark.parametrize(
    "expression",
    [
        "phaser",
        "chorus",
        "phaser(rate_hz=0.2)",
        "ringmod(frequency_hz=5, mix=0.3)",
        "ringmod(frequency_hz=2, mix=0.5)",
        "distortion > phaser(rate_hz=1.7)",
        "chorus(rate_hz=0.4, depth=0.5)",
    ],
)
def test_what_moves_by_itself_is_seen(playing, expression):
    assert motion(playing, wet_of(expression, playing), RATE).moving


@pytest.mark.parametrize(
    "expression",
    [
        "passthrough",
        "tanh",
        "distortion",
        "distortion(drive_db=45)",
        "compressor(threshold_db=-30, ratio=8)",
        "compressor(threshold_db=-40, ratio=10, attack_ms=20, release_ms=400)",
        "lowpass",
        "ladder(drive=10, cutoff_hz=1000)",
        "reverb",
        "delay",
        "noise_gate",
        "bitcrush(bit_depth=5)",
        "highpass > tanh(drive=50) > lowpass(cutoff_hz=4000)",
    ],
)
def test_what_only_answers_to_playing_is_not_called_moving(playing, expression):
    assert not motion(playing, wet_of(expression, playing), RATE).moving


def test_the_rate_of_a_tremolo_is_told(playing):
    found = motion(playing, wet_of("ringmod(frequency_hz=5, mix=0.3)", playing), RATE)
    assert found.rate_hz == pytest.approx(5.0, abs=0.1)


def test_too_little_sound_is_no_reason_to_fail(rng):
    short = rng.standard_normal(3000).astype(np.float32)
    assert not motion(short, short, RATE).moving
    assert replicate(short, short, RATE) is None
    assert envelope_match(short, short, RATE) == 0.0


def test_loudness_goes_together_even_where_frequencies_do_not(playing, rng):
    assert envelope_match(playing, wet_of("ringmod(frequency_hz=1000)", playing), RATE) > 0.8
    assert envelope_match(playing, rng.standard_normal(playing.shape[0]).astype(np.float32), RATE) < 0.3


def test_a_dry_sound_clipped_beside_the_effect_shows(playing):
    hot = (playing / np.abs(playing).max() * 3.0).astype(np.float32)
    dry = np.clip(hot, -1, 1).astype(np.float32)
    flat = flat_tops(dry)
    assert flat
    assert clipping_shows(dry, 0.3 * wet_of("lowpass(cutoff_hz=5000)", hot), flat)
    for expression in ("lowpass(cutoff_hz=5000)", "tanh", "compressor"):
        assert not clipping_shows(dry, wet_of(expression, dry), flat)
