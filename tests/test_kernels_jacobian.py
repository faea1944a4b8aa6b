"""Derivatives of the free run by all weights: equal to autograd through a plain loop over time; and steps by them."""

import numpy as np
import pytest
import torch
from ar_models import doubled, one_pole, plain_run, random_model, weights_of
from ar_problems import SLOW_SHAPES, assert_near, flat_jacobian, label, source_of, streams_of

from fxclone.pairs import Pair
from fxclone_training import kernels
from fxclone_training.gauss_newton import FreeRun, GaussNewton, OneStep, trained
from fxclone_training.segments import Recording, SegmentSource

FREE_RUNS = [
    *SLOW_SHAPES,
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh"},
    {"m": 5, "past_outputs": 0, "layers": 1, "width": 3, "activation": "relu"},
    {"m": 1, "past_outputs": 70, "layers": 1, "width": 3, "activation": "gelu"},  # more taps than samples
    {"m": 3, "past_outputs": 3, "layers": 1, "width": 6, "activation": "relu", "averages": (2.0, 9.0, 70.0)},
    {"m": 1, "past_outputs": 2, "layers": 1, "width": 3, "activation": "tanh", "envelopes": (4.0, 30.0), "attack": 0.2},
    {"m": 2, "past_outputs": 5, "layers": 2, "width": 3, "activation": "gelu"},
    {"m": 4, "past_outputs": 1, "layers": 3, "width": 3, "activation": "relu"},
]


@pytest.mark.parametrize("sigma", [0.0, 0.2])
@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize("shape", FREE_RUNS, ids=label)
def test_rows_of_the_free_run_are_its_derivatives(rng, shape, stride, sigma):
    """Every row of the Jacobian, or every eighth, against autograd through a plain loop, with and without noise."""
    model = random_model(6, feedback=0.9, **shape)
    c, history = model.config, model.history_samples
    problem = FreeRun(model, streams_of(rng, model, batch=3, block=64), stride=stride, sigma=sigma)
    segments, kept = problem.segments, range(0, 64, stride)
    assert problem.rows == 3 * len(kept)
    assert bool(segments.slow_x.any()) == bool(c.slow)
    assert float(problem.noise.std()) == pytest.approx(sigma, rel=0.2)
    with torch.no_grad():
        ((error, jacobian),) = problem.parts()
        cost = problem.cost()
    assert error.shape == (problem.rows,)
    assert jacobian.shape == (problem.rows, sum(weights.numel() for weights in trained(model)))

    state = doubled(segments.state(model))
    x, weight, noise = segments.x[:, history:].double(), segments.weight.double(), problem.noise.double()

    def weighted_error(weights):
        own = plain_run(weights, c, x, *state, noise=noise)
        return ((own - segments.target) * weight)[:, ::stride].flatten()

    assert_near(error, weighted_error(weights_of(model)), relative=1e-5)
    expected = flat_jacobian(weights_of(model), weighted_error)
    assert_near(jacobian, expected, relative=1e-4 if c.layers == 1 else 3e-4)
    assert cost == pytest.approx(float(error.double().square().sum()), rel=1e-5)


def test_rows_are_the_same_in_any_parts(rng, monkeypatch):
    """A long problem comes in parts of some streams each; together they are the problem."""
    model = random_model(6, m=3, width=4, averages=(5.0, 50.0), envelopes=(20.0,))
    problem = FreeRun(model, streams_of(rng, model, batch=6, block=128), stride=8)
    with torch.no_grad():
        (whole,) = problem.parts()
        monkeypatch.setattr("fxclone_training.gauss_newton._CHUNK", 256)
        parts = list(problem.parts())
    assert len(parts) == 3
    for place in (0, 1):
        torch.testing.assert_close(torch.cat([part[place] for part in parts]), whole[place], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_only_models_of_one_layer_take_the_short_way(rng, monkeypatch, layers):
    """Two layers: all one-step derivatives, sent through the feedback, and then every eighth of them."""
    went = []
    through_feedback = kernels.through_feedback
    monkeypatch.setattr(kernels, "through_feedback", lambda *run: (went.append(1), through_feedback(*run)))
    model = random_model(6, 0.9, m=3, layers=layers, width=4, averages=(7.0,), envelopes=(9.0,), attack=0.3)
    streams = streams_of(rng, model, batch=3, block=64)
    every = FreeRun(model, streams)
    strided = FreeRun(model, streams, stride=8)
    strided.segments, strided.noise = every.segments, every.noise
    with torch.no_grad():
        ((_, all_rows),), ((_, kept),) = every.parts(), strided.parts()
    assert len(went) == (0 if layers == 1 else 2)
    assert all_rows.shape[0] == 8 * kept.shape[0] == 3 * 64
    torch.testing.assert_close(kept, all_rows[::8], rtol=0, atol=0)


def test_through_feedback_is_a_recursive_filter():
    jacobian, gains = np.zeros((2, 6, 3), np.float32), np.zeros((2, 6, 2), np.float32)
    jacobian[:, 0] = [1, 2, 3]
    gains[0, :, 0] = 0.5  # dy[n] = 0.5 dy[n-1]
    gains[1, :, 1] = -1  # dy[n] = -dy[n-2]
    none = np.zeros((0, 2), np.float32), 0, np.zeros((2, 6), np.float32), np.zeros((2, 6, 0), np.float32)
    kernels.through_feedback(jacobian, gains, *none)
    np.testing.assert_allclose(jacobian[0], np.outer(0.5 ** np.arange(6), [1, 2, 3]))
    np.testing.assert_allclose(jacobian[1], np.outer([1, 0, -1, 0, 1, 0], [1, 2, 3]))


def test_through_feedback_of_slow_values():
    """An impulse in the Jacobian comes back through an average one sample later, through an envelope three."""
    jacobian, gains = np.zeros((4, 6, 1), np.float32), np.zeros((4, 6, 2), np.float32)  # no taps: average, envelope
    jacobian[:, 0] = 1
    gains[0, :, 0] = gains[1:, :, 1] = 1e-3  # so little that what comes back twice does not count
    y = np.ones((4, 6), np.float32)
    y[2] = -1  # |y| falls where y rises
    seen = np.zeros((4, 6, 2), np.float32)
    seen[3, :, 1] = 2  # above what is heard: it falls
    kernels.through_feedback(jacobian, gains, np.array([[0.5, 0.5], [0.25, 0.1]], np.float32), 1, y, seen)
    np.testing.assert_allclose(1e3 * jacobian[0, 1:, 0], 0.5 * 0.5 ** np.arange(5), rtol=5e-3)
    for row, rate, sign in (1, 0.25, 1), (2, 0.25, -1), (3, 0.1, 1):
        expected = np.concatenate([[0, 0], sign * rate * (1 - rate) ** np.arange(3)])
        np.testing.assert_allclose(1e3 * jacobian[row, 1:, 0], expected, rtol=5e-3)


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


def test_the_cost_of_a_blow_up_is_infinite(rng):
    model = one_pole(1.5)
    problem = FreeRun(model, streams_of(rng, model, block=1024))
    with torch.no_grad():
        assert problem.cost() == float("inf")
    step = GaussNewton(model).step(problem)
    assert not step.accepted
