"""Choosing devices, the feedback guard, the null device's clock, and a machine without PortAudio or devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from faults import Gain, Sound
from play_clones import drive_clone

from fxclone.errors import DeviceError, UsageError
from fxclone_realtime import portaudio
from fxclone_realtime.devices import DeviceInfo, choose_device, feedback_risk
from fxclone_realtime.engine import Engine
from fxclone_realtime.null_device import NullDevice
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.setup_device import open_device
from fxclone_realtime.sources import FileSource


def device(index, name, inputs=2, outputs=2, *, default=False, api="ALSA"):
    return DeviceInfo(
        index, name, api, inputs, outputs, 48_000, 5.0, 5.0, default and inputs > 0, default and outputs > 0
    )


DEVICES = [
    device(0, "Built-in Microphone", outputs=0, default=True),
    device(1, "Built-in Speakers", inputs=0, default=True),
    device(2, "Scarlett 2i2 USB"),
    device(3, "Scarlett 18i20 USB"),
    device(4, "system", api="JACK Audio Connection Kit"),
]


@pytest.mark.parametrize(
    ("wanted", "kind", "index"),
    [
        (None, "input", 0),
        (None, "output", 1),
        ("3", "input", 3),
        ("2i2", "output", 2),
        ("jack", "input", 4),
        ("SYSTEM", "output", 4),
    ],
)
def test_a_device_is_found_by_index_part_of_its_name_or_default(wanted, kind, index):
    assert choose_device(DEVICES, wanted, kind).index == index


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        ("scarlett", "input", "fits 2 input devices: 2 Scarlett"),
        ("speakers", "input", "no input device is called 'speakers'"),
        ("1", "input", "has no inputs"),
        ("17", "output", "there is no device 17"),
    ],
)
def test_what_fits_none_or_several_is_wrong_use(wanted, kind, says):
    with pytest.raises(UsageError, match=r"fxclone devices|give --input-device") as raised:
        choose_device(DEVICES, wanted, kind)
    assert says in str(raised.value)


def test_no_device_at_all_says_what_to_do():
    with pytest.raises(DeviceError, match="--device null"):
        choose_device([], None, "input")


@pytest.mark.parametrize(
    ("input_name", "output_name", "risky"),
    [
        ("Built-in Microphone", "Built-in Output", True),
        ("MacBook Pro Microphone", "MacBook Pro Speakers", True),
        ("Microphone (Realtek Audio)", "Speakers (Realtek Audio)", True),
        ("HDA Intel PCH: ALC257 Analog (hw:0,0)", "HDA Intel PCH: ALC257 Analog (hw:0,0)", True),
        ("MacBook Pro Microphone", "External Headphones", False),
        ("Scarlett 2i2 USB", "MacBook Pro Speakers", False),
        ("Scarlett 2i2 USB", "Scarlett 2i2 USB", False),
        ("system", "system", False),
    ],
)
def test_a_microphone_that_hears_the_speaker(input_name, output_name, risky):
    assert (feedback_risk(input_name, output_name) is not None) == risky


def test_the_guard_refuses_until_it_is_allowed(monkeypatch, tmp_path):
    monkeypatch.setattr(portaudio, "list_devices", lambda: DEVICES)
    monkeypatch.setattr(portaudio, "accepts", lambda *args: True)
    model = (tmp_path / "x.onnx",)
    with pytest.raises(DeviceError, match="--allow-feedback"):
        open_device(PlayOptions(model), 48_000)
    allowed = open_device(PlayOptions(model, allow_feedback=True), 48_000)
    assert allowed.device.sample_rate == 48_000
    assert open_device(PlayOptions(model, input_device="2i2"), 48_000).device.channels_in == 1


def test_the_device_keeps_its_rate_where_it_refuses_the_clones(monkeypatch, tmp_path):
    monkeypatch.setattr(portaudio, "list_devices", lambda: DEVICES)
    monkeypatch.setattr(portaudio, "accepts", lambda index, kind, rate, channels: rate == 48_000)
    opened = open_device(PlayOptions((tmp_path / "x.onnx",), input_device="4", output_device="4"), 44_100)
    assert opened.device.sample_rate == 48_000
    assert "resampled" in opened.notes[0]


def run_null(processor, seconds, *, source=None, block=64):
    null = NullDevice(48_000, block, source=source)
    engine = Engine(
        processor, sample_rate=48_000, max_block=block, channels_in=null.channels_in, channels_out=null.channels_out
    )
    null.start(engine)
    time.sleep(seconds)
    null.check()
    null.stop()
    return engine


def test_the_null_device_never_runs_ahead_of_the_clock():
    began = time.perf_counter()
    engine = run_null(Gain(1.0), 0.5)
    elapsed = time.perf_counter() - began
    assert 0 < engine.meters.blocks <= elapsed * 48_000 / 64 + 1


def test_a_late_block_is_one_drop_out_and_the_clock_goes_on():
    class Stalls(Sound):
        """Takes five periods, once, as many periods in."""

        def run(self, block):
            if self.total == 64 * 50:
                time.sleep(0.1)
            return block

    engine = run_null(Stalls(), 0.5, block=64)
    assert engine.meters.xruns >= 1
    assert set(engine.meters.xrun_kinds) == {"late block"}
    assert engine.meters.blocks <= (0.6 - 0.09) * 48_000 / 64 or engine.meters.times.max_s > 0.2


def test_a_slow_processor_misses_every_deadline():
    class Slow(Sound):
        def run(self, block):
            time.sleep(0.004)  # three periods
            return block

    engine = run_null(Slow(), 0.3)
    assert engine.meters.xruns >= engine.meters.blocks - 1 > 5


def test_a_file_source_ends_in_silence_or_starts_again(rng):
    sound = rng.uniform(-1, 1, (2, 10)).astype(np.float32)
    block = np.ones((2, 16), np.float32)
    once = FileSource(sound)
    once.fill(block)
    np.testing.assert_array_equal(block[:, :10], sound)
    assert not block[:, 10:].any()
    assert once.past_end == 6
    again = FileSource(sound, loop=True)
    again.fill(block)
    np.testing.assert_array_equal(block[:, 10:], sound[:, :6])
    assert again.past_end == 0


@pytest.fixture
def without_portaudio(tmp_path):
    """`fxclone` where sounddevice finds no PortAudio, as its wheel for Linux does on a fresh machine."""
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")

    def call(*args):
        return subprocess.run(
            [sys.executable, "-m", "fxclone.cli", *args],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "hide")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def test_without_portaudio_it_says_how_to_get_it_and_the_null_device_works(without_portaudio, tmp_path):
    clone = str(drive_clone(tmp_path / "drive.onnx"))
    for args in (["devices"], ["play", "-m", clone]):
        refused = without_portaudio(*args)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "PortAudio" in refused.stderr
        assert "--device null" in refused.stderr
        if sys.platform.startswith("linux"):
            assert "apt install libportaudio2" in refused.stderr
    played = without_portaudio("play", "-m", clone, "--device", "null", "--duration", "0.2", "--json")
    assert played.returncode == 0
    assert json.loads(played.stdout)["blocks"] > 0


def test_no_devices_is_an_empty_list_and_a_sentence(monkeypatch, capsys):
    from fxclone.cli import run

    monkeypatch.setattr(portaudio, "list_devices", lambda *, rates=False: [])
    assert run(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["devices"]) == 0
    out = capsys.readouterr().out
    assert "No audio devices" in out
    assert "null" in out


def test_the_table_marks_the_defaults(monkeypatch, capsys):
    from fxclone.cli import run

    monkeypatch.setattr(portaudio, "list_devices", lambda *, rates=False: DEVICES)
    assert run(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("> ")
    assert lines[2].startswith(" <")
    assert "Scarlett 2i2 USB" in lines[3]
