"""Family ``recurrent``: exact gradients, the same sound in any blocks, and an output fed back that costs nothing."""

import numpy as np
import pytest
import torch
from ar_models import TorchStream, noise

from fxclone.clone import load_clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone_export.battery import check_stream, require
from fxclone_export.verify import fresh_streams
from fxclone_export.write import write_clone
from fxclone_training.recurrent import Recurrent, RecurrentConfig

RATE = 48_000
SHAPES = [
    {"m": 1, "units": 3},
    {"m": 1, "units": 1, "feedback": False},
    {"m": 8, "units": 5},
    {"m": 16, "units": 12, "feedback": False},
    {"m": 32, "units": 24},
]


def label(shape):
    return "-".join(f"{name}={value}" for name, value in shape.items())


def random_recurrent(seed, **shape):
    generator = torch.Generator().manual_seed(seed)
    model = Recurrent(RecurrentConfig(**shape), levels=(0.7, 0.4), generator=generator)
    with torch.no_grad():  # everything takes part
        for name in ("skip", "b_out", "w_y", "out"):
            value = getattr(model, name)
            if name != "w_y" or model.config.feedback:
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return model


def plain(model, x, noise_heard=None):
    """The formula of the module's head, sample by sample, the output heard as it is: (B, T) in double."""
    w = {name: value.detach().double().clone().requires_grad_() for name, value in model.state_dict().items()}
    dry, wet = w.pop("levels")
    x, heard_by = x.double() / dry, 1 / wet
    B, T = x.shape
    H, m = model.config.units, model.config.m
    h = c = torch.zeros(B, H, dtype=torch.float64)
    y = (w["b_out"] * wet).detach().expand(B)  # what silence before the first sample gives
    padded = torch.cat([torch.zeros(B, m - 1, dtype=torch.float64), x], 1)
    out = []
    for n in range(T):
        window = padded[:, n : n + m].flip(1)
        heard = y if noise_heard is None else y + noise_heard[:, n].double()
        i, f, o, g = (window @ w["w_x"].T + heard_by * heard[:, None] * w["w_y"] + w["b"] + h @ w["w_h"]).split(H, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        y = wet * (window @ w["skip"] + h @ w["out"] + w["b_out"])
        out.append(y)
    return torch.stack(out, 1), w


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("noisy", [False, True], ids=["", "noise"])
@pytest.mark.parametrize("streams", [1, 3, 70])
def test_output_and_gradients_are_the_formulas(rng, shape, noisy, streams):
    model = random_recurrent(1, **shape)
    x, pull = noise(rng, streams, 25), noise(rng, streams, 25)
    heard = 0.1 * noise(rng, streams, 25) if noisy and model.config.feedback else None
    y, _ = model(x[:, None], model.fresh_state(streams), heard)
    expected, weights = plain(model, x, heard)
    assert y.shape == (streams, 1, 25)
    torch.testing.assert_close(y[:, 0].double(), expected, rtol=0, atol=5e-6)
    (y[:, 0] * pull + y[:, 0].square()).sum().backward()
    (expected * pull + expected.square()).sum().backward()
    for name, parameter in model.named_parameters():
        want = weights[name].grad
        scale = max(float(want.abs().max()), 1e-6)
        assert float((parameter.grad.double() - want).abs().max()) <= 1e-4 * scale, name


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_battery(shape):
    model = random_recurrent(2, **shape)
    checks = check_stream(lambda: TorchStream(model), channels_in=1, sample_rate=RATE, samples=1201)
    assert len(checks) >= 16
    require(checks, name="the torch model")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_the_clone_file_plays_what_the_model_plays(tmp_path, rng, shape):
    model = random_recurrent(3, **shape)
    silence = SelfTest(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    meta = CloneMeta(name="test", family="recurrent", sample_rate=RATE, self_test=silence)
    sound = (0.5 * rng.uniform(-1, 1, (1, 9600))).astype(np.float32)
    (graph,) = model.graphs(2.0)
    assert [node.op_type for node in graph.graph.node].count("LSTM") == 1
    path = tmp_path / "clone.onnx"
    write_clone(graph, meta, path, model=model.run_freely, replay_sound=sound)
    clone = load_clone(path)
    checks = check_stream(fresh_streams(clone), channels_in=1, sample_rate=RATE, samples=2401)
    require(checks, name="the clone")
    clone.prepare(RATE, 64, 1)
    heard = np.concatenate([clone.process(sound[:, n : n + 64]).copy() for n in range(0, 9600, 64)], axis=1)
    assert heard.shape == sound.shape
    np.testing.assert_allclose(heard, model.run_freely(sound), rtol=0, atol=1e-5)


def test_state_is_carried_and_left_alone(rng):
    model = random_recurrent(4, m=8, units=6)
    x = noise(rng, 2, 1, 90)
    state = model.fresh_state(2)
    copies = tuple(part.clone() for part in state)
    whole, _ = model(x, state)
    first, after = model(x[..., :31], state)
    rest, _ = model(x[..., 31:], after)
    torch.testing.assert_close(torch.cat([first, rest], 2), whole, rtol=0, atol=2e-6)
    for part, before in zip(state, copies, strict=True):
        assert torch.equal(part, before)
    assert [part.shape[0] for part in after] == [2] * 4


def test_stored_and_restored(rng):
    model = random_recurrent(5, m=4, units=3, feedback=False)
    shape, weights = model.stored()
    again = Recurrent.restored(shape, weights)
    sound = rng.uniform(-1, 1, (1, 500)).astype(np.float32)
    np.testing.assert_array_equal(again.run_freely(sound), model.run_freely(sound))
    assert again.config == model.config
    copied = model.copy()
    with torch.no_grad():
        copied.skip.add_(1)
    assert not torch.equal(copied.skip, model.skip)


def test_a_certificate_tells_how_fast_runs_meet(rng):
    model = random_recurrent(6, m=4, units=8)
    sound = (0.3 * rng.standard_normal((1, RATE))).astype(np.float32)
    figures = model.certify(sound, RATE)
    assert figures["lyapunov_per_sample"] < 0
    assert 0 < figures["return_ms"] < 1000
    assert figures["tail_samples"] >= 0
    assert model.is_sturdy(sound)


def chaotic(gain):
    """With its gates open, or closed for what was, an LSTM is h[n] = tanh(tanh(W h[n-1])): chaos for some W."""
    model = random_recurrent(7, m=1, units=32, feedback=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.w_x.mul_(0.01)
        model.w_h.zero_()
        model.w_h[:, 96:] = gain * 32**-0.5 * torch.randn(32, 32, generator=generator)
        model.b.zero_()
        model.b[:32], model.b[32:64], model.b[64:96] = 10.0, -10.0, 10.0
    return model


def test_a_model_that_amplifies_rounding_is_not_sturdy(rng):
    sound = (0.3 * rng.standard_normal((1, 4800))).astype(np.float32)
    assert chaotic(0.5).is_sturdy(sound)
    assert not chaotic(1.5).is_sturdy(sound)
    figures = chaotic(1.5).certify(sound, RATE)
    assert figures["return_ms"] is None
    assert figures["lyapunov_per_sample"] > 0


def test_a_model_of_large_terms_that_cancel_is_not_sturdy(rng):
    """Two units that are the same, one added and one subtracted: nothing but rounding comes out."""
    model = random_recurrent(8, m=1, units=2, feedback=False)
    sound = (0.3 * rng.standard_normal((1, 4800))).astype(np.float32)
    with torch.no_grad():
        model.w_h.zero_()
        for weights in (model.w_x, model.b):
            weights[1::2] = weights[::2]
        model.out[:] = torch.tensor([0.5, -0.4])
        assert model.is_sturdy(sound)
        model.out[:] = torch.tensor([1e5, -1e5])
    assert np.abs(model.run_freely(sound)).max() < 5  # the skip path is all that is heard
    assert not model.is_sturdy(sound)


def test_a_run_that_is_not_finite_is_not_sturdy():
    model = random_recurrent(8, m=1, units=2)
    with torch.no_grad():
        model.b_out.fill_(float("nan"))
    assert not model.is_sturdy(np.zeros((1, 480), np.float32))


@pytest.mark.parametrize(("shape", "said"), [({"m": 0}, "m is 0"), ({"units": 257}, "units is 257")])
def test_shapes_are_checked(shape, said):
    with pytest.raises(UsageError, match=said):
        RecurrentConfig(**shape)
