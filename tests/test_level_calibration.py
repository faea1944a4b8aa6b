"""Volts through a chain: every clone hears the level that it was trained with, as far as anything is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from faults import playing
from onnx import helper
from play_clones import drive_clone, late_clone, write_clone

from fxclone.errors import UsageError
from fxclone.processor import Chain
from fxclone.resampled import Resampled
from fxclone.stability.known import known_of
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.player import Session
from fxclone_realtime.rig import Level, load_rig

RATE = 48_000


def known(path, dbu, *, rate=RATE, **more):
    """A clone that passes sound through, and knows its volts."""
    nodes = [helper.make_node("Identity", ["audio"], ["audio_out"])]
    told = dict(zip(("input", "output"), dbu, strict=False))
    return write_clone(path, nodes, {}, sample_rate=rate, reference=lambda x: x, calibration_dbu=told, **more)


def gains_db(rig):
    return [round(20 * np.log10(link.gain), 3) if isinstance(link, Level) else link.name for link in rig.links]


def heard(sound, **options):
    session = Session(PlayOptions(null=True, anyway=True, block=64, **options))
    session.engine.settle()
    out = np.zeros((2, sound.shape[1]), np.float32)
    for at in range(0, sound.shape[1], 64):
        session.engine.process_into(sound[:, at : at + 64], out[:, at : at + 64])
    assert session.engine.failure is None
    return out[0], session


def test_each_clone_gets_the_volts_that_leave_the_one_before(tmp_path, rng):
    one, two = known(tmp_path / "one.onnx", (18.0, 4.0)), known(tmp_path / "two.onnx", (10.0, 0.0))
    rig = load_rig(f"{one} > {two}", input_dbu=12.0)
    assert gains_db(rig) == [-6.0, "one", -6.0, "two"]
    assert rig.name == "one > two"
    assert rig.notes == []
    sound = playing(rng, RATE, 0.1)
    out, _ = heard(sound, models=(one, two), input_dbu=12.0)
    np.testing.assert_allclose(out, sound[0] * 10 ** (-12 / 20), atol=1e-6)


def test_an_effect_in_between_works_on_numbers(tmp_path):
    one, two = known(tmp_path / "one.onnx", (18.0, 4.0)), known(tmp_path / "two.onnx", (10.0,))
    rig = load_rig(f"gain(gain_db=-3) > {one} > tanh > {two}", input_dbu=18.0)
    assert gains_db(rig) == ["gain", "one", "tanh", -6.0, "two"]


def test_where_nothing_is_known_the_sound_goes_on_as_it_comes_and_that_is_said(tmp_path):
    one, mute = known(tmp_path / "one.onnx", (18.0,)), late_clone(tmp_path / "mute.onnx", RATE)
    two = known(tmp_path / "two.onnx", (10.0, 2.0))
    rig = load_rig(f"{one} > {two} > {mute} > {two}", input_dbu=12.0)
    assert gains_db(rig) == [-6.0, "one", "two", "mute", "two"]
    assert rig.notes == [
        "two hears the sound as it comes: no dBu calibration of the output of one",
        "mute hears the sound as it comes: no dBu calibration of the input of mute",
        "two hears the sound as it comes: no dBu calibration of the output of mute",
    ]
    session = Session(PlayOptions(models=(one, two), input_dbu=12.0, null=True, anyway=True))
    assert any("as it comes" in note for note in session.facts.notes)
    with pytest.raises(UsageError, match="mute does not say at which level"):
        load_rig(f"{mute} > {two}", input_dbu=12.0)


def test_levels_in_front_of_a_clone_share_its_resampler(tmp_path):
    one, two = (
        known(tmp_path / "one.onnx", (18.0, 4.0), rate=44_100),
        known(tmp_path / "two.onnx", (10.0,), rate=44_100),
    )
    processor = load_rig(f"{one} > {two}", input_dbu=12.0).processor(RATE)
    assert isinstance(processor, Resampled)
    assert isinstance(processor.inner, Chain)
    assert len(processor.inner.processors) == 4


def test_the_monitor_reckons_with_the_gain_and_believes_the_certificate(tmp_path):
    one = known(tmp_path / "one.onnx", (18.0,), certificate={"small_gain": 0, "return_ms": 0.0})
    rig = load_rig(str(one), input_dbu=12.0)
    assert rig.levels["dry_peak"] == pytest.approx(10 ** (6 / 20))
    assert rig.levels["wet_peak"] == 1.0
    assert known_of(rig.processor(RATE), rig.levels).memory_s == pytest.approx(1 / RATE)


def test_the_original_takes_the_clones_place_and_level(tmp_path, rng):
    copy = known(tmp_path / "copy.onnx", (18.0,), training={"reference": "tanh(drive=2) > gain(gain_db=-2)"})
    chain = f"gain(gain_db=-1) > {copy} > lowpass(cutoff_hz=5000)"
    sound = playing(rng, RATE, 0.2)
    _, session = heard(sound, chain=chain, against="original", input_dbu=12.0)
    assert session.facts.against == "gain > tanh > gain > lowpass"
    assert gains_db(session.against.rig) == ["gain", -6.0, "tanh", "gain", "lowpass"]
    assert gains_db(session.parts[0].rig) == ["gain", -6.0, "copy", "lowpass"]
    drive = drive_clone(tmp_path / "drive.onnx")
    with pytest.raises(UsageError, match="does not say which effect"):
        Session(PlayOptions(models=(drive,), against="original", null=True, anyway=True))
