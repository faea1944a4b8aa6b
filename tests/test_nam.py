"""A .nam file (Neural Amp Modeler) as an effect: it sounds as the format's player makes it sound."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nam_models import RATE, Dealt, convnet, lstm, wavenet, write

from fxclone.effects import effect
from fxclone.effects.nam_file import read_nam
from fxclone.files import read_sound

ARRAY = {"input_size": 1, "condition_size": 1, "head_size": 2, "channels": 4, "kernel_size": 3, "dilations": [1, 2, 8]}
ARRAY |= {"activation": "Tanh", "gated": False, "head_bias": False}
SECOND = {"input_size": 4, "condition_size": 1, "head_size": 1, "channels": 2, "kernel_size": 2, "dilations": [4, 1]}
SECOND |= {"activation": "ReLU", "gated": False, "head_bias": True}
MANY = {"kernel_size": None, "kernel_sizes": [6, 1, 4], "activation": ["LeakyReLU", "Softsign", "SiLU"]}
RICH = {"bottleneck": 6, "groups_input": 2, "layer1x1": {"active": True, "groups": 2}, "gating_mode": "blended"}
RICH |= {"secondary_activation": "Hardtanh", "head1x1": {"active": True, "out_channels": 4, "groups": 2}}
HEAD = {"channels": 3, "out_channels": 1, "kernel_sizes": [2, 3], "activation": "Hardswish"}


def error_db(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    wanted = wanted.astype(np.float64)
    return float(10 * np.log10(np.mean((got - wanted) ** 2) / np.mean(wanted**2) + 1e-30))


@pytest.fixture
def guitar(rng) -> np.ndarray:
    return (0.3 * rng.standard_normal(3000)).astype(np.float32)


@pytest.mark.parametrize("name", ["wavenet", "wavenet_a1_standard", "lstm", "A2"])
def test_it_sounds_as_in_the_player_of_the_format(shared_data, name: str) -> None:
    folder = shared_data / "nam"
    dry, rate = read_sound(folder / "input.wav")
    golden, _ = read_sound(folder / f"{name}.golden.wav")
    assert rate == RATE
    wet = effect(f"nam:{folder / name}.nam").render(dry, rate)
    assert error_db(wet, golden) < -110.0
    # From the first sample on. Amps turn rounding up like all else, by 59 dB: processors differ by some 1e-6 there.
    assert np.abs(wet - golden)[:, :64].max() < 1e-5


@pytest.mark.parametrize(
    ("arrays", "head"),
    [
        ([ARRAY | {"head_size": 1}], None),
        ([ARRAY, SECOND], None),
        ([ARRAY | {"gated": True, "head_bias": True}, SECOND | {"gated": True}], None),
        ([ARRAY | MANY | {"head_size": None, "head": {"out_channels": 1, "kernel_size": 5, "bias": True}}], None),
        ([ARRAY | RICH, SECOND], None),
        ([ARRAY | {"layer1x1": {"active": False, "groups": 1}, "gating_mode": "gated"}, SECOND], None),
        ([ARRAY, SECOND | {"head_size": 5}], HEAD),
    ],
    ids=["one array", "two arrays", "gated", "0.7: kernels, activations, head", "blended, groups", "no 1x1", "head"],
)
def test_wavenet(tmp_path, rng, guitar, arrays, head) -> None:
    arrays = [{key: value for key, value in array.items() if value is not None} for array in arrays]
    dealt = Dealt(rng)
    wanted = wavenet(dealt, arrays, head, guitar)
    config = {"layers": arrays, "head": head, "head_scale": 99.0}  # the last weight wins
    model = read_nam(write(tmp_path / "a.nam", "WaveNet", config, dealt.all))
    assert error_db(model.render(guitar), wanted) < -110.0


def test_wavenet_that_another_network_conditions(tmp_path, rng, guitar) -> None:
    response = np.array([0.5, 0.25, -0.125], np.float32)
    inner = json.loads(write(tmp_path / "b", "Linear", {"receptive_field": 3, "bias": False}, response).read_text())
    dealt = Dealt(rng)
    arrays = [ARRAY | {"head_size": 1, "dilations": [1], "kernel_size": 1}]
    wavenet(dealt, arrays, None, guitar)
    path = write(tmp_path / "a.nam", "WaveNet", {"layers": arrays, "head": None, "condition_dsp": inner}, dealt.all)
    w = iter(dealt.all)
    rechannel, conv, bias, mix = (np.array([next(w) for _ in range(n)]) for n in (4, 16, 4, 4))
    c = np.convolve(guitar, response)[: guitar.size]
    a = np.tanh(conv.reshape(4, 4) @ np.outer(rechannel, guitar) + bias[:, None] + np.outer(mix, c))
    for _ in range(4 * 4 + 4):
        next(w)
    wanted = np.array([next(w) for _ in range(4)]) @ a * next(w)
    assert error_db(read_nam(path).render(guitar), wanted) < -110.0


@pytest.mark.parametrize(("layers", "hidden"), [(1, 5), (3, 4)])
def test_lstm(tmp_path, rng, guitar, layers: int, hidden: int) -> None:
    dealt = Dealt(rng)
    wanted = lstm(dealt, layers, hidden, guitar, silence=4000)  # half a second
    config = {"input_size": 1, "hidden_size": hidden, "num_layers": layers}
    path = write(tmp_path / "a.nam", "LSTM", config, dealt.all, sample_rate=8000)
    assert error_db(read_nam(path).render(guitar), wanted) < -110.0


@pytest.mark.parametrize("batchnorm", [False, True])
def test_convnet(tmp_path, rng, guitar, batchnorm: bool) -> None:
    config = {"channels": 4, "dilations": [1, 2, 4, 16], "batchnorm": batchnorm, "activation": "Tanh"}
    dealt = Dealt(rng)
    wanted = convnet(dealt, config, guitar)
    assert error_db(read_nam(write(tmp_path / "a.nam", "ConvNet", config, dealt.all)).render(guitar), wanted) < -110.0


@pytest.mark.parametrize(("samples", "bias"), [(1, False), (7, True), (2000, False)])
def test_linear(tmp_path, rng, guitar, samples: int, bias: bool) -> None:
    response = rng.standard_normal(samples).astype(np.float32)
    weights = np.concatenate((response, [np.float32(0.25)])) if bias else response
    path = write(tmp_path / "a.nam", "Linear", {"receptive_field": samples, "bias": bias}, weights)
    wanted = np.convolve(guitar.astype(np.float64), response)[: guitar.size] + 0.25 * bias
    assert error_db(read_nam(path).render(guitar), wanted) < -120.0
    assert effect(f"nam:{path}").linear is not bias


def test_container_means_its_last_model(tmp_path, guitar) -> None:
    models = [
        json.loads(write(tmp_path / "m", "Linear", {"receptive_field": 1, "bias": False}, [gain]).read_text())
        for gain in (0.25, 0.5)
    ]
    submodels = [{"max_value": value, "model": model} for value, model in zip((0.5, 1.0), models, strict=True)]
    path = write(tmp_path / "a.nam", "SlimmableContainer", {"submodels": submodels}, [], version="0.7.0")
    np.testing.assert_array_equal(read_nam(path).render(guitar), 0.5 * guitar)


@pytest.mark.parametrize("activation", [
    *("Tanh", "Hardtanh", "Fasttanh", "ReLU", "LeakyReLU", "Sigmoid", "SiLU", "Hardswish", "Softsign"),
    *({"type": "LeakyReLU", "negative_slope": 0.3}, {"type": "PReLU", "negative_slopes": [0.2, -0.1]}, "PReLU"),
    {"type": "LeakyHardtanh", "min_val": -0.5, "max_val": 0.25, "min_slope": 0.1, "max_slope": 0.2},
])  # fmt: skip
def test_activations(tmp_path, activation) -> None:
    x = np.linspace(-5, 5, 1001).astype(np.float32)
    arrays = [{**ARRAY, "channels": 2, "head_size": 1, "kernel_size": 1, "dilations": [1], "activation": activation}]
    weights = [0.0] * 2 + [0.0] * 4 + [0.0, 0.0] + [1.0, 1.0] + [0.0] * 6 + [1.0, 10.0] + [1.0]
    wet = read_nam(write(tmp_path / "a.nam", "WaveNet", {"layers": arrays}, weights)).render(x)
    name = activation if isinstance(activation, str) else activation["type"]
    x = x.astype(np.float64)
    leaky = {"LeakyReLU": (0.01, 0.01), "PReLU": (0.01, 0.01)}[name] if activation in ("LeakyReLU", "PReLU") else None
    if leaky is None and not isinstance(activation, str):
        leaky = tuple(activation.get("negative_slopes", [activation.get("negative_slope")] * 2))
    if name == "LeakyHardtanh":
        low, high = (x + 0.5) * 0.1 - 0.5, (x - 0.25) * 0.2 + 0.25
        both = [np.where(x < -0.5, low, np.where(x > 0.25, high, x))] * 2
    elif leaky is not None:
        both = [np.where(x > 0, x, slope * x) for slope in leaky]
    else:
        both = [{
            "Tanh": np.tanh(x), "Fasttanh": np.tanh(x), "Hardtanh": np.clip(x, -1, 1), "ReLU": np.maximum(x, 0),
            "Sigmoid": 1 / (1 + np.exp(-x)), "SiLU": x / (1 + np.exp(-x)), "Softsign": x / (1 + np.abs(x)),
            "Hardswish": np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)),
        }[name]] * 2  # fmt: skip
    wanted = both[0] + 10 * both[1]
    np.testing.assert_allclose(wet, wanted, atol=0.05 if name == "Fasttanh" else 2e-5)


def test_it_is_resampled_and_says_so(tmp_path, rng) -> None:
    response = np.zeros(33, np.float32)
    response[32] = 0.5
    path = write(tmp_path / "My Amp.nam", "Linear", {"receptive_field": 33, "bias": False}, response)
    amp = effect(f"nam:{path}")
    assert amp.name == "My_Amp"
    assert amp.notes(RATE) == []
    (note,) = amp.notes(44_100)
    assert "a model for 48000 Hz" in note
    assert "at 44100 Hz" in note
    t = np.arange(8821) / 44_100  # a length that rounding changes
    dry = np.sin(2 * np.pi * np.array([[440.0], [3000.0]]) * t).astype(np.float32)
    wet = amp.render(dry, 44_100)
    late = 0.5 * np.sin(2 * np.pi * np.array([[440.0], [3000.0]]) * (t - 32 / RATE))
    assert wet.shape == dry.shape
    assert error_db(wet[:, 1000:-1000], late[:, 1000:-1000]) < -90.0
    assert amp.tail_s == pytest.approx(32 / RATE)


def test_old_files_without_a_rate_are_for_48_khz(tmp_path) -> None:
    path = write(tmp_path / "a.nam", "Linear", {"receptive_field": 1, "bias": False}, [1.0], sample_rate=None)
    assert read_nam(path).sample_rate == 48_000
    path = write(tmp_path / "a.nam", "Linear", {"receptive_field": 1, "bias": False}, [1.0], sample_rate=44100.0)
    assert read_nam(path).sample_rate == 44_100


def test_its_place_in_a_chain_is_read_back(tmp_path, guitar) -> None:
    path = write(tmp_path / "My Amp (2).nam", "Linear", {"receptive_field": 1, "bias": False}, [0.5])
    chain = effect(f'gain(gain_db=0) > nam:"{path}" > invert')
    again = effect(chain.expression)
    assert again.expression == chain.expression
    np.testing.assert_array_equal(again.render(guitar[None], RATE), -0.5 * guitar[None])
