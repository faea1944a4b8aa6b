"""The training of family ``dynamics``: exact slopes, known parameters found again, and the real effects."""

import math

import numpy as np
import pytest
import torch

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.pairs import training_and_validation
from fxclone_training.dynamics import Dynamics
from fxclone_training.dynamics_fit import free_parameters, levenberg_marquardt
from fxclone_training.dynamics_kernels import INSTANT, TIMES, normal_equations, run
from fxclone_training.dynamics_stages import ceiling_of, explains
from fxclone_training.dynamics_start import polygon, starts
from fxclone_training.recipe import Recipe
from fxclone_training.session import Session
from fxclone_training.trainer import train

RATE = 16_000
NONE = [INSTANT, INSTANT]
torch.set_num_threads(1)


def steps(rng, seconds=2.0):
    """Noise that gets louder and softer."""
    samples = int(seconds * RATE)
    level = np.repeat(10 ** (-np.array([5, 30, 12, 45, 0, 20, 8, 35]) / 20), samples // 8)
    return level * rng.uniform(-1, 1, samples)


def exact_rates(cells):
    return 1 - np.exp(-np.exp(-cells[:, :TIMES]))


def test_slopes_are_those_of_the_free_run(rng):
    cells = np.array(
        [
            [0.5, 3, 1, 5, 0, 0.8, -2, -1, -0.5, -0.2, -1, -2],
            [2, 1, 0.2, 4, 0.3, 0.1, -2.2, -1.2, -0.3, -0.4, -2, -1],
        ]
    )
    squares, ceiling, first = np.array([True, False]), 0.4, 50
    dry = steps(rng, 0.2)

    def output(values):
        rows = values.reshape(cells.shape)
        return run(dry, rows, exact_rates(rows), squares, ceiling)[first:]

    wet = np.zeros(len(dry))
    wet[first:] = output(cells.ravel()) + 0.1 * rng.standard_normal(len(dry) - first)
    normal, slope, cost = normal_equations(dry, wet, cells, exact_rates(cells), squares, ceiling, first, 1)
    small = 1e-5 * np.eye(cells.size)
    jacobian = np.stack([(output(cells.ravel() + h) - output(cells.ravel() - h)) / 2e-5 for h in small], axis=1)
    error = output(cells.ravel()) - wet[first:]
    assert np.count_nonzero(np.abs(output(cells.ravel())) == ceiling) < len(dry) / 4
    assert cost == pytest.approx(float(error @ error))
    np.testing.assert_allclose(slope, jacobian.T @ error, atol=1e-4 * np.abs(slope).max())
    np.testing.assert_allclose(normal, jacobian.T @ jacobian, atol=1e-4 * np.abs(normal).max())


def test_what_lies_before_or_between_is_heard_and_not_counted(rng):
    cells = np.array([[*NONE, 2, 5, 0, 0, -2, -0.5, -1]], float)
    dry, wet = steps(rng, 0.1), np.zeros(1600)
    rates, squares = exact_rates(cells), np.array([False])
    out = run(dry, cells, rates, squares, math.inf)
    _, _, cost = normal_equations(dry, wet, cells, rates, squares, math.inf, 100, 7)
    assert cost == pytest.approx(float(np.square(out[105::7]).sum()))


KNOWN = {
    "compressor": (Dynamics([[*NONE, 3.2, 6.2, 0.4, 0, -2.5, -0.6, -1]], [False]), (2, 3, 4, 6, 7)),
    "gate": (Dynamics([[INSTANT, 4.5, 1.5, 5.5, 0, 4, -3, 0, -3]], [True]), (1, 2, 3, 5, 6)),
}  # fmt: skip


@pytest.mark.parametrize(("known", "told"), KNOWN.values(), ids=KNOWN.keys())
def test_known_parameters_are_found_again(known, told, rng):
    dry = steps(rng)
    wet = known.run_freely(dry[None].astype(np.float32))[0].astype(float)
    found, left = min(
        (
            list(levenberg_marquardt(Dynamics(s.cell[None], [s.squares]), dry, wet, RATE, steps=40))[-1]
            for s in starts(dry, wet, RATE, 0)
        ),
        key=lambda fit: fit[1],
    )
    assert 10 * math.log10(left) < -80
    assert found.squares.tolist() == known.squares.tolist()
    np.testing.assert_allclose(found.cells[0, list(told)], known.cells[0, list(told)], atol=0.05)


def test_errors_only_fall_and_fixed_rates_stay(rng):
    known, _ = KNOWN["compressor"]
    dry = steps(rng, 0.5)
    wet = known.run_freely(dry[None].astype(np.float32))[0].astype(float)
    start = Dynamics([[*NONE, 2, 5, 0, 0.1, -2, -0.3, -2]], [False])
    fits = list(levenberg_marquardt(start, dry, wet, RATE, steps=12))
    errors = [left for _, left in fits]
    assert len(fits) > 3
    assert fits[0][0] is start
    assert errors == sorted(errors, reverse=True)
    assert all(model.cells[0, :2].tolist() == NONE for model, _ in fits)
    assert free_parameters(start).tolist() == list(range(2, 9))


def test_a_gain_over_the_level_is_least_squares(rng):
    place = rng.uniform(-6, 0, 5_000)
    sound = rng.standard_normal(5_000)
    found = polygon(place, sound, sound * (0.5 - 0.05 * place))
    assert found.left < 1e-8
    heard = found.weights > 1
    assert np.count_nonzero(heard) > 20
    np.testing.assert_allclose(found.gains[heard], (0.5 - 0.05 * found.corners)[heard], atol=1e-4)


def test_a_clip_is_told_by_many_samples_at_the_top(rng):
    loud = rng.standard_normal((1, 5_000)).astype(np.float32)
    assert ceiling_of(loud) == math.inf
    assert ceiling_of(np.clip(loud, -0.8, 0.8)) == pytest.approx(0.8)
    assert ceiling_of(np.zeros((1, 5_000), np.float32)) == math.inf


EFFECTS = {
    "compressor(threshold_db=-25, ratio=4, attack_ms=2, release_ms=120)": -60,
    "noise_gate(threshold_db=-35, attack_ms=1, release_ms=100)": -60,
    "limiter(threshold_db=-12)": -40,  # two gains and a clip, of which one gain explains nearly all
}
COMPRESSOR = next(iter(EFFECTS))


def pairs_of(expression):
    return training_and_validation(effect(expression), seconds=8, validation_seconds=3, sample_rate=RATE, seed=0)


@pytest.mark.parametrize(("expression", "closer_db"), EFFECTS.items())
def test_the_real_ones(expression, closer_db):
    result = train(*pairs_of(expression), Recipe(family="dynamics", seconds=1e5))
    assert isinstance(result.model, Dynamics)
    assert result.esr_db < closer_db


def test_auto_takes_it():
    said = []
    result = train(*pairs_of(COMPRESSOR), Recipe(seconds=1e5, max_steps=300), tell=said.append)
    assert isinstance(result.model, Dynamics)
    assert result.findings["auto"]["family"] == "dynamics"
    assert result.esr_db < -60


def test_a_trial_on_something_else_ends_early():
    session = Session(
        Recipe(seconds=1e5, max_steps=1000), *pairs_of("lowpass(cutoff_hz=500, order=4)"), torch.Generator()
    )
    assert not explains(session)
    assert 0 < session.steps < 100
    assert session.recipe.max_steps == 1000
    assert not any(moment.stage in ("two gains", "all of it") for moment in session.log)


def test_it_is_mono():
    pairs = training_and_validation(
        effect("compressor"), seconds=2, validation_seconds=1, sample_rate=RATE, seed=0, channels=2
    )
    with pytest.raises(UsageError, match="family dynamics is mono"):
        train(*pairs, Recipe(family="dynamics"))
