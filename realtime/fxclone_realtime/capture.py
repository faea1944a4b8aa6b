"""A capture: set the level, play the test signal, record the return, play again what went wrong, keep what is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from fxclone.audio import Audio, fit_channels
from fxclone.errors import DeviceError, FxcloneError
from fxclone.signals.capture_signal import CaptureSignal, capture_signal, marker_span
from fxclone_realtime.capture_device import CaptureDevice, claimed_latency_ms
from fxclone_realtime.capture_judge import (
    MAX_LATENCY_S,
    PartTake,
    Recorded,
    Timing,
    better,
    first_timing,
    judge,
)
from fxclone_realtime.capture_level import LevelAdvice, count_clipping, level_advice
from fxclone_realtime.capture_options import DEFAULT_SECONDS, CaptureOptions
from fxclone_realtime.capture_result import CaptureResult, assemble
from fxclone_realtime.capture_tape import Pass, Tape
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.interpreter import audio_priority
from fxclone_realtime.player import stop_on_signals

TICK_S = 0.05
LOUD_S = 2.0
"""Length of the loud stretch that the level is set with."""
SETTLE_S = 0.3
"""Silence after the level is set, so that echoes die before the noise floor is measured."""
PREROLL_S = 2.0
"""What is played again before a part that is retaken, so that the gear's memory is as it was."""
NO_CEILING = 8.0
"""The engine bends what comes near its ceiling. The test signal is never louder than 1 and must not be bent at all."""


class CaptureFace(Protocol):
    """What a capture tells whoever watches, from the main thread."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def level(self, advice: LevelAdvice, peak: float) -> None:
        """How loud the return is just now."""

    def wants_on(self) -> bool:
        """Whether the user has asked to go on."""

    def progress(self, done_s: float, total_s: float, what: str) -> None:
        """How far it is."""


class _StoppedError(Exception):
    """Ctrl-C."""


def make_signal(options: CaptureOptions, sample_rate: int) -> CaptureSignal:
    """The test signal that the options ask for. An own sound is played whole unless a length is given."""
    own: Audio | None = None
    seconds = options.seconds
    if options.dry is not None:
        from fxclone.files import read_sound

        sound, _ = read_sound(options.dry, sample_rate=sample_rate)
        own = fit_channels(sound, 1)
        seconds = seconds or max(10.0, own.shape[1] / sample_rate * 1.35 + 3.0)
    return capture_signal(seconds or DEFAULT_SECONDS, sample_rate, seed=options.seed, send_db=options.send_db, own=own)


class CaptureSession:
    """Everything that a capture needs, made and checked; `run` plays and records.

    Parameters
    ----------
    options : CaptureOptions
    opened : CaptureDevice
        See `open_capture_device`.
    """

    def __init__(self, options: CaptureOptions, opened: CaptureDevice) -> None:
        self.options, self.opened, self.device = options, opened, opened.device
        self.sample_rate = self.device.sample_rate
        self.signal = make_signal(options, self.sample_rate)
        self.returns = len(options.input_channels)
        self.tape = Tape(self.device.channels_out, opened.play_on, self.returns)
        self.engine = Engine(
            self.tape,
            sample_rate=self.sample_rate,
            max_block=options.block,
            channels_in=self.device.channels_in,
            channels_out=self.device.channels_out,
            path=SoundPath(ceiling=NO_CEILING),
        )
        self.tape.meters = self.engine.meters
        self.notes = list(opened.notes)
        self.takes: dict[int, PartTake] = {}
        self.interrupted = False
        self.failure: FxcloneError | None = None
        self._first: Recorded | None = None
        self._timing: Timing | None = None
        self._loopback: float | None = None
        self._advice: LevelAdvice | None = None
        self._passes = 0
        self._claimed: dict[str, float | None] = {}

    def run(self, face: CaptureFace) -> CaptureResult:
        """Capture, and return what is whole, also after Ctrl-C or when the device is lost half-way.

        Raises
        ------
        DeviceError
            If the device cannot be opened, or nothing comes back.
        FxcloneError
            If nothing usable was recorded.
        """
        with stop_on_signals() as stop, audio_priority():
            self._stop = stop
            try:
                with self._running():
                    self._claimed = claimed_latency_ms(self.device)
                    if self.options.level_check:
                        self._set_level(face)
                    self._record(face)
            except _StoppedError:
                self.interrupted = True
            except DeviceError as error:
                if not self.takes:
                    raise
                self.failure = error
                self.notes.append(f"{error}; what was recorded before is kept")
        if self._first is None or self._timing is None:
            raise FxcloneError("stopped before any part of the test signal was recorded whole; nothing was written")
        return assemble(
            self.signal,
            self._timing,
            self.takes,
            self._first,
            facts=self._facts(),
            notes=self.notes,
            loopback_samples=self._loopback,
        )

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            self.device.start(self.engine)
            yield
        finally:
            self.tape.roll(None)
            self.device.stop()

    def _wait(self) -> None:
        """One tick; raises what ends a capture."""
        if self._stop.wait(TICK_S):
            raise _StoppedError
        self.device.check()
        if self.engine.failure is not None:
            reason = " ".join(str(self.engine.failure).split())
            raise FxcloneError(f"recording failed: {reason}")

    # Setting the level

    def _set_level(self, face: CaptureFace) -> None:
        """Play the loudest stretch until the return is good or the user goes on; once if nobody is there to turn."""
        if self.options.interactive:
            face.say("setting the level: turn the input gain until the return is good; Enter goes on as it is")
        loud = self._loud_stretch()
        run = Pass(loud, self.device.channels_in, loop=True)
        self.tape.roll(run)
        per_round = max(1, round(loud.shape[1] / self.sample_rate / TICK_S))
        peaks: list[float] = []
        try:
            while True:
                self._wait()
                peaks = [*peaks, run.take_peak()][-per_round:]
                top = max(peaks)
                whole = len(peaks) == per_round
                clipped = whole and count_clipping(run.taken[: self.returns]) > 0
                advice = level_advice(top, clipped=clipped)
                face.level(advice, peaks[-1])
                asked = face.wants_on() if self.options.interactive else False
                if asked or (whole and (advice.verdict == "good" or not self.options.interactive)):
                    break
        finally:
            self.tape.roll(None)
        self._advice = advice
        face.say(advice.text)
        if advice.verdict == "nothing":
            channels = ", ".join(str(channel + 1) for channel in self.options.input_channels)
            raise DeviceError(
                f"nothing comes back on input {channels} of {self.device.name}; check the cables, choose with "
                "--input-channel and --output-channel, and see that the pedal is on"
            )
        if advice.verdict != "good":
            self.notes.append(advice.text)
        until = time.perf_counter() + SETTLE_S
        while time.perf_counter() < until:
            self._wait()

    def _loud_stretch(self) -> Audio:
        """The loudest two seconds of the test signal, faded in and out by the part's own silence where there is any."""
        sound = self.signal.sound[0]
        length = min(round(LOUD_S * self.sample_rate), sound.size)
        power = np.concatenate([np.zeros(1), np.cumsum(np.square(sound, dtype=np.float64))])
        start = int(np.argmax(power[length:] - power[:-length]))
        loud = sound[start : start + length].copy()
        ramp = np.linspace(0.0, 1.0, min(length // 4, 480), dtype=np.float32)
        loud[: ramp.size] *= ramp
        loud[loud.size - ramp.size :] *= ramp[::-1]
        out: Audio = loud[None, :]
        return out

    # Recording

    def _record(self, face: CaptureFace) -> None:
        """One pass over everything, then one over each stretch that went wrong, as often as allowed."""
        everything = list(range(len(self.signal.parts)))
        self._play(face, everything, "recording")
        for attempt in range(self.options.retakes):
            wrong = [k for k in everything if k not in self.takes or not self.takes[k].whole]
            if not wrong:
                return
            for _, group in groupby(enumerate(wrong), key=lambda pair: pair[1] - pair[0]):
                numbers = [number for _, number in group]
                names = f"part {numbers[0] + 1}" + (f" to {numbers[-1] + 1}" if len(numbers) > 1 else "")
                kinds = sorted({f.kind for k in numbers if k in self.takes for f in self.takes[k].faults})
                what = {"reported": "drop-out", "silence": "gap", "repeat": "repeat", "jump": "latency jump"}
                said = ", ".join(what.get(kind, "lost marker") for kind in kinds) or "not recorded"
                face.say(f"{names} of {len(everything)}: {said}; playing that again ({attempt + 1})")
                self._play(face, numbers, f"retaking {names}")

    def _play(self, face: CaptureFace, numbers: list[int], what: str) -> None:
        """Play and record some neighbouring parts, and judge them, also if it is cut short."""
        rate, first = self.sample_rate, self._passes == 0
        parts = self.signal.parts
        start = 0 if first else max(0, parts[numbers[0]].start - round(PREROLL_S * rate))
        stop = self.signal.sound.shape[1]
        if numbers[-1] + 1 < len(parts):
            stop = self.signal.markers[numbers[-1] + 1] + marker_span(rate)
        tail = round(MAX_LATENCY_S * rate)
        if self._timing is not None:
            tail = min(tail, round(1.2 * self._timing.late_at(stop)) + rate // 20)
        run = Pass(self.signal.sound[:, start:stop], self.device.channels_in, tail=tail)
        self._passes += 1
        take = self._passes
        self.tape.roll(run)
        try:
            while not run.done:
                self._wait()
                face.progress(run.at / rate, run.length / rate, what)
        finally:
            self.tape.roll(None)
            self._judge(Recorded(run.taken[: self.returns, : run.at], start, tuple(run.xruns), take), numbers, run)

    def _judge(self, recorded: Recorded, numbers: list[int], run: Pass) -> None:
        if self._timing is None:
            self._first = recorded
            self._timing = self._find_out(recorded, run)
            if self._timing is None:
                return
        for take in judge(self.signal, recorded, self._timing, numbers, self.options.block):
            self.takes[take.part] = better(self.takes.get(take.part), take)

    def _find_out(self, recorded: Recorded, run: Pass) -> Timing | None:
        """The latency: by markers; else the loopback's; else by comparing the whole sounds; else none is removed."""
        enough = self.signal.markers[1] + marker_span(self.sample_rate)
        if recorded.sound.shape[1] < enough:
            return None
        if self.options.loopback_channel is not None:
            self._loopback = self._measure_loopback(Recorded(run.taken[self.returns :, : run.at], recorded.start))
        try:
            return first_timing(self.signal, recorded)
        except FxcloneError:
            if run.done and not np.any(recorded.sound):
                raise DeviceError(
                    f"nothing but digital silence comes back from {self.device.name}; check cables and --input-channel"
                ) from None
        return self._without_markers(recorded)

    def _without_markers(self, recorded: Recorded) -> Timing:
        said = "the effect leaves nothing of the markers, so drop-outs that the device does not report go unseen"
        if self._loopback is not None:
            self.notes.append(f"{said}; the latency that was removed is the loopback's")
            return Timing(None, int(self._loopback), False, "loopback")
        from fxclone.alignment import align_pair

        length = min(recorded.sound.shape[1], self.signal.sound.shape[1])
        found = align_pair(
            self.signal.sound[:, :length], recorded.sound[:1, :length], self.sample_rate, max_lag_s=MAX_LATENCY_S
        )
        if found.confident and found.lag_samples >= 0:
            self.notes.append(f"{said}; the latency was found by comparing the whole sounds")
            return Timing(None, int(found.lag_samples), False, "alignment")
        self.notes.append(f"{said}; and no latency was removed, because none could be told: add --loopback-channel")
        return Timing(None, 0, False, "none")

    def _measure_loopback(self, recorded: Recorded) -> float | None:
        channel = self.options.loopback_channel
        try:
            placement = first_timing(self.signal, recorded).placement
        except FxcloneError:
            self.notes.append(f"the markers did not come back on loopback input {(channel or 0) + 1}; check that cable")
            return None
        return None if placement is None else placement.start

    def _facts(self) -> dict[str, Any]:
        meters = self.engine.meters
        options = self.options
        return {
            "source": "device",
            "device": self.device.name,
            "block": options.block,
            "input_channels": [channel + 1 for channel in options.input_channels],
            "output_channels": [channel + 1 for channel in self.opened.play_on],
            "loopback_channel": None if options.loopback_channel is None else options.loopback_channel + 1,
            "claimed_latency_ms": self._claimed,
            "send_db": options.send_db,
            "sent_peak_dbfs": round(self.signal.peak_dbfs, 2),
            "seed": options.seed,
            "own_sound": None if options.dry is None else options.dry.name,
            "level": None
            if self._advice is None
            else {"verdict": self._advice.verdict, "peak_dbfs": round(self._advice.peak_dbfs, 2)},
            "passes": self._passes,
            "xruns": meters.xruns,
            "xrun_kinds": dict(meters.xrun_kinds),
            "interrupted": self.interrupted,
        }
