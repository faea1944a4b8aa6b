"""Stereo clones through a chain, a resampler, files and playing: every ear gets its own sound, in step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from faults import Gain, Sound, playing, run
from stereo_clones import CROSSTALK, RATE, WIDE, convolved, fir_clone, room

from fxclone import cli
from fxclone.clone import load_clone
from fxclone.commands.info import describe
from fxclone.files import read_sound, sound_info, write_sound
from fxclone.metrics import esr_db
from fxclone.processor import Chain, channels_text
from fxclone.render import render_file
from fxclone.resampled import Resampled
from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.face import live_text
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.player import Session
from fxclone_realtime.recorder import Recorder
from fxclone_realtime.rig import channel_notes


@pytest.fixture(scope="module")
def clones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clones")
    return {
        "wide": fir_clone(folder / "wide.onnx", WIDE),
        "cross": fir_clone(folder / "cross.onnx", CROSSTALK),
        "room": fir_clone(folder / "room.onnx", room(0.1)),
        "cd": fir_clone(folder / "cd.onnx", WIDE, sample_rate=44_100),
        "half": fir_clone(folder / "half.onnx", np.full((1, 1, 1), 0.5)),
    }


@pytest.fixture
def mono(rng):
    return playing(rng, RATE, 0.5)


@pytest.fixture
def stereo(rng):
    return np.concatenate([playing(rng, RATE, 0.5), playing(rng, RATE, 0.5)])


def rendered(report):
    sound, _ = read_sound(report.target)
    assert sound.shape == (report.channels, report.samples)
    return sound


# Chains and other rates


def test_a_chain_says_how_many_channels_come_out(clones, mono):
    wide, half, cross = (load_clone(clones[name]) for name in ("wide", "half", "cross"))
    chain = Chain([half, Chain([wide, cross])])
    chain.prepare(RATE, 256, 1)
    assert chain.channels_out == 2
    out = run(chain, mono, (64, 1, 100))
    expected = convolved(convolved(0.5 * mono, WIDE), CROSSTALK)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-6)
    empty = Chain([])
    empty.prepare(RATE, 64, 6)
    assert empty.channels_out == 6


def test_lanes_are_kept_through_a_chain(clones, stereo):
    chain = Chain([load_clone(clones["half"]), load_clone(clones["cross"])])
    chain.prepare(RATE, 256, 2)
    assert chain.channels_out == 2
    np.testing.assert_allclose(run(chain, stereo), convolved(0.5 * stereo, CROSSTALK), atol=1e-6)


@pytest.mark.parametrize("sizes", [(64,), (1, 100, 7)])
def test_a_chain_that_widens_at_another_rate(clones, rng, sizes):
    low = np.convolve(rng.standard_normal(RATE // 2), np.hanning(64) / 64)[None, :].astype(np.float32)
    inner = load_clone(clones["cd"])
    processor = Resampled(Chain([inner]), 44_100)
    processor.prepare(RATE, 128, 1)
    assert processor.channels_out == 2
    out = run(processor, low, sizes)
    assert out.shape == (2, low.shape[1])
    late = processor.latency_samples
    # WIDE at 44.1 kHz: the same taps further apart
    n, spectrum = low.shape[1] * 2, np.fft.rfft(low[0], low.shape[1] * 2)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    for ear in range(2):
        response = sum(tap * np.exp(-2j * np.pi * hz * k / 44_100) for k, tap in enumerate(WIDE[ear, 0]))
        expected = np.fft.irfft(spectrum * response, n)[: low.shape[1]]
        assert esr_db(expected[None, 500:-late], out[ear : ear + 1, 500 + late :]) < -60


def test_channels_in_words():
    counts = [(1, 1), (2, 2), (1, 2), (2, 1), (6, 2)]
    words = ["mono", "stereo", "mono to stereo", "stereo to mono", "6 channels to stereo"]
    assert [channels_text(*each) for each in counts] == words


# Files


def test_a_mono_file_becomes_stereo(clones, mono, tmp_path):
    source = write_sound(tmp_path / "in.wav", mono, RATE, subtype="float")
    report = render_file([load_clone(clones["room"])], source, tmp_path / "out.wav", tail_s=0.0)
    assert (report.channels, report.notes) == (2, ())
    np.testing.assert_allclose(rendered(report), convolved(mono, room(0.1)), atol=1e-5)


def test_a_mono_file_is_heard_by_both_sides_of_a_stereo_clone(clones, mono, tmp_path):
    source = write_sound(tmp_path / "in.wav", mono, RATE, subtype="float")
    report = render_file([load_clone(clones["cross"])], source, tmp_path / "out.wav", tail_s=0.0)
    np.testing.assert_allclose(rendered(report), convolved(mono, CROSSTALK), atol=1e-6)


def test_a_stereo_file_keeps_its_sides_and_their_crosstalk(clones, stereo, tmp_path):
    source = write_sound(tmp_path / "in.wav", stereo, RATE, subtype="float")
    report = render_file([load_clone(clones["cross"])], source, tmp_path / "out.wav", tail_s=0.0)
    assert report.notes == ()
    np.testing.assert_allclose(rendered(report), convolved(stereo, CROSSTALK), atol=1e-6)
    swapped = render_file([load_clone(clones["cross"])], source, tmp_path / "mono.wav", tail_s=0.0, channels=1)
    middle = stereo.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(rendered(swapped), convolved(middle, CROSSTALK), atol=1e-6)


def test_a_stereo_file_into_a_mono_to_stereo_clone_is_heard_as_its_mean_and_said_once(clones, stereo, tmp_path):
    source = write_sound(tmp_path / "in.wav", stereo, RATE, subtype="float")
    chain = [load_clone(clones[name]) for name in ("half", "wide", "cross")]
    report = render_file(chain, source, tmp_path / "out.wav", tail_s=0.0)
    middle = 0.5 * stereo.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(rendered(report), convolved(convolved(middle, WIDE), CROSSTALK), atol=1e-6)
    (note,) = report.notes
    assert note.startswith("wide takes one channel: it hears the mean of the 2 of ")


@pytest.mark.parametrize("sides", [1, 2])
def test_dry_and_wet_of_different_channels_are_mixed(clones, stereo, tmp_path, sides):
    dry = stereo[:sides]
    source = write_sound(tmp_path / "in.wav", dry, RATE, subtype="float")
    report = render_file([load_clone(clones["wide"])], source, tmp_path / "out.wav", mix=0.25, tail_s=0.0)
    wet = convolved(dry.mean(axis=0, keepdims=True), WIDE)
    np.testing.assert_allclose(rendered(report), 0.75 * dry + 0.25 * wet, atol=1e-6)


def test_a_file_of_another_rate_in_stereo(clones, rng, tmp_path):
    low = np.convolve(rng.standard_normal(44_100), np.hanning(64) / 64)[None, 100:-100].astype(np.float32)
    source = write_sound(tmp_path / "in.wav", low, 44_100, subtype="float")
    report = render_file([load_clone(clones["wide"])], source, tmp_path / "out.wav", tail_s=0.0)
    assert (report.channels, report.sample_rate, report.samples) == (2, 44_100, low.shape[1])
    there = render_file([load_clone(clones["wide"])], source, tmp_path / "48.wav", tail_s=0.0, sample_rate=RATE)
    back, _ = read_sound(there.target, sample_rate=44_100)
    middle = slice(500, low.shape[1] - 500)
    assert esr_db(back[:, middle], rendered(report)[:, middle]) < -80


def test_render_on_the_command_line(clones, mono, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sound("in.wav", mono, RATE)
    assert cli.run(["render", "--model", str(clones["room"]), "in.wav"]) == 0
    assert " 2 ch, " in capsys.readouterr().out
    assert sound_info("in-room.wav").channels == 2
    write_sound("both.wav", np.repeat(mono, 2, axis=0), RATE)
    assert cli.run(["render", "--model", str(clones["room"]), "both.wav", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("hears the mean") == 1
    assert json.loads(captured.out)["files"][0]["channels"] == 2


def test_info_says_the_channels(clones):
    rows = {name: dict(describe(load_clone(clones[name]), 1.0)) for name in ("half", "wide", "cross")}
    assert [row["sound"] for row in rows.values()] == [
        "48000 Hz, mono",
        "48000 Hz, mono to stereo",
        "48000 Hz, stereo",
    ]
    assert "a sample in blocks of 64, mono to stereo: 21 x real time" in rows["wide"]["cost here"]


# Playing


def live(processor, sound, *, channels_out=2, sizes=(64,), max_block=64, **more):
    """Through an engine as a device would: (frames, channels) memory behind transposed views."""
    channels_in = sound.shape[0]
    engine = Engine(
        processor, sample_rate=RATE, max_block=max_block, channels_in=channels_in, channels_out=channels_out, **more
    )
    parts, at, turn = [], 0, 0
    while at < sound.shape[1]:
        frames = np.ascontiguousarray(sound[:, at : at + sizes[turn % len(sizes)]].T)
        out = np.full((frames.shape[0], channels_out), np.nan, np.float32)
        engine.process_into(frames.T, out.T)
        parts.append(out.T)
        at, turn = at + frames.shape[0], turn + 1
    assert engine.failure is None
    return engine, np.concatenate(parts, axis=1)


def watched(path):
    return StabilityMonitor(load_clone(path))


@pytest.mark.parametrize("sizes", [(64,), (1, 100, 7)])
def test_one_input_plays_in_stereo(clones, mono, sizes):
    engine, out = live(watched(clones["room"]), mono, sizes=sizes)
    np.testing.assert_allclose(out, convolved(mono, room(0.1)), atol=1e-5)
    dry, wet = engine.meters.take_peaks()
    assert dry == pytest.approx(np.abs(mono).max())
    assert wet == pytest.approx(np.abs(out).max(axis=1))
    assert wet[0] != wet[1]


def test_two_inputs_play_with_their_crosstalk(clones, stereo):
    _, out = live(watched(clones["cross"]), stereo)
    np.testing.assert_allclose(out, convolved(stereo, CROSSTALK), atol=1e-6)


def test_one_output_gets_the_mean(clones, mono):
    _, out = live(watched(clones["wide"]), mono, channels_out=1)
    np.testing.assert_allclose(out, convolved(mono, WIDE).mean(axis=0, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("sides", [1, 2])
def test_the_live_mix_keeps_the_sides_of_the_dry_sound(clones, stereo, sides):
    dry = stereo[:sides]
    _, out = live(watched(clones["wide"]), dry, path=SoundPath(mix=0.25))
    wet = convolved(dry.mean(axis=0, keepdims=True), WIDE)
    np.testing.assert_allclose(out, 0.75 * dry + 0.25 * wet, atol=1e-6)


def test_the_recording_has_both_sides(clones, mono, tmp_path):
    recorder = Recorder(tmp_path / "heard.wav", RATE, 2)
    _, out = live(watched(clones["wide"]), mono, recorder=recorder)
    recorder.close()
    written, _ = read_sound(tmp_path / "heard.wav")
    assert written.shape == out.shape
    np.testing.assert_allclose(written, out, atol=2**-15)


class OneSideBreaks(Sound):
    """Mono to stereo; the right side fails once."""

    channels_out = 2

    def run(self, block):
        out = np.concatenate([block, -0.5 * block]).astype(np.float32)
        at = RATE // 4 - (self.total - block.shape[1])
        if 0 <= at < block.shape[1]:
            out[1, at] = np.nan
        return out


@pytest.mark.parametrize("size", [1, 64, 200])
def test_a_soft_reset_fades_both_sides_without_a_bang(mono, size):
    monitor = StabilityMonitor(OneSideBreaks())
    monitor.prepare(RATE, 256, 1)
    out = run(monitor, mono, (size,))
    assert [trip.action for trip in monitor.status.trips] == ["soft reset"]
    clean = np.concatenate([mono, -0.5 * mono])
    assert out.shape == clean.shape
    for side in range(2):
        assert np.abs(np.diff(out[side])).max() < np.abs(np.diff(clean[side])).max() + 0.01
    back = RATE // 4 + RATE // 20
    np.testing.assert_array_equal(out[:, back:], clean[:, back:])


def test_bypassed_the_dry_sound_reaches_both_ears_or_keeps_its_sides(mono, stereo):
    class Broken(Gain):
        channels_out = 2

        def run(self, block):
            return np.full((2, block.shape[1]), np.nan, np.float32)

    for dry in (mono, stereo):
        monitor = StabilityMonitor(Broken())
        _, out = live(monitor, dry)
        assert monitor.status.bypassed
        later = RATE // 10
        np.testing.assert_array_equal(out[:, later:], np.broadcast_to(dry, out.shape)[:, later:])


def session_of(*models, **options):
    return Session(PlayOptions(models=models, null=True, anyway=True, **options))


def test_a_session_follows_the_clones(clones):
    mono_one = session_of(clones["half"])
    assert (mono_one.sound, mono_one.engine.wet_channels) == ("mono", 1)
    widened = session_of(clones["half"], clones["wide"], clones["cross"])
    assert (widened.sound, widened.engine.wet_channels, widened.notes) == ("mono to stereo", 2, [])
    assert widened.clones[0].channels_out == 1  # a mono input costs one lane, whatever follows
    both = session_of(clones["cross"], input_channels=(0, 1))
    assert (both.sound, both.notes) == ("stereo", [])


def test_a_session_says_where_channels_are_mixed(clones):
    session = session_of(clones["half"], clones["wide"], clones["wide"], input_channels=(0, 1))
    assert session.notes == ["wide takes one channel: it hears the mean of 2"] * 2
    session = session_of(clones["wide"])
    (note,) = channel_notes(session.clones, 1, 1)
    assert note == "the output has one channel: you hear the mean of the 2 that wide gives"


def test_a_meter_for_each_ear_that_fits_80_columns(clones, mono):
    session = session_of(clones["wide"])
    out = np.zeros((2, 64), np.float32)
    session.engine.process_into(mono[:, :64], out)
    session.engine.meters.xruns = 123
    line = live_text(session)
    assert len(line) <= 79
    assert line.count("█") + line.count("·") == 3 * 8
    assert live_text(session_of(clones["half"])).count("·") == 2 * 14


def test_play_in_stereo(clones, mono, tmp_path, capsys):
    take, heard = tmp_path / "take.wav", tmp_path / "heard.wav"
    soundfile.write(take, mono.T, RATE, subtype="FLOAT")
    args = ["play", "-m", str(clones["wide"]), "--device", "null", "--input-file", str(take), "--record", str(heard)]
    assert cli.run([*args, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["sound"], report["channels_in"], report["channels_out"]) == ("mono to stereo", 1, 2)
    assert report["trips"] == []
    wet, _ = read_sound(heard)
    assert wet.shape[0] == 2
    np.testing.assert_allclose(wet[:, : mono.shape[1]], convolved(mono, WIDE), atol=1e-4)
    assert cli.run([*args, "--force"]) == 0
    assert "48000 Hz, mono to stereo, blocks of 128" in capsys.readouterr().out
