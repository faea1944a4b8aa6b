"""`fxclone play` as a user meets it, on the null device."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from faults import playing
from play_clones import drive_clone, failing_clone, heavy_clone, late_clone

from fxclone.cli import run

NULL = ["--device", "null"]


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return str(drive_clone(tmp_path_factory.mktemp("clones") / "drive.onnx"))


@pytest.fixture
def take(tmp_path, rng):
    path = tmp_path / "take.wav"
    soundfile.write(path, playing(rng, 48_000, 0.5).T, 48_000, subtype="FLOAT")
    return str(path)


def start(*args, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_json_is_one_object_with_everything_promised(drive, capsys):
    assert run(["play", "--model", drive, *NULL, "--duration", "0.5", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    report = json.loads(captured.out)
    assert set(report["callback_ms"]) == {"p50", "p99", "p999", "max"}
    assert report["blocks"] > 10
    assert report["seconds"] == pytest.approx(report["blocks"] * report["block"] / 48_000, abs=1e-3)
    assert report["budget_ms"] == pytest.approx(1e3 * report["block"] / report["sample_rate"], abs=1e-3)
    assert report["trips"] == []
    assert isinstance(report["xruns"], int)
    assert report["latency_ms"]["clone"] == 0.0


def test_first_sound_is_quick_and_needs_no_torch(drive):
    code = (
        "import sys; from fxclone.cli import run; "
        f"code = run(['play', '--model', {drive!r}, '--device', 'null', '--duration', '0.2', '--json']); "
        "assert code == 0; print([m for m in ('torch', 'scipy', 'pedalboard', 'sounddevice') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    report, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert 0.0 < json.loads(report)["first_sound_s"] < 1.5 * 4  # generous: the machine may be busy


def test_a_file_is_played_to_its_end_and_what_was_heard_recorded(drive, take, tmp_path, capsys):
    heard = tmp_path / "heard.wav"
    assert run(["play", "--model", drive, *NULL, "--input-file", take, "--record", str(heard), "--block", "100"]) == 0
    dry, _ = soundfile.read(take, dtype="float32")
    wet, rate = soundfile.read(heard, dtype="float32", always_2d=True)
    assert rate == 48_000
    assert wet.shape[1] == 2
    assert len(wet) >= len(dry)
    expected = np.tanh(3 * dry)
    limited = np.abs(expected) > 0.9  # there the ceiling bends
    np.testing.assert_allclose(wet[: len(dry), 0][~limited], expected[~limited], atol=1e-4)
    assert np.abs(wet[len(dry) :]).max() == 0.0
    assert "wrote" in capsys.readouterr().out


def test_without_a_terminal_it_says_a_header_and_a_summary(drive, take, capsys):
    assert run(["play", "--model", drive, *NULL, "--input-file", take, "--loop", "--duration", "0.8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("drop-outs")]  # this machine may be busy
    assert len(lines) == 2
    assert "48000 Hz" in lines[0]
    assert "latency" in lines[0]
    assert "Ctrl-C" in lines[0]
    assert lines[1].startswith("played 0.")


def test_two_clones_of_different_rates_run_in_series(drive, tmp_path, capsys):
    other = str(late_clone(tmp_path / "cd.onnx", 44_100))
    args = ["play", "-m", drive, "-m", other, *NULL, "--sample-rate", "96000", "--duration", "0.3", "--json"]
    assert run(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sample_rate"] == 96_000
    assert report["latency_samples"] > 100
    assert report["trips"] == []


def test_a_clone_that_breaks_while_playing_is_reset_then_bypassed_and_told(tmp_path, take, capsys):
    clone = str(failing_clone(tmp_path / "fails.onnx", 12_000))
    args = ["play", "-m", clone, *NULL, "--input-file", take, "--loop", "--duration", "1.5", "--json"]
    assert run(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert [trip["what"] for trip in report["trips"]] == ["not finite"] * 3
    assert report["trips"][0]["action"] == "soft reset"
    assert set(report["trips"][0]) == {"time_s", "what", "numbers", "action"}
    assert report["bypassed"]


def test_too_heavy_is_said_with_numbers_instead_of_crackling(tmp_path, capsys):
    clone = str(heavy_clone(tmp_path / "heavy.onnx"))
    assert run(["play", "-m", clone, *NULL, "--duration", "1"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in ("too heavy", "us per sample", "20.8 us", "x real time", "times smaller", "--anyway"):
        assert part in error


def test_too_heavy_can_be_played_anyway_and_the_drop_outs_are_counted(tmp_path, capsys):
    clone = str(heavy_clone(tmp_path / "heavy.onnx"))
    assert run(["play", "-m", clone, *NULL, "--duration", "0.4", "--anyway", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["blocks"] > 0
    assert report["xruns"] >= report["blocks"] - 1
    assert report["xrun_kinds"] == {"late block": report["xruns"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_is_a_good_end(drive, number, tmp_path):
    heard = tmp_path / "heard.wav"
    playing_now = start("play", "--model", drive, *NULL, "--record", str(heard), "--json")
    until = time.monotonic() + 30
    while not list(tmp_path.glob(".heard*")) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    playing_now.send_signal(number)
    out, err = playing_now.communicate(timeout=30)
    assert (playing_now.returncode, err) == (0, "")
    assert json.loads(out)["blocks"] > 0
    assert soundfile.info(heard).frames > 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--block", "0"], 2, "expected 1 to 8192"),
        (["--mix", "1.5"], 2, "expected 0 to 1"),
        (["--sample-rate", "100"], 2, "sample rate 100 Hz"),
        (["--input-channel", "0"], 2, "--input-channel '0'"),
        (["--input-channel", "left"], 2, "--input-channel 'left'"),
        (["--duration", "0"], 2, "--duration"),
        (["--duration", "nan"], 2, "--duration"),
        (["--loop"], 2, "--input-file"),
        (["--input-file", "missing.wav"], 1, "missing.wav"),
        (["--input-file", __file__], 1, "test_play.py"),
        (["--input-device", "hw:0"], 2, "--device names input and output"),
        (["--record", "/no/such/folder/x.wav"], 2, "does not exist"),
        (["--record", "x.strange"], 1, "no sound format goes with"),
    ],
)
def test_bad_input_is_one_clear_line(drive, args, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["play", "--model", drive, *NULL, "--duration", "0.1", *args]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_never_overwritten_unasked(drive, tmp_path, capsys):
    heard = tmp_path / "heard.wav"
    heard.write_bytes(b"mine")
    args = ["play", "-m", drive, *NULL, "--duration", "0.1", "--record", str(heard)]
    assert run(args) == 2
    assert heard.read_bytes() == b"mine"
    assert run([*args, "--force"]) == 0
    assert soundfile.info(heard).frames > 0


def test_a_missing_clone_is_one_clear_line(capsys):
    assert run(["play", "--model", "nowhere.onnx", *NULL]) == 1
    assert "nowhere.onnx" in capsys.readouterr().err


def test_the_live_line_appears_on_a_terminal_and_fits_80_columns(drive, take):
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", "play", "-m", drive, *NULL, "--input-file", take, "--duration", "0.5"],
        stdout=child,
        stderr=child,
        stdin=child,
    )
    os.close(child)
    shown = b""
    try:
        while chunk := os.read(parent, 4_096):
            shown += chunk
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(parent)
        process.wait(timeout=30)
    assert process.returncode == 0
    parts = re.split(r"\r|\n|\x1b\[K|\x1b\[1A", shown.decode())
    live = [part for part in parts if part.startswith("in ")]
    assert live
    stay = ("drive on", "played", "drop-outs")  # what is said once may be as long as it likes
    assert all(len(line) <= 79 for line in parts if not line.startswith(stay))
    assert "cpu" in live[0]
    assert "xruns" in live[0]
    assert any("b bypass" in part and "q quit" in part for part in parts)
