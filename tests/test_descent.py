"""Gradient descent on the free run: learns, repeats itself, judges both sets of weights, and survives a blow-up."""

import math

import numpy as np
import pytest
import torch

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.metrics import compare
from fxclone.pairs import Pair, effect_pair, training_and_validation
from fxclone_training import descent, recurrent_stages
from fxclone_training.descent import Descent, Passages, descend
from fxclone_training.recipe import Recipe
from fxclone_training.recurrent import SIZES, Recurrent, RecurrentConfig
from fxclone_training.session import UNUSABLE_DB, Finished, Session
from fxclone_training.trainer import train

RATE = 16_000
torch.set_num_threads(1)
CPU = torch.device("cpu")
FILTER_AND_CURVE = "lowpass(cutoff_hz=2000, order=1) > tanh(drive=4)"


def session_on(expression, *, seed=0, seconds=5.0, **recipe):
    pairs = training_and_validation(effect(expression), seconds=seconds, validation_seconds=1, sample_rate=RATE, seed=3)
    recipe = Recipe(**{"family": "recurrent", "seconds": 1e5, "seed": seed, "size": "nano", **recipe})
    return Session(recipe, *pairs, torch.Generator().manual_seed(seed))


def trained(session, start=None):
    """Why it ended; as the trainer ends a session."""
    try:
        recurrent_stages.train(session, start, CPU)
    except Finished as end:
        session.last_look()
        return str(end)
    raise AssertionError("the stages ended without a reason")


@pytest.fixture(scope="module")
def curve_session():
    session = session_on(FILTER_AND_CURVE, max_steps=500)
    assert trained(session) == "500 steps are done"
    return session


@pytest.mark.parametrize(("expression", "limit_db"), [("passthrough", -25), ("tanh(drive=5)", -18)])
def test_it_learns(expression, limit_db):
    session = session_on(expression, max_steps=300)
    trained(session)
    assert session.best_esr_db < limit_db


def test_it_learns_a_filter_and_a_curve(curve_session):
    assert curve_session.best_esr_db < -14
    fresh = effect_pair(effect(FILTER_AND_CURVE), 2, RATE, seed=77)
    out = curve_session.kept[0][1].run_freely(fresh.dry)
    assert out.shape == fresh.wet.shape == (1, 2 * RATE)
    figures = compare(fresh.wet, out, RATE, dry=fresh.dry)
    assert figures.esr_db < -12
    assert figures.polarity == 1


def test_what_is_kept_is_the_best_that_was_judged(curve_session):
    judged = [moment.esr_db for moment in curve_session.log]
    assert curve_session.best_esr_db == min(judged) < judged[0] - 10
    assert curve_session.measure(curve_session.kept[0][1])[0] == pytest.approx(min(judged), abs=1e-3)


def test_weights_and_their_average_are_both_judged(curve_session):
    """First the fresh model, then both at every 50th step, then the average once more: the budget is spent."""
    assert [moment.step for moment in curve_session.log] == [0, *np.repeat(np.arange(50, 501, 50), 2).tolist(), 500]
    free = [moment.esr_db for moment in curve_session.log[1:-1]]
    assert all(average != moment for average, moment in zip(free[::2], free[1::2], strict=True))
    assert min(free[::2]) < curve_session.log[0].esr_db - 10


def test_the_same_seed_gives_the_same_bits():
    def run(seed):
        session = session_on("tanh(drive=5)", seconds=2, seed=seed, max_steps=60)
        trained(session)
        return session

    one, two, other = run(5), run(5), run(6)
    assert [moment.esr_db for moment in one.log] == [moment.esr_db for moment in two.log]
    assert len(one.log) == 4
    first, second = one.kept[0][1].state_dict(), two.kept[0][1].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(one.kept[0][1].w_h, other.kept[0][1].w_h)


@pytest.mark.parametrize("loss", ["mse", "esr+0.1*pre", "esr+0.1*mrstft", "l1+0.2*esr:a+dc"])
def test_mixed_losses(monkeypatch, loss):
    monkeypatch.setattr(descent, "LOOK_STEPS", 20)
    session = session_on("tanh(drive=5)", seconds=3, loss=loss, max_steps=100)
    trained(session)
    assert session.best_esr_db < -4
    assert session.log[-2].loss_db < session.log[1].loss_db


@pytest.mark.parametrize("loss", ["esr", "esr+0.1*mrstft"])
@pytest.mark.parametrize("value", [math.nan, 1e7], ids=["nan", "loud"])
def test_a_model_that_blows_up_is_brought_back(monkeypatch, value, loss):
    """All of a sudden its weights are nonsense: back to the average, and on, whatever the loss heard before."""
    monkeypatch.setattr(descent, "LOOK_STEPS", 20)
    session = session_on("tanh(drive=5)", seconds=3, loss=loss, max_steps=80)
    model = Recurrent(RecurrentConfig(4, 6), generator=session.generator)
    broken = []

    def break_it(moment):
        if moment.step == 20:
            broken.append(moment.esr_db)
            with torch.no_grad():
                model.skip.fill_(value)

    session.listen = break_it
    trained(session, model)
    assert len(broken) == 2
    after = [moment.esr_db for moment in session.log if moment.step >= 40]
    assert len(after) == 7
    assert max(after) < UNUSABLE_DB
    assert min(after) < min(broken) - 1
    assert all(bool(torch.isfinite(weights).all()) for weights in model.parameters())


def test_steps_that_are_far_too_long_leave_a_model():
    session = session_on("tanh(drive=5)", seconds=2, max_steps=120)
    model = Recurrent(RecurrentConfig(4, 6), generator=session.generator)
    first_db = session.judge(model, loss_db=0.0, sigma=0.0)
    with pytest.raises(Finished):
        descend(session, model, Descent(streams=8, learning_rate=1000.0))
    session.last_look()
    assert session.best_esr_db <= first_db
    assert all(bool(torch.isfinite(weights).all()) for weights in session.kept[0][1].parameters())


def test_it_goes_on_from_a_model(curve_session):
    esr_db, start = curve_session.kept[0]
    again = session_on(FILTER_AND_CURVE, max_steps=50)
    trained(again, start.copy())
    assert again.log[0].stage == "resumed"
    assert again.log[0].esr_db == pytest.approx(esr_db, abs=1e-3)
    assert again.best_esr_db <= esr_db + 1e-3
    assert again.kept[0][1].config == start.config


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_nothing_is_lost_whenever_it_is_stopped(steps):
    session = session_on("tanh(drive=5)", seconds=2)
    session.should_stop = lambda: session.steps >= steps
    assert trained(session) == "stopped by the user"
    assert session.steps == steps
    assert session.best_esr_db < UNUSABLE_DB


@pytest.mark.parametrize("size", ["auto", "nano", "small", "standard", "large"])
def test_sizes(size):
    session = session_on("tanh(drive=5)", seconds=2, size=size, max_steps=1)
    trained(session)
    assert session.kept[0][1].config == SIZES["standard" if size == "auto" else size]


def test_a_shape_that_is_asked_for():
    pair = session_on("tanh(drive=5)", seconds=2)
    recipe = Recipe(family="recurrent", m=5, width=7, seconds=1e5, max_steps=2)
    config = train(pair.training, pair.validation, recipe).model.config
    assert (config.m, config.units) == (5, 7)


def test_stereo_is_refused():
    both = np.zeros((2, 8_000), np.float32)
    session = Session(Recipe(family="recurrent"), Pair(both, both, RATE), Pair(both, both, RATE), torch.Generator())
    with pytest.raises(UsageError, match="recurrent is mono"):
        recurrent_stages.train(session, None, CPU)


# Passages


def counted(samples):
    """Sound whose every sample tells where it is."""
    places = np.arange(samples, dtype=np.float32)[None]
    return Pair(places, places + 0.5, RATE)


def test_passages_follow_on_one_another():
    passages = Passages(counted(5_000), 7, 128, torch.Generator().manual_seed(1))
    x, y = passages.next()
    jumps = 0
    for _ in range(100):
        assert x.shape == y.shape == (7, 128)
        assert torch.equal(y, x + 0.5)
        assert torch.equal(x[:, 1:], x[:, :-1] + 1)
        last = x[:, -1]
        x, y = passages.next()
        stays = ~passages.jumped
        assert torch.equal(x[stays, 0], last[stays] + 1)
        jumps += int(passages.jumped.sum())
    assert jumps > 7


def test_what_came_before_a_block():
    passages = Passages(counted(5_000), 7, 128, torch.Generator().manual_seed(1))
    passages.position = torch.tensor([0, 10, 100, 1_000, 2_000, 3_000, 4_000])
    _, y = passages.next()
    before = passages.wet_before(50)
    assert before.shape == (7, 50)
    assert torch.equal(before[2:], y[2:, :1] + torch.arange(-50, 0))
    assert not before[0].any()  # silence before the sound
    assert torch.equal(before[1, -10:], torch.arange(10) + 0.5)
    assert not before[1, :40].any()


def test_streams_can_be_scattered():
    passages = Passages(counted(5_000), 7, 128, torch.Generator().manual_seed(1))
    passages.next()
    passages.scatter()
    x, _ = passages.next()
    assert passages.jumped.all()
    assert len(set(x[:, 0].tolist())) > 3


def test_sound_shorter_than_a_block():
    passages = Passages(counted(100), 3, 128, torch.Generator().manual_seed(1))
    x, _ = passages.next()
    assert x.shape == (3, 100)
    assert not x[:, 0].any()


def test_passages_weigh_by_their_level_down_to_the_mean():
    y = torch.tensor([[0.0], [1.0], [3.0]]).expand(3, 64)
    weight = descent._weight(y, 1.0, relative=True)[:, 0]
    torch.testing.assert_close(weight, torch.tensor([1.0, 2**-0.5, 10**-0.5]))
    assert descent._weight(y, 4.0, relative=False).flatten().tolist() == [0.5] * 3
