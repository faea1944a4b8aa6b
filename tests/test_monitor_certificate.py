"""The certificate: what export measures of any family, what `fxclone info` says of it, what the monitor makes of it."""

from __future__ import annotations

import json

import faulty_clones as faulty
import numpy as np
import pytest
from ar_models import one_pole
from clone_files import good_meta, packed, passing
from faults import playing

from fxclone.clone import clone_from_bytes
from fxclone.commands.info import describe
from fxclone.effects import effect
from fxclone.processor import Chain
from fxclone.resampled import Resampled
from fxclone.signals import training_sound
from fxclone.stability import StabilityMonitor
from fxclone.stability.original import usual_faults
from fxclone_training.certificate import certified, rest_peak
from fxclone_training.tail import Tail
from fxclone_training.tail_delay import DelayLine

RATE = 48_000


def line(delay, gain):
    return DelayLine(delay, np.full((1, 1, 1), 0.5, np.float32), np.full((1, 1, 1), gain, np.float32))


def tail_of(*lines):
    return Tail(np.ones((1, 1, 1), np.float32), lines=list(lines))


@pytest.fixture
def dry(rng):
    return playing(rng, RATE, 2.0)


def test_echoes_have_the_gain_of_their_loop(dry):
    model = tail_of(line(2_400, 0.7), line(4_800, -0.5))
    figures = certified(model, dry, model.run_freely(dry), RATE)
    assert figures["loop_gain"] == figures["small_gain"] == pytest.approx(0.7, rel=1e-3)
    assert figures["contracting"] is True
    assert figures["lyapunov_per_sample"] == pytest.approx(np.log(0.5) / 4_800, rel=1e-3)  # the slower of the two
    assert figures["return_ms"] == pytest.approx(7 * 100.0)  # 0.5^7 is less than 0.01
    assert figures["tail_samples"] > 20 * 2_400
    assert figures["rest_peak"] < 1e-4
    assert figures["usual"] == []
    json.dumps(figures, allow_nan=False)


def test_what_never_ends_has_no_return_time(dry):
    model = tail_of(line(2_400, 1.0))
    figures = certified(model, dry, dry, RATE)
    assert (figures["contracting"], figures["return_ms"]) == (False, None)


def test_without_echoes_and_feedback_nothing_is_added(dry):
    model = tail_of()
    figures = certified(model, dry, dry, RATE)
    assert "loop_gain" not in figures
    assert (figures["small_gain"], figures["return_ms"]) == (0.0, 0.0)


def test_an_ar_model_keeps_its_figures(dry):
    model = one_pole(0.9)
    figures = certified(model, dry, model.run_freely(dry), RATE)
    assert figures["small_gain"] == pytest.approx(0.9, rel=1e-5)
    assert figures["rest_peak"] == 0.0


def test_what_goes_on_in_silence_is_measured_without_its_dc():
    class Hums:
        channels_in = 1

        def run_freely(self, dry):
            n = np.arange(dry.shape[1])
            return (dry + 0.3 + 0.01 * np.sin(0.01 * n)).astype(np.float32)

    assert rest_peak(Hums(), RATE, 0) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    ("expression", "usual"),
    [
        ("tanh(drive=5)", []),
        ("ringmod(frequency_hz=1000)", []),
        ("tanh(drive=300) > ringmod(frequency_hz=20500)", ["oscillation near Nyquist"]),
    ],
)
def test_what_the_original_does_is_no_fault_of_its_clone(expression, usual):
    dry = training_sound(20.0, RATE, seed=5)
    wet = effect(expression).render(dry, RATE)
    assert set(usual_faults(dry, wet, RATE)) >= set(usual)
    if not usual:
        assert usual_faults(dry, wet, RATE) == []


def test_the_monitor_leaves_alone_what_the_original_does(rng):
    sound = playing(rng, RATE, 2.0)
    clone = faulty.nyquist()
    clone.meta.certificate["usual"] = ["oscillation near Nyquist", "not finite"]
    for levels in (None, {"wet_peak": 1.0}):
        monitor = StabilityMonitor(clone, levels)
        assert monitor.known.usual == {"oscillation near Nyquist"}  # a NaN is never meant
        monitor.prepare(RATE, 256, 1)
        for start in range(0, sound.shape[1], 256):
            monitor.process(sound[:, start : start + 256])
        assert not monitor.status


def test_it_knows_chains_and_resamplers_but_nothing_of_strangers():
    clones = [faulty.sound_one(), faulty.drift()]
    clones[0].meta.levels["dry_peak"] = 0.5
    clones[1].meta.levels["wet_peak"] = 0.25
    known = StabilityMonitor(Chain([Resampled(clones[0], RATE), clones[1]])).known
    assert (known.dry_peak, known.wet_peak) == (0.5, 0.25)
    assert known.memory_s == pytest.approx(0.040, abs=1e-3)

    class Stranger:
        pass

    known = StabilityMonitor(Chain([clones[0], Stranger()])).known
    assert (known.dry_peak, known.wet_peak, known.memory_s) == (None, None, None)


def rows_of(certificate):
    clone = clone_from_bytes(packed(passing(), good_meta(certificate=certificate)))
    return dict(describe(clone, 1.0))


def test_info_says_it_in_words():
    rows = rows_of({"small_gain": 0.0, "contracting": True, "return_ms": 0.0, "rest_peak": 0.0, "usual": []})
    assert rows["stability"] == "no feedback: nothing can run away"
    assert not {"disturbances", "in silence", "no alarm for"} & set(rows)
    rows = rows_of({"small_gain": 0.83, "contracting": True, "lyapunov_per_sample": -0.01, "return_ms": 12.3})
    assert rows["stability"] == (
        "whatever was tried: its feedback gains add up to 0.83, below 1 disturbances die away; "
        "a disturbed state is back after 12.3 ms"
    )
    assert rows["disturbances"] == "die away by 3.8 dB a millisecond (largest Lyapunov exponent)"
    rows = rows_of({"small_gain": 12.0, "contracting": False, "lyapunov_per_sample": 1.1e-4, "return_ms": None})
    assert "measured, not proven" in rows["stability"]
    assert rows["stability"].endswith("a disturbed state did not return")
    assert rows["disturbances"] == "grow by 42 dB a second (largest Lyapunov exponent)"
    rows = rows_of({"small_gain": 0.5, "loop_gain": 0.5, "contracting": True, "return_ms": 1_000.0, "rest_peak": 0.01})
    assert rows["stability"] == (
        "each echo is at most 0.5 times as loud as the one before, so they are proven to die away; "
        "a disturbed state is back after 1.00 s"
    )
    assert rows["in silence"] == "it goes on humming or hissing at -40 dBFS"
    assert rows_of({"small_gain": 0.0, "usual": ["DC"]})["no alarm for"] == "DC: the original does it too"
    assert rows_of({})["stability"] == "was not measured"
