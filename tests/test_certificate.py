"""Stability figures of models whose figures are known."""

import json

import numpy as np
import pytest
import torch
from ar_models import noise, one_pole, random_model

from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.certificate import MET, certify, small_gain, tail_samples

RATE = 48_000


@pytest.fixture
def sound(rng):
    return noise(rng, 1, RATE // 2, level=0.2).numpy()


@pytest.mark.parametrize("a", [0.9, -0.5, 0.99])
def test_a_one_pole_filter(sound, a):
    figures = certify(one_pole(a), sound, RATE)
    assert figures["small_gain"] == pytest.approx(abs(a), rel=1e-5)
    assert figures["contracting"] is True
    assert figures["lyapunov_per_sample"] == pytest.approx(np.log(abs(a)), rel=0.05)
    expected_ms = 1e3 * np.log(MET) / np.log(abs(a)) / RATE  # for a disturbance of just the size
    assert 0.3 * expected_ms < figures["return_ms"] < 2 * expected_ms
    last = np.log(1e-4 / (0.7 / (1 - abs(a)))) / np.log(abs(a))  # from the loudest state to -80 dBFS
    assert 0.4 * last < figures["tail_samples"] <= last + 1
    json.dumps(figures, allow_nan=False)


def test_gains_add_up_without_their_signs(sound):
    model = one_pole(0.4, m=4, past_outputs=3)
    with torch.no_grad():
        model.skip_y[:] = torch.tensor([0.4, -0.3, 0.2])
    assert small_gain(model, sound) == pytest.approx(0.9, rel=1e-5)


def test_the_bound_holds_through_hidden_layers(sound):
    """Random models are built so that their gains add up to at most 0.6."""
    for activation in ("tanh", "relu", "gelu"):
        model = random_model(1, feedback=0.6, m=6, layers=2, width=6, activation=activation)
        assert 0 < small_gain(model, sound) <= 0.6 * (1.001 if activation != "gelu" else 1.01)


def test_the_bound_counts_slow_values(sound):
    """An average's gain is one at most, so the gains of taps and slow values add up all the same."""
    model = one_pole(0.3, m=3, past_outputs=2, averages=(5.0, 50.0), envelopes=(20.0,))
    with torch.no_grad():
        model.skip_y[2:] = torch.tensor([0.2, -0.1, 0.15])
    assert small_gain(model, sound) == pytest.approx(0.75, rel=1e-5)
    for activation in ("tanh", "relu", "gelu"):
        slow = {"averages": (5.0, 500.0), "envelopes": (20.0,), "attack": 0.5}
        model = random_model(1, feedback=0.6, m=6, layers=2, width=6, activation=activation, **slow)
        assert 0 < small_gain(model, sound) <= 0.6 * (1.001 if activation != "gelu" else 1.01)


def test_the_bound_follows_the_slow_values(rng):
    """Feedback that is strong only while an envelope is high, longer than any block: it must have risen by then."""
    model = Ar(ArConfig(m=1, past_outputs=2, width=1, activation="tanh", envelopes=(20_000.0,), attack=1.0))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        # tanh(40 (envelope of x - 0.4) + 0.9 y[n-1]): steep only where the envelope passes 0.4
        model.w_x[0, 1], model.b_in[0], model.w_y[0, 0], model.out[0] = 40.0, -16.0, 0.9, 1.0
    loud = np.full((1, 40_000), 0.5, np.float32)  # the envelope passes 0.4 after 1.6 time constants: 32,000 samples
    assert small_gain(model, loud) == pytest.approx(0.9, rel=0.01)


def test_a_disturbed_average_returns_as_slowly_as_it_is(sound):
    model = one_pole(0.0, m=2, averages=(400.0,))
    with torch.no_grad():
        model.skip_y[1] = 0.5
    figures = certify(model, sound, RATE)
    rate = 0.5 / 400  # s += (0.5 s - s) / 400
    assert figures["lyapunov_per_sample"] == pytest.approx(-rate, rel=0.1)
    assert figures["return_ms"] > 20


def test_the_bound_is_the_worst_over_the_whole_sound(rng):
    """A tanh whose slope is steep only in silence: one quiet moment decides, wherever it is."""
    model = Ar(ArConfig(m=1, past_outputs=1, width=1))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.w_x[:], model.w_y[:], model.out[:] = 20.0, 0.9, 1.0
    loud = np.sign(noise(rng, 1, 20_000).numpy()) * np.float32(0.5)
    assert small_gain(model, loud) < 0.01
    for quiet_at in (10, 8191, 8193, 19_990):
        mixed = loud.copy()
        mixed[0, quiet_at : quiet_at + 3] = 0
        assert small_gain(model, mixed) > 0.3


def test_without_feedback_there_is_nothing_to_fear(sound):
    figures = certify(random_model(2, m=8, past_outputs=0, width=4), sound, RATE)
    assert (figures["small_gain"], figures["contracting"], figures["return_ms"]) == (0.0, True, 0.0)
    assert figures["lyapunov_per_sample"] is None
    assert figures["tail_samples"] <= 7


def test_a_stable_resonance_is_no_contraction(sound):
    """y[n] = x[n] + 2 r cos(w) y[n-1] - r^2 y[n-2]: poles of radius 0.95, gains that add up to far more than 1."""
    radius, angle = 0.95, 0.3
    model = one_pole(0.0, m=3)
    with torch.no_grad():
        model.skip_x[0] = 0.05
        model.skip_y[:] = torch.tensor([2 * radius * np.cos(angle), -(radius**2)])
    figures = certify(model, sound, RATE)
    assert figures["small_gain"] == pytest.approx(2 * radius * np.cos(angle) + radius**2, rel=1e-4)
    assert figures["contracting"] is False
    assert figures["lyapunov_per_sample"] == pytest.approx(np.log(radius), rel=0.15)
    assert figures["return_ms"] < 10


def test_a_memory_for_ever_does_not_return(sound):
    figures = certify(one_pole(1.0), sound, RATE)
    assert figures["return_ms"] is None
    assert figures["contracting"] is False


def test_an_unstable_model_has_no_figures_that_look_good(sound):
    figures = certify(one_pole(1.5), sound, RATE)
    assert figures["contracting"] is False
    assert figures["return_ms"] is None
    json.dumps(figures, allow_nan=False)


def test_a_dc_offset_is_no_tail():
    model = one_pole(0.5)
    with torch.no_grad():
        model.b_out[:] = 0.1
    assert 5 < tail_samples(model, RATE) < 40
