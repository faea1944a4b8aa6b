"""Which wet file belongs to which dry file: by name, by order, and a clear word where neither tells."""

import numpy as np
import pytest

from fxclone.errors import UsageError
from fxclone.files import write_sound
from fxclone.takes import Take, find_takes

RATE = 8_000


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make sound files by name, in an empty folder where the test runs."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for place, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sound(path, np.full((1, 800 + place), 0.1, np.float32), RATE)

    return make


def matched(dry, wet):
    takes, notes = find_takes(dry, wet)
    return [(str(take.dry), str(take.wet)) for take in takes], notes


@pytest.mark.parametrize(
    ("dry", "wet", "pairs"),
    [
        (["a.wav"], ["zzz.flac"], ["a.wav zzz.flac"]),
        (["a.wav", "b.wav"], ["x.wav", "y.wav"], ["a.wav x.wav", "b.wav y.wav"]),
        (["a_dry.wav", "b_dry.wav"], ["b_wet.wav", "a_wet.wav"], ["a_dry.wav a_wet.wav", "b_dry.wav b_wet.wav"]),
        (["in"], ["out"], ["in/a.wav out/a.flac", "in/sub/b.wav out/sub/b.wav"]),
        (["in"], ["amp"], ["in/a.wav amp/a_amp.wav", "in/sub/b.wav amp/sub/b.wav"]),
        (["x"], ["y"], ["x/one.wav y/other.wav"]),
    ],
)
def test_files_and_two_folders(made, dry, wet, pairs):
    made("a.wav", "b.wav", "x.wav", "y.wav", "zzz.flac", "a_dry.wav", "b_dry.wav", "a_wet.wav", "b_wet.wav")
    made("in/a.wav", "in/sub/b.wav", "out/a.flac", "out/sub/b.wav", "amp/a_amp.wav", "amp/sub/b.wav")
    made("x/one.wav", "y/other.wav")
    found, notes = matched(dry, wet)
    assert sorted(" ".join(pair) for pair in found) == sorted(pairs)
    assert notes == []


@pytest.mark.parametrize(
    ("dry", "wet"),
    [
        ("riff_dry.wav", "riff_wet.wav"), ("dry.wav", "wet.flac"), ("Input 3.wav", "Output 3.wav"),
        ("take1-in.wav", "take1-out.wav"), ("DI_solo.wav", "AMP_solo.wav"), ("train-input.wav", "train-target.wav"),
        ("dry/riff.wav", "wet/riff.wav"), ("7/send.wav", "7/return.wav"), ("dry01.wav", "wet01.wav"),
        ("clean_amp_dry.wav", "clean_amp_wet.wav"),
    ],
)  # fmt: skip
def test_one_folder_whose_names_tell(made, dry, wet):
    made(f"all/{dry}", f"all/{wet}", "all/other.wav", "all/other.flac", "all/notes_wet.wav")
    found, notes = matched(["all"], ["all"])
    assert found == [(f"all/{dry}", f"all/{wet}")]
    assert notes == ["left out, as nothing goes with them: notes_wet.wav, other.flac, other.wav"]


@pytest.mark.parametrize(
    ("dry", "wet", "says"),
    [
        (["a.wav"], [], "--dry without --wet"),
        ([], ["a.wav"], "--wet without --dry"),
        (["a.wav", "b.wav"], ["c.wav"], "2 dry and 1 wet files"),
        (["p"], ["q"], "no file in p goes with one in q"),
        (["a.wav"], ["a.wav"], "given as dry and as wet"),
        (["one"], ["one"], "no file in one goes with one in one"),
        (["two"], ["two"], "x_out.flac and x_out.wav could both go with x_in.wav"),
        (["nothing"], ["one"], "no sound files in nothing"),
    ],
)
def test_what_cannot_be_matched_is_one_line(made, tmp_path, dry, wet, says):
    made("a.wav", "b.wav", "c.wav", "p/1.wav", "p/2.wav", "q/3.wav", "q/4.wav", "one/a.wav", "one/b.wav")
    made("two/x_in.wav", "two/x_out.wav", "two/x_out.flac")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match=says) as caught:
        find_takes(dry, wet)
    assert "\n" not in str(caught.value)


def test_a_take_knows_its_files(made, tmp_path):
    made("a.wav", "b.wav")
    take = Take(tmp_path / "a.wav", tmp_path / "b.wav")
    assert take.name == "b.wav"
    assert take.seconds == 800 / RATE
    before = take.as_dict()
    assert before["dry"] == str(tmp_path / "a.wav")
    assert before["dry_digest"] != before["wet_digest"]
    write_sound(tmp_path / "b.wav", np.full((1, 801), 0.2, np.float32), RATE, force=True)
    after = Take(tmp_path / "a.wav", tmp_path / "b.wav").as_dict()
    assert after["dry_digest"] == before["dry_digest"]
    assert after["wet_digest"] != before["wet_digest"]
