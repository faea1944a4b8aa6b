"""``--family auto``: something is kept however early the end, gates are no curves, and it says what it cannot do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fxclone.clone import load_clone
from fxclone.effects import effect
from fxclone.pairs import effect_pair, training_and_validation
from fxclone_training import tail_stages
from fxclone_training.analysis import GAIN_HZ, GAIN_S, analyse
from fxclone_training.analysis_choice import choose
from fxclone_training.analysis_gain import follow_level
from fxclone_training.analysis_time import Steadiness
from fxclone_training.finish import finish_best
from fxclone_training.recipe import Recipe
from fxclone_training.tail import Tail
from fxclone_training.tail_drive import race
from fxclone_training.tail_length import choose_length
from fxclone_training.trainer import train

RATE = 16_000
LADDER = "ladder(mode=LPF24, cutoff_hz=800, resonance=0.5, drive=4)"
LO_FI = "highpass(cutoff_hz=120, order=2) > bitcrush(bit_depth=6) > lowpass(cutoff_hz=4000, order=4)"
torch.set_num_threads(1)


def pairs_of(expression, seconds=8.0, **channels):
    return training_and_validation(
        effect(expression), seconds=seconds, validation_seconds=3, sample_rate=RATE, seed=0, **channels
    )


@pytest.mark.parametrize("expression", [LADDER, LO_FI, "reverb"])
@pytest.mark.parametrize("family", ["auto", "tail"])
def test_who_stops_at_once_has_the_dry_sound_at_its_level(expression, family):
    training, validation = pairs_of(expression)
    result = train(training, validation, Recipe(family=family), should_stop=lambda: True)
    assert isinstance(result.model, Tail)
    assert result.model.parameter_count == 1
    assert result.reason == "stopped by the user"
    made = result.model.run_freely(validation.dry)
    gain = float(np.vdot(training.dry, training.wet) / np.vdot(training.dry, training.dry))
    assert made.shape == validation.wet.shape
    np.testing.assert_allclose(made, gain * validation.dry, atol=1e-5)


def test_a_stereo_room_that_nobody_waits_for_is_a_gain_for_each_side():
    training, validation = pairs_of("reverb(room_size=0.5)", channels_out=2)
    result = train(training, validation, Recipe(), should_stop=lambda: True)
    assert (result.model.channels_in, result.model.channels_out) == (1, 2)
    assert result.model.parameter_count == 2


def test_the_kept_gain_is_a_clone_file(tmp_path):
    training, validation = pairs_of(LADDER)
    result = train(training, validation, Recipe(), should_stop=lambda: True)
    path = tmp_path / "gain.onnx"
    finish_best(result.candidates, training, validation, path, name="gain", provenance={}, force=False)
    assert load_clone(path).meta.parameters == 1


def test_what_only_changes_the_level_needs_no_training():
    said = []
    result = train(*pairs_of("gain(gain_db=-6)"), Recipe(), tell=said.append)
    assert result.model.parameter_count == 1
    assert result.esr_db < -80
    assert any("all there is to it" in sentence for sentence in said)


def test_an_effect_at_hand_is_asked_whether_it_moves():
    moving, still = effect("phaser(rate_hz=2, depth=1)"), effect("distortion(drive_db=30)")
    pairs = pairs_of(moving.expression, seconds=20)
    kinds = {}
    for name, render in (("recording", None), ("itself", moving.render), ("another", still.render)):
        result = train(*pairs, Recipe(seconds=1e4, max_steps=2), render=render)
        kinds[name] = result.findings["auto"]["like"]
        assert (result.model.family == "tail") == (kinds[name] == "moving")
    assert kinds["recording"] == kinds["itself"] == "moving"
    assert kinds["another"] != "moving"


def test_moving_a_little_is_not_what_nothing_explains():
    found = analyse(pairs_of("phaser(rate_hz=2, depth=1)", seconds=20)[0], time=False)
    assert found.best_db > -10
    for still_db, moving in ((found.best_db, True), (None, True), (found.best_db - 30, False)):
        time = Steadiness(True, still_db, None, None, -120.0, True, True)
        assert (choose(replace(found, time=time)).kind == "moving") == moving


def test_a_still_is_a_response_unless_something_else_leaves_clearly_less():
    found = analyse(pairs_of("phaser(rate_hz=2, depth=1)", seconds=20)[0])
    assert choose(found).family == "tail"
    for worse_db, drive, family in ((1.9, 0.0, "tail"), (2.1, 0.0, "ar"), (0.0, 4.0, "ar")):
        response_db = found.best_db + worse_db
        linear = replace(found.linear, short_db=response_db, long_db=response_db, fitted_db=None, drive=drive)
        other = replace(found, linear=linear, gain=replace(found.gain, following_db=found.best_db))
        assert other.best_db == found.best_db
        assert choose(other).family == family


def test_measuring_ends_with_the_time_for_it():
    training, _ = pairs_of(LADDER, seconds=6)
    asked = []

    def enough():
        asked.append(1)
        return True

    found = analyse(training, enough=enough)
    assert asked
    assert found.cut_short
    assert found.curves is None
    assert found.gain is None
    assert found.time is None
    words = choose(found).words
    assert "no time to measure more" in words
    assert "inf" not in words
    whole = analyse(training, time=False)
    assert not whole.cut_short
    assert "no time" not in choose(whole).words


def test_a_race_that_is_stopped_gives_the_best_so_far():
    training, _ = pairs_of(LADDER, seconds=5)
    asked = []

    def later():
        asked.append(1)
        return len(asked) > 12

    early, whole = race(training, should_stop=later), race(training)
    assert np.isfinite(early.esr_db)
    assert early.esr_db >= whole.esr_db
    assert race(training, should_stop=lambda: True).esr_db == np.inf


def test_the_length_of_a_tail_can_be_asked_in_a_hurry():
    training, _ = pairs_of("reverb", seconds=12)
    hurried = choose_length(training.dry, training.wet, RATE, should_stop=lambda: True)
    assert 0 < hurried.taps <= training.samples


@pytest.mark.parametrize("threshold_db", [-20, -30, -40])
def test_a_gate_follows_the_level_though_a_curve_leaves_little(threshold_db):
    found = analyse(effect_pair(effect(f"noise_gate(threshold_db={threshold_db})"), 15, RATE, seed=3), time=False)
    choice = choose(found)
    assert found.gain.gates
    assert found.gain.shut_db < found.gain.curve_shut_db - 6
    assert (choice.kind, choice.family) == ("dynamics", "recurrent")
    assert "noise gate" in choice.words
    assert "let more of it through" in choice.words


@pytest.mark.parametrize(
    "expression", ["tanh(drive=8)", "bitcrush(bit_depth=4)", "compressor", "ringmod(frequency_hz=3)"]
)
def test_what_is_no_gate_is_not_called_one(expression):
    pair = effect_pair(effect(expression), 15, RATE, seed=3)
    gain, _ = follow_level(*tail_stages.middle(pair, GAIN_S, GAIN_HZ), GAIN_HZ)
    assert not gain.gates


def test_a_dead_zone_is_a_curve_and_no_gate():
    """It silences what is soft, but a curve does that as well."""

    class DeadZone:
        name = "dead zone"

        def render(self, dry, sample_rate):
            return (np.sign(dry) * np.maximum(np.abs(dry) - 0.05, 0)).astype(np.float32)

    found = analyse(effect_pair(DeadZone(), 12, RATE, seed=3), time=False)
    assert found.gain.shut_share > 0.02
    assert choose(found).kind == "curve"


def test_the_paragraph_says_that_nothing_is_closer_than_the_dry_sound():
    crushed = analyse(effect_pair(effect("bitcrush(bit_depth=8)"), 12, RATE, seed=3), time=False)
    assert crushed.stays_dry
    words = choose(crushed).words
    assert "To be honest" in words
    assert f"{crushed.dry_db:.0f} dB" in words
    assert "noise gate" not in words
    for expression in ("tanh", "compressor", "gain", "lowpass(cutoff_hz=1000)"):
        other = analyse(effect_pair(effect(expression), 8, RATE, seed=3), time=False)
        assert not other.stays_dry
        assert "To be honest" not in choose(other).words


def test_it_is_said_at_the_end_if_the_clone_is_no_closer_than_the_dry_sound():
    said = []
    result = train(*pairs_of("bitcrush(bit_depth=8)"), Recipe(seconds=1e5, max_steps=5), tell=said.append)
    assert result.findings["auto"]["dry_db"] - 2 < result.esr_db <= result.findings["auto"]["dry_db"]
    assert "no closer than the dry sound" in said[-1]
    said.clear()
    better = train(*pairs_of("tanh"), Recipe(seconds=1e5, max_steps=60, target_esr_db=-20), tell=said.append)
    assert better.esr_db < better.findings["auto"]["dry_db"] - 2
    assert not any("no closer" in sentence for sentence in said)


def test_a_fast_limiter_that_looks_like_a_curve_is_still_found():
    pairs = pairs_of("limiter(threshold_db=-10, release_ms=50)", seconds=20)
    assert choose(analyse(pairs[0], time=False)).kind == "unknown"
    result = train(*pairs, Recipe(seconds=1e4, target_esr_db=-35.0))
    assert result.model.family == "dynamics"
    assert result.esr_db < -35


def test_a_gate_is_not_left_to_a_filter():
    """A filter explains -40 dB of it: what it does is in the rest."""
    result = train(*pairs_of("noise_gate(threshold_db=-40)"), Recipe(size="nano", seconds=1e5, max_steps=300))
    assert (result.findings["auto"]["like"], result.findings["auto"]["family"]) == ("dynamics", "dynamics")
    assert result.esr_db < result.findings["auto"]["dry_db"] - 20
