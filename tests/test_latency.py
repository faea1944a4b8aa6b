"""Measuring latency on a device that is patched through a pedal, without a sound card."""

from __future__ import annotations

import numpy as np
import pytest
from jack_pedal import Pedal, PedalSettings
from patched_device import PatchedDevice

from fxclone.errors import DeviceError
from fxclone_realtime.latency import LatencyMeter, report, sentences

BLOCK, RATE = 64, 48_000


class Delay:
    """A clone that is so late, and says so or not."""

    tail_samples = 0
    channels_out = 1

    def __init__(self, late, declared):
        self.late, self.latency_samples = late, declared

    def prepare(self, sample_rate, max_block, channels):
        self.reset()

    def reset(self):
        self.held = np.zeros((1, self.late), np.float32)

    def process(self, block):
        joined = np.concatenate([self.held, block], axis=1)
        self.held = joined[:, block.shape[1] :].copy()
        return joined[:, : block.shape[1]].copy()


def measured(settings, through=None, **more):
    pedal = Pedal(settings, RATE)
    meter = LatencyMeter(PatchedDevice(pedal.process, block=BLOCK, **more), BLOCK, through)
    said = []
    return meter, meter.run(wait_s=2.0, say=said.append), said


def test_it_measures_a_fraction_of_a_sample_noise_and_polarity():
    settings = PedalSettings(linear=True, latency_samples=300.4, gain_db=-12, inverted=True, noise_db=-70)
    meter, (direct, through), said = measured(settings)
    assert direct.median == pytest.approx(BLOCK + 300.4, abs=0.1)
    assert (len(direct.samples), direct.sent, direct.polarity, through, said) == (5, 5, -1, None, [])
    facts = report(meter, direct, None, "")
    assert facts["round_trip_ms"] == pytest.approx(1e3 * (BLOCK + 300.4) / RATE, abs=0.01)
    assert facts["claimed_ms"]["total"] is None  # this driver claims a latency of 30 years
    assert "the sound comes back inverted" in sentences(meter, direct, None, "")


@pytest.mark.parametrize(("declared", "says"), [(100, "it declares 100, and the engine adds none"), (7, "declares 7")])
def test_a_clone_that_is_later_than_it_says_is_found_out(declared, says):
    meter, (direct, through), _ = measured(PedalSettings(linear=True), Delay(100, declared))
    assert through.median - direct.median == pytest.approx(100, abs=0.01)
    (line,) = [line for line in sentences(meter, direct, through, "late") if "through late" in line]
    assert says in line
    assert report(meter, direct, through, "late")["through"]["added_samples"] == pytest.approx(100, abs=0.01)


def test_a_latency_that_changes_is_said():
    meter, (direct, _), _ = measured(PedalSettings(linear=True, latency_samples=400, drift_ppm=20.0))
    assert direct.spread > 0.5
    assert any("not steady" in line for line in sentences(meter, direct, None, ""))


def test_nothing_that_comes_back_is_said_with_what_to_do():
    said = []
    meter = LatencyMeter(PatchedDevice(np.zeros_like, block=BLOCK), BLOCK)
    with pytest.raises(DeviceError, match="connect an output with the input by a cable"):
        meter.run(wait_s=0.2, say=said.append)
    assert len(said) == 1
