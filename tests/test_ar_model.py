"""The ``ar`` model in torch: streams like a processor, sees what it should, and is never a sample ahead."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ar_models import TorchStream, doubled, noise, plain_run_and_slow, random_model, random_state, weights_of

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.metrics import compare
from fxclone.pairs import effect_pair, training_and_validation
from fxclone.presets import load_preset, preset_names
from fxclone_export.battery import check_stream, require
from fxclone_training.ar import Ar, ArState
from fxclone_training.ar_config import FASTEST_ATTACK, ArConfig
from fxclone_training.recipe import Recipe
from fxclone_training.trainer import train

RATE = 48_000
SHAPES = [
    {"m": 1, "layers": 1, "width": 5},
    {"m": 1, "past_outputs": 3, "layers": 2, "width": 4, "activation": "relu"},
    {"m": 4, "past_outputs": 0, "layers": 3, "width": 6, "activation": "gelu"},
    {"m": 4, "past_outputs": 1, "layers": 1, "width": 7, "activation": "relu", "skip": False},
    {"m": 8, "layers": 2, "width": 8, "activation": "tanh"},
    {"m": 8, "past_outputs": 20, "layers": 1, "width": 3, "activation": "gelu"},
    {"m": 32, "layers": 3, "width": 8, "activation": "tanh", "skip": False},
    {"m": 32, "past_outputs": 5, "layers": 1, "width": 16, "activation": "relu"},
    {"m": 1, "past_outputs": 1, "layers": 1, "width": 5, "averages": (4.0, 90.0, 3000.0)},
    {"m": 6, "past_outputs": 3, "layers": 2, "width": 6, "activation": "gelu", "envelopes": (10.0, 800.0)},
    {"m": 16, "past_outputs": 8, "width": 9, "activation": "relu", "averages": (5.0, 60.0), "envelopes": (40.0,)},
    {"m": 2, "past_outputs": 2, "width": 6, "averages": (9.0,), "envelopes": (20.0, 900.0), "attack": 0.05},
    {"m": 3, "layers": 2, "width": 5, "activation": "tanh", "skip": False, "averages": (8.0,), "envelopes": (300.0,)},
    {"m": 4, "past_outputs": 1, "layers": 2, "width": 6, "averages": (3.0, 50.0)},
    {"m": 3, "past_outputs": 2, "width": 6, "averages": (3.0, 9.0, 50.0), "past_averages": (40.0,)},
    {"m": 3, "past_outputs": 3, "width": 6, "averages": (), "past_averages": (40.0, 900.0), "envelopes": (30.0,)},
    {"m": 3, "past_outputs": 2, "width": 6, "averages": (9.0,), "envelopes": (30.0,), "hears_taps": False},
]


def label(shape):
    return "-".join(f"{name}={value}" for name, value in shape.items())


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_battery(shape):
    model = random_model(1, **shape)
    checks = check_stream(lambda: TorchStream(model), channels_in=1, sample_rate=RATE, samples=1201)
    assert len(checks) >= 16
    require(checks, name="the torch model")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_forward_is_the_formula(rng, shape):
    model = random_model(2, **shape)
    c = model.config
    x, state = noise(rng, 3, 120), random_state(rng, model, 3)
    past_x, past_y = state.x, state.y
    y, after = model(x[:, None], state)
    expected, slow_x, slow_y = plain_run_and_slow(weights_of(model), c, x.double(), *doubled(state))
    assert y.shape == (3, 1, 120)
    torch.testing.assert_close(y[:, 0].double(), expected, rtol=0, atol=3e-6)
    assert after.x.shape == (3, c.m - 1)
    assert after.y.shape == (3, c.taps_y)
    torch.testing.assert_close(after.x, torch.cat([past_x, x], 1)[:, 120:])
    torch.testing.assert_close(after.y, torch.cat([past_y, y[:, 0]], 1)[:, 120:])
    assert after.slow_x.shape == (3, c.slow)
    assert after.slow_y.shape == (3, c.slow_y)
    torch.testing.assert_close(after.slow_x.double(), slow_x, rtol=0, atol=3e-6)
    torch.testing.assert_close(after.slow_y.double(), slow_y, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_teacher_forced_with_its_own_outputs_is_the_free_run(rng, shape):
    model = random_model(3, **shape)
    c, history = model.config, model.history_samples
    assert history == max(c.m - 1, c.taps_y)
    x, past_y = noise(rng, 2, history + 200), noise(rng, 2, history)
    slow = random_state(rng, model, 2)
    state = ArState(x[:, history - c.m + 1 : history], past_y[:, history - c.taps_y :], slow.slow_x, slow.slow_y)
    own, _ = model(x[:, None, history:], state)
    heard = torch.cat([past_y, own[:, 0]], 1)
    again = model.teacher_forced(x[:, None], heard[:, None], slow.slow_x, slow.slow_y)
    assert again.shape == (2, 1, 200)
    torch.testing.assert_close(again, own, rtol=0, atol=3e-6)


def test_teacher_forced_slow_values_start_at_zero_unless_given(rng):
    model = random_model(3, m=3, width=4, averages=(5.0,), envelopes=(9.0,))
    x, y = noise(rng, 2, 1, 30), noise(rng, 2, 1, 30)
    zeros = torch.zeros(2, 2)
    assert torch.equal(model.teacher_forced(x, y), model.teacher_forced(x, y, zeros, zeros))
    for slow in ((zeros + 0.5, zeros), (zeros, zeros + 0.5)):
        assert (model.teacher_forced(x, y, *slow) - model.teacher_forced(x, y)).abs().max() > 1e-3


@pytest.mark.parametrize("slow", [{}, {"averages": (6.0, 400.0), "envelopes": (25.0, 2000.0)}], ids=["", "slow"])
@pytest.mark.parametrize("sizes", [(1,), (7,), (64,), (3, 1, 50)])
def test_state_carried_over_blocks_equals_the_whole(rng, sizes, slow):
    model = random_model(4, m=9, past_outputs=14, layers=2, width=6, **slow)
    x = noise(rng, 2, 1, 333)
    whole, end = model(x, model.fresh_state(2))
    state, parts, start, turn = model.fresh_state(2), [], 0, 0
    while start < 333:
        part, state = model(x[..., start : start + sizes[turn % len(sizes)]], state)
        parts.append(part)
        start, turn = start + part.shape[2], turn + 1
    joined = torch.cat(parts, 2)
    assert joined.shape == whole.shape == (2, 1, 333)
    torch.testing.assert_close(joined, whole, rtol=0, atol=2e-6)
    torch.testing.assert_close(state.y, end.y, rtol=0, atol=2e-6)
    torch.testing.assert_close(state.x, end.x)
    torch.testing.assert_close(state.slow_x, end.slow_x, rtol=0, atol=2e-6)
    torch.testing.assert_close(state.slow_y, end.slow_y, rtol=0, atol=2e-6)
    assert state.slow_y.shape == (2, model.config.slow)
    assert bool(state.slow_y.all()) or not slow


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_what_is_stored_is_restored(rng, shape):
    """Through JSON, as a run's folder keeps the shape."""
    model = random_model(5, **shape)
    stored, weights = model.stored()
    again = Ar.restored(json.loads(json.dumps(stored)), weights)
    assert again.config == model.config
    assert again.describe() == model.describe()
    sound = noise(rng, 1, 300).numpy()
    np.testing.assert_array_equal(again.run_freely(sound), model.run_freely(sound))


def test_fresh_state_is_silence_of_the_right_size():
    state = Ar(ArConfig(m=5, past_outputs=2)).fresh_state(3)
    assert state.x.shape == (3, 4)
    assert state.y.shape == (3, 2)
    assert not state.x.any()
    assert not state.y.any()
    memoryless = Ar(ArConfig(m=1)).fresh_state(2)
    assert memoryless.x.shape == memoryless.y.shape == memoryless.slow_x.shape == memoryless.slow_y.shape == (2, 0)
    slow = Ar(ArConfig(m=3, averages=(3.0, 4.0), envelopes=(5.0,))).fresh_state(2)
    assert slow.slow_x.shape == slow.slow_y.shape == (2, 3)
    assert not slow.slow_x.any()
    assert not slow.slow_y.any()
    uneven = Ar(ArConfig(m=3, averages=(3.0, 4.0), envelopes=(5.0,), past_averages=(9.0,))).fresh_state(2)
    assert (uneven.slow_x.shape, uneven.slow_y.shape) == ((2, 3), (2, 2))


def test_streams_of_a_batch_do_not_hear_each_other(rng):
    model = random_model(5, m=6, layers=2, width=5)
    x = noise(rng, 3, 1, 100)
    together, _ = model(x, model.fresh_state(3))
    for stream in range(3):
        alone, _ = model(x[stream : stream + 1], model.fresh_state(1))
        torch.testing.assert_close(together[stream], alone[0], rtol=0, atol=1e-6)


def test_the_rates_are_those_of_the_time_constants():
    """A step rises to 1 - 1/e in the time constant, whatever it is."""
    constants = (2.0, 48.0, 1000.0, 8640.0, 62_400.0)
    rates = ArConfig(m=3, averages=constants[:3], envelopes=constants[3:], attack=1.0).rates()
    assert rates.dtype == np.float32
    assert rates.shape == (5, 2)
    risen = 1 - (1 - rates.astype(np.float64)) ** np.array(constants)[:, None]
    np.testing.assert_allclose(risen, 1 - np.exp(-1), rtol=3e-3)


def test_an_attack_is_a_share_of_the_release():
    plain = ArConfig(m=3, averages=(30.0, 1.5), envelopes=(1.5, 30.0, 1000.0, 10_000.0), attack=1.0)
    rates = replace(plain, attack=0.01).rates()
    np.testing.assert_array_equal(rates[:, 1], plain.rates()[:, 1])
    np.testing.assert_array_equal(rates[:3, 0], rates[:3, 1])  # averages, and what falls in less than `FASTEST_ATTACK`
    attacks = [FASTEST_ATTACK, 10.0, 100.0]
    np.testing.assert_allclose(rates[3:, 0], 1 - np.exp(-1 / np.array(attacks)), rtol=1e-4)


def test_when_slow_values_of_the_past_are_heard(rng):
    """Averages of y up to y[n-1], envelopes up to y[n-3]: not the output that is predicted, and nothing missed."""
    for kind, first in (("averages", 11), ("envelopes", 13)):
        model = random_model(7, m=1, past_outputs=2, width=6, **{kind: (5.0,)})
        with torch.no_grad():
            model.w_y[:, :2] = model.skip_y[:2] = 0.0  # the taps are deaf
        x, y = noise(rng, 1, 1, 32), noise(rng, 1, 1, 32).abs()
        changed = y.clone()
        changed[0, 0, 2 + 10] += 0.5
        moved = (model.teacher_forced(x, changed) - model.teacher_forced(x, y))[0, 0].abs().detach()
        assert moved[:first].max() == 0, kind
        assert moved[first] > 1e-4, kind


@pytest.mark.parametrize("teacher_forced", [True, False])
def test_the_row_that_predicts_y_contains_x_of_the_same_sample(rng, teacher_forced):
    model = random_model(6, m=4, layers=1, width=6)
    history = model.history_samples
    x, y = noise(rng, 1, 1, history + 20), noise(rng, 1, 1, history + 20)
    state = ArState(x[0, :, :history], y[0, :, :history], torch.zeros(1, 0), torch.zeros(1, 0))

    def answers(sound):
        out = model.teacher_forced(sound, y) if teacher_forced else model(sound[..., history:], state)[0]
        return out[0, 0].detach()

    before = answers(x)
    assert before.shape == (20,)
    changed = x.clone()
    changed[0, 0, history + 10] += 0.5
    moved = (answers(changed) - before).abs()
    assert moved[:10].max() == 0
    assert moved[10] > 1e-3


def test_teacher_forced_does_not_see_the_output_it_predicts(rng):
    model = random_model(7, m=4, layers=1, width=6)
    history = model.history_samples
    x, y = noise(rng, 1, 1, history + 20), noise(rng, 1, 1, history + 20)
    changed = y.clone()
    changed[0, 0, history + 10] += 0.5
    moved = (model.teacher_forced(x, changed) - model.teacher_forced(x, y))[0, 0].abs().detach()
    assert moved[:11].max() == 0
    assert moved[11] > 1e-3
    assert moved[14:].max() == 0  # y[n-4] is outside m - 1 = 3


def test_a_clone_of_passthrough_has_no_lag():
    reference = effect("passthrough")
    training, validation = training_and_validation(reference, seconds=6, validation_seconds=2, sample_rate=RATE, seed=3)
    trained = train(training, validation, Recipe(seconds=60, max_steps=400))
    fresh = effect_pair(reference, seconds=3, sample_rate=RATE, seed=77)
    result = compare(fresh.wet, trained.model.run_freely(fresh.dry), RATE)
    assert result.samples == 3 * RATE
    assert result.esr_db <= -80
    assert abs(result.lag_samples) < 0.01
    assert result.polarity == 1


def test_the_original_shape_has_as_many_weights():
    # 255 -> 256, five times 256 -> 256, 256 -> 1
    model = Ar(ArConfig(m=128, layers=6, width=256, activation="gelu", skip=False))
    assert model.config.taps_y == 127
    assert model.parameter_count == 394_753


@pytest.mark.parametrize("name", ["seed", *(name for name in preset_names() if name.startswith("seed-"))])
def test_its_presets_name_that_shape(name):
    recipe = Recipe().with_settings(load_preset(name).recipe)
    config = ArConfig(recipe.m, recipe.past_outputs, recipe.layers, recipe.width, recipe.activation, recipe.skip)
    assert Ar(config).parameter_count == 394_753
    assert (recipe.noise_sigma, recipe.noise_relative, recipe.noise_anneal, recipe.loss) == (0.1, False, False, "mse")


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"m": 0}, "m is 0; expected 1 to 4096"),
        ({"m": 4097}, "m is 4097"),
        ({"past_outputs": -1}, "past_outputs is -1; expected 0"),
        ({"past_outputs": 4097}, "past_outputs is 4097"),
        ({"layers": 0}, "layers is 0"),
        ({"layers": 17}, "layers is 17"),
        ({"width": 0}, "width is 0"),
        ({"width": 1025}, "width is 1025"),
        ({"activation": "sine"}, "expected one of tanh, relu, gelu"),
        ({"averages": (1.0,)}, "averages are .*; expected at most 64 of 1 to 1e7 samples"),
        ({"averages": (5.0, -3.0)}, "averages are"),
        ({"averages": (float("nan"),)}, "averages are"),
        ({"averages": tuple(range(2, 67))}, "at most 64"),
        ({"envelopes": (2e7,)}, "envelopes are"),
        ({"envelopes": (5.0,), "past_outputs": 0}, "envelopes need at least one past output"),
        ({"averages": (5.0,), "m": 1}, "averages and envelopes need at least one past output"),
        ({"envelopes": (5.0,), "m": 2}, "envelopes need at least 2 past outputs"),
        ({"attack": 0.0}, "attack is 0"),
        ({"attack": 1.5}, "attack is 1.5"),
        ({"attack": float("nan")}, "attack is nan"),
    ],
)
def test_shapes_out_of_range_are_told(shape, says):
    with pytest.raises(UsageError, match=says):
        ArConfig(**shape)


def test_the_same_generator_gives_the_same_weights():
    one, two, other = (
        Ar(ArConfig(m=5, layers=2), generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["w_x"], other["w_x"])


def test_parameter_count_counts_the_skip_only_where_it_is_trained():
    with_skip, without = ArConfig(m=5, width=3), ArConfig(m=5, width=3, skip=False)
    own = 3 * 5 + 3 * 4 + 3 + 3 + 1
    assert Ar(without).parameter_count == own
    assert Ar(with_skip).parameter_count == own + 5 + 4


def test_run_freely_starts_from_silence_each_time(rng):
    model = random_model(8, m=7, layers=1, width=4)
    dry = noise(rng, 1, 500).numpy()
    first, second = model.run_freely(dry), model.run_freely(dry)
    assert first.shape == (1, 500)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
