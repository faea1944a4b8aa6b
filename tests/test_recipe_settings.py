"""A recipe: settings that are checked at once, go together or not, and are stored as they are."""

import json

import pytest

from fxclone.errors import UsageError
from fxclone_training.recipe import Recipe


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("family", "lstm", "expected one of auto, ar, dynamics, recurrent, tail, wavenet"),
        ("family", None, "expected one of auto"),
        ("size", "huge", "expected one of auto, nano, small, standard, large"),
        ("memory", "short", "expected one of auto, window, long"),
        ("activation", "sine", "auto, tanh, relu, gelu"),
        ("optimiser", "sgd", "auto, gauss-newton, adam"),
        ("loss", "mae", "there is no term 'mae'"),
        ("loss", "mrstft", "mrstft"),
        ("loss", "esr+0*pre", "the weight is '0'"),
        ("loss", "", "loss"),
        ("loss", None, "expected text such as esr"),
        ("loss", 3, "expected text such as esr"),
        ("m", 0, "m is 0; expected a whole number from 1 to 4096"),
        ("m", 5000, "1 to 4096"),
        ("m", 2.5, "m is 2.5"),
        ("m", True, "m is True"),
        ("m", "8", "m is '8'"),
        ("past_outputs", -1, "0 to 4096"),
        ("layers", 0, "layers"),
        ("layers", 1.5, "layers"),
        ("layers", None, "layers"),
        ("width", 4096, "width"),
        ("width", 8.5, "width"),
        ("noise_sigma", -0.1, "noise_sigma"),
        ("noise_sigma", float("nan"), "noise_sigma"),
        ("noise_sigma", None, "noise_sigma"),
        ("learning_rate", 0, "learning_rate"),
        ("batch", 0, "batch"),
        ("batch", 3.5, "batch"),
        ("segment_samples", 1, "segment_samples"),
        ("segment_samples", 100.5, "segment_samples"),
        ("seconds", 0, "seconds is 0; expected a number from 0.5"),
        ("seconds", float("inf"), "seconds"),
        ("seconds", None, "seconds"),
        ("max_steps", 0, "max_steps"),
        ("sound_s", 1, "sound_s"),
        ("validation_s", 0.5, "validation_s"),
        ("target_esr_db", 3, "target_esr_db is 3; expected a number from -200 to 0"),
        ("seed", -1, "seed"),
        ("seed", 0.5, "seed"),
        ("seed", None, "seed"),
        ("skip", "no", "skip"),
        ("noise_relative", "false", "noise_relative"),
        ("noise_anneal", 2, "noise_anneal"),
        ("free_running", None, "free_running"),
    ],
)
def test_values_out_of_range(name, value, says):
    with pytest.raises(UsageError, match=says) as caught:
        Recipe().with_settings({name: value})
    assert name in str(caught.value)


def test_an_unknown_setting_gets_a_hint():
    with pytest.raises(UsageError, match=r"no setting .widht.; did you mean width\?"):
        Recipe().with_settings({"widht": 3})
    with pytest.raises(UsageError, match="'qqq'; expected one of family, size, memory, tail_s, m,"):
        Recipe().with_settings({"qqq": 3})


def test_settings_make_a_new_recipe():
    base = Recipe()
    other = base.with_settings({"m": 8, "seed": 3})
    assert (other.m, other.seed, other.width) == (8, 3, base.width)
    assert base.m is None
    assert base.width is None
    assert (base.family, base.size, base.memory) == ("auto", "auto", "auto")
    assert Recipe(**json.loads(json.dumps(other.as_dict()))) == other


@pytest.mark.parametrize("family", ["auto", "ar", "dynamics", "recurrent", "tail", "wavenet"])
@pytest.mark.parametrize("size", ["auto", "nano", "small", "standard", "large"])
@pytest.mark.parametrize("memory", ["auto", "window", "long"])
def test_families_sizes_and_memories_go_together(family, size, memory):
    recipe = Recipe(family=family, size=size, memory=memory)
    assert Recipe(**json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_units_where_no_size_says_it():
    assert Recipe().units == Recipe(width=16).units == 16
    assert Recipe(width=7).units == 7


@pytest.mark.parametrize(
    ("text", "stored", "relative"),
    [
        ("esr", "esr", True),
        ("mse", "mse", False),
        (" 1*esr + 0.10*pre", "esr+0.1*esr:pre", True),
        ("mse+0.01*mrstft", "mse+0.01*mrstft", False),
        ("l1:a+dc", "l1:a+dc", True),
    ],
)
def test_a_loss_is_text_that_is_read_at_once(text, stored, relative):
    recipe = Recipe(loss=text)
    assert recipe.loss == stored
    assert Recipe(loss=recipe.loss) == recipe
    assert recipe.weighs_passages is relative


@pytest.mark.parametrize(
    "given",
    [
        {"m": 16},
        {"past_outputs": 3},
        {"layers": 2},
        {"skip": False},
        {"averages": 3},
        {"envelopes": 2},
        {"optimiser": "adam"},
    ],
)
def test_long_memory_has_a_shape_of_its_own(given):
    with pytest.raises(UsageError, match=f"memory long has a shape of its own; leave {next(iter(given))} out"):
        Recipe(memory="long", **given)
    assert Recipe(memory="window", **given).memory == "window"
    assert Recipe(memory="long", width=5, activation="relu").width == 5


def test_gauss_newton_needs_the_skip_path():
    with pytest.raises(UsageError, match="needs skip = true"):
        Recipe(optimiser="gauss-newton", skip=False)
