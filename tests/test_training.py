"""Training from end to end on little sound: judged freely on held-back and on fresh sound, reproducible, stoppable."""

import itertools

import numpy as np
import pytest
import torch
from ar_models import one_pole, random_model

from fxclone.effects import effect
from fxclone.errors import FxcloneError, UsageError
from fxclone.metrics import compare
from fxclone.pairs import Pair, effect_pair, training_and_validation
from fxclone_training import adam
from fxclone_training.recipe import Recipe
from fxclone_training.session import UNUSABLE_DB, Finished, Session
from fxclone_training.trainer import pick_device, train, use_threads

RATE = 48_000
SMALL = {"m": 4, "width": 4, "activation": "tanh", "averages": 0, "envelopes": 0, "seconds": 100.0}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    use_threads(1)


def pairs_of(expression, seconds=6.0, seed=3):
    return training_and_validation(
        effect(expression), seconds=seconds, validation_seconds=2, sample_rate=RATE, seed=seed
    )


def fresh_result(model, expression):
    pair = effect_pair(effect(expression), seconds=3, sample_rate=RATE, seed=4321)
    out = model.run_freely(pair.dry)
    assert out.shape == pair.wet.shape == (1, 3 * RATE)
    return compare(pair.wet, out, RATE, dry=pair.dry)


def session_on(expression, **settings):
    return Session(Recipe(**{"seconds": 100.0, **settings}), *pairs_of(expression), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("expression", "limit_db", "settings"),
    [
        ("passthrough", -80, {"max_steps": 400}),
        ("gain(gain_db=-9)", -80, {"max_steps": 400}),
        ("invert", -80, {"max_steps": 400}),
        ("tanh(drive=5)", -60, {"max_steps": 1500, "target_esr_db": -63.0}),
        ("lowpass(cutoff_hz=1000, order=4)", -40, {"max_steps": 200, "target_esr_db": -45.0}),
        ("highpass(cutoff_hz=2000, order=2)", -40, {"max_steps": 200, "target_esr_db": -45.0}),
    ],
)
def test_clones(expression, limit_db, settings):
    trained = train(*pairs_of(expression), Recipe(**{"seconds": 100.0, **settings}))
    assert trained.esr_db <= limit_db
    result = fresh_result(trained.model, expression)
    assert result.esr_db <= limit_db
    assert abs(result.lag_samples) < 0.1
    assert result.polarity == 1
    assert abs(result.gain_db) < 0.1


def test_a_curve_behind_a_filter():
    expression = "lowpass(cutoff_hz=4000, order=1) > tanh(drive=4)"
    trained = train(*pairs_of(expression), Recipe(**{**SMALL, "width": 6, "max_steps": 400, "target_esr_db": -30.0}))
    assert trained.model.config.m == 4
    assert fresh_result(trained.model, expression).esr_db <= -20


@pytest.fixture(scope="module")
def curve():
    return pairs_of("tanh(drive=3) > lowpass(cutoff_hz=6000, order=1)")


@pytest.fixture(scope="module")
def three_runs(curve):
    return [train(*curve, Recipe(**SMALL, max_steps=300, seed=seed)) for seed in (5, 5, 6)]


def test_the_same_seed_gives_the_same_bits(three_runs):
    one, two, _ = three_runs
    assert one.steps == two.steps == 300
    assert one.esr_db == two.esr_db
    first, second = one.model.state_dict(), two.model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_bits_with_slow_values(curve):
    recipe = Recipe(**{**SMALL, "averages": 3, "envelopes": 2}, max_steps=300, target_esr_db=-150.0)
    one, two = train(*curve, recipe), train(*curve, recipe)
    assert one.esr_db == two.esr_db
    first, second = one.model.state_dict(), two.model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_another_model(three_runs):
    one, _, other = three_runs
    assert one.model.config == other.model.config
    assert not torch.equal(one.model.w_x, other.model.w_x)


def test_the_log_tells_the_way(three_runs):
    log = three_runs[0].log
    assert len(log) >= 3
    steps, best = [moment.step for moment in log], [moment.best_esr_db for moment in log]
    assert steps == sorted(steps)
    assert best == sorted(best, reverse=True)
    assert best[-1] == three_runs[0].esr_db == min(moment.esr_db for moment in log)
    assert all(0 <= moment.progress <= 1 for moment in log)


def test_the_result_is_the_best_that_was_judged(curve):
    kept = []
    trained = train(*curve, Recipe(**SMALL, max_steps=300), keep=lambda model, esr_db: kept.append(esr_db))
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == trained.esr_db
    measured = compare(curve[1].wet, trained.model.run_freely(curve[1].dry), RATE)
    assert measured.esr_db == pytest.approx(trained.esr_db, abs=0.01)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_a_small_budget_still_gives_a_model(curve, steps):
    trained = train(*curve, Recipe(**SMALL, max_steps=steps))
    assert trained.steps <= steps
    assert trained.model.config.m == 4
    assert trained.esr_db < UNUSABLE_DB
    assert np.isfinite(trained.model.run_freely(curve[1].dry)).all()


def test_stopping_at_once_still_gives_a_model(curve):
    """Ctrl-C keeps the best so far, also before the first figure was shown."""
    trained = train(*curve, Recipe(**SMALL), should_stop=lambda: True)
    assert trained.reason == "stopped by the user"
    assert trained.esr_db < UNUSABLE_DB


def test_stopping_keeps_the_best(curve):
    kept = []
    trained = train(
        *curve,
        Recipe(**SMALL),
        keep=lambda model, esr_db: kept.append((model.state_dict(), esr_db)),
        should_stop=lambda: len(kept) >= 2,
    )
    assert trained.reason == "stopped by the user"
    assert trained.esr_db == kept[-1][1]
    assert torch.equal(trained.model.out, kept[-1][0]["out"])


def test_the_target_ends_it():
    trained = train(*pairs_of("passthrough"), Recipe(seconds=100, target_esr_db=-20.0))
    assert "target" in trained.reason
    assert trained.esr_db <= -20


def test_a_model_of_the_size_asked_for():
    """Pass-through needs one input, but the user wants eight."""
    trained = train(*pairs_of("passthrough"), Recipe(m=8, width=3, seconds=100, max_steps=300, activation="relu"))
    config = trained.model.config
    assert (config.m, config.taps_y, config.width, config.activation) == (8, 7, 3, "relu")
    assert fresh_result(trained.model, "passthrough").esr_db <= -80


@pytest.mark.parametrize("past_outputs", [0, 2, 9])
def test_past_outputs_of_the_number_asked_for(past_outputs):
    recipe = Recipe(**SMALL, past_outputs=past_outputs, max_steps=5, target_esr_db=-10.0)
    trained = train(*pairs_of("gain(gain_db=-3)"), recipe)
    assert (trained.model.config.m, trained.model.config.taps_y) == (4, past_outputs)


def test_a_start_is_gone_on_from(curve, three_runs):
    best = three_runs[0]
    trained = train(*curve, Recipe(**SMALL, max_steps=30), start=best.model)
    assert trained.esr_db <= best.esr_db + 0.5


def test_a_start_larger_than_asked_for_is_no_crash(curve):
    """--resume with a smaller --m: either the model stays as it is, or one line says that it cannot shrink."""
    start = random_model(1, m=8, width=4)
    try:
        trained = train(*curve, Recipe(**SMALL, max_steps=12), start=start)
    except UsageError:
        return
    assert trained.model.config.m == 8


def test_an_unstable_model_is_never_the_best():
    session = session_on("passthrough")
    wild, tame = one_pole(1.5), one_pole(0.5)
    assert session.judge(wild, loss_db=-90, sigma=0.1) == UNUSABLE_DB
    assert not session.kept or session.best_esr_db >= UNUSABLE_DB
    good = session.judge(tame, loss_db=0, sigma=0.1)
    assert good < 20
    assert session.judge(wild, loss_db=-90, sigma=0.1) == UNUSABLE_DB
    assert session.best_esr_db == good
    assert torch.equal(session.kept[0][1].skip_y, tame.skip_y)


def test_a_kept_model_does_not_change_with_the_one_in_training():
    session = session_on("passthrough")
    model = one_pole(0.2)
    session.judge(model, loss_db=0, sigma=0)
    with torch.no_grad():
        model.skip_x[0] = 9
    assert float(session.kept[0][1].skip_x.detach()[0]) == 1


def test_only_unstable_models_is_an_error():
    training, validation = pairs_of("passthrough")
    with pytest.raises(FxcloneError, match="no model gave a stable output"):
        train(training, validation, Recipe(optimiser="adam", m=2, width=2, max_steps=1), start=one_pole(1.5))


def test_the_steps_are_counted_and_limited():
    session = session_on("passthrough", max_steps=3)
    for _ in range(3):
        session.spend()
    with pytest.raises(Finished, match="3 steps are done"):
        session.spend()
    assert session.steps == 3
    assert session.progress == 1


def sigmas(curve, **settings):
    log = train(*curve, Recipe(**SMALL, max_steps=330, noise_sigma=0.02, **settings)).log
    stages = itertools.groupby(log, key=lambda moment: (moment.stage, moment.m))
    return [[moment.sigma for moment in moments] for (stage, m), moments in stages if "one-step" in stage and m > 1]


def test_the_noise_is_annealed(curve):
    looks = max(sigmas(curve), key=len)
    assert len(looks) >= 3
    assert looks[-1] < 0.5 * max(looks)
    assert min(looks) > 0


def test_the_noise_stays_if_the_recipe_says_so(curve):
    looks = max(sigmas(curve, noise_anneal=False), key=len)
    assert len(looks) >= 3
    assert set(looks) == {0.02}


# Adam

ADAM = {"optimiser": "adam", "m": 4, "width": 8, "activation": "tanh", "learning_rate": 0.02, "seconds": 100.0}


def test_adam_learns_and_is_judged(curve):
    trained = train(*curve, Recipe(**ADAM, max_steps=300))
    assert len(trained.log) >= 2
    assert trained.esr_db <= trained.log[0].esr_db - 6
    assert "teacher-forced" in {moment.stage for moment in trained.log}


def test_adam_ends_with_the_free_running_stage(curve):
    trained = train(*curve, Recipe(**ADAM, max_steps=300))
    assert "free-running" in {moment.stage for moment in trained.log}
    trained = train(*curve, Recipe(**ADAM, max_steps=300, free_running=False))
    assert "free-running" not in {moment.stage for moment in trained.log}


def test_adam_is_reproducible(curve):
    one, two = (train(*curve, Recipe(**ADAM, max_steps=60)).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_free_running_gradients_improve_a_perturbed_model():
    session = session_on("lowpass(cutoff_hz=3000, order=1)", max_steps=150, batch=16, segment_samples=128)
    model = one_pole(0.6, m=2, width=2)
    with torch.no_grad():
        model.skip_x[:] = torch.tensor([0.25, 0.1])
    before = session.judge(model, loss_db=0, sigma=0)
    assert UNUSABLE_DB > before > -20
    with pytest.raises(Finished, match="150 steps"):
        adam.free_running(session, model, learning_rate=5e-3)
    assert session.best_esr_db < before - 4
    assert {moment.stage for moment in session.log} == {"start", "free-running"}


def test_free_running_recovers_from_a_blow_up():
    session = session_on("passthrough", max_steps=60, batch=4, segment_samples=64)
    model = one_pole(3.0)
    with pytest.raises(Finished):
        adam.free_running(session, model)
    assert all(torch.isfinite(weights).all() for weights in model.parameters())


@pytest.fixture
def short_pair(rng):
    sound = (0.3 * rng.standard_normal((1, 2000))).astype(np.float32)
    return Pair(sound, np.tanh(3 * sound), RATE)


@pytest.mark.parametrize("optimiser", ["adam", "gauss-newton"])
def test_a_pair_shorter_than_a_segment_is_no_crash(short_pair, optimiser):
    """It trains on what there is, or says in one line that it is too short."""
    recipe = Recipe(**{**ADAM, "optimiser": optimiser}, max_steps=3, segment_samples=65_536)
    try:
        trained = train(short_pair, short_pair, recipe)
    except FxcloneError as error:
        if "short" not in str(error):
            raise
        return
    assert trained.esr_db < UNUSABLE_DB


def test_streams_of_a_pair_shorter_than_a_block_are_no_crash(short_pair):
    recipe = Recipe(**ADAM, max_steps=3, segment_samples=65_536)
    session = Session(recipe, short_pair, short_pair, torch.Generator().manual_seed(0))
    with pytest.raises((Finished, FxcloneError)):
        adam.free_running(session, one_pole(0.5))


# What cannot be trained


def test_stereo_and_mixed_rates_are_told(curve):
    training, validation = curve
    both = np.repeat(training.dry, 2, axis=0)
    stereo = Pair(both, both, RATE)
    with pytest.raises(UsageError, match="family ar is mono"):
        train(stereo, stereo, Recipe(family="ar"))
    with pytest.raises(UsageError, match="differ in channels"):
        train(stereo, validation, Recipe())
    with pytest.raises(UsageError, match="48000 Hz, validation at 44100 Hz"):
        train(training, Pair(validation.dry, validation.wet, 44_100), Recipe())


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="expected auto, cpu or cuda"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            pick_device("cuda")


@pytest.mark.parametrize(("m", "past_outputs"), [(24, 2), (24, 0), (4, 9)])
def test_any_mix_of_window_sizes_can_be_grown_to(m, past_outputs):
    """No size on the way has more past outputs than the last one: widening never has to drop any."""
    recipe = Recipe(m=m, past_outputs=past_outputs, width=2, activation="relu", seconds=100.0, max_steps=600)
    trained = train(*pairs_of("lowpass(cutoff_hz=3000, order=1) > tanh(drive=3)"), recipe)
    assert (trained.model.config.m, trained.model.config.taps_y) == (m, past_outputs)
