"""Reference effects as links of a chain: live they sound as they render."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from faults import playing

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone_realtime.live_effects import live_effect
from fxclone_realtime.rig import split_links

RATE = 48_000

LIVE = [
    "passthrough", "gain(gain_db=-3)", "invert", "tanh(drive=3)", "hardclip", "lowpass(cutoff_hz=800)",
    "highpass(cutoff_hz=300, order=3)", "dcblock", "ringmod(frequency_hz=333)", "cabinet", "reverb",
    "delay(delay_seconds=0.01)", "chorus", "phaser", "compressor", "limiter", "distortion", "clipping", "bitcrush",
    "ladder(cutoff_hz=900)", "low_shelf", "high_shelf", "peak", "lowpass1", "highpass1", "noise_gate",
    "brickwall_limiter",
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("expression", LIVE)
def test_an_effect_sounds_live_as_it_renders(expression, channels, rng):
    sound = np.concatenate([playing(rng, RATE, 0.25) for _ in range(channels)])
    (stage,) = effect(expression).stages
    live = live_effect(stage)
    live.prepare(RATE, 64, channels)
    wet = stage.render(sound, RATE)
    for _ in range(2):  # the second time after a reset
        sizes, at, parts = [13, 64, 1, 50, 3, 2, 2], 0, []
        while at < sound.shape[1]:
            n = min(sizes[len(parts) % 7], sound.shape[1] - at)
            parts.append(np.array(live.process(sound[:, at : at + n])))
            at += n
        got = np.concatenate(parts, axis=1)
        assert got.shape == wet.shape
        later = live.latency_samples - stage.latency_samples(RATE)
        np.testing.assert_allclose(got[:, later:], wet[:, : wet.shape[1] - later], atol=2e-6)
        live.reset()
    # Single samples of two channels have to wait for the next one, where an effect looks ahead.
    assert later == (1 if (expression, channels) == ("brickwall_limiter", 2) else 0)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("expression", ["reverb", "chorus", "brickwall_limiter"])
def test_blocks_of_one_and_two_samples_from_the_start(expression, size, rng):
    sound = np.concatenate([playing(rng, RATE, 0.02) for _ in range(2)])
    (stage,) = effect(expression).stages
    live = live_effect(stage)
    live.prepare(RATE, size, 2)
    parts = [np.array(live.process(sound[:, at : at + size])) for at in range(0, sound.shape[1], size)]
    got = np.concatenate(parts, axis=1)
    assert got.shape == sound.shape
    later = live.latency_samples - stage.latency_samples(RATE)
    wet = stage.render(sound, RATE)[:, : got.shape[1] - later]
    np.testing.assert_allclose(got[:, later:], wet, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_convolution_sounds_live_as_it_renders(channels, tmp_path, rng):
    response = rng.standard_normal((1_000, 2)) * np.exp(-np.arange(1_000) / 200)[:, None]
    soundfile.write(tmp_path / "room.wav", 0.1 * response, 44_100)
    (stage,) = effect(f"convolution(impulse_response='{tmp_path / 'room.wav'}')").stages
    sound = np.concatenate([playing(rng, RATE, 0.1) for _ in range(channels)])
    live = live_effect(stage)
    live.prepare(RATE, 64, channels)
    parts, at = [], 0
    while at < sound.shape[1]:
        parts.append(np.array(live.process(sound[:, at : at + (13, 64, 1, 2)[len(parts) % 4]])))
        at += parts[-1].shape[1]
    got = np.concatenate(parts, axis=1)
    assert got.shape == sound.shape
    np.testing.assert_allclose(got, stage.render(sound, RATE), atol=2e-6)


@pytest.mark.parametrize("name", ["mp3", "gsm", "pitch_shift", "resample"])
def test_what_needs_a_whole_sound_is_refused(name):
    with pytest.raises(UsageError, match=f"{name} cannot be played live"):
        live_effect(effect(name).stages[0])


def test_a_chain_is_cut_where_it_should_be():
    text = '"my > clone.onnx" > reverb(room_size=0.3) > convolution(impulse_response="a>b.wav") > tanh'
    assert split_links(text) == [
        '"my > clone.onnx"',
        "reverb(room_size=0.3)",
        'convolution(impulse_response="a>b.wav")',
        "tanh",
    ]
    with pytest.raises(UsageError, match="empty link"):
        split_links("tanh > > gain")
