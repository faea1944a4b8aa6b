"""Faults of a recording: each made one is found, and the effects that look like it are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.check_defects import (
    LEAST_FLATS,
    Place,
    coverage,
    drop_outs,
    flat_tops,
    hum,
    not_shared,
    repeats,
    standing_offset,
)
from fxclone.check_jumps import lag_jumps
from fxclone.effects import effect
from fxclone.signals import training_sound

RATE = 48_000


@pytest.fixture(scope="module")
def playing() -> np.ndarray:
    """Six seconds of strings and drums at all levels, none beyond full scale."""
    sound = training_sound(6.0, RATE, seed=5, kinds=("plucked", "chords", "bass", "drums"))[0]
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def wet_of(expression: str, dry: np.ndarray) -> np.ndarray:
    return effect(expression).render(dry[None], RATE)[0]


def loud_places(sound: np.ndarray, count: int, size: int) -> list[int]:
    """Well separated places where it is loud."""
    level = np.convolve(np.abs(sound), np.ones(size) / size, mode="valid")
    places: list[int] = []
    for start in np.argsort(level)[::-1]:
        if all(abs(start - other) > 4 * size for other in places) and 2 * size < start < sound.shape[0] - 3 * size:
            places.append(int(start))
        if len(places) == count:
            break
    assert len(places) == count
    return sorted(places)


@pytest.mark.parametrize("over_db", [1.0, 6.0, 12.0])
def test_a_recorder_that_clips_is_found(playing, over_db):
    top = np.abs(playing).max()
    hot = np.clip(playing / top * 10 ** (over_db / 20), -1, 1).astype(np.float32)
    runs = flat_tops(hot, 0.95)
    assert len(runs) >= 3
    assert all(np.all(np.abs(hot[run.start : run.start + run.samples]) == 1.0) for run in runs)
    assert flat_tops((np.round(hot * 32767) / 32768).astype(np.float32), 0.95)


@pytest.mark.parametrize(
    "expression", ["passthrough", "tanh(drive=5)", "tanh(drive=40)", "distortion(drive_db=45)", "distortion"]
)
def test_smooth_saturation_is_not_clipping(playing, expression):
    wet = wet_of(expression, playing)
    own = flat_tops(playing)  # some phrases of it are squared off
    assert not_shared(flat_tops(wet, 0.95), own) == []
    assert len(not_shared(flat_tops((np.round(wet * 32767) / 32768).astype(np.float32), 0.95), own)) < LEAST_FLATS


def test_an_effect_that_clips_below_full_scale_is_left_alone(playing):
    assert flat_tops(wet_of("hardclip(threshold_db=-20)", playing), 0.95) == []
    assert flat_tops(wet_of("hardclip(threshold_db=-20)", playing)) != []


def test_what_is_flat_in_the_dry_sound_already_is_no_fault_of_the_wet():
    wet = [Place(10, 4), Place(100, 5)]
    assert not_shared(wet, [Place(11, 3)]) == [Place(100, 5)]
    assert not_shared(wet, []) == wet


@pytest.mark.parametrize("expression", ["passthrough", "tanh", "compressor", "reverb"])
@pytest.mark.parametrize("milliseconds", [1.5, 10.0, 80.0])
def test_drop_outs_are_found_where_they_are(playing, expression, milliseconds):
    wet = wet_of(expression, playing).copy()
    size = round(milliseconds * RATE / 1000)
    starts = loud_places(playing, 3, size)
    for start in starts:
        wet[start : start + size] = 0.0
    found = drop_outs(playing, wet, RATE)
    assert len(found) == 3
    for place, start in zip(found, starts, strict=True):
        assert abs(place.start - start) <= 8
        assert abs(place.samples - size) <= 16


def test_a_hole_full_of_hiss_is_a_drop_out_too(playing, rng):
    wet = wet_of("tanh", playing).copy()
    (start,) = loud_places(playing, 1, 2000)
    wet[start : start + 2000] = 1e-5 * rng.standard_normal(2000)
    assert [place.start // 100 for place in drop_outs(playing, wet, RATE)] == [start // 100]


@pytest.mark.parametrize(
    "expression",
    ["noise_gate(threshold_db=-25)", "bitcrush(bit_depth=4)", "lowpass", "delay", "hardclip(threshold_db=-40)"],
)
def test_effects_that_are_silent_by_themselves_have_no_drop_outs(playing, expression):
    assert drop_outs(playing, wet_of(expression, playing), RATE) == []


@pytest.mark.parametrize("size", [64, 100, 480, 512, 2048, 4096])
def test_a_buffer_that_came_twice_is_found(playing, size):
    wet = wet_of("tanh", playing).copy()
    (start,) = loud_places(playing, 1, size)
    wet[start : start + size] = wet[start - size : start]
    found = repeats(playing, wet)
    assert len(found) == 1
    assert found[0].samples == size
    assert abs(found[0].start - start) <= 2


def test_a_repeat_is_found_under_dither(playing, rng):
    wet = wet_of("tanh", playing).copy()
    (start,) = loud_places(playing, 1, 512)
    wet[start : start + 512] = wet[start - 512 : start]
    wet += 1e-6 * rng.standard_normal(wet.shape[0]).astype(np.float32)
    assert [(abs(place.start - start) < 4, place.samples) for place in repeats(playing, wet)] == [(True, 512)]


@pytest.mark.parametrize("expression", ["passthrough", "tanh", "distortion(drive_db=45)", "bitcrush(bit_depth=6)"])
def test_sound_without_repeats_has_none(playing, expression):
    assert repeats(playing, wet_of(expression, playing)) == []


def test_a_dry_sound_that_repeats_itself_makes_no_repeats():
    tone = (0.3 * np.sin(2 * np.pi * 750 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    tone = np.tile(tone[:512], 100)
    assert repeats(tone, np.tanh(3 * tone)) == []


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_hum_is_found_under_playing(playing, mains_hz):
    t = np.arange(playing.shape[0]) / RATE
    added = sum(10 ** (-55 / 20) / k * np.sin(2 * np.pi * mains_hz * k * t + k) for k in (1, 2, 3, 5))
    found = hum(playing, wet_of("tanh", playing) + added.astype(np.float32), RATE)
    assert found is not None
    assert found.mains_hz == mains_hz
    assert found.level_db == pytest.approx(-57.0, abs=4.0)


@pytest.mark.parametrize("expression", ["passthrough", "tanh", "distortion", "compressor"])
def test_playing_is_not_hum(playing, expression):
    assert hum(playing, wet_of(expression, playing), RATE) is None


def test_hum_of_the_dry_sound_is_the_input_and_no_fault(playing):
    t = np.arange(playing.shape[0]) / RATE
    hummed = playing + sum(0.003 / k * np.sin(2 * np.pi * 50 * k * t) for k in (1, 2, 3)).astype(np.float32)
    assert hum(hummed, wet_of("tanh", hummed), RATE) is None


def test_an_offset_is_told_from_lopsided_distortion(playing):
    lopsided = np.tanh(5 * playing + 0.5 * np.abs(playing)).astype(np.float32)
    assert abs(standing_offset(playing, lopsided + np.float32(0.03), RATE) - 0.03) < 0.005
    assert abs(standing_offset(playing, lopsided, RATE)) < 0.005


def test_levels_and_silence_are_counted():
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    found = coverage(np.concatenate([0.5 * tone, 0.005 * tone, 0 * tone, 0 * tone]).astype(np.float32), RATE)
    assert found.loudest_dbfs == pytest.approx(-6.0, abs=0.1)
    assert found.softest_dbfs == pytest.approx(-46.0, abs=0.3)
    assert found.silent_share == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("expression", ["tanh", "lowpass(cutoff_hz=4000)", "invert", "compressor"])
@pytest.mark.parametrize("samples", [-128, -17, 64, 1000])
def test_a_step_of_the_lag_is_found(playing, expression, samples):
    wet = wet_of(expression, playing)
    at = loud_places(playing, 1, 4000)[0]
    at = min(max(at, 2 * RATE), 4 * RATE)
    broken = np.concatenate([wet[:at], np.zeros(max(samples, 0), np.float32), wet[at - min(samples, 0) :]])
    length = min(broken.shape[0], playing.shape[0])
    ((at_s, size),) = lag_jumps(playing[:length], broken[:length], RATE)
    assert size == pytest.approx(samples, abs=1)
    assert at_s == pytest.approx(at / RATE, abs=0.6)


@pytest.mark.parametrize("expression", ["tanh", "distortion", "compressor", "reverb", "chorus", "delay"])
def test_an_effect_makes_no_steps(playing, expression):
    assert lag_jumps(playing, wet_of(expression, playing), RATE) == []


@pytest.mark.parametrize("seed", [3, 4])
def test_sound_too_dull_to_tell_has_no_steps(seed):
    dry = training_sound(20.0, RATE, seed=seed)[0]
    assert lag_jumps(dry, wet_of("ladder(cutoff_hz=200)", dry), RATE) == []


@pytest.mark.parametrize("ppm", [60.0, -20.0, 150.0])
def test_a_clock_that_drifts_on_through_pauses_makes_no_steps(ppm):
    dry = training_sound(20.0, RATE, seed=6)[0]
    for start_s in (2.0, 7.0, 12.0):
        dry[round(start_s * RATE) : round((start_s + 1.3) * RATE)] = 0.0
    n = np.arange(dry.shape[0])
    wet = np.interp(n / (1.0 + ppm * 1e-6), n, np.tanh(3 * dry)).astype(np.float32)
    assert lag_jumps(dry, wet, RATE) == []


def test_an_echo_that_cancels_a_flat_top_is_no_drop_out(playing):
    dry = playing.copy()
    dry[RATE : RATE + 400] = 0.5
    dry[2 * RATE : 2 * RATE + 400] = -0.5
    wet = dry + np.pad(dry, (RATE, 0))[: dry.shape[0]]
    assert np.all(wet[2 * RATE : 2 * RATE + 400] == 0.0)
    assert drop_outs(dry, wet, RATE) == []


def test_an_offset_that_comes_and_goes_with_the_notes_is_not_the_recorders(rng):
    n = np.arange(4 * RATE)
    notes = np.repeat(rng.uniform(-0.08, 0.1, 40), RATE // 10)
    dry = np.asarray(0.3 * np.sin(2 * np.pi * 220 * n / RATE), np.float32)
    assert standing_offset(dry, (dry + notes).astype(np.float32), RATE) == 0.0
    assert standing_offset(dry, dry + np.float32(0.02), RATE) == pytest.approx(0.02, abs=1e-3)
