"""The test signal of a capture, and finding it again."""

from __future__ import annotations

import numpy as np
import pytest
from jack_pedal import Pedal, PedalSettings

from fxclone.audio import gain_to_db, peak
from fxclone.errors import FxcloneError, UsageError
from fxclone.files import resample
from fxclone.signals import training_sound
from fxclone.signals.capture_signal import LEAD_S, capture_signal, marker_span, sweep_marker
from fxclone_realtime.capture_markers import find_marker, find_markers, place

RATE = 48_000


@pytest.fixture(scope="module")
def signal():
    return capture_signal(12.0, RATE)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [4.0, 20.0])
def test_it_is_as_long_as_asked_and_never_clips(seconds, rate):
    made = capture_signal(seconds, rate)
    assert made.sound.shape[0] == 1
    assert made.seconds == pytest.approx(seconds, abs=0.2)
    assert made.peak_dbfs <= -3.0 + 1e-4
    assert gain_to_db(peak(resample(made.sound, rate, 4 * rate))) <= 0.05
    assert [part.kind for part in made.parts][:: len(made.parts) - 1] == ["ladder", "replicate"]
    assert len(made.markers) == len(made.parts) + 1
    lengths = np.diff(made.markers)
    assert len(set(lengths.tolist())) == len(lengths)


def test_the_same_arguments_give_the_same_samples(signal):
    np.testing.assert_array_equal(capture_signal(12.0, RATE).sound, signal.sound)
    assert not np.array_equal(capture_signal(12.0, RATE, seed=1).sound, signal.sound)


def test_markers_are_at_minus_20_with_silence_around(signal):
    marker = sweep_marker(RATE)
    assert gain_to_db(peak(marker)) == pytest.approx(-20, abs=0.1)
    for at in signal.markers:
        np.testing.assert_array_equal(signal.sound[0, at : at + marker.size], marker)
        assert not signal.sound[0, at - 2_400 : at].any()
        assert not signal.sound[0, at + marker.size : at + marker_span(RATE)].any()
    assert signal.lead == round(LEAD_S * RATE)


def test_a_passage_is_played_twice_to_the_bit(signal):
    first, again, length = signal.replicate
    assert length > 0.5 * RATE
    np.testing.assert_array_equal(signal.sound[0, first : first + length], signal.sound[0, again : again + length])
    assert peak(signal.sound[0, first : first + length]) > 0.01


def test_the_ladder_reaches_from_soft_to_loud(signal):
    ladder = signal.sound[0, signal.parts[0].start + marker_span(RATE) : signal.parts[0].stop]
    peaks = [gain_to_db(peak(rung)) for rung in np.array_split(ladder[: -int(0.06 * RATE)], 10)]
    assert peaks[-1] - peaks[0] == pytest.approx(54, abs=3)
    assert np.all(np.diff(peaks) > 3)


def test_the_send_level_lowers_markers_only_where_they_would_stand_out():
    quiet = capture_signal(5.0, RATE, send_db=-30)
    assert quiet.peak_dbfs == pytest.approx(-30, abs=0.1)
    assert find_marker(quiet.sound[0], 0, RATE, RATE).found


def test_own_sound_is_sent_as_it_is_but_for_its_level():
    own = training_sound(6.0, RATE, seed=9)
    made = capture_signal(20.0, RATE, own=own)
    assert {part.kind for part in made.parts} == {"ladder", "own", "replicate"}
    sent = [
        made.sound[0, part.start + marker_span(RATE) : part.stop - int(0.06 * RATE)]
        for part in made.parts
        if part.kind == "own"
    ]
    assert sum(part.size for part in sent) == own.shape[1]
    middle = sent[0][RATE : 2 * RATE]
    np.testing.assert_allclose(
        middle, own[0, RATE : 2 * RATE] * (peak(middle) / peak(own[0, RATE : 2 * RATE])), atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seconds": 3.0}, "3 s; expected 4"),
        ({"seconds": 10.0, "send_db": 1.0}, "1 dBFS; expected -60 to 0"),
        ({"seconds": 10.0, "own": np.zeros((1, RATE), np.float32)}, "silent"),
    ],
)
def test_what_cannot_be_is_said(arguments, said):
    with pytest.raises(UsageError, match=said):
        capture_signal(sample_rate=RATE, **arguments)


@pytest.mark.parametrize(
    ("settings", "polarity", "within"),
    [
        (PedalSettings(latency_samples=177.6, gain_db=-6, inverted=True), -1, 0.001),
        (PedalSettings(latency_samples=4321.37, noise_db=-45), 1, 0.03),
        (PedalSettings(latency_samples=50.0, drive_db=60), 1, 0.05),
    ],
    ids=["tanh", "noisy", "fuzz"],
)
def test_markers_are_found_to_a_fraction_of_a_sample(signal, settings, polarity, within):
    back = Pedal(settings, RATE).render(signal.sound[0])
    where = place(find_markers(back, RATE), signal.markers, RATE)
    assert sorted(where.fixes) == list(range(len(signal.markers)))
    assert where.start == pytest.approx(settings.latency_samples, abs=within)
    assert {fix.polarity for fix in where.fixes.values()} == {polarity}
    assert all(fix.onset <= fix.position for fix in where.fixes.values())
    assert where.drift_ppm == pytest.approx(0, abs=0.5)


def test_another_clock_is_told(signal):
    back = Pedal(PedalSettings(latency_samples=600, drift_ppm=50), RATE).render(signal.sound[0])
    assert place(find_markers(back, RATE), signal.markers, RATE).drift_ppm == pytest.approx(50, abs=0.1)


def test_other_sound_is_not_taken_for_the_signal(signal, rng):
    for other in (rng.standard_normal(8 * RATE), training_sound(30, RATE, seed=3)[0], np.zeros(RATE)):
        with pytest.raises(FxcloneError, match="the test signal is not in this recording"):
            place(find_markers(other, RATE), signal.markers, RATE)
