"""``fxclone render`` as typed: names, folders, failures that stay alone, exit codes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from processors import Breaks, Gain

import fxclone.clone
from fxclone import cli
from fxclone.commands import render as command
from fxclone.errors import UsageError
from fxclone.files import read_sound, sound_info, write_sound
from fxclone.render_plan import plan_renders

RATE = 48_000
MODELS = {
    "half.onnx": lambda: Gain(0.5, RATE),
    "quarter.onnx": lambda: Gain(0.25, 44_100),
    "bad.onnx": lambda: Breaks(9),
}


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, capsys):
    """Run a command line in an empty folder, with clones that need no file."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command.register(app)
    monkeypatch.setattr(cli, "build_app", lambda: app)
    monkeypatch.setattr(fxclone.clone, "load_clone", lambda path: MODELS[path.name]())
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = cli.run(["render", *map(str, words)])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.fixture
def sound(rng):
    return (0.1 * rng.standard_normal((1, 5000))).astype(np.float32)


def test_one_file(fxclone_, tmp_path, sound):
    write_sound("in.wav", sound, RATE, subtype="float")
    code, out, err = fxclone_("--model", "half.onnx", "in.wav", "-o", "out.wav")
    assert (code, err) == (0, "")
    assert "out.wav" in out
    assert "x real time" in out
    np.testing.assert_array_equal(read_sound("out.wav")[0], sound * np.float32(0.5))
    code, out, err = fxclone_("--model", "half.onnx", "in.wav", "-o", "out.wav")
    assert code == 2
    assert "--force" in err
    assert len(err.splitlines()) == 1
    assert fxclone_("--model", "half.onnx", "in.wav", "-o", "out.wav", "--force", "--quiet") == (0, "", "")


def test_default_name_says_the_clones(fxclone_, tmp_path, sound):
    write_sound("in.flac", sound, RATE)
    assert fxclone_("-m", "half.onnx", "-m", "quarter.onnx", "in.flac")[0] == 0
    assert sound_info("in-half-quarter.flac").samples == 5000


def test_a_folder_is_mirrored_and_a_bad_file_stays_alone(fxclone_, tmp_path, sound):
    (tmp_path / "takes" / "deep").mkdir(parents=True)
    write_sound("takes/a.wav", sound, RATE)
    write_sound("takes/deep/b.flac", sound, 44_100)
    (tmp_path / "takes" / "broken.wav").write_text("no sound")
    code, out, err = fxclone_("--model", "half.onnx", "takes", "-o", "wet", "--json")
    assert code == 1
    assert "broken.wav" in err
    answer = json.loads(out)
    assert [report["target"] for report in answer["files"]] == ["wet/a.wav", "wet/deep/b.flac"]
    assert [failure["source"] for failure in answer["failed"]] == ["takes/broken.wav"]
    assert sound_info("wet/deep/b.flac").sample_rate == 44_100
    assert sorted(path.name for path in (tmp_path / "wet").rglob("*")) == ["a.wav", "b.flac", "deep"]


def test_a_missing_file_among_several(fxclone_, tmp_path, sound):
    write_sound("a.wav", sound, RATE)
    code, out, err = fxclone_("--model", "half.onnx", "gone.wav", "a.wav", "-o", "wet/")
    assert code == 1
    assert "gone.wav does not exist" in err
    assert sound_info("wet/a.wav").samples == 5000
    assert "1 of 2 files" in out


def test_one_file_into_a_folder(fxclone_, tmp_path, sound):
    write_sound("a.wav", sound, RATE)
    assert fxclone_("--model", "half.onnx", "a.wav", "-o", "new/")[0] == 0
    assert sound_info("new/a.wav").samples == 5000


def test_failures_are_one_line_with_their_code(fxclone_, tmp_path, sound):
    write_sound("a.wav", sound, RATE)
    write_sound("b.wav", sound, RATE)
    for words, code, says in (
        (("--model", "bad.onnx", "a.wav", "-o", "x.wav"), 1, "NaN"),
        (("--model", "half.onnx", "gone.wav", "-o", "x.wav"), 1, "does not exist"),
        (("--model", "half.onnx", "a.wav", "b.wav", "-o", "x.wav"), 2, "several inputs"),
        (("--model", "half.onnx", "a.wav", "-o", "a.wav", "--force"), 2, "the source itself"),
        (("--model", "half.onnx", "a.wav", "-o", "nowhere/x.wav"), 2, "does not exist"),
        (("--model", "half.onnx", "a.wav", "-o", "x.xyz"), 1, "xyz"),
        (("--model", "half.onnx", "a.wav", "-o", "x.wav", "--mix", "3"), 2, "mix"),
        (("--model", "half.onnx", "a.wav", "--no-tail", "--tail-s", "1"), 2, "contradict"),
        (("a.wav",), 2, "--model"),
    ):
        got, out, err = fxclone_(*words)
        assert (got, out) == (code, "")
        assert says in err
        assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_options_reach_the_file(fxclone_, tmp_path, sound):
    write_sound("a.wav", sound, RATE, subtype="16")
    words = ("--sample-rate", "96000", "--bit-depth", "float", "--tail-s", "0.5", "--out-gain-db", "6")
    assert fxclone_("--model", "half.onnx", "a.wav", "-o", "b.wav", *words)[0] == 0
    info = sound_info("b.wav")
    assert (info.sample_rate, info.subtype, info.samples) == (96_000, "FLOAT", 10_000 + 48_000)


def test_what_cannot_stay_in_its_format_becomes_wav(fxclone_, tmp_path, sound):
    write_sound("a.mp3", sound, 44_100)
    code, _, err = fxclone_("--model", "half.onnx", "a.mp3", "--sample-rate", "96000")
    assert code == 0
    assert "a-half.wav" in err
    assert sound_info("a-half.wav").sample_rate == 96_000


def test_two_inputs_never_share_an_output(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.wav").touch()
    with pytest.raises(UsageError, match="would both be written"):
        plan_renders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", "m")


def test_a_second_run_does_not_render_the_first_ones_output(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("x.wav", "out/x.wav"):
        (tmp_path / name).touch()
    assert plan_renders([tmp_path], tmp_path / "out", "m") == [(tmp_path / "x.wav", tmp_path / "out" / "x.wav")]


CTRL_C = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
import fxclone.clone
from processors import Gain
from fxclone import cli

class Slow(Gain):
    def work(self, block):
        time.sleep(0.05)
        return block

fxclone.clone.load_clone = lambda path: Slow(1, 48_000)
sys.exit(cli.run(["render", "--model", "slow.onnx", "in.wav", "-o", "out.flac"]))
"""


def test_ctrl_c_midway_leaves_nothing(tmp_path):
    write_sound(tmp_path / "in.wav", np.full((1, 60 * RATE), 0.1, np.float32), RATE)
    running = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(Path(__file__).parent)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(list(tmp_path.iterdir())) == 2  # the input, and the temporary file
    running.send_signal(signal.SIGINT)
    err = running.communicate(timeout=20)[1]
    assert running.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
