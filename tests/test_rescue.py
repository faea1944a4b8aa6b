"""A recording survives the process that was making it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from play_clones import drive_clone

from fxclone_realtime.rescue import rescue, unfinished

RATE = 48_000
KILLED = """
import os, sys
import numpy as np
from fxclone_realtime.recorder import Recorder
recorder = Recorder(__import__("pathlib").Path(sys.argv[1]), 48_000, 2)
x = 0.3 * np.sin(2 * np.pi * 110 * np.arange(96_000) / 48_000).astype(np.float32)
for at in range(0, 96_000, 2_400):
    recorder.push(np.stack([x, -x])[:, at : at + 2_400])
    recorder.drain()
os.kill(os.getpid(), 9)
"""


def wanted(samples):
    x = 0.3 * np.sin(2 * np.pi * 110 * np.arange(samples) / RATE)
    return np.stack([x, -x])


@pytest.mark.parametrize(
    ("suffix", "least", "exact"),
    [(".wav", 96_000, True), (".aiff", 96_000, True), (".w64", 96_000, True), (".flac", 80_000, True),
     (".ogg", 40_000, False)],
)  # fmt: skip
def test_what_a_killed_process_had_written_can_be_read(suffix, least, exact, tmp_path):
    target = tmp_path / f"ta[k]e.{suffix}"  # a name that looks like a pattern
    other = tmp_path / f".other.0123abcd.tmp{suffix}"
    other.touch()
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(unfinished(target)) == 1
    assert rescue(target, unfinished(target)) == target
    assert set(tmp_path.iterdir()) == {target, other}
    sound, rate = soundfile.read(target, always_2d=True)
    assert rate == RATE
    assert least <= len(sound) <= 96_000
    np.testing.assert_allclose(sound.T, wanted(len(sound)), atol=1e-6 if exact else 0.05)


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path):
    target = tmp_path / "take.wav"
    target.write_bytes(b"mine")
    left = tmp_path / ".take.0123abcd.tmp.wav"
    soundfile.write(left, np.zeros(100), RATE)
    assert rescue(target, unfinished(target)) is None
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"mine"
    left.write_bytes(b"RIFF")
    assert rescue(tmp_path / "take.wav", unfinished(target), force=True) is None
    assert target.read_bytes() == b"mine"
    soundfile.write(left, np.zeros(100), RATE)
    assert rescue(target, unfinished(target), force=True) == target
    assert soundfile.info(target).frames == 100


def test_a_killed_audio_process_leaves_its_recordings(tmp_path):
    drive = drive_clone(tmp_path / "drive.onnx")
    take, heard, dry = tmp_path / "take.wav", tmp_path / "heard.wav", tmp_path / "dry.flac"
    tone = 0.2 * np.sin(2 * np.pi * 110 * np.arange(RATE) / RATE)
    soundfile.write(take, tone.astype(np.float32), RATE, subtype="FLOAT")
    args = ["-m", str(drive), "--device", "null", "--input-file", str(take), "--loop"]
    command = [sys.executable, "-m", "fxclone.cli", "play", *args, "--record", str(heard), "--record-dry", str(dry)]
    player = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        audio = _child_that_records(player.pid, heard)
        os.kill(audio, signal.SIGKILL)
        out, err = player.communicate(timeout=60)
    finally:
        player.kill()
    assert player.returncode == 1
    assert "SIGKILL" in err
    report = json.loads(out)
    assert report["recordings"] == [str(heard), str(dry)]
    assert (report["record"], report["record_dry"]) == (str(heard), str(dry))
    wet, came = (soundfile.read(path, always_2d=True)[0] for path in (heard, dry))
    assert len(wet) > 20_000
    assert len(came) > 10_000
    shorter = min(len(wet), len(came))
    np.testing.assert_allclose(wet[:shorter, 0], np.tanh(3 * came[:shorter, 0]), atol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"drive.onnx", "take.wav", "heard.wav", "dry.flac"}


def _child_that_records(pid, heard, bytes_wanted=300_000):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.parent.exists():
        pytest.skip("this system does not tell a process's children")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.05)
        if sum(path.stat().st_size for path in unfinished(heard)) > bytes_wanted:
            return int(children.read_text().split()[0])
    raise TimeoutError
