"""Gauss-Newton with a memory: many small problems make one answer, and no bad one spoils it."""

import numpy as np
import pytest
import torch
from ar_models import one_pole, random_model, weights_of
from ar_problems import streams_of

from fxclone.pairs import Pair
from fxclone_training import online_newton
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import FreeRun, GaussNewton
from fxclone_training.online_newton import OnlineNewton
from fxclone_training.segments import Recording
from fxclone_training.streams import Streams

RATE = 48_000
TRUE = np.array([0.5, -0.3, 0.2, 0.1, -0.4, 0.05])


def silent(**shape):
    model = Ar(ArConfig(**{"width": 1, "past_outputs": 0, **shape}))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    return model


def streams_on(pair, model, *, batch=2, block=64, seed=0):
    return Streams(
        Recording(pair, model.config),
        batch=batch,
        block=block,
        relative_weight=False,
        generator=torch.Generator().manual_seed(seed),
        sample_rate=RATE,
    )


@pytest.fixture
def noisy_filter(rng):
    """Six taps, under noise as loud as their output: 128 samples say little of them, 64,000 a lot."""
    dry = rng.standard_normal(64_000).astype(np.float32)
    wet = np.convolve(dry, TRUE)[: len(dry)] + 0.7 * rng.standard_normal(len(dry))
    return Pair(dry[None], wet[None].astype(np.float32), RATE)


def off(model):
    """Distance from the true taps."""
    return float(np.linalg.norm(model.skip_x.detach().numpy() - TRUE))


def test_many_small_problems_make_one_answer(noisy_filter):
    model, alone = silent(m=6), silent(m=6)
    streams, newton = streams_on(noisy_filter, model), OnlineNewton(model)
    steps = 250
    for step in range(steps):
        newton.step(FreeRun(model, streams), 0.02 + 0.98 * (1 - step / steps) ** 2)
    others, single = streams_on(noisy_filter, alone), GaussNewton(alone)
    errors = []
    for _ in range(20):
        single.step(FreeRun(alone, others))
        errors.append(off(alone))
    assert off(model) < 0.04
    assert np.mean(errors) > 4 * off(model)  # each is the best for its own 128 samples


def test_the_curvature_is_an_average(noisy_filter):
    """White sound: J^T J of the taps is the identity, and of one block only about that."""
    model = silent(m=6)
    streams, newton = streams_on(noisy_filter, model), OnlineNewton(model)
    taps = slice(-7, -1)

    def far():
        return float(np.abs(newton.curvature[taps, taps] - np.eye(6)).max())

    newton.step(FreeRun(model, streams), 0.1)
    once = far()
    for _ in range(60):
        newton.step(FreeRun(model, streams), 0.1)
    assert far() < 0.5 * once
    assert newton.steps == 61


def test_a_rate_of_less_goes_less_far(noisy_filter):
    moved = []
    for rate in (1.0, 0.1):
        model = silent(m=6)
        assert OnlineNewton(model).step(FreeRun(model, streams_on(noisy_filter, model)), rate).accepted
        moved.append(model.skip_x.detach().numpy().copy())
    np.testing.assert_allclose(moved[1], 0.1 * moved[0], rtol=1e-4)


def test_a_problem_that_is_not_finite_changes_nothing(rng):
    model = one_pole(1.5, m=2)
    held = weights_of(model)
    newton = OnlineNewton(model)
    step = newton.step(FreeRun(model, streams_of(rng, model, block=1024)), 1.0)
    assert (step.before, step.accepted) == (np.inf, False)
    assert newton.steps == 0
    assert not newton.curvature.any()
    for name, value in weights_of(model).items():
        assert torch.equal(value, held[name])
    with torch.no_grad():
        model.skip_y[0] = 0.5
    assert newton.step(FreeRun(model, streams_of(rng, model, block=1024)), 1.0).accepted


def test_a_howl_that_is_finite_is_not_learnt_from(rng):
    """It grows to 10^11 within the block: a curvature of that size would stop all steps for long."""
    model = one_pole(1.5, m=2, past_outputs=1)
    newton = OnlineNewton(model, power=1.0)
    problem = FreeRun(model, streams_of(rng, model, block=64))
    with torch.no_grad():
        assert 1e10 < problem.cost() < np.inf
    assert not newton.step(problem, 1.0).accepted
    assert not newton.curvature.any()
    with torch.no_grad():
        model.skip_y[0] = 0.3
    assert newton.step(FreeRun(model, streams_of(rng, model, block=64)), 1.0).accepted


def test_a_step_that_blows_up_is_undone(rng):
    """All that it tries howls: weights as before, steps shorter from now on, streams from the true past."""
    model = random_model(8, m=2, width=3, averages=(5.0,))
    streams = streams_of(rng, model)
    newton, problem = OnlineNewton(model), FreeRun(model, streams)
    held, damping = weights_of(model), newton.damping
    problem.cost = lambda: float("inf")
    step = newton.step(problem, 1.0)
    assert not step.accepted
    assert step.after == step.before < np.inf
    for name, value in weights_of(model).items():
        assert torch.equal(value, held[name])
    assert newton.damping > damping
    assert streams.state is None
    assert newton.step(FreeRun(model, streams), 1.0).accepted
    assert newton.damping < 5**online_newton.TRIES * damping


def test_a_step_too_long_is_tried_shorter(rng):
    """The first two answers howl, the third is taken."""
    model = random_model(8, m=2, width=3, averages=(5.0,))
    newton, problem = OnlineNewton(model), FreeRun(model, streams_of(rng, model))
    judged = []
    real = problem.cost
    problem.cost = lambda: (judged.append(1), real() if len(judged) > 2 else float("inf"))[1]
    step = newton.step(problem, 1.0)
    assert step.accepted
    assert step.after <= online_newton.WORSE * step.before
    assert len(judged) == 3
    assert newton.damping > online_newton.LEAST_DAMPING


def cancelling(rng, steps=400):
    """Two inputs that are always alike, weights 30 and -29 on them: these, and what it says, after so many steps."""
    dry = np.full((1, 4_000), 0.3, np.float32)
    wet = dry + 0.03 * rng.standard_normal(dry.shape).astype(np.float32)
    model = silent(m=2)
    with torch.no_grad():
        model.skip_x[:] = torch.tensor([30.0, -29.0])
    streams, newton = streams_on(Pair(dry, wet, RATE), model), OnlineNewton(model)
    for _ in range(steps):
        streams.position.clamp_(min=64)  # not where silence ends
        newton.step(FreeRun(model, streams), 0.7)
    said = model.run_freely(dry)[0, -1]
    return float(model.skip_x.detach().abs().max()), float(said)


def test_weights_that_cancel_have_a_price(rng, monkeypatch):
    largest, said = cancelling(rng)
    assert largest < 4
    assert said == pytest.approx(0.3, abs=0.01)
    monkeypatch.setattr(online_newton, "PRECISION", 0.0)
    largest, said = cancelling(rng)
    assert largest > 29
    assert said == pytest.approx(0.3, abs=0.01)
