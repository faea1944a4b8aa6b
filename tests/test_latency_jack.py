"""Measured latency: a real stream whose output is connected with its input, against a bare one and with clones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jack import jack_server
from play_clones import drive_clone, late_clone
from test_play_jack import fxclone, new_client, start

pytestmark = pytest.mark.device
BLOCK = 64


@pytest.fixture(scope="module")
def server():
    with jack_server(period=BLOCK, patient=True) as running:
        yield running


def looped(server, process):
    """Connect a client's output with its input, as a cable would; return what it printed."""
    try:
        client = new_client(server, set())
        connect = ["jack_connect", f"{client}:out_0", f"{client}:in_0"]
        subprocess.run(connect, env=server.environment, timeout=10, check=True, capture_output=True)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def bare(server):
    """The device's own round trip in samples, without fxclone."""
    program = Path(__file__).with_name("jack_roundtrip.py")
    process = subprocess.Popen(
        [sys.executable, str(program), str(BLOCK)],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    times = [int(each) for each in looped(server, process).split()[1:]]
    assert len(times) == 3
    assert len(set(times)) == 1
    return times[0]


def measured(server, *args):
    out = looped(server, start(server, "latency", "--block", str(BLOCK), "--wait-s", "30", "--json", *args))
    return json.loads(out)


def test_the_engine_adds_no_latency_of_its_own(server, bare, tmp_path):
    drive = str(drive_clone(tmp_path / "drive.onnx"))
    seen = measured(server, "-m", drive)
    assert seen["round_trip_samples"] == pytest.approx(bare, abs=0.25)
    assert seen["through"]["added_samples"] == pytest.approx(0.0, abs=0.25)
    assert seen["through"]["declared_samples"] == 0
    assert (seen["found"], seen["inverted"]) == (5, False)
    assert seen["spread_samples"] < 0.5
    assert seen["claimed_ms"]["total"] > 0


def test_a_resampled_clone_adds_what_it_declares_to_the_sample(server, bare, tmp_path):
    clone = str(late_clone(tmp_path / "cd.onnx", 44_100))
    seen = measured(server, "-m", clone, "--sample-rate", "48000")
    through = seen["through"]
    assert through["declared_samples"] > 50
    assert through["round_trip_samples"] == pytest.approx(bare + through["declared_samples"], abs=0.5)


def test_without_a_cable_it_says_what_to_do(server):
    done = fxclone(server, "latency", "--wait-s", "0.5")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "connect an output with the input by a cable" in done.stderr
    assert "nothing comes back yet" in done.stdout or done.stdout == ""
