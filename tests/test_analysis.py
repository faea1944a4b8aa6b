"""What `analyse` says of made effects, and what `choose` makes of it."""

import json

import numpy as np
import pytest
import torch
from scipy import signal

from fxclone.effects import effect
from fxclone.pairs import Pair, effect_pair
from fxclone_training.analysis import analyse
from fxclone_training.analysis_choice import FAMILY_FOR, GATE_FAMILY, choose
from fxclone_training.analysis_gain import follow_level
from fxclone_training.analysis_models import curve_db, memory_s, recursive_filter_db
from fxclone_training.analysis_time import by_listening, by_rendering
from fxclone_training.families import FAMILIES

RATE = 16_000
torch.set_num_threads(1)


def pair_of(reference, *, seconds=10.0, channels_out=1):
    reference = effect(reference) if isinstance(reference, str) else reference
    return effect_pair(reference, seconds, RATE, seed=3, channels_out=channels_out)


def chosen(reference, *, rendered=False, **more):
    reference = effect(reference) if isinstance(reference, str) else reference
    found = analyse(pair_of(reference, **more), render=reference.render if rendered else None, time=rendered)
    choice = choose(found)
    assert choice.family in FAMILIES
    assert choice.size in ("nano", "small", "standard", "large")
    assert f"family {choice.family}" in choice.words
    return found, choice


class Pedal:
    """A clean path beside a clipped one, with a filter before the clipping and one behind it."""

    name = "pedal"

    def render(self, dry, sample_rate):
        heard = signal.lfilter(*signal.butter(1, 700, "highpass", fs=sample_rate), dry)
        b, a = signal.butter(1, 2500, fs=sample_rate)
        return (0.5 * dry - 0.6 * signal.lfilter(b, a, np.tanh(12 * heard + 0.3) - np.tanh(0.3))).astype(np.float32)


class Noisy:
    """Hisses at a level of its own, anew at each render."""

    name = "noisy"

    def __init__(self, level):
        self.level, self.random = level, np.random.default_rng(5)

    def render(self, dry, sample_rate):
        return (dry + self.level * self.random.standard_normal(dry.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("expression", "kind", "says"),
    [
        ("gain", "filter", "level"),
        ("lowpass(cutoff_hz=1000, order=2)", "filter", "tone control"),
        ("cabinet", "response", "cabinet"),
        ("reverb(room_size=0.3)", "room", "rings"),
        ("tanh", "curve", "plain distortion"),
        ("hardclip(threshold_db=-20)", "curve", "plain distortion"),
        ("tanh(drive=8) > cabinet", "curve and response", "behind it"),
        ("compressor(attack_ms=10, release_ms=200)", "dynamics", "turns down what is loud"),
        ("noise_gate(threshold_db=-30)", "dynamics", "soft sound is turned down"),
    ],
)
def test_it_is_told_by_what_it_does(expression, kind, says):
    _, choice = chosen(expression)
    assert choice.kind == kind
    assert choice.fits
    assert says in choice.words


def test_a_pedal_is_filters_around_a_curve():
    found, choice = chosen(Pedal())
    assert choice.kind == "pedal"
    assert 300 < found.curves.cutoff_hz < 1600
    assert found.curves.driven_db < found.curves.curve_db - 3


def test_a_compressor_is_not_a_distortion():
    compressor = pair_of("compressor(attack_ms=10, release_ms=200)")
    distortion = pair_of("tanh(drive=8)")
    squeezed, _ = follow_level(compressor.dry, compressor.wet, RATE)
    bent, _ = follow_level(distortion.dry, distortion.wet, RATE)
    assert squeezed.following_db < curve_db(compressor) - 6
    assert bent.following_db > curve_db(distortion) + 30
    assert squeezed.slope < -0.1
    assert squeezed.range_db > 3


def test_a_tremolo_moves_its_gain_without_asking_the_level():
    tremolo = pair_of("ringmod(frequency_hz=3, mix=0.5)")
    gain, trace = follow_level(tremolo.dry, tremolo.wet, RATE)
    assert gain.free_db < -12
    assert gain.following_db > gain.free_db + 6
    assert len(trace.level_db) == len(trace.free_db) == len(trace.following_db) == tremolo.samples // (RATE // 1000)


def test_slow_detectors_win_for_slow_compressors():
    fast, slow = (
        follow_level(pair.dry, pair.wet, RATE)[0]
        for pair in map(pair_of, ("compressor(release_ms=30)", "compressor(attack_ms=50, release_ms=1000)"))
    )
    assert slow.release_ms > fast.release_ms


@pytest.mark.parametrize("expression", ["phaser", "chorus", "ringmod(frequency_hz=3, mix=0.5)"])
def test_what_moves_is_asked_at_several_times_and_called_a_still(expression):
    reference = effect(expression)
    time = by_rendering(reference.render, pair_of(reference, seconds=6))
    assert time.moves
    assert time.rendered
    assert -15 < time.still_db < 0
    assert time.floor_db < -100
    found, choice = chosen(expression, rendered=True, seconds=6)
    assert choice.kind == "moving"
    assert not choice.fits
    assert choice.expected_db == found.time.still_db
    assert "still of it" in choice.words


def test_what_stands_still_is_the_same_at_any_time():
    time = by_rendering(effect("compressor").render, pair_of("compressor", seconds=6))
    assert not time.moves
    assert time.still_db < -100


def test_the_least_error_is_measured_right():
    """A gain of 1 or 0 by the clock, half of the time each: what all have in common is wrong by half."""

    class Switch:
        name = "switch"

        def render(self, dry, sample_rate):
            on = np.arange(dry.shape[1]) // (sample_rate // 50) % 2 == 0
            return (dry * on).astype(np.float32)

    noise = np.random.default_rng(2).standard_normal((1, 6 * RATE)).astype(np.float32) * 0.1
    time = by_rendering(Switch().render, Pair(noise, noise, RATE))
    assert time.moves
    assert time.still_db == pytest.approx(-3.0, abs=1.5)


def test_hiss_is_not_movement():
    reference = Noisy(0.01)
    pair = pair_of(reference, seconds=6)
    time = by_rendering(reference.render, pair)
    assert not time.moves
    power = float(np.mean(np.square(pair.wet, dtype=np.float64)))
    assert time.floor_db == pytest.approx(10 * np.log10(1e-4 / power), abs=3)
    found = analyse(pair, render=reference.render)
    assert "no clone gets below that" in choose(found).words


def test_a_noisy_device_needs_no_large_model():
    reference = Noisy(0.3)
    found = analyse(pair_of(reference, seconds=6), render=reference.render)
    assert choose(found).size in ("nano", "small")


def test_a_recording_is_listened_to():
    moving = by_listening(pair_of("phaser(rate_hz=2, depth=1)", seconds=20))
    assert moving.moves
    assert not moving.rendered
    assert not by_listening(pair_of("tanh", seconds=12)).moves


def test_the_memory_is_as_long_as_the_response():
    assert memory_s(pair_of("gain", seconds=5)) == pytest.approx(0.0001)
    assert memory_s(pair_of("cabinet", seconds=5)) >= 0.005


def test_a_recursive_filter_does_what_a_recursive_filter_does():
    assert recursive_filter_db(pair_of("lowpass(cutoff_hz=1000, order=2)", seconds=5)) < -60
    assert recursive_filter_db(pair_of("reverb", seconds=5)) > -20


def test_a_curve_of_any_shape_is_found(rng):
    dry = rng.uniform(-1, 1, (1, 4 * RATE)).astype(np.float32)
    folded = np.sin(7 * dry).astype(np.float32)
    assert curve_db(Pair(dry, folded, RATE)) < -60
    late = np.roll(folded, 1, axis=1)
    assert curve_db(Pair(dry, late, RATE)) > -1


def test_stereo_is_for_family_tail():
    found, choice = chosen("reverb(room_size=0.2)", channels_out=2)
    assert (found.channels_in, found.channels_out) == (1, 2)
    assert choice.family == "tail"
    assert -30 < found.side_db < 0


def test_figures_are_plain_values():
    found, choice = chosen("tanh", rendered=True, seconds=5)
    there = json.loads(json.dumps({"analysis": found.as_dict(), "choice": choice.as_dict()}, allow_nan=False))
    assert there["analysis"]["curves"]["curve_db"] < -60
    assert there["choice"]["kind"] == "curve"
    assert set(there["analysis"]) >= {"linear", "curves", "gain", "time", "channels_in", "sample_rate"}


def test_every_kind_has_a_family_that_there_is():
    assert {*FAMILY_FOR.values(), GATE_FAMILY} <= FAMILIES.keys()
