"""``fxclone train --resume``: goes on where a run ended, and says what is wrong with a damaged one."""

import json

import numpy as np
import pytest
import torch
from train_runs import CommandLine, log_of, one_object, refused, train_passthrough, weights_in

from fxclone.clone import load_clone
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.memory_stages import DYNAMICS
from fxclone_training.recurrent import Recurrent, RecurrentConfig
from fxclone_training.runs import RunFolder
from fxclone_training.tail import Tail
from fxclone_training.wavenet import WaveNet, WaveNetConfig


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    return CommandLine(monkeypatch, tmp_path, tmp_path_factory, capsys)


def test_resume_goes_on(fxclone_, tmp_path):
    words = ("train", "--effect", "tanh > lowpass(cutoff_hz=5000, order=1)", *fxclone_.quick, "--json")
    first = one_object(fxclone_(*words, "-o", "first.onnx")[1])
    refused(fxclone_("train", "--resume", "last", "--json"), "first.onnx exists already")
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 20, "-o", "second.onnx", "--json")
    assert code == 0, err
    second = one_object(out)
    assert second["run"] == first["run"]
    assert second["effect"] == first["effect"]
    assert second["m"] == first["m"] == 4
    assert second["esr_db"] <= first["esr_db"] + 0.5
    rows = log_of(tmp_path / first["run"])
    assert len({row["best_esr_db"] for row in rows}) > 1
    assert load_clone(tmp_path / "second.onnx").meta.parameters == second["parameters"]
    code, out, err = fxclone_("train", "--resume", first["run"], "--max-steps", 4, "-o", "third.onnx", "--json")
    assert code == 0, err


def test_resume_never_makes_the_kept_weights_worse(fxclone_, tmp_path):
    facts = train_passthrough(fxclone_)
    before = weights_in(tmp_path / facts["run"])
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 1, "--force", "--json")
    assert code == 0, err
    assert one_object(out)["esr_db"] <= facts["esr_db"] + 0.5
    after = weights_in(tmp_path / facts["run"])
    assert before.keys() == after.keys()


def made_run(base, name="tanh-run", *, weights=None, config=None, model=None, **more):
    """A run folder as an interrupted training would leave it."""
    facts = {"effect": "tanh", "recipe": {"seconds": 5.0}, "sample_rate": 48_000, "dry": [], "only_dry": False,
             "output": "tanh.onnx"}  # fmt: skip
    run = RunFolder.create(base / "runs", name, facts | more)
    run.save_weights(model or Ar(ArConfig(m=2, width=2)), -10.0)
    if weights is not None:
        (run.path / "best.safetensors").write_bytes(weights((run.path / "best.safetensors").read_bytes()))
    if config is not None:
        (run.path / "config.json").write_text(config(facts) if callable(config) else config)
    return run.path


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: b"rubbish", lambda data: data[: len(data) // 2], lambda data: data[:-1],
     lambda data: data.replace(b'm\\": 2', b'm\\": 9'), lambda data: data.replace(b"skip_x", b"skip_z"),
     lambda data: data[:-4] + np.float32(np.nan).tobytes()],
    ids=["empty", "rubbish", "half", "a byte short", "other shape", "other names", "NaN"],
)  # fmt: skip
def test_corrupt_weights(fxclone_, tmp_path, damage):
    made_run(tmp_path, weights=damage)
    refused(fxclone_("train", "--resume", "last"), "best.safetensors", code=1)
    assert not (tmp_path / "tanh.onnx").exists()


@pytest.mark.parametrize(
    "config",
    ["", "{", "[]", "null", "{}", lambda facts: json.dumps({**facts, "sample_rate": "fast"}),
     lambda facts: json.dumps({**facts, "sample_rate": None}), lambda facts: json.dumps({**facts, "effect": 5}),
     lambda facts: json.dumps({**facts, "effect": "gone"}), lambda facts: json.dumps({**facts, "recipe": [1]}),
     lambda facts: json.dumps({**facts, "recipe": {"m": "many"}}), lambda facts: json.dumps({**facts, "output": 3}),
     lambda facts: json.dumps({**facts, "dry": 3}), lambda facts: json.dumps({**facts, "dry": [3]})],
    ids=["empty", "cut", "list", "null", "nothing", "rate word", "no rate", "effect 5", "effect gone", "recipe list",
         "recipe word", "output 3", "dry 3", "dry of numbers"],
)  # fmt: skip
def test_a_corrupt_configuration(fxclone_, tmp_path, config):
    made_run(tmp_path, config=config)
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 1)
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1


def test_a_run_without_weights(fxclone_, tmp_path):
    run = made_run(tmp_path)
    (run / "best.safetensors").unlink()
    refused(fxclone_("train", "--resume", "last"), "no run with weights")
    refused(fxclone_("train", "--resume", run), "best.safetensors")


def test_resume_with_a_smaller_window(fxclone_, tmp_path):
    """Either a clone, or one line; never a traceback after all the work."""
    train_passthrough(fxclone_)
    code, _, err = fxclone_("train", "--resume", "last", "--m", 1, "--max-steps", 2, "-o", "b.onnx")
    assert code in (0, 2), err
    assert "Traceback" not in err


def begun(family):
    """A small model of a family, as the first look at a training would have kept it."""
    generator = torch.Generator().manual_seed(0)
    if family == "ar":
        return Ar(ArConfig(m=2, width=3), generator=generator)
    if family == "ar with long memory":
        model = Ar(DYNAMICS["nano"].config(16_000, "tanh"), generator=generator)
        with torch.no_grad():
            model.w_y.zero_()  # stable, whatever comes
        return model
    if family == "recurrent":
        return Recurrent(RecurrentConfig(4, 3), generator=generator)
    if family == "tail":
        return Tail(np.ones((1, 1, 4), np.float32) / 4)
    return WaveNet(WaveNetConfig(channels=3, dilations=(1, 3), skip=2), generator=generator)


@pytest.mark.parametrize("family", ["ar", "ar with long memory", "recurrent", "tail", "wavenet"])
def test_every_family_is_gone_on_with(fxclone_, tmp_path, family):
    """Whatever the recipe says of families: the run's model is what is trained on."""
    model = begun(family)
    recipe = {"seconds": 60.0, "max_steps": 8, "sound_s": 3, "validation_s": 1}
    run = made_run(tmp_path, model=model, recipe=recipe, sample_rate=16_000, effect="tanh(drive=2)")
    code, out, err = fxclone_("train", "--resume", "last", "--threads", 1, "--json")
    assert code == 0, err
    facts = one_object(out)
    assert facts["family"] == model.family
    rows = log_of(run)
    assert rows[0]["stage"] == "resumed"
    assert facts["esr_db"] <= float(rows[0]["esr_db"]) + 0.1
    clone = load_clone(tmp_path / "tanh.onnx")
    assert clone.meta.family == model.family
    if family != "tail":  # which measures its length anew
        assert RunFolder(run).load_weights().stored()[0] == model.stored()[0]


@pytest.mark.parametrize("words", [("--size", "small"), ("--memory", "long"), ("--family", "ar"), ("--width", 3)])
def test_the_shape_is_that_of_the_run(fxclone_, tmp_path, words):
    made_run(tmp_path)
    refused(fxclone_("train", "--resume", "last", *words), f"leave {words[0]} out")
