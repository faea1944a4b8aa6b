"""A playing session: builds the chain, the engine and the device from what the user asked, runs it, reports."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fxclone.audio import db_to_gain
from fxclone.clone import Clone, load_clone
from fxclone.errors import FxcloneError
from fxclone.processor import Chain, Processor, channels_text
from fxclone.resampled import Resampled
from fxclone_realtime import capacity
from fxclone_realtime.devices import AudioDevice
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.interpreter import audio_priority, process_start
from fxclone_realtime.monitor import StabilityMonitor
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.recorder import Recorder
from fxclone_realtime.setup_device import open_device
from fxclone_realtime.sources import FileSource

LONGEST_TAIL_S = 60.0
"""How much of the tail is played after the end of an input file, as much as `fxclone render` writes."""
TICK_S = 0.05


def build_chain(clones: list[Clone], sample_rate: int) -> Processor:
    """Clones in series; neighbours of the same rate share one resampler where the stream has another rate."""
    links: list[Processor] = []
    for rate, group in itertools.groupby(clones, key=lambda clone: clone.sample_rate):
        members = list(group)
        if rate == sample_rate:
            links.extend(members)
        else:
            links.append(Resampled(Chain(members) if len(members) > 1 else members[0], rate))
    return links[0] if len(links) == 1 else Chain(links)


def chain_levels(clones: list[Clone]) -> dict[str, float]:
    """What training saw: the first clone's dry level and the last one's wet level and DC."""
    sides = (("dry_peak", clones[0]), ("wet_peak", clones[-1]), ("wet_dc", clones[-1]))
    return {key: clone.meta.levels[key] for key, clone in sides if key in clone.meta.levels}


def channel_notes(clones: list[Clone], channels_in: int, channels_out: int) -> list[str]:
    """Where channels are mixed on their way through prepared clones, from ``channels_in`` to ``channels_out``."""
    notes, count = [], channels_in
    for clone in clones:
        if count > 1 and clone.channels_in == 1 and clone.meta.channels_out > 1:
            notes.append(f"{clone.name} takes one channel: it hears the mean of {count}")
        count = clone.channels_out
    if count not in (1, channels_out):
        where = "the output has one channel" if channels_out == 1 else f"there are {channels_out} outputs"
        notes.append(f"{where}: you hear the mean of the {count} that {clones[-1].name} gives")
    return notes


class Session:
    """Everything that is needed to play, made and checked; `run` plays.

    Raises
    ------
    FxcloneError
        From anything that is missing, refused or too heavy, before a sound is made.
    """

    def __init__(self, options: PlayOptions) -> None:
        self.options = options
        if options.record is not None:
            from fxclone.paths import check_target

            check_target(options.record, force=options.force)
        self.clones = [load_clone(path) for path in options.models]
        opened = open_device(options, self.clones[0].sample_rate)
        self.device: AudioDevice = opened.device
        self.source: FileSource | None = opened.source
        self.notes = opened.notes
        rate = self.device.sample_rate
        self.monitor = StabilityMonitor(build_chain(self.clones, rate), chain_levels(self.clones))
        self.engine = Engine(
            self.monitor,
            sample_rate=rate,
            max_block=options.block,
            channels_in=self.device.channels_in,
            channels_out=self.device.channels_out,
            path=SoundPath(
                in_gain=db_to_gain(options.in_gain_db),
                out_gain=db_to_gain(options.out_gain_db),
                mix=options.mix,
                ceiling=db_to_gain(options.ceiling_db),
            ),
        )
        self.notes += channel_notes(self.clones, self.device.channels_in, self.device.channels_out)
        self.capacity = capacity.measure(self.monitor.inner, rate, options.block, self.device.channels_in)
        if not options.anyway:
            self.capacity.check()
        self.recorder: Recorder | None = None
        self._device_latency_s = (0.0, 0.0)

    def run(self, on_tick: Callable[[Session], None] | None = None) -> None:
        """Play until the duration or the file ends, or Ctrl-C; ``on_tick`` is called 20 times a second.

        Raises
        ------
        DeviceError
            If the device cannot be opened or is lost.
        FxcloneError
            If a model fails while running.
        """
        options, engine = self.options, self.engine
        if options.record is not None:
            self.recorder = Recorder(options.record, engine.sample_rate, engine.channels_out, force=options.force)
            engine.recorder = self.recorder
        try:
            with stop_on_signals() as stop, audio_priority():
                try:
                    self.device.start(engine)
                    self._device_latency_s = self.device.latency_s
                    self._watch(stop, on_tick)
                finally:
                    self.device.stop()
        finally:
            if self.recorder is not None:
                if engine.meters.blocks:
                    self.recorder.close()
                else:
                    self.recorder.discard()

    def _watch(self, stop: threading.Event, on_tick: Callable[[Session], None] | None) -> None:
        began = time.perf_counter()
        duration = self.options.duration_s
        while not self._ended():
            left = TICK_S if duration is None else began + duration - time.perf_counter()
            if left <= 0 or stop.wait(min(TICK_S, left)):
                return
            self.device.check()
            if self.engine.failure is not None:
                reason = " ".join(str(self.engine.failure).split())
                raise FxcloneError(f"playing stopped because the model failed: {reason}")
            if self.recorder is not None:
                self.recorder.drain()
            if on_tick is not None:
                on_tick(self)

    def _ended(self) -> bool:
        if self.source is None:
            return False
        tail = round(min(self.tail_s, LONGEST_TAIL_S) * self.engine.sample_rate)
        return self.source.past_end > self.engine.latency_samples + tail

    @property
    def sound(self) -> str:
        """Mono or stereo, from the input to what is heard."""
        return channels_text(self.device.channels_in, min(self.engine.wet_channels, self.device.channels_out))

    @property
    def tail_s(self) -> float:
        """How long the clones may be heard after the input has fallen silent."""
        return self.engine.processor.tail_samples / self.engine.sample_rate

    @property
    def latency_ms(self) -> dict[str, float]:
        """``device_in`` and ``device_out`` as the driver claims them, ``clone`` as it declares, and their ``total``."""
        device_in, device_out = (1e3 * each for each in self._device_latency_s)
        clone = 1e3 * self.engine.latency_samples / self.engine.sample_rate
        named = {"device_in": device_in, "device_out": device_out, "clone": clone}
        return {key: round(value, 3) for key, value in {**named, "total": sum(named.values())}.items()}

    def report(self) -> dict[str, Any]:
        """What happened, as plain values: the object that ``--json`` prints."""
        meters, status = self.engine.meters, self.monitor.status
        first = meters.first_block_s
        return {
            "models": [str(path) for path in self.options.models],
            "device": self.device.name,
            "sample_rate": self.engine.sample_rate,
            "block": self.engine.max_block,
            "channels_in": self.device.channels_in,
            "channels_out": self.device.channels_out,
            "sound": self.sound,
            "tail_s": round(self.tail_s, 3),
            "latency_ms": self.latency_ms,
            "latency_samples": self.engine.latency_samples,
            "blocks": meters.blocks,
            "seconds": round(meters.samples / self.engine.sample_rate, 3),
            "xruns": meters.xruns,
            "xrun_kinds": dict(meters.xrun_kinds),
            "callback_ms": meters.times.summary_ms(),
            "budget_ms": round(1e3 * self.engine.budget_s, 4),
            "first_sound_s": None if first is None else round(first - process_start(), 3),
            "trips": status.as_dicts(),
            "trip_count": status.trip_count,
            "bypassed": status.bypassed,
            "record": None if self.options.record is None else str(self.options.record),
            "record_lost_samples": 0 if self.recorder is None else self.recorder.lost_samples,
        }


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that stopping is the normal end of playing and not an error."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, lambda *_: event.set())
    try:
        yield event
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
