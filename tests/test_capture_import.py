"""The test signal as a file, and making the pair of somebody's recording of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from jack_pedal import Pedal, PedalSettings

from fxclone.cli import run
from fxclone.files import read_sound, resample, write_sound
from fxclone_realtime.capture_import import signal_of_file

RATE = 48_000
SETTINGS = PedalSettings(latency_samples=177.6, gain_db=-6, inverted=True, drift_ppm=50)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def exported(folder):
    path = folder / "signal.wav"
    assert run(["capture", "--export-signal", str(path), "--seconds", "8"]) == 0
    return path


@pytest.fixture(scope="module")
def returned(exported):
    """What the pedal makes of it, with a second of noise floor before."""
    sound, _ = read_sound(exported)
    back = Pedal(SETTINGS, RATE).render(np.concatenate([sound[0], np.zeros(RATE, np.float32)]))
    return np.concatenate([np.zeros(RATE, np.float32), back])[None, :]


def imported(capsys, *arguments):
    capsys.readouterr()
    code = run(["capture", "--json", *map(str, arguments)])
    out = capsys.readouterr()
    return code, json.loads(out.out) if code == 0 else out.err


def test_the_exported_file_says_what_it_is(exported, capsys):
    info = soundfile.info(exported)
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "FLOAT")
    made = signal_of_file(exported)
    assert [part.kind for part in made.parts] == ["ladder", "music", "music", "replicate"]
    assert made.replicate is not None
    assert run(["capture", "--export-signal", str(exported)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_there_and_back_at_another_rate_late_drifting_and_inverted(exported, returned, folder, capsys):
    recording = folder / "recording.wav"
    write_sound(recording, resample(returned, RATE, 44_100), 44_100, subtype="24")
    code, facts = imported(
        capsys, "--import-recording", recording, "--signal", exported, "-o", folder / "there and back"
    )
    assert code == 0
    assert facts["complete"]
    assert facts["polarity"] == -1
    assert facts["latency"]["drift_ppm"] == pytest.approx(50, abs=0.5)
    assert facts["latency"]["round_trip_samples"] is None
    assert 0 <= facts["latency"]["left_samples"] < 12
    assert any("resampled" in note for note in facts["notes"])
    assert any("+50.0 ppm" in note for note in facts["notes"])
    assert facts["train"].startswith("fxclone train --dry '")
    dry, rate = read_sound(folder / "there and back" / "dry.wav")
    wet, _ = read_sound(folder / "there and back" / "wet.wav")
    assert rate == RATE
    assert dry.shape == wet.shape
    assert dry.shape[1] == sum(part["samples"] for part in facts["parts"])
    # The wet is the formula of the dry, and 50 samples in a million late.
    truth = -np.tanh(dry[0].astype(np.float64)) * 10 ** (-6 / 20)
    for begin in (RATE // 2, 5 * RATE):
        late = facts["latency"]["left_samples"] + 50e-6 * (begin + RATE // 4)
        match = [
            np.vdot(truth[begin : begin + RATE // 2], wet[0, begin + d : begin + RATE // 2 + d]) for d in range(40)
        ]
        assert np.argmax(match) == pytest.approx(late, abs=0.6)
    assert json.loads((folder / "there and back" / "capture.json").read_text())["polarity"] == -1


def test_without_the_file_the_signal_is_made_again_from_the_same_options(returned, folder, capsys):
    recording = folder / "float.wav"
    write_sound(recording, returned, RATE, subtype="float")
    code, facts = imported(capsys, "--import-recording", recording, "--seconds", "8", "-o", folder / "again")
    assert (code, facts["complete"]) == (0, True)
    code, error = imported(capsys, "--import-recording", recording, "--seconds", "20", "-o", folder / "wrong")
    assert code == 1
    assert "the test signal is not in this recording" in error
    assert not (folder / "wrong").exists()


def test_a_trimmed_recording_gives_the_parts_that_are_there(exported, returned, folder, capsys):
    whole = signal_of_file(exported)
    begin = RATE + whole.parts[0].start + RATE // 2
    recording = folder / "trimmed.wav"
    write_sound(recording, returned[:, begin : RATE + whole.parts[-1].start + RATE // 2], RATE, subtype="float")
    code, facts = imported(capsys, "--import-recording", recording, "--signal", exported, "-o", folder / "trimmed")
    assert code == 0
    assert [part["kept"] for part in facts["parts"]] == [False, True, True, False]
    assert any("2 of 4 parts are not in the recording" in note for note in facts["notes"])
    dry, _ = read_sound(folder / "trimmed" / "dry.wav")
    start, stop = whole.parts[1].start, whole.parts[2].stop
    np.testing.assert_array_equal(dry, whole.sound[:, start:stop])


def test_clipping_and_a_drop_out_are_reported(exported, returned, folder, capsys):
    whole = signal_of_file(exported)
    spoilt = np.clip(returned * 6.0, -1.0, 1.0)
    place = RATE + whole.parts[2].start
    loud = place + RATE // 4 + int(np.argmax(np.abs(returned[0, place + RATE // 4 : place + 2 * RATE])))
    spoilt[0, loud - 100 : loud + 400] = 0.0
    recording = folder / "spoilt.wav"
    write_sound(recording, spoilt.astype(np.float32), RATE, subtype="float")
    code, facts = imported(capsys, "--import-recording", recording, "--signal", exported, "-o", folder / "spoilt")
    assert code == 0
    assert facts["clipped_places"] > 5
    assert [part["kept"] for part in facts["parts"]] == [True, True, False, True]
    assert facts["parts"][2]["faults"][0]["kind"] == "silence"
    assert any("clips" in note for note in facts["notes"])


def test_the_loopback_beside_the_return_tells_the_latency(exported, folder, capsys):
    sound, _ = read_sound(exported)
    settings = PedalSettings(latency_samples=177.6, gain_db=-6)
    padded = np.concatenate([np.zeros(4_321, np.float32), sound[0], np.zeros(RATE, np.float32)])
    recording = folder / "stereo.wav"
    write_sound(recording, np.stack([padded, Pedal(settings, RATE).render(padded)]), RATE, subtype="float")
    code, facts = imported(
        capsys, "--import-recording", recording, "--signal", exported, "-o", folder / "stereo",
        "--input-channel", "2", "--loopback-channel", "1",
    )  # fmt: skip
    assert code == 0
    assert facts["latency"]["pedal_samples"] == pytest.approx(177.6, abs=0.001)
    code, error = imported(
        capsys, "--import-recording", recording, "--signal", exported, "-o", folder / "third", "--input-channel", "3"
    )
    assert code == 2
    assert "has 2 channels" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--signal", "x.wav"], "add --import-recording"),
        (["--export-signal", "a.wav", "--import-recording", "b.wav"], "give one of them"),
        (["--send-db", "3"], "--send-db 3 is out of range"),
        (["--seconds", "1"], "--seconds 1 is out of range"),
        (["--input-channel", "0"], "--input-channel '0'"),
    ],
)
def test_wrong_use_is_one_line(arguments, said, capsys, tmp_path):
    assert run(["capture", "-o", str(tmp_path / "x"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_null_device_is_refused_with_a_reason(capsys, tmp_path):
    assert run(["capture", "-o", str(tmp_path / "x"), "--device", "null"]) == 1
    assert "no cables" in capsys.readouterr().err
