"""The compiled loops: equal to torch's autograd through a plain loop over time, and honest about a blow-up."""

import numpy as np
import pytest
import torch
from ar_models import doubled, noise, one_pole, one_step, plain_run, random_model, random_state, weights_of

from fxclone.pairs import Pair
from fxclone_training import kernels
from fxclone_training.ar import ArState
from fxclone_training.gauss_newton import (
    FreeRun,
    GaussNewton,
    OneStep,
    design,
    feedback_gains,
    predict,
    predict_with_jacobian,
    trained,
)
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.streams import Streams

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
SLOW_SHAPES = [
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh", "averages": (3.0, 20.0, 400.0)},
    {"m": 3, "past_outputs": 1, "layers": 2, "width": 4, "activation": "tanh", "envelopes": (2.0, 15.0)},
    {"m": 1, "past_outputs": 4, "layers": 1, "width": 5, "activation": "relu", "averages": (9.0,), "envelopes": (5.0,)},
    {"m": 4, "layers": 2, "width": 4, "activation": "relu", "averages": (1.5, 30.0), "envelopes": (4.0, 50.0)},
    {"m": 2, "past_outputs": 5, "layers": 2, "width": 3, "activation": "gelu", "averages": (7.0,), "envelopes": (7.0,)},
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh", "skip": False, "averages": (6.0,), "envelopes": (3.0,)},
    {"m": 5, "past_outputs": 1, "layers": 2, "width": 4, "activation": "tanh", "averages": (2.0, 25.0)},
]
SHAPES += SLOW_SHAPES
NAMES = ["w_x", "w_y", "b_in", "hidden", "b_hidden", "out", "skip_x", "skip_y", "b_out"]


def label(shape):
    return "-".join(str(value) for value in shape.values())


def assert_near(got, expected, *, relative=1e-4, name=""):
    """Largest difference against the largest value."""
    assert got.shape == expected.shape, name
    if got.numel():
        got, expected = got.detach().double(), expected.detach().double()
        scale = max(float(expected.abs().max()), 1e-6)
        worst = float((got - expected).abs().max())
        assert worst <= relative * scale, f"{name}: {worst:.3g} of {scale:.3g}"


def flat_jacobian(weights, function):
    """d function / d all weights in the order of `trained`, in double precision."""
    values = tuple(weights[name] for name in NAMES)
    jacobian = torch.autograd.functional.jacobian(
        lambda *parts: function(dict(zip(NAMES, parts, strict=True))), values, vectorize=True
    )
    return torch.cat([part.flatten(1) for part in jacobian], 1)


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


def source_of(rng, model, samples=4000, **weights):
    dry = (0.3 * rng.standard_normal((1, samples))).astype(np.float32)
    wet = np.tanh(2 * dry + 0.3 * np.roll(dry, 1)).astype(np.float32)
    options = {"relative_weight": True, "relative_noise": True, **weights}
    recording = Recording(Pair(dry, wet, 48_000), model.config)
    return SegmentSource(recording, generator=torch.Generator().manual_seed(5), **options)


def streams_of(rng, model, *, batch=6, block=128, samples=4000, relative_weight=True):
    source = source_of(rng, model, samples)
    return Streams(
        source.recording,
        batch=batch,
        block=block,
        relative_weight=relative_weight,
        generator=source.generator,
        sample_rate=48_000,
    )


@pytest.mark.parametrize(
    "shape",
    [
        {"m": 3, "layers": 1, "width": 4, "activation": "tanh"},
        {"m": 2, "past_outputs": 5, "layers": 2, "width": 3, "activation": "gelu"},
        {"m": 4, "past_outputs": 1, "layers": 3, "width": 3, "activation": "relu"},
        *SLOW_SHAPES,
    ],
    ids=label,
)
def test_free_run_jacobian(rng, shape):
    """The one-step Jacobian sent through the model's own feedback is the derivative of the whole run."""
    model = random_model(6, feedback=0.9, **shape)
    c, history = model.config, model.history_samples
    problem = FreeRun(model, streams_of(rng, model))
    assert problem.rows == problem.segments.target.numel() > 0
    problem.segments = segments = source_of(rng, model).draw(3, 40, history, sigma=0.0)
    problem.rows = segments.target.numel()
    with torch.no_grad():
        parts, cost = list(problem.parts()), problem.cost()
    error, jacobian = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    assert len(error) == len(jacobian) == 120

    x, y = segments.x.double(), segments.y_noisy.double()
    pasts = x[:, history - c.m + 1 : history], y[:, history - c.taps_y : history]
    slow = segments.slow_x.double(), segments.slow_y.double()
    assert bool(slow[0].any()) == bool(c.slow)
    weight = segments.weight.double()

    def weighted_error(weights):
        own = plain_run(weights, c, x[:, history:], *pasts, *slow)
        return ((own - segments.target) * weight).flatten()

    assert_near(error, weighted_error(weights_of(model)), relative=1e-5)
    assert_near(jacobian, flat_jacobian(weights_of(model), weighted_error), relative=3e-4)
    assert cost == pytest.approx(float(error.double().square().sum()), rel=1e-5)


def test_through_feedback_is_a_recursive_filter():
    jacobian, gains = np.zeros((2, 6, 3), np.float32), np.zeros((2, 6, 2), np.float32)
    jacobian[:, 0] = [1, 2, 3]
    gains[0, :, 0] = 0.5  # dy[n] = 0.5 dy[n-1]
    gains[1, :, 1] = -1  # dy[n] = -dy[n-2]
    kernels.through_feedback(jacobian, gains, np.zeros(0, np.float32), 0, np.zeros((2, 6), np.float32))
    np.testing.assert_allclose(jacobian[0], np.outer(0.5 ** np.arange(6), [1, 2, 3]))
    np.testing.assert_allclose(jacobian[1], np.outer([1, 0, -1, 0, 1, 0], [1, 2, 3]))


def test_through_feedback_of_slow_values():
    """An impulse in the Jacobian comes back through an average one sample later, through an envelope two."""
    jacobian, gains = np.zeros((3, 6, 1), np.float32), np.zeros((3, 6, 2), np.float32)  # no taps: average, envelope
    jacobian[:, 0] = 1
    gains[0, :, 0] = gains[1:, :, 1] = 1e-3  # so little that what comes back twice does not count
    y = np.ones((3, 6), np.float32)
    y[2] = -1  # |y| falls where y rises
    kernels.through_feedback(jacobian, gains, np.array([0.5, 0.25], np.float32), 1, y)
    np.testing.assert_allclose(1e3 * jacobian[0, 1:, 0], 0.5 * 0.5 ** np.arange(5), rtol=5e-3)
    expected = np.concatenate([[0], 0.25 * 0.75 ** np.arange(4)])
    np.testing.assert_allclose(1e3 * jacobian[1, 1:, 0], expected, rtol=5e-3)
    np.testing.assert_allclose(1e3 * jacobian[2, 1:, 0], -expected, rtol=5e-3)


def test_slow_values_of_a_signal(rng):
    rates = np.array([0.5, 0.01, 0.2], np.float32)
    signal, before = noise(rng, 2, 50).numpy(), noise(rng, 2, 3).numpy()
    got = kernels.leaky(signal, before, rates, 1)
    assert got.shape == (2, 51, 3)
    state = before.astype(np.float64)
    np.testing.assert_array_equal(got[:, 0], before)
    for n in range(50):
        heard = np.stack([signal[:, n], abs(signal[:, n]), abs(signal[:, n])], 1)
        state = state + rates * (heard - state)
        np.testing.assert_allclose(got[:, n + 1], state, atol=1e-6)


def test_slow_values_as_rows_follow_their_taps(rng):
    """Rows of a passage in the middle of a recording: slow values of all that was before, not of the passage alone."""
    model = random_model(7, m=3, past_outputs=2, width=2, averages=(5.0, 300.0), envelopes=(20.0,))
    source = source_of(rng, model)
    recording, rates = source.recording, model.config.rates().astype(np.float64)
    segments = source.draw(4, 10, model.history_samples, sigma=0.0)
    z, _, _ = design(model, segments)
    assert z.shape == (40, 3 + 3 + 2 + 3)
    x, y = recording.x.double().numpy(), recording.y.double().numpy()

    def slow(signal, rates):
        state = np.zeros(len(rates))
        for value in signal:
            state = state + rates * (value - state)
        return state

    for passage in range(4):
        places = np.flatnonzero(recording.x.numpy() == float(segments.x[passage, model.history_samples]))
        assert len(places) == 1
        for sample in (0, 1, 9):
            # averages of y up to y[n-1], envelopes up to y[n-2]
            row, now = z[10 * passage + sample].double().numpy(), int(places[0]) + sample
            np.testing.assert_allclose(row[3:5], slow(x[: now + 1], rates[:2]), atol=1e-6)
            np.testing.assert_allclose(row[5:6], slow(abs(x[: now + 1]), rates[2:]), atol=1e-6)
            np.testing.assert_allclose(row[8:10], slow(y[:now], rates[:2]), atol=1e-6)
            np.testing.assert_allclose(
                row[10:11], slow(abs(y[: max(now - 1, 0)]), rates[2:]), atol=1e-6
            )  # up to y[n-2]


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


def test_a_gauss_newton_step_solves_a_linear_problem(rng):
    """For a model that is linear in its weights one step nearly ends at the least-squares answer."""
    dry = (0.3 * rng.standard_normal((1, 20_000))).astype(np.float32)
    wet = (0.5 * dry - 0.25 * np.roll(dry, 1)).astype(np.float32)
    wet[0, 0] = 0.5 * dry[0, 0]
    model = one_pole(0.3, m=2, past_outputs=1)
    recording = Recording(Pair(dry, wet, 48_000), model.config)
    source = SegmentSource(
        recording, relative_weight=False, relative_noise=False, generator=torch.Generator().manual_seed(0)
    )
    optimiser = GaussNewton(model)
    step = optimiser.step(OneStep(model, source, sigma=0.1))
    assert step.accepted
    assert step.after < 1e-4 * step.before
    np.testing.assert_allclose(model.skip_x.detach().numpy(), [0.5, -0.25], atol=2e-3)
    assert abs(float(model.skip_y.detach()[0])) < 2e-3


def test_a_step_that_does_not_help_is_undone(rng):
    model = random_model(8, m=2, width=3)
    source = source_of(rng, model)
    optimiser = GaussNewton(model)
    problem = OneStep(model, source, sigma=0.01)
    held = weights_of(model)
    problem.cost = lambda: float("inf")  # nothing can be better than this
    step = optimiser.step(problem)
    assert not step.accepted
    assert step.after == step.before
    for name, value in weights_of(model).items():
        torch.testing.assert_close(value, held[name], rtol=0, atol=0)


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


def test_the_cost_of_a_blow_up_is_infinite(rng):
    model = one_pole(1.5)
    problem = FreeRun(model, streams_of(rng, model, block=1024))
    with torch.no_grad():
        assert problem.cost() == float("inf")
    step = GaussNewton(model).step(problem)
    assert not step.accepted


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
