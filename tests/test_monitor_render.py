"""`fxclone render --watch`: the monitor of live playing, over files."""

from __future__ import annotations

import json

import faulty_clones as faulty
import numpy as np
import pytest
from faults import playing
from play_clones import drive_clone, failing_clone

from fxclone import cli
from fxclone.clone import load_clone
from fxclone.files import read_sound, write_sound
from fxclone.render import render_file
from fxclone.stability.watched import WatchedClone

RATE = faulty.RATE


@pytest.fixture
def source(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_sound(tmp_path / "in.wav", playing(rng, RATE, 3.0), RATE, subtype="float")


def render(capsys, *words):
    code = cli.run(["render", "in.wav", *map(str, words), "--force"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_clone_that_is_well_renders_as_without(source, tmp_path, capsys):
    model = drive_clone(tmp_path / "drive.onnx")
    assert render(capsys, "-m", model, "-o", "plain.wav")[0] == 0
    code, out, err = render(capsys, "-m", model, "-o", "watched.wav", "--watch", "--json")
    assert (code, err) == (0, "")
    (file,) = json.loads(out)["files"]
    assert file["trips"] == []
    plain, watched = (read_sound(tmp_path / name)[0] for name in ("plain.wav", "watched.wav"))
    assert plain.shape == watched.shape
    np.testing.assert_allclose(plain, watched, atol=1e-6)


def test_one_that_breaks_is_an_error_without_and_a_note_with(source, tmp_path, capsys):
    model = failing_clone(tmp_path / "fails.onnx", 2 * RATE)
    code, _, err = render(capsys, "-m", model, "-o", "out.wav")
    assert code == 1
    assert "NaN" in err
    code, _, err = render(capsys, "-m", model, "-o", "out.wav", "--watch")
    assert code == 0
    assert "fails at 1.98 s" in err  # the beginning of the piece in which it happened
    assert "not finite" in err
    wet, _ = read_sound(tmp_path / "out.wav")
    dry, _ = read_sound(source)
    assert np.isfinite(wet).all()
    np.testing.assert_array_equal(wet[:, round(2.1 * RATE) : dry.shape[1]], dry[:, round(2.1 * RATE) :])
    code, out, _ = render(capsys, "-m", model, "-o", "out.wav", "--watch", "--json")
    (trip,) = json.loads(out)["files"][0]["trips"]
    assert (trip["clone"], trip["what"], trip["action"]) == ("fails", "not finite", "soft reset")


def test_another_rate_and_stereo(rng, tmp_path):
    both = np.concatenate([playing(rng, 44_100, 2.0), playing(rng, 44_100, 2.0)])
    source = write_sound(tmp_path / "stereo.wav", both, 44_100, subtype="float")
    clone = load_clone(drive_clone(tmp_path / "drive.onnx"))
    plain = render_file([clone], source, tmp_path / "plain.wav")
    monitor = WatchedClone(clone)
    watched = render_file([monitor], source, tmp_path / "watched.wav")
    assert not monitor.status
    assert (watched.samples, watched.channels) == (plain.samples, 2)
    one, other = (read_sound(report.target)[0] for report in (plain, watched))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_runs_away_is_held(source, tmp_path):
    monitor = WatchedClone(faulty.over_one())
    report = render_file([monitor], source, tmp_path / "out.wav", tail_s=0.0)
    assert monitor.status.trips[0].what == "runaway level"
    assert report.peak <= 4.0
