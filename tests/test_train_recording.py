"""``fxclone train --dry --wet``: from files of a device to a clone, and back by ``evaluate``."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from train_runs import CommandLine, one_object, refused

from fxclone.clone import load_clone
from fxclone.pairs import Pair
from fxclone.signals import training_sound
from fxclone.takes import Take
from fxclone_training.plan import Plan
from fxclone_training.recipe import Recipe
from fxclone_training.reference import Material, RecordingReference
from fxclone_training.train_command import stopping_at_noise

RATE = 32_000
LATE = 215
MODEL = ("--m", 4, "--width", 3, "--activation", "tanh", "--threads", 1, "--seconds", 60, "--max-steps", 120)


def device(dry):
    """Soft, inverting, and late by the recording."""
    return np.pad(-0.6 * np.tanh(2 * dry), ((0, 0), (LATE, 0)))


def record(dry_name, wet_name, *, seconds=10, seed=1, rate=RATE, change=lambda wet: wet):
    dry = training_sound(seconds, rate, seed=seed)
    soundfile.write(dry_name, dry.T, rate, subtype="PCM_24")
    soundfile.write(wet_name, change(device(dry)).T, rate, subtype="FLOAT")


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    return CommandLine(monkeypatch, tmp_path, tmp_path_factory, capsys)


def train(fxclone_, *words):
    code, out, err = fxclone_("train", *words, *MODEL, "--json")
    assert code == 0, err
    return one_object(out)


def test_a_pair_of_files_to_a_clone_and_back(fxclone_, tmp_path):
    record("riff_dry.wav", "riff_wet.wav")
    facts = train(fxclone_, "--dry", "riff_dry.wav", "--wet", "riff_wet.wav")
    assert facts["model"] == "riff.onnx"
    assert facts["sample_rate"] == RATE
    assert facts["esr_db"] < -30
    assert facts["effect"] == "recording riff_wet.wav"
    assert facts["alignment"]["latency_removed_samples"] == pytest.approx(LATE, abs=0.05)
    assert facts["alignment"]["polarity"] == -1
    assert facts["check"]["verdict"] in ("fine", "usable")
    assert facts["metrics"]["lag_samples"] == pytest.approx(0, abs=0.1)
    clone = load_clone(tmp_path / "riff.onnx")
    assert clone.latency_samples == 0
    about = clone.meta.training
    assert about["alignment"]["latency_removed_samples"] == facts["alignment"]["latency_removed_samples"]
    assert about["reference"] == "recording riff_wet.wav"
    assert str(tmp_path) not in json.dumps(about)
    record("other_dry.wav", "other_wet.wav", seed=5, seconds=4)
    code, out, err = fxclone_(
        "evaluate", "-m", "riff.onnx", "--dry", "other_dry.wav", "--wet", "other_wet.wav", "--json"
    )
    assert code == 0, err
    again = one_object(out)
    assert again["wet_lag_samples"] == pytest.approx(LATE, abs=0.1)
    assert again["latency_removed_samples"] == pytest.approx(LATE, abs=0.05)
    assert again["polarity"] == 1
    assert again["esr_db"] < -25


def test_what_people_are_told(fxclone_):
    record("dry.wav", "wet.wav")
    code, out, err = fxclone_("train", "--dry", "dry.wav", "--wet", "wet.wav", *MODEL, "-o", "box.onnx")
    assert code == 0
    assert f"note: the recording is {LATE}.0 samples (6.72 ms) late; the clone plays without that delay" in err
    assert "note: the device inverts; so will the clone" in err
    assert "are held back to judge the clone by" in err
    assert out.startswith("wrote box.onnx: ")


def test_folders_of_takes_at_two_rates(fxclone_, tmp_path):
    for side in ("in", "out"):
        (tmp_path / side).mkdir()
    for seed, name in enumerate(("a", "b", "c", "d", "e")):
        record(f"in/{name}.wav", f"out/{name}.wav", seconds=4, seed=seed)
    facts = train(fxclone_, "--dry", "in", "--wet", "out", "--sample-rate", 44_100, "--seed", 1, "-o", "x.onnx")
    assert facts["sample_rate"] == load_clone(tmp_path / "x.onnx").sample_rate == 44_100
    late = LATE * 44_100 / RATE
    rows = facts["alignment"]["takes"]
    assert [row["lag_samples"] for row in rows] == pytest.approx([late] * 5, abs=0.5)
    assert all(late - 4 <= row["latency_removed_samples"] <= late + 0.1 for row in rows)  # never more than it was late


def test_resume_goes_on_with_the_same_files(fxclone_, tmp_path):
    record("riff_dry.wav", "riff_wet.wav")
    first = train(fxclone_, "--dry", "riff_dry.wav", "--wet", "riff_wet.wav", "--lag", LATE - 2)
    words = ("--resume", "last", "--threads", 1, "--max-steps", 5)
    code, out, err = fxclone_("train", *words, "-o", "more.onnx", "--json")
    assert code == 0, err
    second = one_object(out)
    assert second["esr_db"] <= first["esr_db"] + 0.5
    assert second["alignment"] == first["alignment"]
    assert second["alignment"]["latency_removed_samples"] == LATE - 2
    shutil.move("riff_wet.wav", "away.wav")
    refused(fxclone_("train", *words, "-o", "none.onnx"), "riff_wet.wav does not exist", code=1)
    record("riff_dry.wav", "riff_wet.wav", seed=2)
    refused(fxclone_("train", *words, "-o", "none.onnx"), "riff_dry.wav has changed since this run began", code=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config | {"takes": [{"dry": "x"}]}, "incomplete"),
        (lambda config: config | {"takes": []}, "incomplete"),
        (lambda config: config | {"takes": 3}, "incomplete"),
        (lambda config: config | {"lag_samples": "far"}, "incomplete"),
    ],
)
def test_a_damaged_run_of_a_recording(fxclone_, tmp_path, change, says):
    record("riff_dry.wav", "riff_wet.wav", seconds=6)
    facts = train(fxclone_, "--dry", "riff_dry.wav", "--wet", "riff_wet.wav", "--max-steps", 3)
    file = tmp_path / facts["run"] / "config.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    refused(fxclone_("train", "--resume", "last", "-o", "none.onnx"), says)


def test_files_that_cannot_be_used_are_told_before_training(fxclone_, tmp_path):
    record("a_dry.wav", "a_wet.wav", seconds=6)
    record("b_dry.wav", "b_wet.wav", seconds=3)
    soundfile.write("silent.wav", np.zeros(6 * RATE), RATE)
    (tmp_path / "words.wav").write_text("no sound")
    for words, says in (
        (("--dry", "a_dry.wav", "--wet", "gone.wav"), "gone.wav does not exist"),
        (("--dry", "a_dry.wav", "--wet", "words.wav"), "words.wav is not a sound file"),
        (("--dry", "a_dry.wav", "--wet", "silent.wav"), "silent.wav is silent"),
        (("--dry", "b_dry.wav", "--wet", "b_wet.wav"), "b_wet.wav is 3.0 s long"),
        (("--dry", "a_dry.wav", "--dry", "b_dry.wav", "--wet", "b_wet.wav"), "2 dry and 1 wet files"),
    ):
        code, out, err = fxclone_("train", *words, *MODEL, "-q")
        assert code in (1, 2)
        assert out == ""
        assert len(err.strip().splitlines()) == 1
        assert says in err
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("*.onnx"))


def test_an_unusable_recording_is_refused_with_the_reason_unless_asked_for(fxclone_, tmp_path, rng):
    record("a_dry.wav", "a_wet.wav", seconds=8)
    other = 0.2 * rng.standard_normal((1, 8 * RATE))
    soundfile.write("a_wet.wav", other.T, RATE, subtype="FLOAT")
    words = ("train", "--dry", "a_dry.wav", "--wet", "a_wet.wav", *MODEL)
    err = refused(fxclone_(*words, "-q"), "a_wet.wav: not usable because", "--anyway", code=1)
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.onnx"))
    facts = train(fxclone_, "--dry", "a_dry.wav", "--wet", "a_wet.wav", "--anyway", "--max-steps", 5)
    assert facts["check"]["verdict"] == "unusable"
    assert load_clone(tmp_path / "a.onnx").meta.training["check"]["verdict"] == "unusable"


@pytest.mark.parametrize(
    ("floor_db", "own_target", "ends_at_db"), [(-41.26, False, -41.3), (-41.26, True, -80), (-95, False, -80),
                                               (None, False, -80), (3.0, False, 0)],
)  # fmt: skip
def test_training_stops_where_only_noise_is_left(tmp_path, floor_db, own_target, ends_at_db):
    pair = Pair(np.ones((1, 100), np.float32), np.ones((1, 100), np.float32), RATE)
    reference = RecordingReference((Take(tmp_path / "dry.wav", tmp_path / "wet.wav"),))
    plan = Plan(reference, Recipe(), RATE, tmp_path / "x.onnx", own_target=own_target)
    ends, said = stopping_at_noise(plan, Material(pair, pair, floor_db=floor_db))
    assert ends.recipe.target_esr_db == ends_at_db
    assert len(said) == (ends_at_db != -80)
