"""Plugins live in a chain: the same sound as their render, and a crash that is told."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from faults import playing
from play_clones import failing_clone
from plugins import ZAM

from fxclone.cli import run
from fxclone.effects import effect
from fxclone_realtime.live_effects import live_effect

RATE = 48_000

pytestmark = pytest.mark.skipif(not (ZAM / "ZamTube.vst3").exists(), reason="apt install zam-plugins")


@pytest.mark.parametrize("plugin", ["ZamTube", "ZamEQ2", "ZamHeadX2"])
def test_a_plugin_sounds_live_as_it_renders(plugin, rng):
    (stage,) = effect(f"vst3:{plugin}").stages
    sound = playing(rng, RATE, 0.4)
    live = live_effect(stage)
    live.prepare(RATE, 512, 1)
    parts = [np.array(live.process(sound[:, at : at + 512])) for at in range(0, sound.shape[1] - 511, 512)]
    got = np.concatenate(parts, axis=1)
    stereo = live.channels_out == 2
    wet = stage.render(np.repeat(sound, 2, axis=0) if stereo else sound, RATE)
    assert got.shape == (live.channels_out, sound.shape[1] // 512 * 512)
    np.testing.assert_allclose(got, wet[:, : got.shape[1]], atol=1e-3)
    assert live.latency_samples == stage.latency_samples(RATE)


@pytest.mark.parametrize("plugin", ["ZamEQ2", "ZamHeadX2"])
def test_blocks_of_any_size_sound_alike(plugin, rng):
    (stage,) = effect(f"vst3:{plugin}").stages
    sound = playing(rng, RATE, 0.1)
    heard = []
    for most, sizes in ((64, (64,)), (64, (1, 2, 61)), (2, (2, 1))):
        live = live_effect(stage)
        live.prepare(RATE, most, 1)
        parts, at = [], 0
        while at < sound.shape[1]:
            part = np.array(live.process(sound[:, at : at + sizes[len(parts) % len(sizes)]]))
            parts.append(part)
            at += part.shape[1]
        heard.append(np.concatenate(parts, axis=1))
        assert heard[-1].shape == (live.channels_out, sound.shape[1])
    for other in heard[1:]:
        np.testing.assert_allclose(other, heard[0], atol=1e-4)


def test_a_plugin_plays_in_a_chain(tmp_path, rng):
    take, heard = tmp_path / "take.wav", tmp_path / "heard.wav"
    soundfile.write(take, playing(rng, RATE, 0.5).T, RATE, subtype="FLOAT")
    chain = "gain(gain_db=-6) > vst3:ZamTube > lowpass(cutoff_hz=4000)"
    args = ["--input-file", str(take), "--loop", "--duration", "1", "--record", str(heard), "--json"]
    assert run(["play", "--chain", chain, "--device", "null", "--anyway", *args]) == 0
    assert np.abs(soundfile.read(heard)[0]).max() > 0.01


@pytest.mark.parametrize("plugin", ["ZamTube", "ZamEQ2"])  # the first one is loaded anew for each reset
def test_a_trip_resets_a_plugin_and_it_plays_on(plugin, tmp_path, rng, capsys):
    take, clone = tmp_path / "take.wav", failing_clone(tmp_path / "faulty.onnx", RATE)
    soundfile.write(take, playing(rng, RATE, 0.5).T, RATE, subtype="FLOAT")
    args = ["--input-file", str(take), "--loop", "--duration", "2.5", "--block", "256", "--json"]
    assert run(["play", "--chain", f"{clone} > vst3:{plugin}", "--device", "null", "--anyway", *args]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trip_count"] >= 1
    assert {trip["what"] for trip in report["trips"]} == {"not finite"}
    assert report["trips"][0]["action"] == "soft reset"
    assert report["blocks"] > 100


def test_a_plugin_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "fxclone.cli", "play", "--chain", "vst3:NoSuchPlugin", "--device", "null", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "NoSuchPlugin" in done.stderr
    assert not done.stdout or json.loads(done.stdout)
