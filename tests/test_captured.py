"""The lag that a capture wrote down is used where it fits what is measured, and anything else in its file is not."""

import json

import numpy as np
import pytest
import soundfile

from fxclone.captured import captured_lag
from fxclone.recorded import Treatment, read_recording
from fxclone.signals import training_sound
from fxclone.takes import Take

RATE = 32_000
LEFT = 0.37
SECONDS = 12.0


def device(dry):
    return -0.5 * np.tanh(2 * dry)


def late(sound, samples):
    size = 2 * sound.shape[1]
    ramp = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * samples)
    return np.fft.irfft(np.fft.rfft(sound.astype(np.float64), size) * ramp, size)[:, : sound.shape[1]]


def facts(**latency):
    given = {"source": "markers", "left_samples": LEFT, "drift_ppm": 0.01, "wandering": False, **latency}
    return {"format": "fxclone-capture/1", "sample_rate": RATE, "seconds": SECONDS, "latency": given}


@pytest.fixture
def folder(tmp_path):
    dry = training_sound(SECONDS, RATE, seed=4)
    soundfile.write(tmp_path / "dry.wav", dry.T, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "wet.wav", late(device(dry), LEFT).T, RATE, subtype="FLOAT")
    return tmp_path


def take(folder, said=None):
    if said is not None:
        (folder / "capture.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return Take(folder / "dry.wav", folder / "wet.wav")


def read(one, **how):
    return read_recording(
        [one], name="it", sample_rate=RATE, seconds=60.0, validation_seconds=3.0, seed=0, treatment=Treatment(**how)
    )


def test_the_lag_of_a_capture_is_used_and_named(folder):
    found = read(take(folder, facts(left_samples=LEFT + 0.003)))
    assert found.alignment["source"] == found.alignment["takes"][0]["source"] == "capture"
    assert found.alignment["lag_samples"] == pytest.approx(LEFT + 0.003)
    assert found.alignment["latency_removed_samples"] == pytest.approx(LEFT + 0.003)


def test_without_a_capture_it_is_measured(folder):
    found = read(take(folder))
    assert found.alignment["source"] == "measured"
    assert found.alignment["lag_samples"] == pytest.approx(LEFT, abs=0.1)


def test_a_lag_that_the_sound_contradicts_is_not_believed(folder):
    found = read(take(folder, facts(left_samples=25.0)))
    assert found.alignment["source"] == "measured"
    assert found.alignment["latency_removed_samples"] <= LEFT + 0.1


def test_what_the_user_says_counts_more(folder):
    one = take(folder, facts())
    assert read(one, lag_samples=0.0).alignment["source"] == "given"
    assert read(one, align=False).alignment["source"] == "none"


def test_it_counts_samples_of_the_rate_asked_for(folder):
    assert captured_lag(take(folder, facts()), 2 * RATE) == pytest.approx(2 * LEFT)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[" * 100_000,
        "3",
        "null",
        " " * (2 << 20),
        facts() | {"format": "fxclone-capture/9"},
        facts() | {"sample_rate": 48_000},
        facts() | {"seconds": 3.0},
        facts() | {"seconds": "long"},
        facts() | {"latency": [1]},
        facts(left_samples=None),
        facts(left_samples=True),
        facts(left_samples="0.3"),
        facts(left_samples=1e300),
        facts(left_samples=10**400),
        json.dumps(facts()).replace(str(LEFT), "NaN"),
        facts(left_samples=2.0 * RATE),
        facts(wandering=True),
        facts(wandering=None),
        facts(drift_ppm=12.0),
        facts(source="alignment"),
    ],
    ids=range(21),
)
def test_a_file_that_is_no_capture_of_this_sound_says_nothing(folder, said):
    assert captured_lag(take(folder, said), RATE) is None


def test_only_the_two_files_of_a_capture_are_meant(folder, tmp_path):
    take(folder, facts())
    (folder / "other.wav").write_bytes((folder / "wet.wav").read_bytes())
    assert captured_lag(Take(folder / "dry.wav", folder / "other.wav"), RATE) is None
