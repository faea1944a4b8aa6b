"""The price of a step by what it moves, the sum of every unit; and the units that training begins with."""

import numpy as np
import pytest
import torch
from ar_models import random_model, weights_of
from ar_problems import source_of, streams_of

from fxclone.pairs import Pair
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import FreeRun, GaussNewton, OneStep, trained
from fxclone_training.memory_start import fit_last, started
from fxclone_training.online_newton import OnlineNewton
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.tail_drive import Start
from fxclone_training.trust import price, second_moment

SHAPES = [
    {"m": 3, "past_outputs": 2, "width": 4, "averages": (4.0, 30.0), "envelopes": (50.0,)},
    {"m": 2, "past_outputs": 3, "width": 3, "layers": 2},
    {"m": 4, "past_outputs": 0, "width": 3},
]


def sums_of_units(model, z):
    """What the units of the first layer hear, (rows, width)."""
    seen_x = model.config.seen_x
    return (z[:, :seen_x] @ model.w_x.T + z[:, seen_x:] @ model.w_y.T + model.b_in).detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_price_is_how_far_a_step_moves_the_units(rng, shape):
    model = random_model(1, **shape)
    z = torch.from_numpy(rng.standard_normal((500, model.config.seen_x + model.config.seen_y)).astype(np.float32))
    form = price(model, second_moment(z), 3.0)
    before, sizes = sums_of_units(model, z), [part.numel() for part in trained(model)[:3]]
    move = rng.standard_normal(sum(sizes))
    with torch.no_grad():
        for weights, part in zip(trained(model)[:3], np.split(move, np.cumsum(sizes)[:-1]), strict=True):
            weights.add_(torch.from_numpy(part).float().view_as(weights))
    moved = float((sums_of_units(model, z) - before).square().mean())
    assert move @ form @ move == pytest.approx(3 * moved, rel=1e-4)
    assert price(model, second_moment(z), 0.0).shape == (0, 0)


def test_a_problem_knows_what_its_units_hear(rng):
    """Of a free run it is known part by part, whatever the parts; of one step ahead at once."""
    model = random_model(2, **SHAPES[0])
    seen = model.config.seen_x + model.config.seen_y
    problem = FreeRun(model, streams_of(rng, model, batch=5, block=64), stride=4)
    with torch.no_grad():
        list(problem.parts())
        whole = problem.moment
        list(problem.parts())
    assert whole.shape == (seen + 1, seen + 1)
    assert whole[-1, -1] == pytest.approx(1)
    np.testing.assert_allclose(problem.moment, whole)
    ahead = OneStep(model, source_of(rng, model), 0.0)
    np.testing.assert_allclose(ahead.moment[:-1, :-1], (ahead.z.T @ ahead.z / len(ahead.z)).detach(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["one step", "free run"])
def test_a_unit_that_says_next_to_nothing_is_not_thrown_about(rng, kind):
    """Its slopes are as good as none, so damping by slopes lets its weights go anywhere."""

    def moved(trust):
        model, own = random_model(3, feedback=0.2, **SHAPES[0]), np.random.default_rng(4)
        with torch.no_grad():
            model.out[0] = 1e-3
        held = weights_of(model)["w_x"][0].clone()
        if kind == "one step":
            step = GaussNewton(model, trust=trust).step(OneStep(model, source_of(own, model), 0.0))
        else:
            problem = FreeRun(model, streams_of(own, model, batch=8, block=512), stride=2)
            step = OnlineNewton(model, trust=trust).step(problem, 1.0)
        assert step.accepted
        assert step.after < step.before
        return float((model.w_x[0] - held).norm().detach())

    assert moved(0.0) > 10
    assert moved(10.0) < 1


def with_units(config, start, pair):
    recording = Recording(pair, config)
    source = SegmentSource(
        recording, relative_weight=True, relative_noise=True, generator=torch.Generator().manual_seed(5)
    )
    return started(pair, config, source, start), source


def a_pair(rng, samples=30_000):
    dry = (0.2 * rng.standard_normal((1, samples))).astype(np.float32)
    return Pair(dry, (dry / (1 + np.abs(dry))).astype(np.float32), 16_000)


@pytest.mark.parametrize("width", [1, 4, 5])
def test_where_the_level_counts_units_come_in_pairs(rng, width):
    """Together they are odd in x at any level: f(ax + e) - f(-ax + e)."""
    config = ArConfig(m=2, past_outputs=2, width=width, averages=(5.0, 100.0), envelopes=(40.0, 400.0))
    model, _ = with_units(config, None, a_pair(rng))
    direct = config.m + len(config.averages)
    for one in range(0, width - 1, 2):
        other = one + 1
        torch.testing.assert_close(model.w_x[one, :direct], -model.w_x[other, :direct])
        torch.testing.assert_close(model.w_x[one, direct:], model.w_x[other, direct:])
        assert model.b_in[one] == model.b_in[other]
    assert len({round(float(value), 6) for value in model.w_x[:, 0].detach().abs()}) == (width + 1) // 2
    assert not model.out.any()  # nobody listens to them yet
    assert not model.w_y.any()


def test_without_envelopes_or_behind_a_filter_there_are_no_pairs(rng):
    pair = a_pair(rng)
    alone, _ = with_units(ArConfig(m=2, past_outputs=2, width=4, averages=(5.0,)), None, pair)
    level = ArConfig(m=2, past_outputs=2, width=4, averages=(5.0,), envelopes=(40.0,))
    filtered, _ = with_units(level, Start(700.0, 5.0, -10.0), pair)
    for model in (alone, filtered):
        assert len({round(float(value), 6) for value in model.w_x[:, 0].detach().abs()}) == 4


@pytest.mark.parametrize("start", [None, Start(700.0, 5.0, -10.0)], ids=["pairs", "filter"])
def test_a_recording_may_begin_with_silence(rng, start):
    """Units hear the sound, wherever it is, at a size that moves them; behind a filter at up to 3 times its drive."""
    pair = a_pair(rng, 200_000)
    silence = np.zeros((1, 20 * pair.sample_rate), np.float32)
    late = Pair(*(np.concatenate([silence, sound], 1) for sound in (pair.dry, pair.wet)), pair.sample_rate)
    config = ArConfig(m=2, past_outputs=2, width=8, averages=(5.0, 100.0), envelopes=(40.0, 400.0))
    model, source = with_units(config, start, late)
    assert bool(torch.isfinite(model.w_x).all())
    z = OneStep(
        model,
        SegmentSource(Recording(pair, config), relative_weight=True, relative_noise=True, generator=source.generator),
        0.0,
    ).z
    moved = sums_of_units(model, z).std(0)
    assert float(moved.min()) > 0.05
    assert float(moved.max()) < (5 if start is None else 16)


def test_least_squares_sets_what_the_output_is_linear_in(rng):
    config = ArConfig(m=2, past_outputs=2, width=6, averages=(5.0,), envelopes=(40.0,))
    model, source = with_units(config, None, a_pair(rng))
    held = weights_of(model)
    fit_last(model, source, 0.0)
    for name, before in held.items():
        assert torch.equal(weights_of(model)[name], before) == (name in ("w_x", "w_y", "b_in", "hidden", "b_hidden"))
    with torch.no_grad():
        problem = OneStep(model, source, 0.0)
        cost = problem.cost()
    assert cost < 0.01 * float((problem.target * problem.weight).square().sum())
