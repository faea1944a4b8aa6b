"""A measured lag and drift are taken out of a pair: exactly where it is exact, never too much where it is not sure."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fxclone.alignment import PairAlignment, apply_alignment
from fxclone.alignment_apply import read_between
from fxclone.errors import FxcloneError

RATE = 44_100
SURE = PairAlignment(0.0, 1.0, 1, 1.0, 0.0, 0.0, 1.0, 0.0, (), 0.0)


def tones(n, hz=(50.0, 997.0, 6_011.0, 19_000.0)):
    """Sines at any (fractional) sample, so that the right value between samples is known."""
    return sum(0.2 * np.sin(2 * np.pi * one / RATE * n + k) for k, one in enumerate(hz))


def test_without_lag_and_drift_the_samples_are_the_ones_that_came_in(rng):
    dry = rng.standard_normal((2, 5000)).astype(np.float32)
    wet = rng.standard_normal((1, 5000)).astype(np.float32)
    out = apply_alignment(dry, wet, RATE, SURE)
    assert out.dry.shape == (2, 5000)
    np.testing.assert_array_equal(out.dry, dry)
    np.testing.assert_array_equal(out.wet, wet)
    assert out.wet.dtype == np.float32
    assert (out.removed_samples, out.resampled_ppm, out.notes) == (0.0, 0.0, ())


@pytest.mark.parametrize("lag", [1.0, 7060.0])
def test_a_whole_lag_is_a_plain_cut(rng, lag):
    dry = rng.standard_normal((1, 9000)).astype(np.float32)
    wet = rng.standard_normal((2, 9000)).astype(np.float32)
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=lag))
    assert out.wet.shape == (2, 9000 - int(lag))
    assert out.dry.shape == (1, 9000 - int(lag))
    np.testing.assert_array_equal(out.wet, wet[:, int(lag) :])
    np.testing.assert_array_equal(out.dry, dry[:, : 9000 - int(lag)])
    assert out.removed_samples == lag


@pytest.mark.parametrize("lag", [0.5, 37.251, 400.999])
def test_a_fraction_is_taken_out_flat_to_near_half_the_rate(lag):
    n = np.arange(6000)
    dry = tones(n)[None].astype(np.float32)
    wet = -3.0 * tones(n - lag)[None].astype(np.float32)
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=lag, polarity=-1))
    inner = slice(300, -300)
    assert out.wet.shape == out.dry.shape
    assert out.wet.shape[1] >= 6000 - math.ceil(lag) - 1
    np.testing.assert_allclose(out.wet[:, inner], -3.0 * out.dry[:, inner], atol=1e-4)


@pytest.mark.parametrize("ppm", [200.0, -43.7, 5.0])
def test_drift_is_resampled_away(ppm):
    n = np.arange(60_000)
    lag = 20.3
    dry = tones(n)[None].astype(np.float32)
    wet = tones((n - lag) / (1 + ppm * 1e-6))[None].astype(np.float32)
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=lag, drift_ppm=ppm))
    assert out.resampled_ppm == ppm
    assert out.wet.shape == out.dry.shape
    assert out.wet.shape[1] > 59_900
    np.testing.assert_allclose(out.wet[:, 200:-200], out.dry[:, 200:-200], atol=2e-4)
    assert any("ppm" in note for note in out.notes)


def test_drift_that_is_not_sure_or_too_small_is_left_alone(rng):
    dry = rng.standard_normal((1, 5000)).astype(np.float32)
    for doubtful in (
        replace(SURE, drift_ppm=100.0, drift_confidence=0.1),
        replace(SURE, drift_ppm=0.01),
    ):
        out = apply_alignment(dry, dry, RATE, doubtful)
        np.testing.assert_array_equal(out.wet, dry)
        assert out.resampled_ppm == 0.0


def test_a_wet_sound_that_leads_is_shifted_later_and_said(rng):
    sound = rng.standard_normal((1, 3000)).astype(np.float32)
    dry, wet = sound[:, :-5], sound[:, 5:]
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=-5.0))
    assert out.wet.shape[1] == 2990
    np.testing.assert_array_equal(out.wet, out.dry)
    assert out.removed_samples == -5.0
    assert any("leads" in note for note in out.notes)


def test_of_a_doubtful_lag_some_is_left_in_and_said(rng):
    sound = rng.standard_normal((1, 3000)).astype(np.float32)
    doubtful = replace(SURE, lag_samples=100.2, confidence=0.3, uncertainty_samples=2.5)
    out = apply_alignment(sound, sound, RATE, doubtful)
    assert out.removed_samples == 92.0  # 100.2 may be 100, and then the samples stay as they are
    np.testing.assert_array_equal(out.wet, sound[:, 92:])
    assert any("not certain" in note for note in out.notes)
    exact = apply_alignment(sound, sound, RATE, doubtful, margin_samples=0.0)
    assert exact.removed_samples == 100.2


@pytest.mark.parametrize(("doubt", "left"), [(0.06, 1), (0.3, 1), (0.4, 2), (50.0, 64)])
def test_what_is_left_in_is_whole_so_that_a_pair_is_exact_but_for_a_delay(doubt, left):
    n = np.arange(6000)
    dry = tones(n)[None].astype(np.float32)
    wet = tones(n - 100.4)[None].astype(np.float32)
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=100.4, confidence=0.3, uncertainty_samples=doubt))
    assert out.removed_samples == pytest.approx(100.4 - left)
    assert out.wet.shape == out.dry.shape
    np.testing.assert_allclose(out.wet[:, 300 + left : -300], out.dry[:, 300 : -300 - left], atol=1e-4)


@pytest.mark.parametrize("lag", [-0.4, 0.0, 1.5])
def test_a_doubtful_lag_that_may_be_none_changes_nothing(rng, lag):
    sound = rng.standard_normal((1, 3000)).astype(np.float32)
    out = apply_alignment(sound, sound, RATE, replace(SURE, lag_samples=lag, confidence=0.3, uncertainty_samples=0.6))
    np.testing.assert_array_equal(out.wet, sound)
    assert out.removed_samples == 0.0
    assert not any("leads" in note for note in out.notes)


def test_a_wet_sound_of_other_length_is_cut_to_what_both_have(rng):
    dry = rng.standard_normal((1, 3000)).astype(np.float32)
    wet = rng.standard_normal((1, 2000)).astype(np.float32)
    out = apply_alignment(dry, wet, RATE, replace(SURE, lag_samples=10.0))
    assert out.dry.shape == out.wet.shape == (1, 1990)


def test_a_lag_that_was_not_found_or_leaves_nothing_is_one_clear_line(rng):
    sound = rng.standard_normal((1, 3000)).astype(np.float32)
    with pytest.raises(FxcloneError, match="not found"):
        apply_alignment(sound, sound, RATE, replace(SURE, lag_samples=math.nan))
    with pytest.raises(FxcloneError, match="do not overlap"):
        apply_alignment(sound, sound, RATE, replace(SURE, lag_samples=5000.0))


def test_reading_between_samples_at_the_ends_and_beyond():
    sound = np.arange(1.0, 6.0)
    np.testing.assert_array_equal(read_between(sound, -2.0, 1.0, 9), [0, 0, 1, 2, 3, 4, 5, 0, 0])
    assert read_between(sound, 50.5, 1.0, 4).shape == (4,)
    assert read_between(sound, -3.2, 1.0001, 12).shape == (12,)
