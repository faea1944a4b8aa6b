"""A stereo clone with a tail on a real PortAudio stream: both outputs carry their own sound, until it has rung out."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from faults import playing
from jack import jack_server
from stereo_clones import RATE, WIDE, convolved, fir_clone, room
from test_play_jack import fxclone, new_client, start

from fxclone.files import read_sound, write_sound

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def server():
    with jack_server() as running:
        yield running


def test_a_file_rings_out_in_stereo(server, tmp_path, rng):
    taps = room(0.2)
    clone = fir_clone(tmp_path / "room.onnx", taps)
    dry = playing(rng, RATE, 0.5)
    take = write_sound(tmp_path / "take.wav", dry, RATE, subtype="float")
    heard = tmp_path / "heard.wav"
    done = fxclone(server, "play", "-m", str(clone), "--input-file", str(take), "--record", str(heard), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["sound"], report["channels_out"], report["trips"]) == ("mono to stereo", 2, [])
    wet, _ = read_sound(heard)
    expected = convolved(np.pad(dry, ((0, 0), (0, taps.shape[2] - 1))), taps)
    assert wet.shape[0] == 2
    assert wet.shape[1] >= expected.shape[1]
    np.testing.assert_allclose(wet[:, : expected.shape[1]], expected, atol=1e-4)


def test_both_outputs_really_differ(server, tmp_path, rng):
    # One player widens a file; the second one listens to both of its outputs and records them.
    wide = str(fir_clone(tmp_path / "wide.onnx", WIDE))
    clean = str(fir_clone(tmp_path / "clean.onnx", np.ones((1, 1, 1))))
    take = write_sound(tmp_path / "take.wav", playing(rng, RATE, 1.0), RATE, subtype="float")
    heard = tmp_path / "heard.wav"
    listener = start(
        server, "play", "-m", clean, "--input-channel", "1+2", "--record", str(heard), "--duration", "5", "--json"
    )
    feeder = None
    try:
        listening = new_client(server, set())
        feeder = start(server, "play", "-m", wide, "--input-file", str(take), "--loop", "--duration", "20", "--json")
        feeding = new_client(server, {listening})
        for side in (0, 1):
            connect = ["jack_connect", f"{feeding}:out_{side}", f"{listening}:in_{side}"]
            subprocess.run(connect, env=server.environment, timeout=10, check=True, capture_output=True)
        out, err = listener.communicate(timeout=30)
    finally:
        listener.kill()
        if feeder is not None:
            feeder.terminate()
            feeder.communicate(timeout=30)
    assert (listener.returncode, err) == (0, "")
    assert json.loads(out)["sound"] == "stereo"
    left, right = read_sound(heard)[0]
    assert np.abs(left).max() > 0.05
    assert np.abs(right).max() > 0.05
    assert np.corrcoef(left, right)[0, 1] < 0.0  # WIDE turns the polarity of the right one
