"""A recording: aligned, divided so that nothing trained on judges the clone, and told about where it is odd."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from fxclone.audio import rms
from fxclone.errors import FxcloneError, UsageError
from fxclone.metrics import esr_db
from fxclone.passages import live_channels
from fxclone.recorded import Treatment, read_recording
from fxclone.signals import training_sound
from fxclone.takes import Take
from fxclone.windows import plan_windows
from fxclone_training.ar_config import ArConfig
from fxclone_training.recipe import Recipe
from fxclone_training.segments import Recording
from fxclone_training.session import Session

RATE = 32_000


def device(dry):
    """A soft clip, inverted: sample by sample, so that its lag is the recording's."""
    return -0.5 * np.tanh(2 * dry)


def late(sound, samples, length=None):
    """The sound, ``samples`` late (fractions too), cut or filled to ``length``."""
    length = length or sound.shape[1]
    size = 1 << int(np.ceil(np.log2(sound.shape[1] + abs(samples) + 2000)))
    ramp = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size * samples)
    moved = np.fft.irfft(np.fft.rfft(sound, size) * ramp, size)
    return np.pad(moved, ((0, 0), (0, max(0, length - size))))[:, :length].astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sound(seconds, seed):
    return training_sound(seconds, RATE, seed=seed)


def write(name, what, rate=RATE, subtype="FLOAT"):
    soundfile.write(name, what.T, rate, subtype=subtype)
    return name


def take(name, dry, wet, **how):
    return Take(Path(write(f"{name}_dry.wav", dry, **how)), Path(write(f"{name}_wet.wav", wet, **how)))


def read(*takes, seconds=600.0, validation_seconds=4.0, sample_rate=RATE, **how):
    return read_recording(
        takes, name="it", sample_rate=sample_rate, seconds=seconds, validation_seconds=validation_seconds, seed=0,
        treatment=Treatment(**how),
    )  # fmt: skip


def fits(pair):
    """How well the wet sound is what the device makes of the dry one, in dB; fades at cuts do not count."""
    n = RATE // 10
    return esr_db(pair.wet[:, n:-n], device(pair.dry)[:, n:-n])


def test_a_late_recording_is_moved_and_told(folder):
    dry = sound(20, 1)
    wet = late(device(dry), 707.3, dry.shape[1] + 5000)
    found = read(take("a", dry, wet))
    assert fits(found.training) < -35
    assert fits(found.validation) < -35
    assert found.alignment["latency_removed_samples"] == pytest.approx(707.3, abs=0.1)
    assert found.alignment["polarity"] == -1
    assert "the recording is 707.3 samples (22.10 ms) late; the clone plays without that delay" in found.notes
    assert "the device inverts; so will the clone" in found.notes
    assert 14 < found.training.seconds < 16
    assert 3.4 < found.validation.seconds < 4.6
    assert [entry["file"] for entry in found.training.provenance["sources"]] == ["a_wet.wav"]


def test_a_wet_sound_that_leads_is_moved_later(folder):
    dry = sound(12, 1)
    found = read(take("a", dry, late(device(dry), -3.0)))
    assert found.alignment["latency_removed_samples"] == pytest.approx(-3.0, abs=0.1)
    assert any(note.startswith("the wet sound is moved later by 3.0 samples") for note in found.notes)
    assert fits(found.training) < -35


def test_exact_pairs_stay_as_they_are(folder):
    dry = sound(12, 2)
    found = read(take("a", dry, device(dry)))
    assert found.alignment["latency_removed_samples"] == 0
    assert not any("late" in note for note in found.notes)
    n = round(0.01 * RATE)
    middle = slice(n, found.training.samples - n)
    np.testing.assert_array_equal(found.training.dry[:, middle], dry[:, middle])
    np.testing.assert_array_equal(found.training.wet[:, middle], device(dry)[:, middle].astype(np.float32))


def test_other_rates_depths_and_lengths(folder):
    dry = sound(16, 3)
    wet = signal.resample_poly(late(-0.5 * dry, 320, 15 * RATE), 3, 2, axis=1)
    write("in.wav", dry, RATE, "PCM_16")
    write("out.flac", wet, RATE * 3 // 2, "PCM_24")
    found = read(Take(Path("in.wav"), Path("out.flac")), sample_rate=48_000)
    assert found.training.sample_rate == found.validation.sample_rate == 48_000
    assert found.alignment["lag_samples"] == pytest.approx(480, abs=2)
    removed = found.alignment["latency_removed_samples"]
    assert 476 <= removed <= 480.1  # where it is not sure, whole samples are left in
    assert found.alignment["latency_removed_ms"] == pytest.approx(removed / 48)
    n, left = 4800, round(480 - removed)
    for pair in (found.training, found.validation):
        assert esr_db(pair.wet[:, n + left : left - n], -0.5 * pair.dry[:, n:-n]) < -35


def test_a_clock_that_drifts_is_resampled(folder, rng):
    dry = sound(30, 4)
    dry += (0.003 * rng.standard_normal(dry.shape)).astype(np.float32)  # nothing is silent
    wet = device(dry)
    places = np.arange(wet.shape[1]) * (1 - 60e-6)  # wet gets later
    slow = np.interp(places * 8, np.arange(wet.shape[1] * 8), signal.resample_poly(wet[0], 8, 1))[None]
    found = read(take("a", dry, slow))
    assert found.alignment["drift_ppm"] == pytest.approx(60, abs=2)
    assert any("resampled away" in note for note in found.notes)
    assert fits(found.training) < -30


def test_a_lag_that_is_given_and_none_at_all(folder):
    dry = sound(12, 5)
    one = take("a", dry, late(device(dry), 250))
    given = read(one, lag_samples=240.0)
    assert given.alignment["latency_removed_samples"] == 240
    untouched = read(one, align=False)
    assert untouched.alignment["latency_removed_samples"] == 0
    assert untouched.alignment["aligned"] is False
    n = round(0.01 * RATE)
    np.testing.assert_array_equal(untouched.training.wet[:, n:9000], late(device(dry), 250)[:, n:9000])
    with pytest.raises(UsageError, match="--no-align"):
        Treatment(align=False, lag_samples=3.0)


# Dividing


def pieces_of(pair):
    """Where a pair's pieces come from: (file, start, end) in seconds."""
    return [(e["file"], e["start_s"], e["start_s"] + e["seconds"]) for e in pair.provenance["sources"]]


def apart(one, other, gap):
    return all(a[0] != b[0] or a[2] <= b[1] - gap or b[2] <= a[1] - gap for a in one for b in other)


def test_a_single_take_gives_its_end_after_a_gap(folder):
    dry = sound(20, 6)
    found = read(take("a", dry, device(dry)))
    training, validation = pieces_of(found.training), pieces_of(found.validation)
    assert apart(training, validation, 0.99)
    assert validation[0][2] == pytest.approx(20, abs=0.01)
    assert found.training.seconds + found.validation.seconds == pytest.approx(19, abs=0.01)
    assert "the last 4.0 s of a_wet.wav are held back to judge the clone by" in found.notes


def test_of_several_takes_some_are_held_back_whole(folder):
    takes = []
    for k in range(6):
        dry = sound(5, 10 + k)
        takes.append(take(f"t{k}", dry, late(device(dry), 100)))
    found = read(*takes)
    training, validation = pieces_of(found.training), pieces_of(found.validation)
    assert len({piece[0] for piece in training}) == 5
    assert len({piece[0] for piece in validation}) == 1
    assert not {piece[0] for piece in training} & {piece[0] for piece in validation}
    assert found.training.seconds == pytest.approx(5 * (5 - 100 / RATE), abs=0.01)
    assert fits(found.validation) < -35


def test_takes_of_one_performance_are_held_back_at_the_same_place(folder):
    """Also where the files of one sound are not the same bytes: many formats hold the time of writing."""
    dry = sound(16, 7)
    takes = [take("a", dry, device(dry)), take("b", dry, late(0.7 * device(dry), 55))]
    again = folder / "b_dry.wav"
    again.write_bytes(again.read_bytes() + b"note\x02\x00\x00\x00hi")
    assert takes[0].digests[0] != takes[1].digests[0]
    found = read(*takes)
    training, validation = pieces_of(found.training), pieces_of(found.validation)
    assert {piece[0] for piece in training} == {piece[0] for piece in validation} == {"a_wet.wav", "b_wet.wav"}
    bare = [[("", *piece[1:]) for piece in side] for side in (training, validation)]
    assert apart(*bare, 0.9)


def test_a_soft_end_is_not_what_judges(folder):
    dry = sound(32, 17)
    dry[:, 24 * RATE :] *= 0.1
    takes = [take("a", dry, device(dry)), take("b", dry, late(device(dry), 55))]
    found = read(*takes)
    training, validation = pieces_of(found.training), pieces_of(found.validation)
    bare = [[("", *piece[1:]) for piece in side] for side in (training, validation)]
    assert apart(*bare, 0.9)
    assert {piece[0] for piece in validation} == {"a_wet.wav", "b_wet.wav"}
    assert all(start_s + seconds < 28 for _, start_s, seconds in validation)
    assert len({round(start_s, 1) for _, start_s, _ in validation}) == 1
    assert max(start_s + seconds for _, start_s, seconds in training) > 31
    assert any("its end is much softer than the rest" in note for note in found.notes)
    assert fits(found.validation) < -35


def test_byte_identical_takes_count_once(folder):
    dry = sound(8, 8)
    one, copy = take("a", dry, device(dry)), take("b", dry, device(dry))
    found = read(one, copy)
    assert {piece[0] for piece in pieces_of(found.training)} == {"a_wet.wav"}


def test_a_long_take_is_sampled_in_windows_each_aligned(folder):
    rate = 8_000
    short = training_sound(20, rate, seed=9)
    rng = np.random.default_rng(3)
    dry = np.concatenate([short * rng.uniform(0.5, 1.0) for _ in range(30)], axis=1)  # ten minutes
    dry += (1e-3 * rng.standard_normal(dry.shape)).astype(np.float32)
    write("a_dry.wav", dry, rate)
    write("a_wet.wav", late(device(dry), 123), rate)
    found = read(Take(Path("a_dry.wav"), Path("a_wet.wav")), sample_rate=rate, seconds=130.0)
    training, validation = pieces_of(found.training), pieces_of(found.validation)
    assert len(training) >= 3
    assert training[0][1] < 1
    assert training[-1][1] > 500
    assert 110 < found.training.seconds < 150
    assert apart(training, validation, 0.99)
    assert all(row["latency_removed_samples"] == pytest.approx(123, abs=0.1) for row in found.alignment["takes"])
    n = rate // 10
    assert esr_db(found.validation.wet[:, n:-n], device(found.validation.dry)[:, n:-n]) < -30
    assert any("of 10.0 min of sound" in note for note in found.notes)


def test_windows_stay_inside_their_files(folder):
    for seed, lengths in enumerate([(5, 9, 700), (30,), (400, 20), (3, 3, 3, 3, 3, 3), (6, 6)]):
        takes = [Placeholder(f"{k}", seconds) for k, seconds in enumerate(lengths)]
        for budget in (20.0, 100.0, 5_000.0):
            windows, _ = plan_windows(takes, seconds=budget, validation_seconds=5.0, seed=seed)
            assert windows
            for window in windows:
                assert 0 <= window.start_s <= window.start_s + window.seconds <= window.take.seconds + 1e-9
            held = [w for w in windows if w.held_s[0] < w.start_s + w.seconds and w.held_s[1] > w.start_s]
            trained = [w for w in windows if w.held_s[0] - 1 > w.start_s or w.held_s[1] + 1 < w.start_s + w.seconds]
            assert held
            assert trained
            assert sum(min(w.used_s, w.held_s[0]) for w in trained) <= max(budget, 12) + 20


def test_a_soft_end_is_taken_where_all_is_not_read_or_little_is_left(folder):
    for seconds, budget, elsewhere in ((30, 600.0, True), (14, 600.0, False), (1_500, 1_200.0, False)):
        take = Placeholder("a", seconds)
        take.levels_db[-round(0.4 * seconds / 0.05) :] = -30.0
        windows, _ = plan_windows([take], seconds=budget, validation_seconds=3.0, seed=0)
        begin, end = windows[-1].held_s
        assert (end < seconds) == elsewhere
        assert any(w.start_s <= begin and begin + 1 <= w.start_s + w.seconds for w in windows)


class Placeholder:
    """A take of a given length without files."""

    def __init__(self, name, seconds):
        self.name, self.seconds, self.digests, self.dry_performance = name, seconds, (name, name), name
        self.levels_db = np.zeros(round(20 * seconds))

    def dry_levels(self):
        return self.levels_db, 0.05


# What cannot be used


def test_silence_and_shortness_are_one_line(folder):
    dry = sound(8, 1)
    for name, wet, says in (
        ("wet", 0 * dry, "silent_wet.wav is silent; expected a peak over -90 dBFS"),
        ("dry", dry, "silent_dry.wav is silent"),
        ("short", dry[:, : 3 * RATE], "silent_wet.wav is 3.0 s long"),
    ):
        with pytest.raises(FxcloneError, match=says) as caught:
            read(take("silent", 0 * dry if name == "dry" else dry, wet))
        assert "\n" not in str(caught.value)


# Channels


def test_channels_that_say_something(rng):
    one, other = (rng.standard_normal(4000).astype(np.float32) for _ in range(2))
    for given, left in (
        ([one], [one]),
        ([one, 0 * one], [one]),
        ([0 * one, one], [one]),
        ([one, one], [one]),
        ([one, other], [one, other]),
        ([one, other, other], [(one + 2 * other) / 3]),
    ):
        np.testing.assert_allclose(live_channels(np.stack(given)), np.stack(left), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "shape"), [("auto", (1, 1)), ("mono", (1, 1)), ("mono-stereo", (1, 2)), ("stereo", (2, 2))]
)
def test_channels_of_the_pair(folder, channels, shape):
    dry = sound(8, 1)
    wet = np.concatenate([device(3 * dry), np.tanh(8 * dry)])
    found = read(take("a", np.concatenate([dry, 0 * dry]), wet), channels=channels, stereo=True)
    assert (found.training.dry.shape[0], found.training.wet.shape[0]) == shape
    assert (found.validation.dry.shape[0], found.validation.wet.shape[0]) == shape
    assert rms(found.training.dry) == pytest.approx(rms(dry[:, : found.training.samples]), rel=0.05)
    mixed = [note for note in found.notes if "mixed to mono" in note]
    assert len(mixed) == (shape[1] == 1)
    assert all(("--channels mono-stereo keeps both" in note) == (channels == "auto") for note in mixed)


def test_what_is_linear_and_stereo_stays_so(folder):
    dry = sound(8, 1)
    wet = np.concatenate([0.5 * dry, 0.3 * late(dry, 9)])
    one = take("a", dry, wet)
    found = read(one, stereo=True)
    assert (found.training.dry.shape[0], found.training.wet.shape[0]) == (1, 2)
    assert not any("mixed to mono" in note for note in found.notes)
    assert read(one, stereo=False).training.wet.shape[0] == 1


def test_what_a_recording_begins_with_is_neither_learnt_nor_judged(folder):
    """The wet sound may begin compressed by what was played before: that is no error of the clone's."""
    dry = sound(20, 1)
    found = read(take("a", dry, device(dry)))
    config = ArConfig(m=2, width=2, averages=(50.0,))
    generator = torch.Generator().manual_seed(0)
    for pair in (found.training, found.validation):
        wrong = pair.wet.copy()
        wrong[:, : pair.lead_samples] = 1.0
        pair = replace(pair, wet=wrong)
        assert 0 < pair.lead_samples <= min(RATE, pair.samples // 8)
        recording = Recording(pair, config)
        assert recording.starts(1000, 512, generator).min() >= pair.lead_samples
        session = Session(Recipe(), pair, pair, generator)
        model = SimpleNamespace(run_freely=device, work_per_sample=1)
        assert session.measure(model)[0] < -35
        assert Session(Recipe(), pair, replace(pair, lead_samples=0), generator).measure(model)[0] > -30
