"""Verdicts on pairs: good ones pass without a word of warning, each made fault is named, real recordings judged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fxclone.check import CheckReport, check_pair
from fxclone.cli import run
from fxclone.effects import effect
from fxclone.errors import FxcloneError
from fxclone.files import read_sound, resample, write_sound
from fxclone.signals import training_sound

RATE = 48_000
CHAIN = "highpass(cutoff_hz=120) > distortion(drive_db=30) > lowpass(cutoff_hz=6000)"


@pytest.fixture(scope="module")
def made() -> np.ndarray:
    return training_sound(10.0, RATE, seed=3)


@pytest.fixture(scope="module")
def playing() -> np.ndarray:
    sound = training_sound(8.0, RATE, seed=8, kinds=("plucked", "chords", "bass"))
    return np.asarray(0.6 * sound / np.abs(sound).max(), np.float32)


def wet_of(expression: str, dry: np.ndarray, rate: int = RATE) -> np.ndarray:
    return effect(expression).render(dry, rate)


def late(sound: np.ndarray, samples: int) -> np.ndarray:
    return np.concatenate([np.zeros((sound.shape[0], samples), np.float32), sound], axis=1)


def topics(report: CheckReport, severity: str) -> set[str]:
    return {finding.topic for finding in report.findings if finding.severity == severity}


GOOD = (
    "passthrough",
    "gain(gain_db=-20)",
    "tanh",
    "distortion",
    "compressor",
    "compressor(threshold_db=-40, ratio=10, attack_ms=20, release_ms=400)",
    "lowpass",
    "ladder(cutoff_hz=2000, drive=3)",
    "ladder(cutoff_hz=200)",
    "reverb",
    "delay(delay_seconds=0.2)",
    "noise_gate",
    "bitcrush",
    CHAIN,
)


@pytest.mark.parametrize("expression", GOOD)
def test_a_good_pair_of_made_sound_is_fine(made, expression):
    report = check_pair(made, wet_of(expression, made), RATE)
    assert report.verdict == "fine", report.verdict_text
    assert report.verdict_text == "fine"


@pytest.mark.parametrize("expression", ["tanh", "compressor", CHAIN])
def test_a_latency_is_told_and_no_reason_for_a_caveat(playing, expression):
    report = check_pair(playing, late(wet_of(expression, playing), 177), RATE)
    assert report.verdict == "fine", report.verdict_text
    assert report.as_dict()["lag_samples"] == pytest.approx(177, abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["tanh", "distortion", "compressor", "lowpass", "ladder(cutoff_hz=2000)", CHAIN])
@pytest.mark.parametrize("name", ["hammer_lead_guitar", "jazz_hop_guitar", "pop_punk_guitar", "rollin_bass"])
def test_a_good_pair_of_real_playing_is_fine(shared_data, expression, name):
    dry, rate = read_sound(shared_data / "dry" / f"{name}.flac", seconds=15.0)
    report = check_pair(dry, late(wet_of(expression, dry, rate), 41), rate)
    assert report.verdict == "fine", report.verdict_text


def test_an_inverted_pair_is_fine_and_says_that_a_clone_inverts(playing):
    report = check_pair(playing, wet_of("tanh > invert", playing), RATE)
    assert report.verdict == "fine"
    (finding,) = [f for f in report.findings if f.topic == "polarity"]
    assert report.as_dict()["polarity"] == -1
    assert "a clone inverts" in finding.advice


def test_the_gain_is_told(playing):
    assert check_pair(playing, wet_of("gain(gain_db=-17)", playing), RATE).as_dict()["gain_db"] == pytest.approx(
        -17.0, abs=0.01
    )


def test_a_wet_sound_that_leads_is_a_caveat(playing):
    report = check_pair(late(playing, 3), playing, RATE)
    assert topics(report, "caveat") == {"lag"}
    assert "leads the dry by 3.0 samples" in report.verdict_text


def test_clocks_that_differ_are_a_caveat_with_their_drift(playing):
    wet = wet_of("tanh", playing)
    n = np.arange(wet.shape[1])
    stretched = np.interp(n / (1 + 60e-6), n, wet[0]).astype(np.float32)[None]
    report = check_pair(playing, stretched, RATE)
    assert "drift" in topics(report, "caveat"), report.verdict_text
    assert report.verdict == "usable"
    assert report.as_dict()["drift_ppm"] == pytest.approx(60.0, abs=10.0)


@pytest.mark.parametrize("samples", [-128, 64])
def test_missing_and_inserted_samples_make_a_pair_unusable(playing, samples):
    wet = wet_of("tanh", playing)
    middle = wet.shape[1] // 2
    after = wet[:, middle - min(samples, 0) :]
    broken = np.concatenate([wet[:, :middle], np.zeros((1, max(samples, 0)), np.float32), after], axis=1)
    report = check_pair(playing, broken, RATE)
    assert report.verdict == "unusable"
    (jump,) = [f for f in report.findings if f.topic == "jump"]
    assert jump.number == pytest.approx(samples, abs=2)
    assert ("missing" if samples < 0 else "inserted") in report.verdict_text


def test_clipping_of_the_recorder_is_a_caveat(playing):
    report = check_pair(playing, np.clip(2.5 * playing, -1, 1), RATE)
    assert "wet_clipping" in topics(report, "caveat")


def test_a_dry_sound_recorded_too_hot_is_a_caveat(playing):
    hot = 4.0 * playing
    report = check_pair(np.clip(hot, -1, 1), 0.2 * wet_of("lowpass(cutoff_hz=4000)", hot), RATE)
    assert "dry_clipping" in topics(report, "caveat"), report.verdict_text


def test_drop_outs_and_repeats_are_named_with_their_places(playing):
    wet = wet_of("tanh", playing).copy()
    loud = int(np.argmax(np.abs(playing[0, RATE : -2 * RATE]))) + RATE
    wet[:, loud : loud + 480] = 0.0
    report = check_pair(playing, wet, RATE)
    assert topics(report, "caveat") == {"drop_outs"}
    assert report.as_dict()["drop_outs"][0]["at_s"] == pytest.approx(loud / RATE, abs=0.001)
    wet = late(wet_of("tanh", playing), 100)
    wet[:, loud : loud + 512] = wet[:, loud - 512 : loud]
    report = check_pair(playing, wet, RATE)
    assert topics(report, "caveat") == {"repeats"}
    assert report.as_dict()["repeated_blocks"][0]["samples"] == 512
    assert report.as_dict()["repeated_blocks"][0]["at_s"] == pytest.approx(loud / RATE, abs=0.001)


def test_so_many_drop_outs_that_the_pair_is_spoilt(playing):
    wet = wet_of("tanh", playing).copy()
    for start in range(RATE, wet.shape[1] - RATE, 9_600):
        wet[:, start : start + 960] = 0.0
    report = check_pair(playing, wet, RATE)
    assert report.verdict == "unusable"
    assert "drop-outs" in report.verdict_text


def test_noise_limits_the_best_esr(made, rng):
    dry = np.concatenate([made, np.zeros((1, RATE), np.float32)], axis=1)
    wet = wet_of("tanh", dry)
    hiss = 0.1 * np.sqrt(np.mean(wet**2)) * rng.standard_normal(wet.shape).astype(np.float32)
    report = check_pair(dry, wet + hiss, RATE)
    figures = report.as_dict()
    assert topics(report, "caveat") == {"noise"}
    assert figures["best_esr_db"] == pytest.approx(-20.0, abs=1.0)
    assert figures["noise_floor_db"] == pytest.approx(10 * np.log10(np.mean(hiss**2)), abs=1.0)


def test_hum_and_offset_are_caveats(playing):
    wet = wet_of("tanh", playing)
    t = np.arange(wet.shape[1]) / RATE
    buzz = sum(0.01 / k * np.sin(2 * np.pi * 50 * k * t) for k in (1, 2, 3, 4)).astype(np.float32)
    assert topics(check_pair(playing, wet + buzz, RATE), "caveat") == {"hum"}
    assert topics(check_pair(playing, wet + np.float32(0.04), RATE), "caveat") == {"dc"}


def test_what_moves_by_itself_is_a_caveat(rng):
    dry = training_sound(16.0, RATE, seed=8, kinds=("plucked", "chords", "bass"))
    report = check_pair(dry, wet_of("phaser(rate_hz=1.3)", dry), RATE)
    assert report.as_dict()["time_varying"] is True
    assert "time_varying" in topics(report, "caveat")


def test_two_sounds_that_do_not_belong_together(made, playing):
    other = training_sound(10.0, RATE, seed=99)
    report = check_pair(made, other, RATE)
    assert report.verdict == "unusable"
    assert "does not seem to be made from the dry" in report.verdict_text
    assert topics(report, "fatal") == {"unrelated"}


def test_a_ring_modulator_is_not_taken_for_another_sound(playing):
    report = check_pair(playing, wet_of("ringmod(frequency_hz=1000)", playing), RATE)
    assert report.verdict == "usable", report.verdict_text


@pytest.mark.parametrize("side", ["dry", "wet"])
def test_silence_is_unusable_and_named(playing, side):
    silence = np.zeros_like(playing)
    report = check_pair(silence, playing, RATE) if side == "dry" else check_pair(playing, silence, RATE)
    assert report.verdict == "unusable"
    assert f"the {side} sound is silent" in report.verdict_text
    assert report.as_dict()["lag_samples"] is None
    json.dumps(report.as_dict(), allow_nan=False)


def test_too_short_too_soft_and_mostly_silent(playing):
    assert check_pair(playing[:, :9_000], playing[:, :9_000], RATE).verdict == "unusable"
    soft = 0.01 * playing
    assert "level" in topics(check_pair(soft, np.tanh(soft), RATE), "caveat")
    gaps = np.concatenate([playing[:, : 2 * RATE], np.zeros((1, 14 * RATE), np.float32)], axis=1)
    assert "silence" in topics(check_pair(gaps, np.tanh(gaps), RATE), "caveat")


def test_lengths_that_differ_much_are_a_caveat(playing):
    report = check_pair(playing, wet_of("tanh", playing)[:, : 5 * RATE], RATE)
    assert topics(report, "caveat") == {"length"}


def test_stereo_faults_are_found_in_any_channel(playing):
    both = np.repeat(playing, 2, axis=0)
    wet = wet_of("tanh", both).copy()
    loud = int(np.argmax(np.abs(playing[0, RATE : -2 * RATE]))) + RATE
    wet[1, loud : loud + 480] = 0.0
    assert topics(check_pair(both, wet, RATE), "caveat") == {"drop_outs"}
    assert topics(check_pair(playing, wet, RATE), "caveat") == {"drop_outs"}


def test_sound_that_is_no_sound_is_refused(playing):
    with pytest.raises(FxcloneError, match="NaN"):
        check_pair(playing, np.full_like(playing, np.nan), RATE)


def test_the_command_prints_words_json_and_a_picture(tmp_path, capsys, playing):
    pytest.importorskip("matplotlib")
    write_sound(tmp_path / "dry.wav", playing, RATE)
    write_sound(tmp_path / "wet.wav", -wet_of("tanh", playing), RATE)
    args = ["check", "--dry", str(tmp_path / "dry.wav"), "--wet", str(tmp_path / "wet.wav")]
    assert run([*args, "--plot", str(tmp_path / "pair.png")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("wet.wav: fine")
    for words in ("the wet sound is inverted", "clock drift", "best ESR", "dry dry.wav: 48000 Hz"):
        assert words in said
    assert (tmp_path / "pair.png").stat().st_size > 20_000
    assert run([*args, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    for key in (
        "lag_samples lag_confidence polarity gain_db drift_ppm noise_floor_db linear_coherence time_varying "
        "best_esr_db verdict"
    ).split():
        assert figures[key] is not None, key
    assert figures["verdict"] == "fine"
    assert run([*args, "--plot", str(tmp_path / "pair.png")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_rates_may_differ_and_the_wet_one_counts(tmp_path, capsys, playing):
    write_sound(tmp_path / "dry.wav", playing, RATE)
    wet = resample(late(wet_of("tanh", playing), 480), RATE, 44_100)
    write_sound(tmp_path / "wet.wav", wet, 44_100)
    assert run(["check", "--dry", str(tmp_path / "dry.wav"), "--wet", str(tmp_path / "wet.wav"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["sample_rate"] == 44_100
    assert figures["lag_samples"] == pytest.approx(441.0, abs=0.5)
    assert [source["sample_rate"] for source in figures["sources"]] == [48_000, 44_100]


def test_folders_are_matched_and_an_unusable_take_is_exit_code_1(tmp_path, capsys, playing):
    for name, wet in (("a", wet_of("tanh", playing)), ("b", np.zeros_like(playing))):
        write_sound(tmp_path / f"{name}_dry.wav", playing, RATE)
        write_sound(tmp_path / f"{name}_wet.wav", wet, RATE)
    assert run(["check", "--dry", str(tmp_path), "--wet", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "a_wet.wav: fine" in said
    assert "b_wet.wav: not usable" in said
    assert "2 pairs: 1 fine, 1 unusable" in said
    assert run(["check", "--dry", str(tmp_path), "--wet", str(tmp_path), "--json"]) == 1
    figures = json.loads(capsys.readouterr().out)
    assert [pair["verdict"] for pair in figures["pairs"]] == ["fine", "unusable"]


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert run(["check", "--dry", str(tmp_path / "no.wav"), "--wet", str(tmp_path / "none.wav")]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


REAL = {
    "ts9": (0.0, -1, {"fine"}, set()),
    "la2a": (-1.0, 1, {"usable"}, {"lag"}),
    "akai_tape": (7060.0, 1, {"usable"}, {"wander"}),
    "smallstone_A": (0.0, 1, {"usable"}, {"time_varying"}),
    "donner_flanger": (0.5, -1, {"usable"}, {"time_varying"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_judged_rightly(shared_data, name, part):
    dry, rate = read_sound(shared_data / "pairs" / name / f"{part}_dry.flac", seconds=30.0)
    wet, _ = read_sound(shared_data / "pairs" / name / f"{part}_wet.flac", seconds=30.0)
    report = check_pair(dry, wet, rate)
    lag, polarity, verdicts, caveats = REAL[name]
    figures = report.as_dict()
    assert report.verdict in verdicts, report.verdict_text
    assert caveats <= topics(report, "caveat"), report.verdict_text
    assert topics(report, "caveat") <= caveats | {"jump", "drift", "lag_confidence", "hum"}
    assert figures["lag_samples"] == pytest.approx(lag, abs=30.0 if name == "akai_tape" else 1.0)
    assert figures["polarity"] == polarity
    assert figures["time_varying"] is (name in ("smallstone_A", "donner_flanger"))
