"""The made cabinet: a plausible loudspeaker, causal, the same at every sample rate."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.effects import effect
from fxclone.effects.cabinet import LENGTH_S, impulse_response

RATE = 48_000
USUAL = {"size_inch": 12.0, "brightness": 0.5, "distance_cm": 5.0}


def response(rate=RATE, **settings):
    return impulse_response({**USUAL, **settings}, rate)


def level_db(taps, low_hz, high_hz, rate=RATE):
    """Mean gain over a band, octave by octave."""
    points = 1 << 17
    gain = 20 * np.log10(np.abs(np.fft.rfft(taps, points)))
    return float(np.interp(np.geomspace(low_hz, high_hz, 100), np.fft.rfftfreq(points, 1 / rate), gain).mean())


def test_it_has_the_shape_of_a_guitar_cabinet():
    taps = response()
    resonance = level_db(taps, 95, 130)
    presence = level_db(taps, 2000, 3500)
    assert level_db(taps, 30, 40) < resonance - 12
    assert level_db(taps, 380, 480) < resonance - 5
    assert presence > level_db(taps, 380, 480) + 6
    assert level_db(taps, 7000, 8000) < presence - 20
    assert level_db(taps, 12_000, 14_000) < presence - 45
    assert level_db(taps, 100, 4000) == pytest.approx(0.0, abs=0.2)


def test_it_is_short_early_and_without_delay():
    for settings in ({}, {"distance_cm": 150.0}, {"size_inch": 15.0, "brightness": 0.0}):
        taps = response(**settings)
        assert taps.shape == (round(LENGTH_S * RATE),)
        energy = np.cumsum(taps**2) / np.sum(taps**2)
        assert np.argmax(np.abs(taps)) < RATE // 2000
        assert np.searchsorted(energy, 0.99) < RATE // 100
        assert 1 - energy[round(0.04 * RATE)] < 1e-7


@pytest.mark.parametrize("distance_cm", [5.0, 100.0])
def test_it_is_minimum_phase(distance_cm):
    """The only causal response with its magnitude whose inverse is causal too, reflections and all."""
    from scipy.signal import lfilter

    taps = response(distance_cm=distance_cm)
    points = 1 << 17
    cepstrum = np.fft.irfft(np.log(np.abs(np.fft.rfft(taps, points))))
    folded = np.concatenate([cepstrum[:1], 2 * cepstrum[1 : points // 2], np.zeros(points // 2)])
    earliest = np.fft.irfft(np.exp(np.fft.rfft(folded)))[: taps.size]
    np.testing.assert_allclose(taps, earliest, atol=2e-4 * np.abs(taps).max())
    late = lfilter([0.5, 1.0], [1.0, 0.5], taps)  # the same magnitude, later
    assert np.abs(late - earliest).max() > 0.1 * np.abs(taps).max()


def test_each_setting_does_what_it_says():
    for low, high in ((8.0, 12.0), (12.0, 15.0)):
        assert level_db(response(size_inch=high), 60, 90) > level_db(response(size_inch=low), 60, 90) + 2
    assert level_db(response(brightness=1.0), 3000, 6000) > level_db(response(brightness=0.0), 3000, 6000) + 5
    late = slice(round(0.0012 * RATE), round(0.01 * RATE))

    def lateness(taps):
        return np.sum(taps[late] ** 2) / np.sum(taps**2)

    assert lateness(response(distance_cm=100.0)) > lateness(response(distance_cm=2.0))


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000, 192_000])
def test_every_sample_rate_gets_the_same_sound(rate):
    for low, high in ((60, 120), (120, 400), (400, 1000), (1000, 2500)):
        here, there = level_db(response(rate), low, high, rate), level_db(response(), low, high)
        assert here == pytest.approx(there, abs=1.0)


def test_the_effect_is_this_convolution(rng):
    dry = (0.2 * rng.standard_normal((2, 6_000))).astype(np.float32)
    wet = effect("cabinet(size_inch=10, brightness=0.2, distance_cm=30)").render(dry, RATE)
    taps = response(size_inch=10.0, brightness=0.2, distance_cm=30.0)
    expected = np.array([np.convolve(each, taps)[: dry.shape[1]] for each in dry])
    np.testing.assert_allclose(wet, expected, atol=1e-6)
