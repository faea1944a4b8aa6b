"""The lag, polarity, level and drift of a pair are found, with an honest confidence."""

import numpy as np
import pytest

from fxclone.alignment import align_pair
from fxclone.signals import training_sound

RATE = 44_100


@pytest.fixture(scope="module")
def dry():
    return training_sound(6.0, RATE, seed=11)


def late(sound, lag):
    """``sound`` later by any number of samples, exactly: a phase ramp on the whole of it between wide zeros."""
    room = 1 << 13
    padded = np.pad(sound.astype(np.float64), ((0, 0), (room, room)))
    size = padded.shape[1]
    ramp = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * lag)
    moved = np.fft.irfft(np.fft.rfft(padded) * ramp, size)
    return moved[:, room : room + sound.shape[1]].astype(np.float32)


@pytest.mark.parametrize("lag", [0.0, -1.0, 163.25, 4000.6, -37.41])
def test_a_delay_is_found_to_a_fraction_of_a_sample(dry, lag):
    found = align_pair(dry, late(dry, lag), RATE)
    assert found.lag_samples == pytest.approx(lag, abs=0.01)
    assert found.confident
    assert found.polarity == 1
    assert found.drift_ppm == 0.0
    assert found.wander_samples < 0.01
