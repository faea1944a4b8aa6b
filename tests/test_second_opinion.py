"""Where family ar does not come close in a trial, wavenet gets the rest of the time; where it does, it goes on."""

import numpy as np
import pytest
import torch
from test_memory_training import pair_of, pedal

from fxclone_training import second_opinion, tail_stages
from fxclone_training.analysis_choice import Choice
from fxclone_training.ar import Ar
from fxclone_training.recipe import Recipe
from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_drive import Start
from fxclone_training.wavenet import WaveNet

STEPS = 40


@pytest.fixture(autouse=True)
def few_steps_will_do(monkeypatch):
    monkeypatch.setattr(second_opinion, "LEAST_STEPS", 0)


@pytest.fixture(scope="module")
def pairs():
    return pair_of(pedal, 6, 1), pair_of(pedal, 3, 2)


def choice(kind="pedal"):
    return Choice(kind, "ar", "nano", True, None, "", Start(720.0, 8.0, -10.0))


class Seen:
    """What a session was seen to train, and what it told."""

    def __init__(self, pairs, *, kind="pedal", seconds=1e5, **recipe):
        self.told, self.models = [], []
        recipe = Recipe(**{"seconds": seconds, "max_steps": STEPS, "size": "nano", **recipe})
        self.session = Session(recipe, *pairs, torch.Generator().manual_seed(0), tell=self.told.append)
        judge = self.session.judge
        self.session.judge = lambda model, **figures: (self.models.append(type(model)), judge(model, **figures))[1]
        with pytest.raises(Finished) as ended:
            second_opinion.train(self.session, torch.device("cpu"), choice(kind))
        self.why = str(ended.value)


def test_what_comes_close_goes_on_as_ar(pairs, monkeypatch):
    monkeypatch.setattr(second_opinion, "CLOSE_DB", 0.0)
    seen = Seen(pairs)
    assert set(seen.models) == {Ar}
    assert seen.session.steps == STEPS
    assert seen.why == f"{STEPS} steps are done"
    assert not seen.told
    trial = [moment.best_esr_db for moment in seen.session.log if moment.step <= second_opinion.TRIAL_SHARE * STEPS]
    assert seen.session.best_esr_db < min(trial) - 3  # it went on from there, and not anew


def test_what_does_not_come_close_is_tried_with_layers(pairs, monkeypatch):
    monkeypatch.setattr(second_opinion, "CLOSE_DB", -300.0)
    seen = Seen(pairs)
    assert set(seen.models) == {Ar, WaveNet}
    turn = seen.models.index(WaveNet)
    assert set(seen.models[turn:]) == {WaveNet}
    assert max(m.step for m in seen.session.log[:turn]) <= second_opinion.TRIAL_SHARE * STEPS
    assert seen.session.steps == STEPS
    assert any("wavenet gets the rest" in said for said in seen.told)
    assert seen.session.recipe.max_steps == STEPS
    # 34 steps of a wavenet are no better than 6 of ar: the better one is kept, whichever came last.
    best, kept = min(m.esr_db for m in seen.session.log), seen.session.kept[0][1]
    assert seen.session.measure(kept)[0] == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "seconds"), [("dynamics", 1e5), ("moving", 1e5), ("pedal", second_opinion.LEAST_S - 1)]
)
def test_no_trial_where_layers_would_not_help_or_there_is_no_time(pairs, monkeypatch, kind, seconds):
    monkeypatch.setattr(second_opinion, "CLOSE_DB", -300.0)
    seen = Seen(pairs, kind=kind, seconds=seconds, max_steps=8)
    assert set(seen.models) == {Ar}
    assert not seen.told


def test_a_user_who_stops_a_trial_stops_training(pairs):
    session = Session(Recipe(max_steps=10), *pairs, torch.Generator(), should_stop=lambda: True)
    with pytest.raises(Finished, match="stopped by the user"), session.limited_to(0.5):
        session.spend()
    assert session.recipe.max_steps == 10


def test_a_target_reached_in_a_trial_ends_training(pairs):
    session = Session(Recipe(max_steps=10, target_esr_db=-20.0), *pairs, torch.Generator())
    model = type("Perfect", (), {"work_per_sample": 1, "receptive_field_samples": 1})()
    model.run_freely = lambda dry: pairs[1].wet
    model.is_sturdy = lambda dry: True
    model.copy = lambda: model
    with pytest.raises(Finished, match="target"), session.limited_to(0.5):
        session.judge(model, loss_db=0.0, sigma=0.0)


def test_the_rest_of_the_budget_is_there_after_a_trial(pairs):
    session = Session(Recipe(max_steps=10), *pairs, torch.Generator())
    with session.limited_to(0.3):
        while True:
            session.spend()
    assert session.steps == 3
    session.spend()
    assert session.steps == 4
    assert np.isclose(session.progress, 0.4)


@pytest.mark.parametrize(("before_db", "seconds"), [(-45.0, 1e5), (-20.0, second_opinion.LEAST_S)])
def test_time_that_a_fit_leaves_is_not_used_if_it_is_close_or_little(pairs, before_db, seconds):
    told = []
    session = after_a_fit(pairs, before_db, told, seconds=seconds)
    assert second_opinion.after(session, torch.device("cpu"), "it ended") == "it ended"
    assert not told
    assert session.steps == 0


@pytest.mark.parametrize(("before_db", "kept"), [(-0.3, WaveNet), (-0.3, Tail), (-20.0, Tail)])
def test_time_that_a_fit_leaves_goes_to_layers_which_must_be_clearly_closer(pairs, monkeypatch, before_db, kept):
    monkeypatch.setattr(second_opinion, "WORTH_DB", 0.5 if kept is WaveNet else 300.0)
    told = []
    session = after_a_fit(pairs, before_db, told)
    with pytest.raises(Finished, match="30 steps are done"):
        second_opinion.after(session, torch.device("cpu"), "it ended")
    assert session.steps == 30
    assert "wavenet" in told[0]
    assert type(session.kept[0][1]) is kept
    assert (session.best_esr_db < before_db) == (kept is WaveNet)


def after_a_fit(pairs, before_db, told, *, seconds=1e5):
    """A session whose best so far is a plain gain that claims ``before_db``."""
    recipe = Recipe(seconds=seconds, max_steps=30, size="nano")
    session = Session(recipe, *pairs, torch.Generator().manual_seed(0), tell=told.append)
    session.prefer(tail_stages.plain_gain(pairs[0]), before_db)
    return session
