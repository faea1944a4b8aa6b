"""What can be changed while it plays, without a click: bypass, gains, mix, other chains, the original."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from faults import Gain, Sound, playing
from play_clones import drive_clone, heavy_clone, late_clone, write_clone

from fxclone.effects import effect
from fxclone.errors import FxcloneError, UsageError
from fxclone_realtime.control import KEYS, parse_command
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.interpreter import denormals_off
from fxclone_realtime.options import PlayOptions, options_from
from fxclone_realtime.player import Session
from fxclone_realtime.ramp import Ramp
from fxclone_realtime.rig import load_rig, original_of
from fxclone_realtime.voice import Voice

RATE = 48_000
TONE_HZ = 110.0
LEAK_KB = 2_048
"""The smallest thing that Python can lose once a block is more in 100,000 blocks; a heap may take 1 MB at a time."""


class Late(Sound):
    """Passes sound on, so many samples late."""

    def __init__(self, latency):
        self.latency_samples = latency

    def reset(self):
        self.resets += 1
        self.held = np.zeros((self.channels, self.latency_samples), np.float32)

    resets = 0

    def run(self, block):
        joined = np.concatenate([self.held, block], axis=1)
        self.held = joined[:, block.shape[1] :]
        return joined[:, : block.shape[1]]


def engine_of(processor, **path):
    return Engine(
        processor,
        sample_rate=RATE,
        max_block=64,
        channels_in=1,
        channels_out=2,
        path=SoundPath(**path) if path else None,
    )


def tone(seconds, level=0.5):
    return (level * np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def play(engine, sound, changes=(), sizes=(64,)):
    """Play a sound; ``changes`` are (sample, callable) to be done before the block at that sample."""
    out = np.zeros((engine.channels_out, sound.shape[1]), np.float32)
    at, turn, left = 0, 0, sorted(changes, key=lambda each: each[0])
    while at < sound.shape[1]:
        while left and left[0][0] <= at:
            left.pop(0)[1]()
        n = min(sizes[turn % len(sizes)], sound.shape[1] - at)
        engine.process_into(sound[:, at : at + n], out[:, at : at + n])
        at, turn = at + n, turn + 1
    assert engine.failure is None
    return out


def largest_step(sound):
    return float(np.abs(np.diff(sound, axis=-1)).max())


STEEPEST = 2 * np.pi * TONE_HZ / RATE * 0.5
"""Largest step from sample to sample of the test tone itself."""


@pytest.mark.parametrize("sizes", [(64,), (17, 64, 1)])
@pytest.mark.parametrize(
    ("change", "gain"),
    [("bypass", 1.0), ("mix", 0.25), ("out_gain", 0.125), ("in_gain", 0.0625), ("fade_out", 0.0)],
)
def test_every_change_glides_and_arrives(change, gain, sizes):
    # The chain halves: a change in one step would jump by a quarter of full scale at the top of the tone.
    engine = engine_of(Gain(0.25))
    todo = {
        "bypass": lambda: setattr(engine, "bypass", True),
        "mix": lambda: setattr(engine, "mix", 1.0),
        "out_gain": lambda: setattr(engine, "out_gain", 0.5),
        "in_gain": lambda: setattr(engine, "in_gain", 0.25),
        "fade_out": engine.fade_out,
    }[change]
    top = round(RATE / TONE_HZ * 50.25)  # where the tone is at its top
    sound = tone(1.0)
    out = play(engine, sound, [(top, todo)], sizes)
    np.testing.assert_allclose(out[0, :top], 0.25 * sound[0, :top], atol=1e-6)
    np.testing.assert_allclose(out[0, top + 600 :], gain * sound[0, top + 600 :], atol=1e-6)
    assert largest_step(out) < STEEPEST + 0.5 / 400  # a tone's own, and a ramp of 480 samples


def test_a_ramp_is_the_same_in_any_blocks(rng):
    def walk(sizes):
        ramp, got, at, turn = Ramp(0.0, 480, 64), [], 0, 0
        while at < 2_000:
            if at == 128:
                ramp.aim(1.0)
            if at == 320:
                ramp.aim(-0.5)  # in the middle of the way
            n = sizes[turn % len(sizes)]
            got.append(np.broadcast_to(ramp.take(n), n).copy())
            at, turn = at + n, turn + 1
        assert ramp.resting
        assert (ramp.moving, ramp.value) == (False, -0.5)
        return np.concatenate(got)[:2_000]

    whole = walk((64,))
    np.testing.assert_allclose(walk((32,)), whole, atol=1e-5)
    assert whole[128 - 1] == 0.0
    assert whole[-1] == -0.5
    assert largest_step(whole) < 1.01 / 480


def test_bypass_gives_what_came_in_as_late_as_the_clone_and_without_the_input_gain(rng):
    sound = playing(rng, RATE, 0.5)
    engine = engine_of(Late(100), in_gain=4.0, out_gain=0.5)
    engine.bypass = True
    out = play(engine, sound)
    np.testing.assert_allclose(out[0, 1_000:], 0.5 * sound[0, 900:-100], atol=1e-6)
    engine.bypass = False
    assert engine.mix == 1.0


def test_another_chain_comes_in_by_a_crossfade_and_from_a_fresh_start(rng):
    first, second = Gain(1.0), Late(32)
    engine = engine_of(first)
    other = engine.voice(second, "late")
    resets = second.resets
    sound = tone(0.5)
    out = play(engine, sound, [(9_600, lambda: engine.play(other))])
    assert second.resets == resets + 1
    np.testing.assert_array_equal(out[0, :9_600], sound[0, :9_600])
    np.testing.assert_allclose(out[0, 12_000:], sound[0, 12_000 - 32 : -32], atol=1e-6)
    assert largest_step(out) < STEEPEST + 1 / 900
    assert engine.latency_samples == 32
    assert engine.processor is second


def test_what_is_kept_warm_goes_on_unheard():
    clone, original = Late(0), Late(0)
    engine = engine_of(clone)
    other = engine.voice(original)
    first = engine.playing
    engine.keep_warm(first, other)
    resets = original.resets
    changes = [(4_800, lambda: engine.play(other)), (9_600, lambda: engine.play(first))]
    play(engine, tone(0.5), changes)
    assert clone.total == original.total == 24_000  # each ran once a block, heard or not
    assert original.resets == resets


def test_turning_back_and_forth_in_the_middle_of_a_crossfade_does_not_click():
    engine = engine_of(Gain(1.0))
    first, other = engine.playing, engine.voice(Gain(-1.0))
    engine.keep_warm(first, other)
    changes = [(4_800 + 192 * turn, lambda v=(other, first)[turn % 2]: engine.play(v)) for turn in range(7)]
    sound = tone(0.5)
    out = play(engine, sound, changes)
    assert largest_step(out) < STEEPEST + 2 / 900
    np.testing.assert_allclose(out[0, 12_000:], -sound[0, 12_000:], atol=1e-6)


def test_memory_stays_flat_over_100_000_blocks_with_everything_changing(rng):
    engine = engine_of(Gain(0.5), mix=0.5)
    voices = (engine.playing, engine.voice(Late(7)))
    engine.keep_warm(*voices)
    dry, out = rng.uniform(-0.9, 0.9, (1, 16)).astype(np.float32), np.zeros((2, 16), np.float32)

    def run(blocks):
        for turn in range(blocks):
            if turn % 500 == 0:
                engine.play(voices[turn // 500 % 2])
                engine.mix, engine.bypass = 0.25 + 0.5 * (turn // 500 % 2), turn % 1_500 == 0
            engine.process_into(dry, out)

    run(10_000)
    gc.collect()
    resident = _resident_kb()
    run(100_000)
    assert _resident_kb() - resident < LEAK_KB
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run(5_000)
        assert tracemalloc.get_traced_memory()[0] - before < 4_000  # bytes: counters that became larger numbers
    finally:
        tracemalloc.stop()
    assert engine.failure is None


def _resident_kb():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not tell how much memory a process has")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def test_denormals_are_zero_in_the_thread_that_asks():
    def product():
        return float(np.float32(1e-30) * np.float32(1e-10))

    if product() == 0.0:
        pytest.skip("denormals are off here already")
    seen = []
    thread = threading.Thread(target=lambda: seen.extend([denormals_off(), product()]))
    thread.start()
    thread.join()
    if not seen[0]:
        pytest.skip("not known how on this processor")
    assert seen[1] == 0.0
    assert product() > 0.0


# Sessions


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return drive_clone(tmp_path_factory.mktemp("clones") / "drive.onnx")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return late_clone(tmp_path_factory.mktemp("clones") / "clean.onnx", RATE)


def session_of(*models, **more):
    return Session(PlayOptions(models=models, null=True, anyway=True, block=64, **more))


def test_clones_and_effects_in_any_order(drive, rng):
    session = session_of(chain=f"gain(gain_db=-6) > {drive} > lowpass(cutoff_hz=2000) > reverb")
    assert session.facts.chains == ("gain > drive > lowpass > reverb",)
    sound = playing(rng, RATE, 0.2)
    out = play(session.engine, sound)
    wet = effect("lowpass(cutoff_hz=2000) > reverb").render(
        np.tanh(3 * effect("gain(gain_db=-6)").render(sound, RATE)).astype(np.float32), RATE
    )
    np.testing.assert_allclose(out[0], wet[0], atol=1e-5)
    assert session.tail_s > 0.1


def test_the_interface_and_the_clone_agree_on_volts(tmp_path, rng):
    import onnx.helper as helper

    nodes = [helper.make_node("Identity", ["audio"], ["audio_out"])]
    known = write_clone(tmp_path / "known.onnx", nodes, {}, reference=lambda x: x, calibration_dbu={"input": 18.0})
    sound = playing(rng, RATE, 0.1)
    out = play(session_of(known, input_dbu=12.0).engine, sound)  # its full scale is 6 dB less than the clone's
    np.testing.assert_allclose(out[0], sound[0] * 10 ** (-6 / 20), atol=1e-6)
    unknown = late_clone(tmp_path / "unknown.onnx", RATE)
    with pytest.raises(UsageError, match="no dBu calibration"):
        session_of(unknown, input_dbu=12.0)


def test_the_original_is_found_in_the_clone_or_asked_for(tmp_path, drive, rng):
    import onnx.helper as helper

    nodes = [helper.make_node("Identity", ["audio"], ["audio_out"])]
    copy = write_clone(
        tmp_path / "copy.onnx", nodes, {}, reference=lambda x: x, training={"reference": "tanh(drive=2)"}
    )
    assert original_of(load_rig(str(copy))) == "tanh(drive=2)"
    with pytest.raises(UsageError, match="--against EFFECT"):
        session_of(drive, against="original")
    session = session_of(copy, against="original")
    assert session.facts.against == "tanh"
    sound = playing(rng, RATE, 0.5)
    out = play(session.engine, sound, [(12_000, lambda: session.do("against"))])
    np.testing.assert_allclose(out[0, :12_000], sound[0, :12_000], atol=1e-6)
    np.testing.assert_allclose(out[0, 14_400:], np.tanh(2 * sound[0, 14_400:]), atol=1e-5)
    assert session.meters.against == 1


def test_lines_change_what_is_set_and_tell_what_makes_no_sense(drive, clean, rng):
    session = session_of(drive, next_chains=(str(clean),))
    for line in ("bypass on", "mix 0.5", "mix down 0.1", "gain up 3", "gain down 1", "in-gain -4", "next"):
        assert session.do(line)
    meters = session.meters
    assert (meters.bypass, meters.mix, meters.out_gain_db, meters.in_gain_db, meters.voice) == (1, 0.4, 2.0, -4.0, 1)
    assert session.do("bypass")
    assert session.do("mix up 5")
    assert session.do("chain 1")
    assert (meters.bypass, meters.mix, meters.voice) == (0, 1.0, 0)
    assert session.engine.out_gain == pytest.approx(10 ** (2 / 20))
    for line, says in [
        ("louder", "no command"), ("mix", "no command"), ("gain nan", "no command"), ("chain 3", "expected 1 to 2"),
        ("against", "nothing to compare"), ("load nowhere.onnx", "nowhere.onnx"), ("load mp3", "cannot be played live"),
    ]:  # fmt: skip
        with pytest.raises(Exception, match=says):
            session.do(line)
    assert not session.do("quit")


def test_a_clone_is_swapped_while_it_plays(drive, clean, rng):
    session = session_of(drive)
    sound = playing(rng, RATE, 0.5)
    out = play(session.engine, sound, [(12_032, lambda: session.do(f'load "{clean}"'))])
    np.testing.assert_allclose(out[0, :12_032], np.tanh(3 * sound[0, :12_032]), atol=0.02)  # the ceiling bends its tops
    np.testing.assert_allclose(out[0, 13_056:], sound[0, 13_056:], atol=1e-6)
    assert session.facts.chains == ("drive", "clean")
    assert session.meters.voice == 1


def test_every_key_is_a_command():
    assert {parse_command(line).name for line in KEYS.values()} == {
        "bypass", "against", "next", "gain", "in-gain", "mix", "quit"
    }  # fmt: skip


def test_options_survive_the_way_to_the_other_process(tmp_path):
    options = PlayOptions(
        models=(tmp_path / "a.onnx",), next_chains=("b.onnx > tanh",), record=tmp_path / "x.wav", input_channels=(1,)
    )
    assert options_from(options.as_dict()) == options


def test_a_voice_spreads_its_channels():
    voice = Voice(Gain(1.0), sample_rate=RATE, max_block=8, channels_in=2, channels_out=3)
    sound = np.array([[0.2] * 8, [0.4] * 8], np.float32)
    np.testing.assert_allclose(voice.process(sound, sound, 1.0), np.full((3, 8), 0.3), atol=1e-7)


BAD = {
    "nan": lambda n: np.full(n, np.nan),
    "huge": lambda n: np.where(np.arange(n) % 2, 1_000.0, -1_000.0),
    "infinite": lambda n: np.full(n, -np.inf),
    "dc": lambda n: np.full(n, 1.0),
    "full-scale noise": lambda n: np.random.default_rng(1).uniform(-1, 1, n),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("heard", ["wet", "half", "bypass", "original"])
def test_whatever_comes_in_nothing_bad_gets_out_and_the_sound_is_back_at_once(drive, rng, fault, heard):
    session = session_of(drive, against="tanh(drive=3)", ceiling_db=-1.0)
    for line in {"wet": [], "half": ["mix 0.5"], "bypass": ["bypass on"], "original": ["against on"]}[heard]:
        session.do(line)
    session.engine.settle()
    sound = playing(rng, RATE, 1.0, level=0.2)
    begin, end = 12_000, 14_400
    good = sound.copy()
    sound[0, begin:end] = BAD[fault](end - begin)
    out = play(session.engine, sound, sizes=(64, 64, 17))
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 10 ** (-1 / 20) + 1e-6
    share = {"wet": 1.0, "half": 0.5, "bypass": 0.0, "original": 1.0}[heard]
    wanted = share * np.tanh(3 * good) + (1 - share) * good
    back = end + round(0.050 * RATE)
    np.testing.assert_allclose(out[0, back:], wanted[0, back:], atol=1e-4)
    np.testing.assert_allclose(out[0, :begin], wanted[0, :begin], atol=1e-4)


def test_anything_done_at_any_time_clicks_no_louder_than_the_music(drive, clean, rng):
    session = session_of(drive, next_chains=(str(clean), "gain(gain_db=-6)"), against="tanh(drive=3)")
    lines = ["bypass", "against", "next", "mix 0.3", "mix 1", "gain -6", "gain 0", "in-gain -3", "in-gain 0", "chain 2"]
    times = [3_000 + 64 * int(each) for each in rng.integers(0, 650, 60)]
    chosen = [lines[int(each)] for each in rng.integers(0, len(lines), len(times))]
    changes = [(at, lambda line=line: session.do(line)) for at, line in zip(times, chosen, strict=True)]
    sound = tone(1.0, level=0.3)
    out = play(session.engine, sound, changes)
    own = 3 * 2 * np.pi * TONE_HZ / RATE * 0.3  # the steepest that the tone is after a gain of 3
    assert largest_step(out) < own + 3 * 1.0 / 480
    assert session.trips == []


def test_a_clone_too_heavy_is_not_swapped_in(drive, tmp_path):
    heavy = heavy_clone(tmp_path / "heavy.onnx")
    session = Session(PlayOptions(models=(drive,), null=True, block=64))
    with pytest.raises(FxcloneError, match="too heavy to play"):
        session.do(f'load "{heavy}"')
    assert session.heard == (0, False, 1)


def test_a_chain_that_does_not_come_back_is_told(drive):
    import time

    class Hangs(Sound):
        def run(self, block):
            if self.total > 9_600:
                time.sleep(4.0)
            return block

    session = session_of(drive)
    session.engine.settle()
    session.parts[0].voice.processor = Hangs()
    session.engine.processor.prepare(RATE, 64, 1)
    with pytest.raises(FxcloneError, match="drive hangs"):
        session.run()


@pytest.mark.slow
def test_memory_stays_flat_over_100_000_blocks_of_a_clone_that_is_watched(drive, rng):
    engine = session_of(drive, against="tanh(drive=3)").engine
    dry, out = rng.uniform(-0.3, 0.3, (1, 16)).astype(np.float32), np.zeros((2, 16), np.float32)

    def run(blocks):
        for _ in range(blocks):
            engine.process_into(dry, out)

    run(30_000)
    gc.collect()
    resident = _resident_kb()
    run(100_000)
    assert _resident_kb() - resident < LEAK_KB
    assert engine.failure is None
