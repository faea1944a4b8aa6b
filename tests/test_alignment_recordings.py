"""Lags of real gear: what is known of each recording is found, and what cannot be known is not claimed."""

import pytest
import soundfile

from fxclone.alignment import align_pair, apply_alignment

KINDS = ("train", "test")


def pair(folder, kind):
    dry, rate = soundfile.read(folder / f"{kind}_dry.flac", dtype="float32", always_2d=True)
    wet, _ = soundfile.read(folder / f"{kind}_wet.flac", dtype="float32", always_2d=True)
    return dry.T, wet.T, rate


@pytest.mark.parametrize("kind", KINDS)
def test_an_overdrive_at_full_drive_is_in_time_and_inverted(shared_data, kind):
    dry, wet, rate = pair(shared_data / "pairs" / "ts9", kind)
    found = align_pair(dry, wet, rate)
    assert abs(found.lag_samples) < 0.5
    assert found.polarity == -1
    assert found.polarity_confidence > 0.9
    assert found.drift_ppm == 0.0
    aligned = apply_alignment(dry, wet, rate, found)
    assert aligned.removed_samples <= 0.5
    assert aligned.wet.shape == aligned.dry.shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_compressor_that_was_cut_a_sample_early_leads(shared_data, kind):
    dry, wet, rate = pair(shared_data / "pairs" / "la2a", kind)
    found = align_pair(dry, wet, rate)
    assert -1.5 < found.lag_samples < -0.5
    assert found.polarity == 1
    assert found.wander_samples < 0.1
    aligned = apply_alignment(dry, wet, rate, found)
    assert aligned.removed_samples < 0.0
    assert any("leads" in note for note in aligned.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_tape_is_late_and_wanders(shared_data, kind):
    dry, wet, rate = pair(shared_data / "pairs" / "akai_tape", kind)
    found = align_pair(dry, wet, rate)
    assert 7040 < found.lag_samples < 7080
    assert found.polarity == 1
    assert found.wander_samples > 0.5
    assert not found.confident
    assert apply_alignment(dry, wet, rate, found).removed_samples < found.lag_samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["smallstone_A", "donner_flanger"])
def test_modulation_has_no_lag_and_is_not_sure_of_it(shared_data, name, kind):
    dry, wet, rate = pair(shared_data / "pairs" / name, kind)
    found = align_pair(dry, wet, rate)
    assert abs(found.lag_samples) < 1.5
    assert not found.confident
    assert found.wander_samples > 0.02
    assert apply_alignment(dry, wet, rate, found).removed_samples == 0.0
