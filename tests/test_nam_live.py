"""A .nam file as a stream: any division into blocks gives the sound that the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
from nam_models import RATE, Dealt, convnet, lstm, wavenet, write

from fxclone.effects import effect
from fxclone_realtime.live_effects import live_effect
from fxclone_realtime.rig import load_rig

ARRAY = {"input_size": 1, "condition_size": 1, "head_size": 2, "channels": 4, "kernel_size": 3, "dilations": [1, 2, 64]}
ARRAY |= {"activation": "Tanh", "gated": True, "head_bias": False}
SECOND = ARRAY | {"input_size": 4, "channels": 2, "head_size": 1, "head_bias": True}
BLOCKS = (64, 1, 0, 7, 480, 2, 64, 63)


def make(kind: str, path, rng) -> str:
    dealt, x = Dealt(rng), np.zeros(1, np.float32)
    if kind == "WaveNet":
        config = {"layers": [ARRAY, SECOND], "head": None}
        wavenet(dealt, config["layers"], None, x)
    elif kind == "LSTM":
        config = {"input_size": 1, "hidden_size": 4, "num_layers": 2}
        lstm(dealt, 2, 4, x, 0)
    elif kind == "ConvNet":
        config = {"channels": 3, "dilations": [1, 32], "batchnorm": False, "activation": "Tanh"}
        convnet(dealt, config, x)
    else:
        config = {"receptive_field": 1500, "bias": True}
        dealt.take(1501)
    return f"nam:{write(path, kind, config, dealt.all)}"


def played(stream, dry: np.ndarray) -> np.ndarray:
    out, at, turn = [], 0, 0
    while at < dry.shape[1]:
        n = min(BLOCKS[turn % len(BLOCKS)], dry.shape[1] - at)
        out.append(np.array(stream.process(dry[:, at : at + n])))
        assert out[-1].shape == (dry.shape[0], n)
        at, turn = at + n, turn + 1
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("kind", ["WaveNet", "LSTM", "ConvNet", "Linear"])
def test_blocks_of_any_size_give_the_whole(tmp_path, rng, kind: str) -> None:
    amp = effect(make(kind, tmp_path / "amp.nam", rng))
    dry = (0.3 * rng.standard_normal((2, 5000))).astype(np.float32)
    whole = amp.render(dry, RATE)
    (stage,) = amp.stages
    stream = live_effect(stage)
    stream.prepare(RATE, 480, 2)
    first = played(stream, dry)
    np.testing.assert_allclose(first, whole, atol=2e-6 * np.abs(whole).max())
    assert stream.latency_samples == 0
    assert stream.tail_samples > 0
    played(stream, dry[:, ::-1].copy())
    stream.reset()
    np.testing.assert_array_equal(played(stream, dry), first)


def test_at_another_rate_it_plays_late_by_what_it_says(tmp_path, rng) -> None:
    amp = effect(make("WaveNet", tmp_path / "amp.nam", rng))
    t = np.arange(20_000) / 44_100
    dry = (0.1 * np.sin(2 * np.pi * 300.0 * t)[None]).astype(np.float32)
    stream = live_effect(amp.stages[0])
    stream.prepare(44_100, 480, 1)
    late = stream.latency_samples
    got, wanted = played(stream, dry)[:, 2000 + late :], amp.render(dry, 44_100)[:, 2000 : dry.shape[1] - late]
    assert late > 0
    assert np.abs(got - wanted).max() < 3e-4 * np.abs(wanted).max()


def test_it_plays_in_a_chain_from_text(tmp_path, rng) -> None:
    chain = f"{make('LSTM', tmp_path / 'My Amp.nam', rng)} > invert"
    dry = (0.3 * rng.standard_normal((1, 700))).astype(np.float32)
    first, second = load_rig(chain).links
    for link in (first, second):
        link.prepare(RATE, 480, 1)
    got = played(second, played(first, dry))
    np.testing.assert_allclose(got, effect(chain).render(dry, RATE), atol=1e-6)
