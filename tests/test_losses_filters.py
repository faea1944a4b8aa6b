"""The filters that a loss looks through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal

from fxclone_training.losses_filters import BlockFilter, a_weighting_taps, pre_emphasis_taps

IEC_61672_DB = {
    20: -50.5, 25: -44.7, 31.5: -39.4, 40: -34.6, 50: -30.2, 63: -26.2, 80: -22.5, 100: -19.1, 125: -16.1,
    200: -10.9, 500: -3.2, 1000: 0.0, 2000: 1.2, 4000: 1.0, 8000: -1.1, 10_000: -2.5, 16_000: -6.6,
}  # fmt: skip
"""A-weighting at nominal frequencies, table 3 of IEC 61672-1:2013."""


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("nominal_hz", IEC_61672_DB)
def test_a_weighting_is_the_standard_curve(rate, nominal_hz):
    exact_hz = 1000 * 10 ** (round(10 * np.log10(nominal_hz / 1000)) / 10)  # as the standard defines its frequencies
    _, response = signal.freqz(a_weighting_taps(rate), worN=[exact_hz], fs=rate)
    # The table is rounded to 0.1 dB. A class 1 meter may be off by 1 dB at 100 Hz, 1.5 at 31.5 Hz and 2 at 20 Hz.
    tolerance_db = 0.1 if nominal_hz >= 63 else 0.3 if nominal_hz > 30 else 2.0
    assert 20 * np.log10(np.abs(response[0])) == pytest.approx(IEC_61672_DB[nominal_hz], abs=tolerance_db)


def test_a_weighting_does_not_hear_an_offset():
    assert abs(a_weighting_taps(48_000).sum()) < 1e-3


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000, 192_000])
def test_pre_emphasis_is_the_same_filter_at_every_rate(rate):
    """Gain against that at 1 kHz, in the band that all rates have."""

    def shape(at):
        frequencies = np.array([50, 100, 400, 1000, 3000])
        response = np.abs(signal.freqz(pre_emphasis_taps(at), worN=frequencies, fs=at)[1])
        return 20 * np.log10(response / response[3])

    assert pre_emphasis_taps(48_000) == pytest.approx([1, -0.95])
    assert shape(rate) == pytest.approx(shape(48_000), abs=0.6)


@pytest.mark.parametrize("taps", [2, 8, 9, 700])
@pytest.mark.parametrize("samples", [1, 64, 300, 1000])
def test_a_block_with_its_past_is_part_of_the_whole(taps, samples):
    rng = np.random.default_rng(taps)
    response = rng.standard_normal(taps)
    sound = rng.standard_normal((3, 3000))
    expected = signal.lfilter(response, [1], sound)[:, 1000 : 1000 + samples]
    past_too = torch.from_numpy(sound[:, 1000 - taps : 1000 + samples])
    got = BlockFilter(response)(past_too, samples)
    assert got.shape == (3, samples)
    assert got.numpy() == pytest.approx(expected, abs=1e-11)


def test_before_the_past_is_silence():
    rng = np.random.default_rng(0)
    response, sound = rng.standard_normal(50), rng.standard_normal((2, 30))
    got = BlockFilter(response)(torch.from_numpy(sound), 20)
    assert got.numpy() == pytest.approx(signal.lfilter(response, [1], sound)[:, 10:], abs=1e-12)
