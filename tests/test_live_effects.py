"""Reference effects as links of a chain: live they sound as they render."""

from __future__ import annotations

import numpy as np
import pytest
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
        sizes, at, parts = [64, 13, 50, 3], 0, []
        while at < sound.shape[1]:
            n = min(sizes[len(parts) % 4], sound.shape[1] - at)
            parts.append(np.array(live.process(sound[:, at : at + n])))
            at += n
        got = np.concatenate(parts, axis=1)
        assert got.shape == wet.shape
        np.testing.assert_allclose(got, wet, atol=2e-6)
        live.reset()
    assert live.latency_samples == stage.latency_samples(RATE)


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
