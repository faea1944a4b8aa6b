"""`fxclone play` and `devices` on a real PortAudio stream: JACK's dummy driver."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from faults import playing
from jack import jack_server
from play_clones import drive_clone, late_clone

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def server():
    with jack_server() as running:
        yield running


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return str(drive_clone(tmp_path_factory.mktemp("clones") / "drive.onnx"))


def fxclone(server, *args, timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "fxclone.cli", *args],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(server, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", *args],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def new_client(server, known, timeout_s=20):
    """Wait for a client that is not known yet. Asked rarely: each question is itself a client, and upsets JACK."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        time.sleep(0.4)
        ports = [line for line in server.ports() if ":out_" in line and not line.startswith(" ")]
        found = {port.split(":")[0] for port in ports} - known
        if found:
            return found.pop()
    raise TimeoutError("no client came")


def test_it_plays_on_a_real_stream(server, drive):
    done = fxclone(server, "play", "-m", drive, "--block", "64", "--duration", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert "JACK" in report["device"]
    assert (report["sample_rate"], report["block"], report["channels_out"]) == (48_000, 64, 2)
    assert report["blocks"] > 500
    assert 0 < report["first_sound_s"] < 1.5 * 4
    assert report["trips"] == []
    assert report["latency_ms"]["device_out"] > 0


def test_sound_really_flows_from_one_program_through_another(server, drive, tmp_path, rng):
    # One player feeds a file to its outputs; the second one listens to them and records what it makes of them.
    tone = tmp_path / "tone.wav"
    soundfile.write(tone, playing(rng, 48_000, 1.0).T, 48_000, subtype="FLOAT")
    clean = str(late_clone(tmp_path / "clean.onnx", 48_000))
    heard = tmp_path / "heard.wav"
    listener = start(server, "play", "-m", drive, "--record", str(heard), "--duration", "5", "--json")
    listening = new_client(server, set())
    args = ("--input-file", str(tone), "--loop", "--duration", "20", "--json")
    feeder = start(server, "play", "-m", clean, *args)
    try:
        feeding = new_client(server, {listening})
        connect = ["jack_connect", f"{feeding}:out_0", f"{listening}:in_0"]
        subprocess.run(connect, env=server.environment, timeout=10, check=True, capture_output=True)
        out, err = listener.communicate(timeout=30)
    finally:
        feeder.terminate()
        feeder.communicate(timeout=30)
        listener.kill()
    assert err == ""
    assert listener.returncode == 0
    assert feeder.returncode == 0
    wet, _ = soundfile.read(heard, dtype="float32", always_2d=True)
    assert np.abs(wet).max() > 0.3
    np.testing.assert_array_equal(wet[:, 0], wet[:, 1])
    assert json.loads(out)["trips"] == []


def test_a_clone_of_another_rate_runs_resampled(server, tmp_path):
    clone = str(late_clone(tmp_path / "cd.onnx", 44_100))
    done = fxclone(server, "play", "-m", clone, "--duration", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the clone runs at 44100 Hz, the device at 48000 Hz: resampled" in done.stdout


def test_an_unsupported_rate_names_those_that_work(server, drive):
    done = fxclone(server, "play", "-m", drive, "--sample-rate", "96000", "--duration", "1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "96000 Hz is refused; usable: 48000" in done.stderr


def test_a_channel_that_is_not_there(server, drive):
    done = fxclone(server, "play", "-m", drive, "--input-channel", "7", "--duration", "1")
    assert done.returncode == 2
    assert "--input-channel 7, but system" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_second_input_and_stereo(server, drive):
    for channel, count in (("2", 1), ("1+2", 2)):
        done = fxclone(server, "play", "-m", drive, "--input-channel", channel, "--duration", "0.5", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["channels_in"] == count


def test_devices_lists_it_with_what_works(server):
    done = fxclone(server, "devices", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (system,) = [device for device in json.loads(done.stdout) if "JACK" in device["host_api"]]
    assert system["inputs"] == system["outputs"] == 2
    assert system["input_rates_hz"] == system["output_rates_hz"] == [48_000]
    assert system["is_default_input"]
    table = fxclone(server, "devices")
    assert "JACK" in table.stdout
    assert "null" in table.stdout


def test_a_device_that_is_lost_is_said_with_the_summary_and_no_hang(drive, tmp_path):
    heard = tmp_path / "heard.wav"
    with jack_server() as server:
        args = ("--json", "--record", str(heard), "--reconnect-s", "0")
        player = start(server, "play", "-m", drive, *args)
        try:
            new_client(server, set())
            time.sleep(0.5)
            server.kill()
            out, err = player.communicate(timeout=20)
        finally:
            player.kill()
    assert player.returncode == 1
    assert err.count("\n") == 1
    assert "audio device lost" in err
    report = json.loads(out)
    assert report["blocks"] > 0
    assert "audio device lost" in report["error"]
    assert soundfile.info(heard).frames > 0


def again(server, rate):
    """Start a killed server once more, under the same name, at another rate."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = list(server.process.args)
    command[command.index("48000")] = str(rate)
    server.process = subprocess.Popen(command, env=server.environment, **quiet)
    assert server.starts()


def test_a_device_that_comes_back_is_played_again_as_it_was_set(drive, tmp_path):
    heard, tone = tmp_path / "heard.wav", tmp_path / "tone.wav"
    sound = 0.2 * np.sin(2 * np.pi * 100 * np.arange(48_000) / 48_000)
    soundfile.write(tone, sound.astype(np.float32), 48_000, subtype="FLOAT")
    with jack_server() as server:
        args = ["-m", drive, "--input-file", str(tone), "--loop", "--record", str(heard), "--control", "-"]
        command = [sys.executable, "-m", "fxclone.cli", "play", *args]
        player = subprocess.Popen(
            command,
            env=server.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # or `readline` would read ahead what `communicate` then does not find
        )
        seen = []

        def until(text):
            while not seen or text not in seen[-1]:
                seen.append(player.stdout.readline().decode())
                assert seen[-1], player.stderr.read()

        try:
            new_client(server, set())
            player.stdin.write(b"bypass on\ngain -7\n")
            time.sleep(1.0)
            server.kill()
            until("silent until it is back")
            time.sleep(1.5)  # long enough for a try in vain
            again(server, 44_100)
            until("the device is back")
            assert "at 44100 Hz" in seen[-1]  # whatever rate it has come back with
            until("the clone runs at 48000 Hz, the device at 44100 Hz: resampled")
            time.sleep(1.0)
            player.stdin.write(b"quit\n")
            out, err = (said.decode() for said in player.communicate(timeout=30))
        finally:
            player.kill()
    assert (player.returncode, err) == (0, "")
    assert "came back once" in out
    assert f"wrote {tmp_path / 'heard-2.wav'}" in out
    assert soundfile.info(heard).frames > 0
    second, _ = soundfile.read(tmp_path / "heard-2.wav", dtype="float32", always_2d=True)
    assert len(second) > 4_800
    assert np.abs(second).max() == pytest.approx(0.2 * 10 ** (-7 / 20), rel=1e-2)  # dry, 7 dB softer: as it was set


def test_a_driver_that_stalls_counts_as_lost(drive):
    with jack_server() as server:
        player = start(server, "play", "-m", drive, "--json", "--reconnect-s", "0")
        try:
            new_client(server, set())
            time.sleep(0.5)
            server.process.send_signal(signal.SIGSTOP)
            out, err = player.communicate(timeout=30)
        finally:
            server.process.send_signal(signal.SIGCONT)
            player.kill()
    assert player.returncode == 1
    assert "gives no sound any more" in err
    assert json.loads(out)["blocks"] > 0
