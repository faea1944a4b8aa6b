"""``fxclone analyze`` as typed: the paragraph, the figures, JSON, the picture, and what it refuses."""

import json

import numpy as np
import pytest
from train_runs import one_object, refused

from fxclone import cli
from fxclone.effects import effect
from fxclone.files import write_sound
from fxclone.pairs import effect_pair

SHORT = 'description = "short"\n[recipe]\nsound_s = 6\nvalidation_s = 1\n'


@pytest.fixture
def analyze(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.toml").write_text(SHORT)

    def run(*words):
        code = cli.run(["analyze", "--threads", "1", *(str(word) for word in words)])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.fixture
def recording(tmp_path):
    """What went into a made device, and what came out of it."""
    pair = effect_pair(effect("tanh"), 10, 16_000, seed=4)
    dry, wet = tmp_path / "riff_dry.wav", tmp_path / "riff_wet.wav"
    write_sound(dry, pair.dry, 16_000)
    write_sound(wet, pair.wet, 16_000)
    return "--dry", dry, "--wet", wet


def test_an_effect_is_described_in_a_paragraph_with_figures(analyze, tmp_path):
    code, out, err = analyze("--effect", "tanh", "--preset", "short.toml", "--sample-rate", 16_000)
    assert code == 0
    assert err == ""  # quiet where nobody looks
    assert out.startswith("tanh(drive=5)")
    assert "plain distortion" in out
    assert "Chosen: family ar" in out
    assert "a curve alone" in out
    assert [path.name for path in tmp_path.iterdir()] == ["short.toml"]  # and nothing is written


def test_json_and_picture(analyze, tmp_path):
    words = ("--effect", "gain", "--preset", "short.toml", "--sample-rate", 16_000, "--plot", "gain.png")
    code, out, err = analyze(*words, "--json")
    assert (code, err) == (0, "")
    facts = one_object(out)
    assert facts["effect"] == "gain(gain_db=6)"
    assert facts["choice"]["family"] == "ar"
    assert facts["analysis"]["linear"]["filter_db"] < -60
    assert facts["analysis"]["time"]["moves"] is False
    picture = tmp_path / "gain.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused(analyze(*words), "gain.png exists already", "--force")
    assert analyze(*words, "--force", "--json")[0] == 0


def test_a_recording_is_described(analyze, recording):
    code, out, err = analyze(*recording, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["effect"] == "recording riff_wet.wav"
    assert facts["analysis"]["sample_rate"] == 16_000
    assert facts["analysis"]["time"]["rendered"] is False
    assert facts["choice"]["kind"] == "curve"
    assert np.isfinite(facts["analysis"]["gain"]["following_db"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no reference effect given"),
        (("--effect", "tanhh"), "tanh"),
        (("--effect", "tanh", "--lag", "3"), "--lag is for recordings"),
        (("--effect", "tanh", "--channels", "five"), "--channels five"),
        (("--effect", "tanh", "--plot", "nowhere/x.png"), "nowhere does not exist"),
    ],
)
def test_what_it_refuses_is_one_line(analyze, words, says):
    refused(analyze(*words), says)
