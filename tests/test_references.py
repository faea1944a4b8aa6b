"""The bench of references: what it clones, on what it judges, what no clone can reach, and that it goes on in parts."""

import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from fxclone.effects import effect
from fxclone.files import write_sound
from fxclone.signals import training_sound

sys.path.insert(0, str(ROOT / "bench"))
BEFORE = dict(os.environ)
import references  # noqa: E402
import references_limits  # noqa: E402
import references_list  # noqa: E402
import references_page  # noqa: E402
import references_result  # noqa: E402
import references_sound  # noqa: E402

os.environ.clear()  # a bench sets thread counts, which are no business of other tests
os.environ.update(BEFORE)

Case = references_list.Case


@pytest.fixture
def guitar(tmp_path):
    path = tmp_path / "guitar.wav"
    write_sound(path, training_sound(4.0, references_sound.RATE, seed=5), references_sound.RATE, subtype="FLOAT")
    return path


def result(**changes):
    made = references_result.Result(
        group="builtin",
        name="tanh",
        budget_s=45.0,
        seed=0,
        digest="aa",
        command="fxclone train --effect tanh",
        training={"in_all_s": 50.0, "cpu_share": 1.0, "failed": "no model gave a stable output"},
        test={},
        by_file={},
        limits={"again": -30.0, "dry": -13.0},
        cost_us=None,
        heard="10 s of made sound",
        learned="",
        yardstick={"matmul_ms": 0.3, "lstm32_us": 0.5},
        machine="a machine, 2 cores, Linux, load 1.0 at the start; code abc",
        when="2026-01-01T10:00",
    )
    return replace(made, **changes)


def test_no_file_is_both_learned_from_and_judged_on():
    assert references_sound.TEST
    assert references_sound.LEARN
    assert not set(references_sound.TEST) & set(references_sound.LEARN)


def test_every_reference_is_an_effect_and_rooms_are_left_to_another_bench():
    for name in ("pedalboard", "builtin", "presets"):
        cases = references_list.GROUPS[name].cases()
        assert len({case.name for case in cases}) == len(cases) >= 7
        for case in cases:
            assert effect(case.effect).expression
    presets = {case.name for case in references_list.GROUPS["presets"].cases()}
    assert {"fuzz", "clean-compressor"} <= presets
    assert not {"hall", "drive-reverb", "echo", "seed-tanh", "seed"} & presets


def test_limits_tell_motion_and_steps_from_what_can_be_cloned(guitar):
    still = references_limits.limits(Case("tanh", "tanh"), [guitar])
    assert set(still) == {"dry"}
    moving = references_limits.limits(Case("ringmod", "ringmod"), [guitar])
    assert moving["later"] > -10.0
    assert "again" not in moving
    steps = references_limits.limits(Case("bitcrush", "bitcrush(bit_depth=4)", smooth="passthrough"), [guitar])
    assert steps["smooth"] == pytest.approx(steps["dry"])
    assert -40.0 < steps["smooth"] < 0.0


def test_doing_nothing_is_measured_at_the_best_gain_and_in_step(guitar):
    assert references_limits.limits(Case("gain", "gain(gain_db=-7)"), [guitar]) == {}
    late = references_limits.limits(Case("late", "brickwall_limiter(ceiling_db=0)"), [guitar])
    assert late.get("dry", -200.0) < -30.0


def test_a_result_is_there_only_for_the_very_same_command_and_sound(tmp_path, guitar):
    result().save(tmp_path)
    assert list(references_result.results(tmp_path)) == [result()]
    assert references_result.is_there(tmp_path, "builtin", "tanh", 45.0, 0, "aa")
    for changed in (("builtin", "tanh", 45.0, 0, "bb"), ("builtin", "tanh", 90.0, 0, "aa")):
        assert not references_result.is_there(tmp_path, *changed)
    first = references_sound.digest(["train"], [guitar])
    assert first == references_sound.digest(["train"], [guitar])
    assert first != references_sound.digest(["train", "x"], [guitar])
    guitar.write_bytes(guitar.read_bytes() + b"x")
    assert first != references_sound.digest(["train"], [guitar])


def test_the_page_tells_failures_limits_and_what_was_not_run():
    text = references_page.page([result(), result(budget_s=5.0)], seed=0)
    assert re.search(r"\|\s+5 s \|\s+45 s \|", text)
    assert "Failed: no model gave a stable output." in text
    assert "differs from itself by -30.0 dB" in text
    assert "Not run: passthrough, lowpass" in text
    assert "Nothing has been run" in references_page.page([result()], seed=1)


def test_no_folder_of_this_machine_is_told(tmp_path):
    case = Case("amp", f"nam:{tmp_path}/amp.nam")
    task = references.Task("nam", case, 9.0, 0, 1, (), (tmp_path / "riff.flac",))
    assert (
        task.shown == "fxclone train --effect nam:amp.nam --seconds 9 --threads 1 --seed 0 --dry riff.flac --only-dry"
    )
    assert case.effect in task.words


@pytest.mark.slow
def test_a_clone_is_made_judged_and_not_made_again(tmp_path, capsys):
    words = ["--group", "builtin", "--only", "passthrough", "--seconds", "3", "--home", str(tmp_path)]
    assert references.main(words) == 0
    assert "1 clones" in capsys.readouterr().out
    (made,) = references_result.results(tmp_path / "results")
    assert made.esr_db < -100.0
    assert made.training["family"] == "tail"  # one tap
    assert made.cost_us > 0
    assert made.by_file
    assert np.isfinite(list(made.by_file.values())).all()
    assert references.main(words) == 0
    out = capsys.readouterr().out
    assert "0 clones" in out
    assert "passthrough" in out
