"""A nonlinear front before a tail, found from pairs alone."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.errors import UsageError
from fxclone.metrics import esr_db
from fxclone.signals import training_sound
from fxclone_training.tail_front import fit_front_and_tail
from fxclone_training.tail_identify import convolve

RATE = 16_000
TAPS = 3_000


@pytest.fixture
def tail(rng):
    decay = 10 ** (-3 * np.arange(TAPS) / 2_500)
    return (0.2 * rng.standard_normal((2, 1, TAPS)) * decay).astype(np.float32)


@pytest.fixture(scope="module")
def dry():
    return training_sound(15, RATE, seed=1)


@pytest.fixture(scope="module")
def other():
    return training_sound(6, RATE, seed=2)


def rendered(fit, dry):
    return convolve(fit.front.run_freely(dry), fit.tail)


def test_a_distortion_before_a_room_is_taken_apart(tail, dry, other):
    def effect(sound):
        return convolve(np.tanh(10 * sound), tail)

    heard = []
    fit = fit_front_and_tail(dry, effect(dry), TAPS, RATE, target_db=-45, listen=lambda *stage: heard.append(stage))
    assert fit.tail.shape == (2, 1, TAPS)
    assert fit.front.config.taps_y == 0
    assert esr_db(effect(other), rendered(fit, other)) < -40
    assert fit.esr_db == min(error for stage, error in heard if stage.startswith("front"))
    assert fit.log == heard
    shape = fit.tail / np.sqrt(np.square(fit.tail).sum()) * np.sqrt(np.square(tail).sum())
    sign = np.sign(float((shape * tail).sum()))
    assert esr_db(tail[:, 0], sign * shape[:, 0]) < -35


def test_an_uneven_curve_is_found_too(tail, dry, other):
    def effect(sound):
        return convolve(np.tanh(3 * sound + 0.4) - np.float32(np.tanh(0.4)), tail[:1])

    fit = fit_front_and_tail(dry, effect(dry), TAPS, RATE, target_db=-45)
    assert esr_db(effect(other), rendered(fit, other)) < -40


def test_the_same_seed_gives_the_same_front(tail, dry):
    dry = dry[:, : 4 * RATE]
    wet = convolve(np.tanh(4 * dry), tail[:1])
    one, two = (fit_front_and_tail(dry, wet, TAPS, RATE, target_db=-20, seed=3) for _ in range(2))
    assert one.log == two.log
    assert np.array_equal(one.tail, two.tail)


def test_stopping_early_still_gives_a_front_and_a_tail(tail, dry):
    wet = convolve(np.tanh(4 * dry), tail)
    fit = fit_front_and_tail(dry, wet, TAPS, RATE, should_stop=lambda: True)
    assert fit.tail.shape == (2, 1, TAPS)
    assert esr_db(wet, rendered(fit, dry)) < -10


def test_stereo_dry_sound_is_a_usage_error(tail, dry):
    stereo = np.repeat(dry, 2, 0)
    with pytest.raises(UsageError, match="hears one channel, and dry has 2"):
        fit_front_and_tail(stereo, stereo, TAPS, RATE)
