"""Family ``tail`` from an effect to a clone file: rooms, echoes, cabinets, stereo; and what ``auto`` chooses."""

import json

import numpy as np
import pytest
import torch
from scipy import signal

from fxclone import cli
from fxclone.clone import load_clone
from fxclone.effects import effect
from fxclone.evaluate import run_free
from fxclone.metrics import compare
from fxclone.pairs import effect_pair, training_and_validation
from fxclone_training.ar import Ar
from fxclone_training.curve import Curve
from fxclone_training.memory_stages import PEDAL
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_drive import Start, train_driven
from fxclone_training.trainer import train

RATE = 16_000
torch.set_num_threads(1)


def trained(expression, *, channels=1, channels_out=1, seconds=40.0, sound_s=15.0, said=None, **recipe):
    training, validation = training_and_validation(
        effect(expression),
        seconds=sound_s,
        validation_seconds=4,
        sample_rate=RATE,
        seed=0,
        channels=channels,
        channels_out=channels_out,
    )
    tell = [] if said is None else said
    return train(training, validation, Recipe(seconds=seconds, sound_s=sound_s, **recipe), tell=tell.append)


def test_auto_finds_that_a_room_rings():
    said = []
    result = trained("reverb(room_size=0.2)", channels_out=2, said=said)
    assert result.model.family == "tail"
    assert (result.model.channels_in, result.model.channels_out) == (1, 2)
    assert result.esr_db < -45
    fresh = effect_pair(effect("reverb(room_size=0.2)"), 4, RATE, seed=77, channels_out=2)
    assert compare(fresh.wet, result.model.run_freely(fresh.dry), RATE).esr_db < -45
    assert any("it rings" in sentence for sentence in said)
    assert result.findings["tail"]["tail_s"] > 0.3
    assert result.findings["auto"]["kind"] == "linear with a long tail"


def test_auto_finds_echoes():
    result = trained("delay(delay_seconds=0.15, feedback=0.5, mix=0.5)")
    assert isinstance(result.model, Tail)
    assert result.model.parameter_count < 200
    assert abs(result.model.lines[0].delay_samples - 0.15 * RATE) <= 64  # a filter may hold a part of the delay
    assert result.esr_db < -80


def test_auto_finds_a_curve_before_a_cabinet():
    result = trained("tanh(drive=8) > cabinet", target_esr_db=-35)
    assert isinstance(result.model, Tail)
    assert result.model.front is not None
    assert result.esr_db < -30
    assert result.findings["auto"]["curve_then_response_db"] < result.findings["auto"]["curve_db"] - 6


class Pedal:
    """A clean path beside a clipped one, with a filter before the clipping and one behind it."""

    name = "pedal"

    def render(self, dry, sample_rate):
        heard = signal.lfilter(*signal.butter(1, 700, "highpass", fs=sample_rate), dry)
        b, a = signal.butter(1, 2500, fs=sample_rate)
        return (0.5 * dry - 0.6 * signal.lfilter(b, a, np.tanh(12 * heard + 0.3) - np.tanh(0.3))).astype(np.float32)


def test_auto_finds_the_filters_around_a_curve():
    """A pedal: family ar with long memory, begun behind the filter that was found."""
    training, validation = training_and_validation(Pedal(), seconds=15, validation_seconds=4, sample_rate=RATE, seed=0)
    said = []
    result = train(training, validation, Recipe(size="nano", seconds=1e5, max_steps=60), tell=said.append)
    found = result.findings["auto"]
    assert (found["like"], found["family"]) == ("pedal", "ar")
    assert 300 < found["cutoff_hz"] < 1600
    assert isinstance(result.model, Ar)
    assert len(result.model.config.averages) == PEDAL["nano"].averages
    assert result.esr_db < min(found["driven_db"], found["curve_then_response_db"]) - 6
    fresh = effect_pair(Pedal(), 4, RATE, seed=77)
    judged = compare(fresh.wet, result.model.run_freely(fresh.dry), RATE)
    assert judged.esr_db < -15
    assert judged.polarity == 1
    assert any("beside a curve" in sentence for sentence in said)


def test_filters_around_a_curve_as_a_tail():
    """The other way to clone a pedal: a curve behind filters, responses around it."""
    training, validation = training_and_validation(Pedal(), seconds=8, validation_seconds=3, sample_rate=RATE, seed=0)
    session = Session(Recipe(seconds=1e5, max_steps=12), training, validation, torch.Generator().manual_seed(0))
    with pytest.raises(Finished):
        train_driven(session, Start(720.0, 8.0, -10.0))
    model = session.kept[0][1]
    assert isinstance(model.front, Curve)
    assert session.best_esr_db < -10


@pytest.mark.parametrize("expression", ["tanh", "lowpass(cutoff_hz=1000)"])
def test_auto_leaves_short_effects_to_the_autoregressive_family(expression):
    assert trained(expression, target_esr_db=-30, sound_s=8).model.family == "ar"


def test_a_short_linear_response_is_found_at_once():
    result = trained("cabinet", sound_s=8)
    assert isinstance(result.model, Tail)
    assert result.esr_db < -60


def test_stereo_crosstalk_is_cloned():
    result = trained("reverb(room_size=0.1)", channels=2, channels_out=2, family="tail")
    assert (result.model.channels_in, result.model.channels_out) == (2, 2)
    assert result.esr_db < -45


def test_the_length_asked_for_is_the_length():
    result = trained("reverb(room_size=0.3)", family="tail", tail_s=0.25, sound_s=8, seconds=3)
    assert result.model.taps == RATE // 4
    assert result.findings["tail"]["tail_s"] == 0.25


def test_a_stop_keeps_what_there_is():
    training, validation = training_and_validation(
        effect("reverb"), seconds=8, validation_seconds=3, sample_rate=RATE, seed=0
    )
    asked = []

    def soon():
        asked.append(1)
        return len(asked) > 3

    result = train(training, validation, Recipe(family="tail"), should_stop=soon)
    assert np.isfinite(result.esr_db)


def test_a_room_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--effect", "reverb(room_size=0.2)", "--sample-rate", RATE, "--threads", 1, "--json"]
    recipe = tmp_path / "short.toml"
    recipe.write_text('description = "short"\n[recipe]\nsound_s = 12\nvalidation_s = 3\n')
    assert cli.run([str(word) for word in [*words, "--preset", recipe]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] == "tail"
    assert facts["esr_db"] < -45
    assert facts["tail"]["tail_s"] > 0.2
    clone = load_clone(tmp_path / facts["model"])
    assert (clone.channels_in, clone.meta.channels_out) == (1, 2)
    fresh = effect_pair(effect("reverb(room_size=0.2)"), 3, RATE, seed=9, channels_out=2)
    assert compare(fresh.wet, run_free(clone, fresh.dry, RATE), RATE).esr_db < -45
    assert clone.tail_samples > 0.2 * RATE
