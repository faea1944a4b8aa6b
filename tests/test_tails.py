"""Long tails: files are written until they have rung out, playing waits for them, and the monitor lets them ring."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from faults import Drive, Gain, Rings, Sound, playing, run
from processors import Delay
from stereo_clones import RATE, convolved, echo_clone, fir_clone, room

from fxclone import cli
from fxclone.clone import load_clone
from fxclone.commands.info import describe
from fxclone.files import read_sound, write_sound
from fxclone.processor import Chain
from fxclone.render import MAX_TAIL_S, render_file
from fxclone.resampled import Resampled
from fxclone.signals import training_sound
from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.player import Session

ECHO_SAMPLES = 4_800
FEEDBACK = 0.7


@pytest.fixture(scope="module")
def clones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clones")
    return {
        "room": fir_clone(folder / "room.onnx", room(0.25)),
        "echo": echo_clone(folder / "echo.onnx", ECHO_SAMPLES, FEEDBACK),
        "half": fir_clone(folder / "half.onnx", np.full((1, 1, 1), 0.5)),
    }


def echoed(dry, samples):
    """What the echo clone gives for this sound and the silence after it."""
    wet = np.zeros((1, dry.shape[1] + samples))
    wet[:, : dry.shape[1]] = dry
    for repeat in range(samples // ECHO_SAMPLES):
        at = (repeat + 1) * ECHO_SAMPLES
        wet[:, at : at + dry.shape[1]] += FEEDBACK**repeat * dry
    return wet


# Files


def test_echoes_are_written_to_the_last_audible_one(clones, rng, tmp_path):
    dry = playing(rng, RATE, 0.2)
    source = write_sound(tmp_path / "in.wav", dry, RATE, subtype="float")
    clone = load_clone(clones["echo"])
    report = render_file([clone], source, tmp_path / "out.wav")
    wet, _ = read_sound(report.target)
    expected = echoed(dry, clone.tail_samples)
    audible = int(np.flatnonzero(np.abs(expected[0]) > 10 ** (-90 / 20))[-1]) + 1
    assert report.samples == audible
    assert 1.0 < report.tail_samples / RATE < clone.tail_samples / RATE
    np.testing.assert_allclose(wet, expected[:, :audible], atol=1e-5)


def test_a_room_rings_out_behind_other_clones_and_rates(clones, rng, tmp_path):
    dry = playing(rng, RATE, 0.2)
    source = write_sound(tmp_path / "in.wav", dry, RATE, subtype="float")
    chain = [load_clone(clones[name]) for name in ("half", "room", "half")]
    report = render_file(chain, source, tmp_path / "out.wav")
    wet, _ = read_sound(report.target)
    expected = 0.25 * convolved(np.pad(dry, ((0, 0), (0, RATE))), room(0.25))
    audible = int(np.flatnonzero((np.abs(expected) > 10 ** (-90 / 20)).any(axis=0))[-1]) + 1
    assert report.samples == audible > dry.shape[1] + RATE // 10
    np.testing.assert_allclose(wet, expected[:, :audible], atol=1e-5)
    other = render_file(chain, source, tmp_path / "96.wav", sample_rate=96_000)
    assert other.tail_samples / 96_000 == pytest.approx(report.tail_samples / RATE, rel=0.02)


def test_a_tail_can_be_left_out_or_told(clones, rng, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sound("in.wav", playing(rng, RATE, 0.2), RATE)
    for words, samples in ((["--no-tail"], 9_600), (["--tail-s", "0.1"], 14_400), (["--tail-s", "20"], 969_600)):
        args = ["render", "-m", str(clones["room"]), "in.wav", "-o", "out.wav", "--force", "--json", *words]
        assert cli.run(args) == 0
        (report,) = json.loads(capsys.readouterr().out)["files"]
        assert report["samples"] == samples
        assert report["tail_samples"] == samples - 9_600
    assert cli.run(["render", "-m", str(clones["room"]), "in.wav", "-o", "out.wav", "--force"]) == 0
    assert "s of tail" in capsys.readouterr().out


def test_an_endless_tail_is_cut_and_said(tmp_path):
    rate = 8_000
    source = write_sound(tmp_path / "in.wav", np.full((1, rate), 0.1, np.float32), rate)
    report = render_file([Delay(100 * rate)], source, tmp_path / "late.wav")
    assert (report.tail_samples, report.notes) == (0, ())  # it would only be heard later
    report = render_file([Delay(int(59.9 * rate))], source, tmp_path / "long.wav")
    assert report.tail_samples == pytest.approx(59.9 * rate, abs=1)

    class Hum(Delay):
        def work(self, block):
            return np.full_like(block, 0.01)

    report = render_file([Hum(100 * rate)], source, tmp_path / "hum.wav")
    assert report.tail_samples == MAX_TAIL_S * rate
    (note,) = report.notes
    assert "60 s after the input's end" in note
    assert "--tail-s" in note


def test_info_says_the_tail(clones):
    rows = [dict(describe(load_clone(clones[name]), 1.0))["tail"] for name in ("room", "half")]
    assert rows == ["0.25 s", "0.0 ms"]


# Playing


def test_playing_a_file_waits_for_the_tail(clones, rng, tmp_path, capsys):
    take, heard = tmp_path / "take.wav", tmp_path / "heard.wav"
    dry = playing(rng, RATE, 0.2)
    soundfile.write(take, dry.T, RATE, subtype="FLOAT")
    args = ["play", "-m", str(clones["echo"]), "--device", "null", "--input-file", str(take), "--record", str(heard)]
    assert cli.run([*args, "--anyway", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    tail = load_clone(clones["echo"]).tail_samples
    assert report["tail_s"] == pytest.approx(tail / RATE, abs=1e-3)
    assert report["trips"] == []
    wet, _ = read_sound(heard)
    expected = echoed(dry, tail)
    assert wet.shape[1] >= expected.shape[1]
    np.testing.assert_allclose(wet[0, : expected.shape[1]], expected[0], atol=1e-4)
    np.testing.assert_allclose(wet[:, expected.shape[1] :], 0.0, atol=1e-3)


def test_the_header_tells_of_a_long_tail(clones, rng, tmp_path, capsys):
    for name, told in (("room", "(clone), tail 0.2 s. Ctrl-C"), ("half", "(clone). Ctrl-C")):
        args = ["play", "-m", str(clones[name]), "--device", "null", "--duration", "0.1", "--anyway"]
        assert cli.run(args) == 0
        assert told in capsys.readouterr().out


def test_a_resampled_chain_states_the_tail_in_its_own_time(clones):
    room_clone, half = load_clone(clones["room"]), load_clone(clones["half"])
    session = Session(PlayOptions((clones["half"], clones["room"]), null=True, sample_rate=96_000, anyway=True))
    assert session.tail_s == pytest.approx((room_clone.tail_samples + half.tail_samples) / RATE, abs=0.01)
    resampled = Resampled(Chain([room_clone]), RATE)
    resampled.prepare(96_000, 64, 1)
    assert resampled.tail_samples >= 2 * room_clone.tail_samples


# The monitor


class Plugin(Sound):
    """An effect of pedalboard, streaming: stereo out. Its tail is given in seconds."""

    channels_out = 2

    def __init__(self, make, tail_s):
        self.make, self.tail_s = make, tail_s

    def prepare(self, sample_rate, max_block, channels):
        self.tail_samples = round(self.tail_s * sample_rate)
        super().prepare(sample_rate, max_block, channels)

    def reset(self):
        self.resets += 1
        self.effect = self.make()
        self.effect.process(np.zeros((2, 64), np.float32), self.rate, reset=True)

    def run(self, block):
        both = np.repeat(block, 2, axis=0) if block.shape[0] == 1 else block
        return self.effect.process(np.ascontiguousarray(both), self.rate, reset=False)


def reverb(room_size=0.9, **more):
    import pedalboard

    return pedalboard.Reverb(room_size=room_size, **more)


def delay(seconds, feedback, mix=0.5):
    import pedalboard

    return pedalboard.Delay(delay_seconds=seconds, feedback=feedback, mix=mix)


LONG = {
    "hall": (lambda: reverb(), 3.5),
    "all wet": (lambda: reverb(1.0, wet_level=1.0, dry_level=0.0), 8.0),
    "echo": (lambda: delay(0.3, 0.4), 3.3),
    "many echoes": (lambda: delay(0.65, 0.8), 20.0),
    "slow echoes": (lambda: delay(1.5, 0.8), 46.5),
    "endless echoes": (lambda: delay(0.1, 0.95), 14.0),
}


def trained_levels(rng, make):
    """What a training of this effect would have stored."""
    dry = np.repeat(playing(rng, RATE, 4.0, level=1.0), 2, axis=0)
    wet = make().process(dry, RATE, reset=True)
    return {"dry_peak": float(np.abs(dry).max()), "wet_peak": float(np.abs(wet).max())}


def loud_and_silent(rng, silence_s):
    """Loud playing, then silence, three times: a short chord, a long passage, one full-scale note that stops dead."""
    quiet = np.zeros((1, round(silence_s * RATE)), np.float32)
    tone = np.sin(2 * np.pi * 110 * np.arange(RATE) / RATE).astype(np.float32)[None, :]
    parts = [playing(rng, RATE, 0.4, level=1.0), quiet, playing(rng, RATE, 4.0, level=0.9), quiet, tone, quiet]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("block", [512, 4_096])
def test_a_tail_in_silence_is_no_fault(rng, name, block):
    make, tail_s = LONG[name]
    monitor = StabilityMonitor(Plugin(make, tail_s), trained_levels(rng, make))
    monitor.prepare(RATE, block, 1)
    sound = loud_and_silent(rng, tail_s + 6.0)
    out = run(monitor, sound, (block,))
    assert not monitor.status, monitor.status
    assert out.shape == (2, sound.shape[1])
    start = round(0.4 * RATE)  # what rings after the first chord really does
    assert np.abs(out[:, start + RATE // 2 : start + 2 * RATE]).max() > 1e-3


@pytest.mark.parametrize("name", ["hall", "many echoes", "slow echoes"])
def test_a_tail_that_an_amp_makes_louder_is_no_fault(rng, name):
    make, tail_s = LONG[name]
    monitor = StabilityMonitor(Chain([Plugin(make, tail_s), Drive(gain=300.0, bias=0.0)]), {"wet_peak": 1.0})
    monitor.prepare(RATE, 4_096, 1)
    sound = np.concatenate([playing(rng, RATE, 2.0, level=1.0), np.zeros((1, round(2.5 * tail_s) * RATE))], axis=1)
    run(monitor, sound.astype(np.float32), (4_096,))
    assert not monitor.status, monitor.status


@pytest.mark.parametrize("name", ["hall", "all wet", "many echoes"])
def test_a_tone_that_swells_in_a_tail_is_no_fault(name):
    """The worst that playing can do: a full-scale tone, held, where the effect is loudest."""
    make, tail_s = LONG[name]
    click = np.zeros((2, round(tail_s * RATE)), np.float32)
    click[:, 0] = 1.0
    gain = np.abs(np.fft.rfft(make().process(click, RATE, reset=True)[0]))
    hz = np.argmax(gain) / click.shape[1] * RATE
    dry = training_sound(20.0, RATE, seed=1)
    wet = make().process(np.repeat(dry, 2, axis=0), RATE, reset=True)
    levels = {"dry_peak": float(np.abs(dry).max()), "wet_peak": float(np.abs(wet).max())}
    monitor = StabilityMonitor(Plugin(make, tail_s), levels)
    monitor.prepare(RATE, 4_096, 1)
    tone = np.cos(2 * np.pi * hz * np.arange(round(2 * tail_s * RATE)) / RATE).astype(np.float32)[None, :]
    out = run(monitor, tone, (4_096,))
    assert np.abs(out).max() > 0.8 * gain.max()
    assert not monitor.status, monitor.status


@pytest.mark.parametrize("level_db", [-40, -12, 0])
def test_real_playing_with_pauses_in_a_hall_is_no_fault(shared_data, level_db):
    make, tail_s = LONG["hall"]
    for file in sorted((shared_data / "dry").glob("*.flac")):
        take, rate = soundfile.read(file, frames=3 * 44_100, dtype="float32", always_2d=True)
        take = take[:, :1].T / np.abs(take[:, 0]).max() * np.float32(10 ** (level_db / 20))
        sound = np.concatenate([take, np.zeros((1, 6 * rate), np.float32)] * 2, axis=1)
        monitor = StabilityMonitor(Plugin(make, tail_s), {"dry_peak": 1.0, "wet_peak": 3.0})
        monitor.prepare(rate, 4_096, 1)
        run(monitor, np.ascontiguousarray(sound), (4_096,))
        assert not monitor.status, f"{file.name}: {monitor.status}"


def test_the_dc_of_an_input_that_stops_rings_on_in_a_tail():
    make, tail_s = LONG["all wet"]
    monitor = StabilityMonitor(Plugin(make, tail_s), {"dry_peak": 1.0, "wet_peak": 20.0})
    monitor.prepare(RATE, 1_024, 1)
    offset = np.full((1, 4 * RATE), 0.02, np.float32)
    out = run(monitor, np.concatenate([offset, np.zeros((1, 12 * RATE), np.float32)], axis=1), (1_024,))
    assert np.abs(out[:, 5 * RATE]).max() > 0.1
    assert not monitor.status, monitor.status


@pytest.mark.parametrize("tail_s", [0.0, 3.5, 20.0])
def test_what_goes_on_beyond_its_tail_is_stopped(rng, tail_s):
    ringing = Rings()
    ringing.tail_samples = round(tail_s * RATE)
    monitor = StabilityMonitor(ringing)
    monitor.prepare(RATE, 1_024, 1)
    sound = np.concatenate([playing(rng, RATE, 0.5), np.zeros((1, round(2 * tail_s + 4) * RATE), np.float32)], axis=1)
    out = run(monitor, sound, (1_024,))
    (trip,) = monitor.status.trips
    assert (trip.what, trip.action) == ("output goes on in silence", "soft reset")
    # half a second after the tail, and two looks to see that it does not fall
    latest = tail_s + 0.5 + 2 * max(0.5, 0.1 * tail_s)
    assert tail_s + 0.5 < trip.numbers["silent_s"] <= latest + 0.1
    assert np.abs(out[:, -RATE:]).max() == 0.0


@pytest.mark.parametrize("spacing_s", [0.2, 1.5])
def test_an_echo_that_never_ends_is_stopped_although_it_is_silent_between(rng, spacing_s):
    class Repeats(Sound):
        tail_samples = round(spacing_s * 31 * RATE)
        heard = 0

        def reset(self):
            self.resets += 1
            self.since = 0

        def run(self, block):
            n = self.since + np.arange(block.shape[1])
            self.since += block.shape[1]
            return block + np.float32(0.2) * (n % round(spacing_s * RATE) < 480).astype(np.float32)

    monitor = StabilityMonitor(Repeats())
    monitor.prepare(RATE, 4_096, 1)
    run(monitor, np.zeros((1, round(spacing_s * 31 * 1.4) * RATE), np.float32), (4_096,))
    assert [trip.what for trip in monitor.status.trips] == ["output goes on in silence"]


def test_a_tail_that_grows_is_still_a_runaway(rng):
    class Swells(Gain):
        tail_samples = 20 * RATE

        def run(self, block):
            n = self.total - block.shape[1] + np.arange(block.shape[1])
            return (block + 0.01 * 2.0 ** (n / RATE) * np.sin(0.1 * n)).astype(np.float32)

    monitor = StabilityMonitor(Swells(), {"dry_peak": 1.0, "wet_peak": 1.0})
    monitor.prepare(RATE, 1_024, 1)
    out = run(monitor, np.zeros((1, 12 * RATE), np.float32), (1_024,))
    assert monitor.status.trips[0].what == "runaway level"
    assert np.abs(out).max() <= 8.0
    quick = Swells()
    quick.tail_samples = 0
    monitor = StabilityMonitor(quick, {"dry_peak": 1.0, "wet_peak": 1.0})
    monitor.prepare(RATE, 1_024, 1)
    assert np.abs(run(monitor, np.zeros((1, 12 * RATE), np.float32), (1_024,))).max() <= 4.0
