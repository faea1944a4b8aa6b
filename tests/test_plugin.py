"""Real plugins as reference effects: their settings, their sound, their latency."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plugins import ZAM, needs_zam

from fxclone.cli import run
from fxclone.effects import effect, parse_settings
from fxclone.effects.plugin import Take, described
from fxclone.effects.plugin_find import find_plugin
from fxclone.errors import EffectError, UsageError

RATE = 48_000
pytestmark = needs_zam


@pytest.fixture
def noise(rng) -> np.ndarray:
    return (0.3 * rng.uniform(-1, 1, (1, 12_000))).astype(np.float32)


def names(expression: str) -> list[str]:
    (stage,) = effect(expression).stages
    return [setting.name for setting in stage.spec.settings]


def test_its_real_parameters_are_its_settings() -> None:
    (stage,) = effect("vst3:ZamComp").stages
    settings = {setting.name: setting for setting in stage.spec.settings}
    assert list(settings) == [
        *("attack_ms", "release_ms", "knee_db", "ratio", "threshold_db", "makeup_db", "slew", "sidechain", "preset")
    ]  # neither the meters gain_reduction_db and output_level_db, nor current_program and *_frames
    threshold = settings["threshold_db"]
    assert (threshold.minimum, threshold.maximum, threshold.default, threshold.unit) == (-80.0, 0.0, 0.0, "dB")
    assert settings["sidechain"].kind == "bool"


def test_a_knob_that_hosts_may_not_automate_is_a_setting_but_a_meter_is_not() -> None:
    assert names("vst3:ZamHeadX2") == ["azimuth", "elevation", "width", "preset"]
    assert "delaytime_ms" not in names("vst3:ZamDelay")


def test_choices_and_whole_numbers() -> None:
    (tube,) = effect("vst3:ZamTube").stages
    model = {s.name: s for s in tube.spec.settings}["tone_stack_model"]
    assert model.kind == "choice"
    assert len(model.choices or ()) == 25
    (phono,) = effect("vst3:ZamPhono(phono_filter_type=2)").stages
    assert phono.settings["phono_filter_type"] == 2
    assert isinstance(phono.settings["phono_filter_type"], int)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("vst3:ZamTube(tube_drive=12)", "ZamTube: tube_drive is 12; expected a number (0.1 to 11)"),
        ("vst3:ZamTube(tube_driv=1)", "did you mean tube_drive"),
        ("vst3:ZamTube(current_program=Default)", 'no setting "current_program"'),
        ("vst3:ZamTub", "did you mean vst3:ZamTube"),
        ("vst3:/nowhere/Zam.vst3", "there is no plugin vst3:/nowhere/Zam.vst3"),
        ("vst3:/usr/lib", "no plugin of this kind"),
        ("vst3:ZamTube#Other", 'holds no plugin "Other", but ZamTube'),
        ("vst3:ZamTube(preset=nowhere.vstpreset)", "no preset file nowhere.vstpreset"),
        ("lv2:ZamTube", "expected vst3: or au:"),
    ],
)
def test_what_is_wrong_is_said(expression: str, words: str) -> None:
    with pytest.raises((UsageError, EffectError)) as caught:
        effect(expression)
    assert words in str(caught.value)


def test_settings_reach_the_plugin_exactly(noise) -> None:
    mild, hot = effect("vst3:ZamTube"), effect("vst3:ZamTube(tube_drive=8)")
    assert hot.settings["tube_drive"] == 8.0
    difference = hot.render(noise, RATE) - mild.render(noise, RATE)
    assert float(np.abs(difference).max()) > 0.05
    by_set = effect("vst3:ZamTube", parse_settings(["ZamTube.tube_drive=8"]))
    assert by_set.expression == hot.expression


def test_a_level_is_what_was_asked_for(noise) -> None:
    wet = effect("vst3:ZamComp(makeup_db=7.77)").render(noise, RATE)
    gain_db = 20 * np.log10(float(np.vdot(noise, wet)) / float(np.vdot(noise, noise)))
    assert gain_db == pytest.approx(7.77, abs=0.002)  # pedalboard alone would take the nearest of 1000 steps: 7.80


def test_the_expression_means_the_same_again(noise) -> None:
    one = effect('vst3:ZamTube(tube_drive=5, tone_stack_model="Mesa Boogie Mark") > lowpass')
    again = effect(one.expression)
    assert again.expression == one.expression
    assert one.name == "ZamTube-lowpass"
    np.testing.assert_array_equal(one.render(noise, RATE), again.render(noise, RATE))


def test_a_setting_may_begin_with_a_digit_and_a_file_may_name_its_plugin() -> None:
    reference = effect("vst3:ZamGEQ31#ZamGEQ31(32hz_db=6)", {"40hz_db": -3})
    assert (reference.settings["32hz_db"], reference.settings["40hz_db"]) == (6.0, -3.0)
    assert effect(reference.expression).settings == reference.settings
    assert reference.expression.startswith("vst3:/usr/lib/vst3/ZamGEQ31.vst3#ZamGEQ31(")


def test_each_render_starts_from_a_fresh_state(noise) -> None:
    reference = effect("vst3:ZamDelay(time_ms=50, feedback=0.5)")
    first = reference.render(noise, RATE)
    assert np.array_equal(first, reference.render(noise, RATE))
    silence = np.zeros((1, 12_000), np.float32)
    assert float(np.abs(reference.render(silence, RATE)).max()) < 1e-9


def test_a_mono_plugin_plays_each_channel_by_itself(noise) -> None:
    reference = effect("vst3:ZamTube(tube_drive=8)")
    stereo = np.concatenate([noise, 0.2 * noise[:, ::-1]])
    wet = reference.render(stereo, RATE)
    assert wet.shape == stereo.shape
    np.testing.assert_array_equal(wet[:1], reference.render(stereo[:1], RATE))
    np.testing.assert_array_equal(wet[1:], reference.render(stereo[1:], RATE))


def test_a_stereo_plugin_takes_mono_and_stereo_sound(noise) -> None:
    reference = effect("vst3:ZaMaximX2(threshold_db=-20)")
    mono = reference.render(noise, RATE)
    stereo = reference.render(np.concatenate([noise, noise]), RATE)
    assert mono.shape == (1, 12_000)
    assert stereo.shape == (2, 12_000)
    assert np.array_equal(stereo[:1], mono)
    with pytest.raises(EffectError, match="up to 2 channels"):
        reference.render(np.zeros((3, 1000), np.float32), RATE)


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_the_latency_stays_in_the_sound_and_is_said(rate, noise) -> None:
    reference = effect("vst3:ZaMaximX2")  # at its defaults it only delays
    wet = reference.render(noise, rate)
    late = reference.latency_samples(rate)
    assert late == 480
    assert float(np.abs(wet[:, :late]).max()) == 0.0
    assert np.allclose(wet[:, late:], noise[:, :-late], atol=1e-6)


def test_examination_measures_the_latency() -> None:
    (facts,) = effect("vst3:ZaMaximX2(threshold_db=-15)").examine(RATE)
    measured = facts.as_dict()
    assert measured["reported_latency_samples"] == 480
    assert measured["measured_latency_samples"] == pytest.approx(480.0, abs=0.5)
    assert measured["latency_agrees"]
    assert measured["deterministic"]
    assert measured["block_independent"]
    assert not measured["linear"]
    assert facts.notes() == []


def test_block_sizes_that_change_the_sound_are_noticed() -> None:
    (delay,) = effect("vst3:ZamDelay").examine(RATE)
    measured = delay.as_dict()
    assert not measured["block_independent_cold"]  # it glides to its delay time, block by block
    assert measured["block_independent"]  # and has arrived when our sound begins
    assert measured["linear"]
    assert measured["tail_s"] == pytest.approx(0.16, abs=0.01)
    (head,) = effect("vst3:ZamHeadX2(azimuth=90)").examine(RATE)
    assert not head.as_dict()["block_independent"]
    assert any("depends on the size of the blocks" in note for note in head.notes())


@pytest.mark.slow
def test_a_reverb_keeps_its_room_at_another_rate(rng) -> None:
    import soxr

    reference = effect("vst3:ZamVerb(wet_dry=100)")
    click = np.zeros((1, 24_000), np.float32)
    click[0, 0] = 1.0
    room = reference.render(click, 48_000)[0]
    slower = soxr.resample(reference.render(click, 44_100)[0], 44_100, 48_000)[:20_000]
    room = room[:20_000]
    same = float(np.vdot(room, slower)) / float(np.linalg.norm(room) * np.linalg.norm(slower))
    assert float(np.linalg.norm(room)) > 0.05
    assert same > 0.98


def test_a_preset_file_gives_the_defaults(tmp_path: Path, noise) -> None:
    path = tmp_path / "my preset.vstpreset"
    code = (
        "import sys, os, pedalboard, numpy\n"
        f"plugin = pedalboard.load_plugin('{ZAM / 'ZamComp.vst3'}')\n"
        "plugin.threshold_db, plugin.makeup_db = -40.0, 12.0\n"
        "plugin.process(numpy.zeros((1, 512), 'f4'), 48000)\n"  # a plugin hears of its settings when it plays
        "open(sys.argv[1], 'wb').write(plugin.preset_data)\n"
        "sys.stdout.flush(); os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    preset = effect(f'vst3:ZamComp(preset="{path}")')
    assert preset.settings["threshold_db"] == pytest.approx(-40.0, abs=0.1)
    by_hand = effect("vst3:ZamComp", {"threshold_db": -40, "makeup_db": 12})
    assert np.allclose(preset.render(noise, RATE), by_hand.render(noise, RATE), atol=1e-3)
    louder = effect(f'vst3:ZamComp(preset="{path}", makeup_db=18)')
    assert louder.settings["threshold_db"] == preset.settings["threshold_db"]
    assert effect(louder.expression).expression == louder.expression


def test_a_preset_of_ours_may_name_a_plugin(tmp_path: Path, capsys) -> None:
    path = tmp_path / "tube.toml"
    path.write_text('description = "A tube"\neffect = "vst3:ZamTube(tube_drive=4)"\n')
    assert run(["effects", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "ZamTube"
    assert "tube_drive=4" in facts["expression"]


def test_the_command_shows_settings_and_latency(capsys) -> None:
    assert run(["effects", "vst3:ZaMaximX2", "--measure"]) == 0
    out = capsys.readouterr().out
    assert "threshold_db       0      -30 to 0  dB" in out
    assert "480 samples at 48000 Hz" in out
    assert "reported 480 samples, measured 480.0" in out
    assert "fxclone train --effect vst3:ZaMaximX2" in out


def test_plugins_are_listed(capsys) -> None:
    assert run(["effects", "--plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["plugins"]
    assert {"name": "ZamTube", "effect": "vst3:ZamTube", "path": str(ZAM / "ZamTube.vst3")} in listed
    assert run(["effects", "--plugins"]) == 0
    assert "vst3:ZamTube" in capsys.readouterr().out


def test_spaces_links_and_own_folders(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my plugins").mkdir()
    link = tmp_path / "my plugins" / "My Tube.vst3"
    link.symlink_to(ZAM / "ZamTube.vst3")
    monkeypatch.setenv("VST3_PATH", str(tmp_path / "my plugins"))
    assert find_plugin("vst3", str(link)).path.samefile(ZAM / "ZamTube.vst3")
    assert find_plugin("vst3", "my tube").path.samefile(ZAM / "ZamTube.vst3")
    assert effect(f"vst3:{link}(tube_drive=2) > tanh").name == "ZamTube-tanh"


def test_each_of_many_renders_starts_alike(noise) -> None:
    # pedalboard takes one ZamTube in seven for silent that is not: see plugin_child._persists
    tube = described(find_plugin("vst3", "ZamTube"), "", ())
    settings = effect("vst3:ZamTube(tube_drive=5)").settings
    once, *others = tube.render_takes(settings, [Take(noise[:, :2_000], RATE)] * 24)
    for other in others:
        np.testing.assert_array_equal(other, once)
