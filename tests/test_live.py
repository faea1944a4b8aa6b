"""Two processes: commands and keys reach the sound, and either may be killed without harm to the other."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faults import playing
from play_clones import drive_clone, late_clone

from fxclone.cli import run
from fxclone_realtime.face import Hints, PeakHold, cannot_keep_up, meter
from fxclone_realtime.facts import Facts, facts_from
from fxclone_realtime.meters import Meters

NULL = ["--device", "null"]
RATE = 48_000


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return str(drive_clone(tmp_path_factory.mktemp("clones") / "drive.onnx"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return str(late_clone(tmp_path_factory.mktemp("clones") / "clean.onnx", RATE))


@pytest.fixture
def take(tmp_path, rng):
    """Never silent, and soft enough for the ceiling to leave it alone."""
    path = tmp_path / "take.wav"
    sound = 0.2 * np.sin(2 * np.pi * 110 * np.arange(RATE) / RATE) + 0.01 * rng.standard_normal(RATE)
    soundfile.write(path, sound.astype(np.float32), RATE, subtype="FLOAT")
    return str(path)


def start(*args, stdin=subprocess.DEVNULL, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", "play", *args],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # or `readline` would read ahead what `communicate` then does not find
        **more,
    )


def said(player):
    """What it has still to say: standard output and error."""
    return [text.decode() for text in player.communicate(timeout=60)]


def line_with(player, text, timeout_s=60):
    """The next line of output that holds a text."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if select.select([player.stdout], [], [], 0.5)[0]:
            line = player.stdout.readline().decode()
            if text in line or not line:
                return line
    raise TimeoutError(text)


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not tell a process's children")
    return [int(child) for child in path.read_text().split()]


def gone(pid, timeout_s=30):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def recorded(path):
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    return sound.T


def test_lines_on_standard_input_change_the_sound(drive, clean, take, tmp_path):
    heard, dry = tmp_path / "heard.flac", tmp_path / "dry.flac"
    args = ["-m", drive, *NULL, "--input-file", take, "--loop", "--record", str(heard), "--record-dry", str(dry)]
    player = start(*args, "--control", "-", stdin=subprocess.PIPE)
    try:
        line_with(player, "drive on null")
        time.sleep(0.3)
        for line in ("nonsense", "bypass on", "load nowhere.onnx"):
            player.stdin.write(f"{line}\n".encode())
        assert "no command" in line_with(player, "no command")
        assert "nowhere.onnx" in line_with(player, "nowhere")
        time.sleep(0.3)
        player.stdin.write(f"bypass off\ngain -6\nload {clean}\n".encode())
        time.sleep(1.5)
        player.stdin.write(b"quit\n")
        out, err = said(player)
    finally:
        player.kill()
    assert (player.returncode, err) == (0, "")
    assert f"wrote {heard}" in out
    assert f"wrote {dry}" in out
    wet, came = recorded(heard), recorded(dry)
    assert wet.shape[1] == came.shape[1] > RATE // 2
    assert (wet.shape[0], came.shape[0]) == (2, 1)
    np.testing.assert_allclose(wet[0, :2_000], np.tanh(3 * came[0, :2_000]), atol=1e-4)
    bypassed = np.abs(wet[0] - came[0]) < 1e-4
    assert bypassed.sum() > 5_000  # as it came in, for a while
    end = slice(-4_000, -2_400)  # before the sound fades out
    np.testing.assert_allclose(wet[0, end], 10 ** (-6 / 20) * came[0, end], atol=1e-4)
    assert np.abs(wet[:, -1]).max() < 0.02  # faded, not cut
    clean_step = np.abs(np.diff(np.tanh(3 * came[0]))).max() + 0.02
    assert np.abs(np.diff(wet[0])).max() < clean_step


def test_a_pipe_can_be_written_to_by_one_after_another(drive, tmp_path):
    pipe = tmp_path / "commands"
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(pipe)
    player = start("-m", drive, *NULL, "--control", str(pipe), "--json")
    try:
        for line in ("bypass on\n", "mix 0.5\nquit\n"):
            with pipe.open("w") as writer:
                writer.write(line)
            time.sleep(0.2)
        out, err = said(player)
    finally:
        player.kill()
    assert (player.returncode, err) == (0, "")
    assert json.loads(out)["blocks"] > 0


def test_a_missing_pipe_is_said(drive, capsys):
    assert run(["play", "-m", drive, *NULL, "--control", "nowhere/pipe"]) == 2
    assert "mkfifo" in capsys.readouterr().err


def test_keys_on_a_terminal(drive, clean, take):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    args = ["-m", drive, "--next", clean, "--against", "tanh(drive=2)", *NULL, "--input-file", take, "--loop"]
    player = subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", "play", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""

    def until(text, timeout_s=60):
        nonlocal shown
        end = time.monotonic() + timeout_s
        before = len(shown)
        while text not in shown[before:]:
            assert time.monotonic() < end, shown
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 4_096).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert text in shown[before:], shown
                    return

    try:
        until("q quit")
        for key, shows in [("b", "BYPASS"), ("b", "drive "), ("a", "ORIGINAL: tanh"), ("n", "clean "), ("-", "out -1")]:
            os.write(ours, key.encode())
            until(shows)
        os.write(ours, b"q")
        until("played")
        player.wait(timeout=30)
    finally:
        player.kill()
        os.close(ours)
    assert player.returncode == 0
    drawn = re.split(r"\r|\n|\x1b\[K|\x1b\[1A", shown)
    panel = [line for line in drawn if line and not line.startswith(("drive on", "played", "drop-outs"))]
    assert max(map(len, panel)) <= 79
    assert any("a original" in line and "n next" in line for line in panel)


def test_a_killed_face_leaves_the_sound_a_second_and_then_a_clean_end(drive, take, tmp_path):
    heard = tmp_path / "heard.wav"
    player = start("-m", drive, *NULL, "--input-file", take, "--loop", "--record", str(heard))
    try:
        line_with(player, "drive on null")
        (audio,) = children(player.pid)
        time.sleep(0.3)
        player.kill()
        player.wait(timeout=10)
        assert not heard.exists()  # it still plays
        assert gone(audio)
    finally:
        player.kill()
        player.communicate()
    wet = recorded(heard)
    assert wet.shape[1] > RATE // 4
    came = np.resize(soundfile.read(take, dtype="float32")[0], wet.shape[1])  # it loops
    played = slice(0, -4_800)  # before it faded out: as if nothing had been
    np.testing.assert_allclose(wet[:, played], np.tanh(3 * np.stack([came, came]))[:, played], atol=1e-4)
    assert np.abs(wet[:, -1]).max() < 0.02  # faded out
    assert np.abs(np.diff(wet[0])).max() < 0.2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_killed_audio_process_is_told(drive, take):
    player = start("-m", drive, *NULL, "--input-file", take, "--loop", "--json")
    try:
        until = time.monotonic() + 60
        while not (found := children(player.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(3.0)
        os.kill(found[0], signal.SIGKILL)
        out, err = said(player)
    finally:
        player.kill()
    assert player.returncode == 1
    assert err.count("\n") == 1
    assert "audio process ended unexpectedly (signal 9, SIGKILL)" in err
    if out:  # it had begun to play, busy as this machine may be
        report = json.loads(out)
        assert report["blocks"] > 0
        assert "SIGKILL" in report["error"]


def test_what_cannot_be_combined(drive, tmp_path, capsys):
    same = str(tmp_path / "x.wav")
    for args, says in [
        (["-m", drive, "--chain", drive], "either --model"),
        ([], "either --model"),
        (["-m", drive, "--record", same, "--record-dry", same], "each its own"),
        (["-m", drive, "--against", "original"], "does not say which effect"),
        (["-m", drive, "--input-dbu", "12"], "no dBu calibration"),
        (["--chain", f"{drive} > mp3"], "cannot be played live"),
        (["--chain", f"{drive} > nosucheffect"], "no effect"),
    ]:
        assert run(["play", *args, *NULL, "--duration", "0.1"]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


# The face


def facts(**more):
    usual = {
        "chains": ("drive",), "against": None, "device": "card", "input_file": None, "sample_rate": RATE, "block": 64,
        "outputs": 2, "wet_channels": 1, "sound": "mono", "latency_ms": {"device_in": 1.0, "device_out": 1.0,
        "clone": 0.0, "total": 2.0}, "tail_s": 0.0, "notes": (), "load": 0.2, "advice": "use a model 2.0 times smaller",
        "priority": "real-time priority", "ceiling": 1.0,
    }  # fmt: skip
    return Facts(**{**usual, **more})


class Seen:
    def __init__(self, about):
        self.facts, self.meters = about, Meters(about.budget_s, about.outputs)


def test_facts_survive_the_way():
    about = facts(notes=("one", "two"))
    assert facts_from(json.loads(json.dumps(about.as_dict()))) == about


def test_drop_outs_are_explained_once_with_what_would_help():
    hints, seen = Hints(), Seen(facts())
    assert hints.take(seen, 0.5, 0.0) == []
    for _ in range(5):
        seen.meters.xrun("late block")
    (first,) = hints.take(seen, 0.5, 1.0)
    assert "something else holds up the sound" in first
    assert "--block 128" in first
    assert hints.take(seen, 0.5, 2.0) == []
    seen.meters.load = 1.3
    assert "blocks take 130 % of their time; use a model 2.0 times smaller" in cannot_keep_up(seen.facts, seen.meters)


def test_an_input_that_stays_silent_is_asked_about_once():
    hints, seen = Hints(), Seen(facts())
    said = [hint for second in range(60) for hint in hints.take(seen, 0.0, float(second))]
    assert len(said) == 1
    assert "nothing comes in" in said[0]
    assert hints.take(seen, 0.3, 61.0) == []
    assert len([hint for second in range(62, 90) for hint in hints.take(seen, 0.0, float(second))]) == 1


def test_meters_hold_their_peak_and_say_clip():
    hold = PeakHold()
    assert [hold.follow(peak, now) for peak, now in ((0.5, 0.0), (0.1, 1.0), (0.1, 2.0))] == [0.5, 0.5, 0.1]
    assert meter(0.1, 10, held=1.0) == "███████··▏ -20"
    assert meter(1.5, 10, clipped=True) == "██████████CLIP"
    assert meter(0.0, 10) == "·········· off"


def test_meters_in_shared_memory_are_the_same_on_both_sides():
    memory = memoryview(bytearray(Meters.BYTES))
    here, there = Meters(1e-3, 2, memory), Meters(1e-3, 2, memory)
    here.levels(1.5, [0.25, 1.25], 1.0)
    here.block_done(64, 1.0, 1.0005)
    here.xrun("input overflow")
    assert (there.blocks, there.samples, there.xrun_kinds) == (1, 64, {"input overflow": 1})
    assert (there.dry_clipped_blocks, there.clipped_blocks) == (1, 1)
    assert there.times.max_s == pytest.approx(0.0005)
    assert there.take_peaks() == (1.5, (0.25, 1.25))
    assert here.take_peaks() == (0.0, (0.0, 0.0))
    here.levels(0.5, [0.75], 1.0)  # one channel, at both outputs
    assert there.take_peaks() == (0.5, (0.75, 0.75))
    assert (there.dry_clipped_blocks, there.clipped_blocks) == (1, 1)


def test_what_was_heard_is_recorded_whatever_the_input(drive, tmp_path, rng):
    take = tmp_path / "take.wav"
    soundfile.write(take, playing(rng, RATE, 0.3).T, RATE, subtype="FLOAT")
    heard = tmp_path / "heard.wav"
    chain = f"{drive} > gain(gain_db=-12) > lowpass(cutoff_hz=3000)"
    assert run(["play", "--chain", chain, *NULL, "--input-file", str(take), "--record", str(heard), "--json"]) == 0
    from fxclone.effects import effect

    dry = recorded(take)
    wet = effect("gain(gain_db=-12) > lowpass(cutoff_hz=3000)").render(np.tanh(3 * dry), RATE)
    np.testing.assert_allclose(recorded(heard)[:1, : dry.shape[1]], wet, atol=1e-4)
