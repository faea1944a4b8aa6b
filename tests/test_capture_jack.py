"""`fxclone capture` on a real PortAudio stream, patched through another JACK client that acts as the pedal."""

from __future__ import annotations

import json
import signal as signals
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jack import jack_server
from jack_pedal import Pedal, PedalSettings

from fxclone.signals.capture_signal import capture_signal

pytestmark = pytest.mark.device

RATE, PERIOD, SECONDS = 48_000, 1024, 5.0
LATENCY_MS = 3.7
SETTINGS = PedalSettings(latency_samples=LATENCY_MS * RATE / 1000, gain_db=-6, inverted=True)
PEDAL = ("--latency-ms", str(LATENCY_MS), "--gain-db", "-6", "--invert")
TEST_SIGNAL = capture_signal(SECONDS, RATE)


@pytest.fixture(scope="module")
def server():
    with jack_server(rate=RATE, period=PERIOD, patient=True) as running:
        yield running


@contextmanager
def pedal(server, *arguments):
    """The other client; PortAudio lists it as the device `pedal`."""
    program = [sys.executable, str(Path(__file__).with_name("jack_pedal.py")), *arguments]
    process = subprocess.Popen(program, env=server.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


def start(server, folder, *arguments):
    asked = ["capture", "--device", "pedal", "--seconds", str(SECONDS), "-o", str(folder), *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "fxclone.cli", *asked],
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sounds(folder):
    read = [soundfile.read(folder / name, dtype="float32") for name in ("dry.wav", "wet.wav")]
    assert [rate for _, rate in read] == [RATE, RATE]
    return read[0][0], read[1][0]


def truth(facts, settings=SETTINGS):
    """What the pedal's formula makes of the parts that were kept, cut as the file is."""
    silence = np.zeros(RATE, np.float32)
    wet = Pedal(settings, RATE).render(np.concatenate([TEST_SIGNAL.sound[0], silence]))
    graph = facts["latency"]["round_trip_samples"] - settings.latency_samples
    assert graph == pytest.approx(round(graph), abs=0.001)
    cut = facts["latency"]["removed_samples"] - round(graph)
    kept = [p for p, known in zip(TEST_SIGNAL.parts, facts["parts"], strict=True) if known["kept"]]
    return np.concatenate([wet[part.start + cut : part.stop + cut] for part in kept])


def test_the_pair_is_the_pedals_formula_and_the_latency_is_right_to_the_sample(server, tmp_path):
    with pedal(server, *PEDAL):
        process = start(server, tmp_path / "pedal", "--loopback-channel", "2")
        out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    assert "return peaks at −" in out
    assert "of which the pedal 3.70 ms (177.60 samples); inverted" in out
    assert f"fxclone train --dry {tmp_path}/pedal/dry.wav --wet {tmp_path}/pedal/wet.wav" in out
    facts = json.loads((tmp_path / "pedal" / "capture.json").read_text())
    assert facts["complete"]
    assert facts["polarity"] == -1
    assert facts["level"]["verdict"] == "good"
    assert facts["check"]["verdict"] == "fine"
    latency = facts["latency"]
    graph = latency["loopback_samples"]  # what JACK and PortAudio hold back: whole blocks
    assert graph % 512 == pytest.approx(0, abs=0.001)
    assert graph >= PERIOD
    assert latency["round_trip_samples"] == pytest.approx(graph + SETTINGS.latency_samples, abs=0.001)
    assert latency["pedal_samples"] == pytest.approx(SETTINGS.latency_samples, abs=0.001)
    dry, wet = sounds(tmp_path / "pedal")
    assert dry.shape == wet.shape
    assert dry.shape[0] > 4 * RATE
    np.testing.assert_allclose(wet, truth(facts), atol=1e-6)


def seconds_to(part, share):
    """When a loud moment of a part is played, counted from the first sound."""
    span = TEST_SIGNAL.parts[part]
    low, high = (int(span.start + k * (span.stop - span.start)) for k in (share, share + 0.4))
    power = np.convolve(np.square(TEST_SIGNAL.sound[0, low:high]), np.ones(4096), "same")
    return (low + int(np.argmax(power)) - TEST_SIGNAL.lead) / RATE


def test_a_gap_and_a_jump_of_the_latency_are_played_again(server, tmp_path):
    faults = ["--drop-after-s", str(seconds_to(1, 0.3)), "--drop-samples", "2048"]
    faults += ["--skip-after-s", str(seconds_to(2, 0.3)), "--skip-samples", "-64"]
    with pedal(server, *PEDAL, *faults):
        process = start(server, tmp_path / "pedal", "--no-level-check", "--json")
        out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    facts = json.loads(out)
    assert facts["complete"]
    assert facts["retakes"] >= 2
    parts = facts["parts"]
    assert [parts[1]["take"] > 1, parts[2]["take"] > 1] == [True, True]
    assert parts[2]["lag_samples"] == pytest.approx(parts[0]["lag_samples"] + 64, abs=0.01)
    dry, wet = sounds(tmp_path / "pedal")
    assert dry.shape == wet.shape
    np.testing.assert_allclose(wet, truth(facts), atol=1e-6)


def test_ctrl_c_leaves_a_folder_with_what_is_whole(server, tmp_path):
    with pedal(server, *PEDAL):
        process = start(server, tmp_path / "pedal", "--no-level-check")
        assert "test signal of 5 s" in process.stdout.readline()
        time.sleep(1.0 + (TEST_SIGNAL.markers[2] + RATE // 2) / RATE)
        process.send_signal(signals.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "wrote" in out
    facts = json.loads((tmp_path / "pedal" / "capture.json").read_text())
    assert facts["interrupted"]
    assert not facts["complete"]
    assert facts["parts"][0]["kept"]
    dry, wet = sounds(tmp_path / "pedal")
    assert dry.shape == wet.shape
    np.testing.assert_allclose(wet, truth(facts), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pedal"]


def test_a_channel_that_is_not_there_and_a_cable_that_is_missing(server, tmp_path):
    with pedal(server, *PEDAL):
        for wrong, said in (
            (["--input-channel", "5"], "--input-channel 5, but pedal"),
            (["--output-channel", "2"], "--output-channel 2, but the device has 1"),
            (["--loopback-channel", "3"], "--loopback-channel 3, but pedal (JACK Audio Connection Kit) has 2"),
            (["--loopback-channel", "1"], "input 1 cannot be return and loopback at once"),
        ):
            process = start(server, tmp_path / "pedal", *wrong)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 2
            assert said in err
            assert err.count("\n") == 1
    process = start(server, tmp_path / "pedal", "--device", "system")  # nothing is patched to the dummy card
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nothing comes back on input 1" in err
    assert not (tmp_path / "pedal").exists()
