"""Stability figures of models whose figures are known."""

import json

import numpy as np
import pytest
import torch
from ar_models import noise, one_pole, random_model

from fxclone_training.ar import Ar, ArConfig
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
