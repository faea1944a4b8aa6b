"""False alarms: none, whatever is watched and whatever is played through it; `bench/monitor.py` plays for hours."""

from __future__ import annotations

import tracemalloc

import faulty_clones as faulty
import numpy as np
import pytest
from faults import Gain, playing
from normal_playing import RATE, Rendered, drift_db, levels_of, takes

from fxclone.presets import available_presets
from fxclone.stability import StabilityMonitor

PRESETS = {name: preset.effect for name, preset in available_presets().items() if preset.effect}
LIKE_FAULTS = {
    "40 dB": "tanh(drive=100)",
    "crushed": "resample(target_sample_rate=8000) > bitcrush(bit_depth=8)",
    "carrier": "ringmod(frequency_hz=8000)",
    "near Nyquist": "ringmod(frequency_hz=23000)",
    "flanger": "chorus(rate_hz=0.3, centre_delay_ms=2, feedback=0.9, mix=0.5)",
    "resonance": "ladder(resonance=0.95, cutoff_hz=800)",
}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("name", [*PRESETS, *LIKE_FAULTS])
def test_normal_playing_is_no_fault(name, trained):
    expression = (PRESETS | LIKE_FAULTS)[name]
    effect = Rendered(expression)
    monitor = StabilityMonitor(effect, levels_of(expression) if trained else None)
    for number, take in enumerate(takes(2, 20.0, RATE, effect.tail_samples / RATE, seed=7 + trained)):
        effect.load(take)
        if not number:
            monitor.prepare(RATE, 1_024, 1)
        for start in range(0, take.shape[1], 1_024):
            out = monitor.process(take[:, start : start + 1_024])
            np.testing.assert_array_equal(out, effect.wet[:, start : start + 1_024])
    assert not monitor.status, monitor.status


def test_a_clone_with_feedback_plays_on_without_a_trip_and_without_drifting():
    monitor = StabilityMonitor(faulty.sound_one())
    monitor.prepare(RATE, 256, 1)
    heard = []
    for take in takes(4, 15.0, RATE, 0.0):
        blocks = [monitor.process(take[:, start : start + 256]).copy() for start in range(0, take.shape[1], 256)]
        heard.append(np.concatenate(blocks, axis=1))
    assert not monitor.status, monitor.status
    assert monitor._twins[0].tests > 10
    assert abs(drift_db(heard[0], heard[-1])) < 0.01


def test_watching_takes_no_memory(rng):
    """Through looks at the spectrum and tests of the twin: nothing is left over."""
    monitor = StabilityMonitor(faulty.sound_one())
    monitor.prepare(RATE, 64, 1)
    sound = playing(rng, RATE, 8.0)
    blocks = [sound[:, start : start + 64] for start in range(0, sound.shape[1] - 63, 64)]
    for block in blocks:
        monitor.process(block)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for block in blocks:
            monitor.process(block)
        grown, most = (now - before for now in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert monitor._twins[0].tests > 2
    assert grown < 4_000
    assert most < 64_000  # what a block takes for a moment


class Rectifier(Gain):
    """An octave fuzz at its simplest: mostly DC, while it is played."""

    def run(self, block):
        return np.abs(block) + np.float32(self.gain)


def test_an_effect_that_makes_dc_may_make_it_while_it_is_played(rng):
    trained = {"dry_peak": 1.0, "wet_peak": 1.0, "wet_dc": 0.05}
    tone = np.sin(2 * np.pi * 220 * np.arange(4 * RATE) / RATE).astype(np.float32)[None]
    for offset, sound, trips in ((0.0, tone, 0), (0.0, playing(rng, RATE, 4.0), 0), (0.4, 0.0 * tone, 1)):
        monitor = StabilityMonitor(Rectifier(offset), trained)
        monitor.prepare(RATE, 256, 1)
        for start in range(0, sound.shape[1], 256):
            monitor.process(sound[:, start : start + 256])
        assert min(1, monitor.status.trip_count) == trips, monitor.status
    monitor = StabilityMonitor(Rectifier(0.0), trained | {"wet_dc": 0.0})  # an effect that made none
    monitor.prepare(RATE, 256, 1)
    for start in range(0, tone.shape[1], 256):
        monitor.process(tone[:, start : start + 256])
    assert monitor.status.trips[0].what == "DC"
