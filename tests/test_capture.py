"""What a capture does with what comes back: faults, retakes, levels, latency. Without a sound card."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import soundfile
from jack_pedal import Pedal, PedalSettings
from patched_device import PatchedDevice

from fxclone.errors import DeviceError, FxcloneError, UsageError
from fxclone.signals import training_sound
from fxclone_realtime.capture import CaptureSession
from fxclone_realtime.capture_device import CaptureDevice
from fxclone_realtime.capture_faults import Fault, faults_in, repeated
from fxclone_realtime.capture_judge import agree
from fxclone_realtime.capture_level import count_clipping, level_advice
from fxclone_realtime.capture_options import CaptureOptions
from fxclone_realtime.capture_result import write_capture

RATE = 48_000
BLOCK = 512
SECONDS = 5.0


class Listener:
    """A face that remembers."""

    def __init__(self):
        self.said, self.levels, self.done_s = [], [], []
        self.go_on_after = 10**9
        self.stop_after_s, self.on_stop = 1e9, None

    def say(self, text):
        self.said.append(text)

    def level(self, advice, peak):
        self.levels.append(advice)

    def wants_on(self):
        return len(self.levels) >= self.go_on_after

    def progress(self, done_s, total_s, what):
        self.done_s.append(done_s)
        if done_s > self.stop_after_s:
            self.on_stop()


def capture(pedal, tmp_path, face=None, *, lost_at=None, xruns_at=(), loopback=False, **options):
    given = {"seconds": SECONDS, "level_check": False, "loopback_channel": 1 if loopback else None, **options}
    device = PatchedDevice(pedal, block=BLOCK, lost_at=lost_at, xruns_at=xruns_at, loopback=loopback)
    asked = CaptureOptions(tmp_path / "capture", block=BLOCK, **given)
    session = CaptureSession(asked, CaptureDevice(device, (0,)))
    face = face or Listener()
    if face.stop_after_s < 1e9:
        face.on_stop = lambda: session._stop.set()
    return session, session.run(face), face


def loud_place(signal, part):
    """A block at the loudest moment of a part, not too near its ends."""
    span = signal.parts[part]
    power = np.square(signal.sound[0, span.start : span.stop], dtype=np.float64)
    power[: RATE // 4] = power[-RATE // 4 :] = 0
    at = span.start + int(np.argmax(np.convolve(power, np.ones(4 * BLOCK), "same")))
    return at // BLOCK


def pedal_with(fault, signal_place, settings=None, times=1):
    """A pedal that spoils a block at a place of the signal, the first ``times`` times that sound passes there."""
    inner = Pedal(settings or PedalSettings(), RATE)
    state = {"left": times, "before": np.zeros(BLOCK, np.float32)}

    def process(block):
        out = inner.process(block)
        if inner.heard and state["left"] and inner.heard >= signal_place:
            state["left"] -= 1
            out = fault(out, state["before"])
        state["before"] = out
        return out

    return process


def test_a_clean_capture_is_exact_and_everything_is_written(tmp_path):
    settings = PedalSettings(latency_samples=177.6, gain_db=-6, inverted=True)
    session, result, _ = capture(Pedal(settings, RATE).process, tmp_path, loopback=True)
    latency = result.facts["latency"]
    assert latency["loopback_samples"] == BLOCK
    assert latency["pedal_samples"] == pytest.approx(177.6, abs=0.001)
    assert latency["round_trip_samples"] == pytest.approx(BLOCK + 177.6, abs=0.001)
    assert 0 <= latency["left_samples"] < 10
    assert result.facts["polarity"] == -1
    assert result.facts["complete"]
    assert result.facts["retakes"] == 0
    assert result.facts["claimed_latency_ms"] == {"input": 0.0, "output": None}
    assert result.facts["replicate_esr_db"] < -100
    assert result.facts["noise_floor_dbfs"] < -150
    sound = session.signal.sound[0]
    first = session.signal.markers[0]
    assert result.dry.shape == result.wet.shape
    assert result.dry.shape[1] == session.signal.parts[-1].stop - first
    np.testing.assert_array_equal(result.dry[0], sound[first : first + result.dry.shape[1]])
    truth = Pedal(settings, RATE).render(np.concatenate([sound, np.zeros(RATE, np.float32)]))
    start = first + latency["removed_samples"] - BLOCK
    np.testing.assert_allclose(result.wet[0], truth[start : start + result.wet.shape[1]], atol=1e-6)
    folder = write_capture(result, tmp_path / "capture")
    wet, rate = soundfile.read(folder / "wet.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(wet, result.wet[0])
    assert soundfile.info(folder / "dry.wav").subtype == "FLOAT"
    assert json.loads((folder / "capture.json").read_text()) == result.facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture"]


def silence(out, before):
    return np.zeros_like(out)


def again(out, before):
    return before.copy()


@pytest.mark.parametrize(("fault", "kind"), [(silence, "gap"), (again, "repeat")])
def test_a_drop_out_is_heard_and_only_that_part_is_played_again(tmp_path, fault, kind):
    session, _, _ = capture(Pedal(PedalSettings(), RATE).process, tmp_path)
    place = loud_place(session.signal, 2) * BLOCK - session.signal.lead
    _, result, face = capture(pedal_with(fault, place), tmp_path)
    (line,) = face.said
    assert line.startswith("part 3 of 4: ")
    assert line.endswith("; playing that again (1)")
    assert kind in line
    assert [part["take"] for part in result.facts["parts"]] == [1, 1, 2, 1]
    assert result.facts["retakes"] == 1
    np.testing.assert_allclose(result.wet, lagged(np.tanh(result.dry), result), atol=1e-6)


def lagged(sound, result):
    by = round(result.facts["latency"]["left_samples"])
    return np.concatenate([np.zeros((1, by)), sound[:, : sound.shape[1] - by]], axis=1)


def test_what_happens_every_time_is_the_effect(tmp_path):
    def gate(block):  # silences whatever is loud
        out = np.tanh(block)
        if np.abs(block).max() > 0.5:
            out[100:400] = 0.0
        return out

    _, result, _ = capture(gate, tmp_path)
    assert result.facts["complete"]
    assert any(part["faults_are_the_effect"] for part in result.facts["parts"])
    assert any("the effect's own" in note for note in result.notes)


def test_reported_drop_outs_that_did_no_harm_cost_one_retake(tmp_path):
    blocks = tuple(range(40, 50_000, 40))
    _, result, face = capture(Pedal(PedalSettings(noise_db=-90), RATE).process, tmp_path, xruns_at=blocks)
    assert len(face.said) == 1
    assert "drop-out; playing that again" in face.said[0]
    assert result.facts["xruns"] > 5
    assert result.facts["complete"]
    assert all(part["same_as_another_take"] for part in result.facts["parts"])


def test_a_part_that_never_comes_whole_is_left_out(tmp_path):
    session, _, _ = capture(Pedal(PedalSettings(), RATE).process, tmp_path)
    rng = np.random.default_rng(0)

    def crackling(block):
        out = np.tanh(block)
        if np.abs(block).max() > 0.6:  # only the music is so loud, and each time another place is lost
            at = int(rng.integers(0, BLOCK - 100))
            out[at : at + 100] = 0.0
        return out

    with pytest.raises(FxcloneError, match="no part of the test signal was recorded whole"):
        capture(lambda block: crackling(block * 4), tmp_path, retakes=1)
    _, result, face = capture(crackling, tmp_path, retakes=2)
    kept = [part["kept"] for part in result.facts["parts"]]
    assert not all(kept)
    assert any(kept)
    assert len([line for line in face.said if "(2)" in line]) >= 1
    assert result.dry.shape[1] == sum(p["samples"] for p in result.facts["parts"] if p["kept"])
    assert any("left out" in note for note in result.notes)
    assert session.signal.parts


def test_ctrl_c_keeps_the_parts_that_are_whole(tmp_path):
    face = Listener()
    face.stop_after_s = 3.6
    session, result, _ = capture(slowly(Pedal(PedalSettings(), RATE).process), tmp_path, face)
    assert result.facts["interrupted"]
    assert not result.facts["complete"]
    kept = [part["kept"] for part in result.facts["parts"]]
    assert kept[:2] == [True, True]
    assert not kept[-1]
    assert result.wet.shape == result.dry.shape
    np.testing.assert_allclose(result.wet, lagged(np.tanh(result.dry), result), atol=1e-6)
    assert session.interrupted


def slowly(pedal):
    """Ten times real time, so that there is time to stop."""
    pause = threading.Event()

    def process(block):
        pause.wait(BLOCK / RATE / 10)
        return pedal(block)

    return process


def test_ctrl_c_before_anything_is_whole(tmp_path):
    face = Listener()
    face.stop_after_s = 0.2
    with pytest.raises(FxcloneError, match="stopped before any part"):
        capture(slowly(Pedal(PedalSettings(), RATE).process), tmp_path, face)


def test_a_device_that_is_lost_half_way_costs_only_the_rest(tmp_path):
    session, result, _ = capture(Pedal(PedalSettings(), RATE).process, tmp_path, lost_at=int(3.6 * RATE / BLOCK))
    assert isinstance(session.failure, DeviceError)
    assert [part["kept"] for part in result.facts["parts"]][:2] == [True, True]
    with pytest.raises(DeviceError, match="audio device lost"):
        capture(Pedal(PedalSettings(), RATE).process, tmp_path, lost_at=20)


def test_a_stereo_return_is_two_channels_of_wet(tmp_path):
    _, result, _ = capture(
        Pedal(PedalSettings(), RATE).process, tmp_path, loopback=True, input_channels=(0, 1), loopback_channel=None
    )
    assert result.dry.shape[0] == 1
    assert result.wet.shape == (2, result.dry.shape[1])
    np.testing.assert_allclose(result.wet[:1], lagged(np.tanh(result.dry), result), atol=1e-6)
    np.testing.assert_array_equal(result.wet[1:], lagged(result.dry, result))
    assert result.facts["input_channels"] == [1, 2]


def test_own_sound_goes_through_the_pedal_whole(tmp_path):
    own = tmp_path / "riff.wav"
    soundfile.write(own, training_sound(4.0, 44_100, seed=4)[0], 44_100, subtype="FLOAT")
    _, result, _ = capture(Pedal(PedalSettings(), RATE).process, tmp_path, dry=own, seconds=None)
    assert result.facts["own_sound"] == "riff.wav"
    mine = [part for part in result.facts["parts"] if part["kind"] == "own"]
    silence = round(0.21 * RATE)
    assert sum(part["samples"] - silence for part in mine) == pytest.approx(4.0 * RATE, abs=10)
    np.testing.assert_allclose(result.wet, lagged(np.tanh(result.dry), result), atol=1e-6)


def test_no_cable(tmp_path):
    with pytest.raises(DeviceError, match="nothing but digital silence comes back"):
        capture(np.zeros_like, tmp_path)
    with pytest.raises(DeviceError, match="nothing comes back on input 1"):
        capture(np.zeros_like, tmp_path, level_check=True)


def test_an_effect_that_spoils_the_markers_is_captured_all_the_same(tmp_path):
    clock = np.arange(BLOCK)
    count = [0]

    def ring(block):
        count[0] += 1
        return (block * np.sin(2 * np.pi * 6000 / RATE * (clock + BLOCK * count[0]))).astype(np.float32)

    _, result, _ = capture(ring, tmp_path, loopback=True)
    assert result.facts["complete"]
    assert result.facts["latency"]["source"] == "loopback"
    assert result.facts["latency"]["removed_samples"] == BLOCK
    assert any("leaves nothing of the markers" in note for note in result.notes)


@pytest.mark.slow
def test_a_gate_that_closes_on_the_markers_is_aligned_by_the_music_or_left_as_it_is(tmp_path):
    held = [0]

    def gate(block):
        held[0] = 40 if np.abs(block).max() > 0.3 else max(0, held[0] - 1)
        return np.tanh(block) if held[0] > 30 else 0 * block

    _, result, _ = capture(gate, tmp_path)
    latency = result.facts["latency"]
    if latency["source"] == "alignment":
        assert latency["removed_samples"] == pytest.approx(BLOCK, abs=1)
    else:  # in doubt nothing is taken out: a clone can learn a delay, but cannot look ahead
        assert (latency["source"], latency["removed_samples"]) == ("none", 0)


def test_a_noisy_pedal_is_said(tmp_path):
    _, result, _ = capture(Pedal(PedalSettings(noise_db=-30), RATE).process, tmp_path)
    assert result.facts["noise_floor_dbfs"] == pytest.approx(-30, abs=0.5)
    assert -20 < result.facts["replicate_esr_db"] < 0
    assert any("noisy or changes with time" in note for note in result.notes)


def test_the_level_is_judged_first_and_the_phase_ends_when_it_is_good(tmp_path):
    _, result, face = capture(Pedal(PedalSettings(), RATE).process, tmp_path, level_check=True)
    assert face.levels[-1].verdict == "good"
    assert face.said[0].endswith(": good")
    assert result.facts["level"]["verdict"] == "good"


def test_who_is_there_may_turn_the_knob_or_go_on(tmp_path):
    face = Listener()
    face.go_on_after = 8
    quiet = Pedal(PedalSettings(gain_db=-40), RATE).process
    _, result, _ = capture(quiet, tmp_path, face, level_check=True, interactive=True)
    assert 8 <= len(face.levels) <= 9
    assert result.facts["level"]["verdict"] == "quiet"
    assert any("turn up" in note for note in result.notes)


@pytest.mark.parametrize(
    ("peak", "verdict", "word"),
    [
        (0.7, "good", "return peaks at −3.1 dBFS: good"),
        (0.93, "hot", "turn down"),
        (1.0, "clips", "it clips"),
        (0.02, "quiet", "turn up by 28 dB"),
        (1e-5, "nothing", "nothing comes back"),
        (0.0, "nothing", "nothing comes back"),
    ],
)
def test_advice_in_words(peak, verdict, word):
    advice = level_advice(peak)
    assert advice.verdict == verdict
    assert word in advice.text


def test_clipping_is_counted_by_places():
    sound = np.zeros((2, 100), np.float32)
    sound[0, 10:14] = 1.0
    sound[0, 30] = 1.0  # a single sample may just be the peak
    sound[1, 50:60] = -0.99999
    assert count_clipping(sound) == 2


def test_faults_need_sound_around_them(rng):
    dry = 0.3 * rng.standard_normal(RATE).astype(np.float32)
    assert faults_in(dry, np.tanh(dry), RATE) == []
    gap = np.tanh(dry)
    gap[5000:5300] = 0.0
    assert faults_in(dry, gap, RATE, start=100) == [Fault("silence", 5100, 300)]
    twice = np.tanh(dry)
    twice[8192:8448] = twice[7936:8192]
    (found,) = faults_in(dry, twice, RATE)
    assert (found.kind, found.at, found.samples) == ("repeat", 8192, 256)
    paused = dry.copy()
    paused[5000:9000] = 0.0
    assert faults_in(paused, np.tanh(paused), RATE) == []
    tone = np.sin(2 * np.pi * np.arange(RATE) / 64).astype(np.float32)
    assert faults_in(tone, np.tanh(tone), RATE) == []


def test_pauses_in_what_is_sent_are_no_gaps_also_if_the_return_is_a_little_late(rng):
    dry = 0.3 * rng.standard_normal(RATE).astype(np.float32)
    for start in range(0, RATE, 2000):
        dry[start : start + 500] = 0.0
    wet = np.concatenate([np.zeros(7, np.float32), np.tanh(dry[:-7])])
    assert faults_in(dry, wet, RATE) == []


def test_only_the_same_thing_at_the_same_place_is_a_repetition():
    gap = Fault("silence", 1000, 300)
    assert repeated([Fault("silence", 1010, 310)], [gap])
    assert not repeated([Fault("silence", 2000, 300)], [gap])
    assert not repeated([gap, Fault("reported", 1000, 0)], [gap, Fault("reported", 1000, 0)])


def test_two_takes_agree_but_for_noise(rng):
    one = (0.3 * rng.standard_normal((1, RATE))).astype(np.float32)
    other = one + (0.003 * rng.standard_normal((1, RATE))).astype(np.float32)
    assert agree(one, other)
    other[0, 9000:9200] = 0.0
    assert not agree(one, other)


def test_a_folder_that_is_there_is_not_overwritten_unasked(tmp_path):
    _, result, _ = capture(Pedal(PedalSettings(), RATE).process, tmp_path)
    write_capture(result, tmp_path / "mine")
    before = (tmp_path / "mine" / "capture.json").read_bytes()
    with pytest.raises(UsageError, match=r"holds dry\.wav, wet\.wav, capture\.json already"):
        write_capture(result, tmp_path / "mine")
    assert (tmp_path / "mine" / "capture.json").read_bytes() == before
    write_capture(result, tmp_path / "mine", force=True)
    with pytest.raises(UsageError, match="does not exist"):
        write_capture(result, tmp_path / "nowhere" / "mine")
