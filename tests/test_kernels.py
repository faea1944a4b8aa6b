"""The compiled loops: equal to torch's autograd through a plain loop over time, and honest about a blow-up."""

import numpy as np
import pytest
import torch
from ar_models import doubled, noise, one_pole, one_step, plain_run, random_model, random_state, weights_of
from ar_problems import NAMES, SLOW_SHAPES, assert_near, flat_jacobian, label, source_of

from fxclone_training import kernels
from fxclone_training.ar import ArState
from fxclone_training.gauss_newton import design, feedback_gains, predict, predict_with_jacobian, trained

SHAPES = [
    {"m": 3, "layers": layers, "width": 5, "activation": activation}
    for activation in ("tanh", "relu", "gelu")
    for layers in (1, 2, 3)
] + [
    {"m": 1, "past_outputs": 6, "layers": 2, "width": 3, "activation": "tanh"},
    {"m": 7, "past_outputs": 0, "layers": 2, "width": 4, "activation": "gelu"},
    {"m": 4, "past_outputs": 40, "layers": 1, "width": 4, "activation": "relu"},  # more taps than samples
    {"m": 5, "layers": 1, "width": 17, "activation": "tanh", "skip": False},
]
SHAPES += SLOW_SHAPES


@pytest.mark.parametrize("zero_state", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_gradients_of_the_free_run(rng, shape, zero_state):
    model = random_model(1, feedback=0.9, **shape)
    c = model.config
    x, pull = noise(rng, 3, 30), noise(rng, 3, 30)
    level = 0.0 if zero_state else 0.4
    state = random_state(rng, model, 3, level=level)
    own, _ = model(x[:, None], state)
    (own[:, 0] * pull + own[:, 0].square()).sum().backward()

    weights = {name: value.requires_grad_() for name, value in weights_of(model).items()}
    plain = plain_run(weights, c, x.double(), *doubled(state))
    (plain * pull + plain.square()).sum().backward()
    assert_near(own[:, 0], plain, relative=1e-5, name="y")
    named = dict(model.named_parameters())
    assert set(named) == set(NAMES) - (set() if c.skip else {"skip_x", "skip_y"})
    for name, parameter in named.items():
        expected = weights[name].grad if weights[name].grad is not None else torch.zeros_like(weights[name])
        assert parameter.grad is not None, name
        assert_near(parameter.grad, expected, name=name)


def test_gradients_reach_the_input(rng):
    model = random_model(2, m=4, layers=2, width=5)
    x = noise(rng, 2, 1, 25).requires_grad_()
    model(x, model.fresh_state(2))[0].square().sum().backward()
    double = x.detach().double().requires_grad_()
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    plain_run(weights_of(model), model.config, double[:, 0], zeros, zeros).square().sum().backward()
    assert_near(x.grad, double.grad, name="x")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_one_step_jacobian(rng, shape):
    model = random_model(3, **shape)
    c = model.config
    z = noise(rng, 40, c.seen_x + c.seen_y)
    predicted, jacobian = predict_with_jacobian(model, z)
    double = z.double()

    def answer(weights):
        return one_step(weights, c, double[:, : c.seen_x], double[:, c.seen_x :])

    assert_near(predicted, answer(weights_of(model)), relative=1e-5)
    torch.testing.assert_close(predict(model, z), predicted)
    assert jacobian.shape == (40, sum(weights.numel() for weights in trained(model)))
    assert_near(jacobian, flat_jacobian(weights_of(model), answer))


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_feedback_gains(rng, shape):
    model = random_model(4, **shape)
    c = model.config
    z = noise(rng, 30, c.seen_x + c.seen_y)
    past = z[:, c.seen_x :].double().requires_grad_()
    one_step(weights_of(model), c, z[:, : c.seen_x].double(), past).sum().backward()
    assert_near(feedback_gains(model, z), past.grad)


def test_slow_values_of_a_signal(rng):
    rates = np.array([[0.5, 0.5], [0.04, 0.01], [0.9, 0.2]], np.float32)  # rising and falling
    signal, before = noise(rng, 2, 50).numpy(), noise(rng, 2, 3).numpy()
    got = kernels.leaky(signal, before, rates, 1)
    assert got.shape == (2, 51, 3)
    state = before.astype(np.float64)
    np.testing.assert_array_equal(got[:, 0], before)
    for n in range(50):
        heard = np.stack([signal[:, n], abs(signal[:, n]), abs(signal[:, n])], 1)
        state = state + np.where(heard > state, *rates.T) * (heard - state)
        np.testing.assert_allclose(got[:, n + 1], state, atol=1e-6)


def test_slow_values_as_rows_follow_their_taps(rng):
    """Rows of a passage in the middle of a recording: slow values of all that was before, not of the passage alone."""
    model = random_model(7, m=3, past_outputs=2, width=2, averages=(5.0, 300.0), envelopes=(60.0,), attack=0.1)
    source = source_of(rng, model)
    recording, rates = source.recording, model.config.rates().astype(np.float64)
    segments = source.draw(4, 10, model.history_samples, sigma=0.0)
    z, _, _ = design(model, segments)
    assert z.shape == (40, 3 + 3 + 2 + 3)
    x, y = recording.x.double().numpy(), recording.y.double().numpy()

    def slow(signal, rates):
        state = np.zeros(len(rates))
        for value in signal:
            state = state + np.where(value > state, *rates.T) * (value - state)
        return state

    for passage in range(4):
        places = np.flatnonzero(recording.x.numpy() == float(segments.x[passage, model.history_samples]))
        assert len(places) == 1
        for sample in (0, 1, 9):
            # averages up to x[n] and y[n-1], envelopes up to x[n-1] and y[n-3]
            row, now = z[10 * passage + sample].double().numpy(), int(places[0]) + sample
            np.testing.assert_allclose(row[3:5], slow(x[: now + 1], rates[:2]), atol=1e-6)
            np.testing.assert_allclose(row[5:6], slow(abs(x[:now]), rates[2:]), atol=1e-6)
            np.testing.assert_allclose(row[8:10], slow(y[:now], rates[:2]), atol=1e-6)
            np.testing.assert_allclose(row[10:11], slow(abs(y[: max(now - 2, 0)]), rates[2:]), atol=1e-6)


def test_windows_as_rows_are_newest_first(rng):
    model = random_model(7, m=3, past_outputs=4, width=2)
    source = source_of(rng, model)
    segments = source.draw(2, 5, model.history_samples, sigma=0.1)
    z, target, weight = design(model, segments)
    assert z.shape == (10, 7)
    assert target.shape == weight.shape == (10,)
    row, now = 7, model.history_samples + 2  # passage 1, sample 2
    torch.testing.assert_close(z[row, :3], segments.x[1, now - 2 : now + 1].flip(0))
    torch.testing.assert_close(z[row, 3:], segments.y_noisy[1, now - 4 : now].flip(0))
    assert target[row] == segments.target[1, 2]
    assert weight[row] == segments.weight[1, 0]


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_a_blow_up_shows(activation):
    model = one_pole(1.5, activation=activation)
    out = model.run_freely(np.full((1, 2000), 0.1, np.float32))
    assert out.shape == (1, 2000)
    assert np.isfinite(out[0, :100]).all()
    assert not np.isfinite(out[0, 400:]).any()


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_nan_stays_nan(activation):
    """NaN in the state must not come out as a clean number, whatever the fast arithmetic makes of it."""
    model = random_model(9, m=3, layers=2, width=4, activation=activation)
    state = ArState(torch.zeros(1, 2), torch.tensor([[0.0, float("nan")]]), torch.zeros(1, 0), torch.zeros(1, 0))
    out, _ = model(torch.zeros(1, 1, 20), state)
    assert torch.isnan(out[0, 0, 0])


def test_nan_stays_nan_without_a_skip():
    """With tanh and no linear path only the activation could hide it."""
    model = random_model(9, m=3, layers=1, width=4, activation="tanh", skip=False)
    state = ArState(torch.zeros(1, 2), torch.tensor([[0.0, float("nan")]]), torch.zeros(1, 0), torch.zeros(1, 0))
    out, _ = model(torch.zeros(1, 1, 20), state)
    assert torch.isnan(out[0, 0, 0])


def test_tanh_is_accurate_to_a_few_ulp():
    x = np.concatenate([np.linspace(-20, 20, 400_001), np.logspace(-30, 0, 10_001), [0.0]]).astype(np.float32)
    got = np.empty_like(x)
    kernels._activate(x, got, kernels.TANH)
    exact = np.tanh(x.astype(np.float64))
    ulp = np.abs(got.astype(np.float64) - exact) / np.spacing(np.maximum(np.abs(exact), 1e-30).astype(np.float32))
    assert ulp.max() <= 5
    assert got[-1] == 0
    assert np.abs(got).max() <= 1.0 + 1e-7
    assert np.isfinite(got).all()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_other_activations(activation):
    x = np.linspace(-12, 12, 10_001).astype(np.float32)
    got = np.empty_like(x)
    kernels._activate(x, got, kernels.ACTIVATIONS[activation])
    exact = getattr(torch.nn.functional, activation)(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(got, exact, atol=2e-6, rtol=1e-5)


def test_kernels_are_deterministic(rng):
    model = random_model(10, m=16, layers=2, width=12)
    x = noise(rng, 4, 1, 500)

    def once():
        model.zero_grad()
        y, _ = model(x, model.fresh_state(4))
        y.square().sum().backward()
        return [y.detach().clone(), *(parameter.grad.clone() for parameter in model.parameters())]

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)


def test_with_and_without_gradients_gives_the_same_sound(rng):
    model = random_model(11, m=8, layers=3, width=6, activation="gelu")
    x = noise(rng, 2, 1, 200)
    kept, _ = model(x, model.fresh_state(2))
    with torch.no_grad():
        plain, _ = model(x, model.fresh_state(2))
    assert torch.equal(kept.detach(), plain)
