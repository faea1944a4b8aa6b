"""A playing session: builds voices, engine and device from what the user asked, runs them, reports.

It runs in whichever process makes it; `fxclone play` gives it one of its own (`audio_process`).
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fxclone.audio import db_to_gain
from fxclone.clone import Clone
from fxclone.errors import FxcloneError, UsageError
from fxclone.processor import channels_text
from fxclone_realtime.awake import processor_awake
from fxclone_realtime.control import changed, parse_command
from fxclone_realtime.devices import AudioDevice
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.facts import Facts
from fxclone_realtime.interpreter import audio_priority, denormals_off, process_start, raise_priority
from fxclone_realtime.interpreter import stop_on_signals as stop_on_signals
from fxclone_realtime.meters import Meters
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.parts import Part, part_notes, part_of, share_the_time, watched
from fxclone_realtime.recorder import Recorder
from fxclone_realtime.report import report_of
from fxclone_realtime.rig import ORIGINAL, load_rig, original_rig
from fxclone_realtime.setup_device import open_device
from fxclone_realtime.sources import FileSource

LONGEST_TAIL_S = 60.0
"""How much of the tail is played after the end of an input file, as much as `fxclone render` writes."""
TICK_S = 0.05
MOST_CHAINS = 32
EARLIEST_SHARE, LATEST_SHARE = 0.15, 0.4
"""Of a block's time: so long after the end of one, there is a gap before the next that is long enough."""
ORPHAN_S = 1.0
"""How long the sound goes on when nobody is left who could stop it."""
HANG_S = 1.5
"""A chain that takes so long for a block does not come back; less than what makes a device count as lost."""
QUIT, ORPHANED, SERVE = "quit", "orphaned", "serve"


class Session:
    """Everything that is needed to play, made and checked; `run` plays.

    Lines put into ``inbox`` from any thread are carried out while it plays; see `control`.

    Parameters
    ----------
    options : PlayOptions
    memory : callable or None
        Gives the memory for the meters, if they are to be shared.
    process_began_s : float or None
        When the program began, on the clock of ``time.perf_counter()``; this process's start if None.

    Raises
    ------
    FxcloneError
        From anything that is missing, refused or too heavy, before a sound is made.
    """

    def __init__(
        self,
        options: PlayOptions,
        *,
        memory: memoryview | None = None,
        process_began_s: float | None = None,
    ) -> None:
        self.options = options
        for target in (options.record, options.record_dry):
            if target is not None:
                from fxclone.paths import check_target

                check_target(target, force=options.force)
        rig = load_rig(options.chain_text, input_dbu=options.input_dbu)
        self.clones: list[Clone] = rig.clones
        self.clone_rate = rig.clones[0].sample_rate if rig.clones else (options.sample_rate or 48_000)
        opened = open_device(options, self.clone_rate)
        self.device: AudioDevice = opened.device
        self.source: FileSource | None = opened.source
        self.notes = opened.notes
        self.inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.priority, self._awake = "", False
        rate = self.device.sample_rate
        first = watched(rig, rate, self._ask_for_reset)
        self.engine = Engine(
            first,
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
            meters=Meters(options.block / rate, self.device.channels_out, memory),
            on_first_block=self._first_block,
        )
        self.monitor = first
        self.parts = [Part(rig, first, self.engine.playing, part_notes(rig, self.engine))]
        self.parts += [self._load(text) for text in options.next_chains]
        self.against: Part | None = None
        if options.against is not None:
            same = options.against == ORIGINAL
            self.against = (
                part_of(original_rig(rig), self.engine, self._ask_for_reset) if same else self._load(options.against)
            )
            self.engine.keep_warm(self.parts[0].voice, self.against.voice)
        self.notes += [note for part in self.all_parts for note in part.notes]
        self.capacity = share_the_time(self.parts, self.against, self.engine)
        if not options.anyway:
            self.capacity.check()
        self.chosen, self.on_original = 0, False
        self.recorders: dict[str, Recorder] = {}
        self._gains_db = {"gain": options.out_gain_db, "in-gain": options.in_gain_db}
        self.began_s = process_start() if process_began_s is None else process_began_s
        self._device_latency_s = (0.0, 0.0)
        self._orphaned_at: float | None = None
        self._answers: list[str] = []
        self._seen_blocks, self._seen_at = -1, 0.0
        self.publish()

    @property
    def all_parts(self) -> list[Part]:
        """Every chain, and the original last."""
        return self.parts + ([self.against] if self.against else [])

    @property
    def recorder(self) -> Recorder | None:
        """Of what is heard."""
        return self.recorders.get("heard")

    def _first_block(self) -> None:
        if self.options.null:  # nothing waits for its sound
            self.priority = "ordinary priority (null device)"
            denormals_off()
        else:
            self.priority = raise_priority() + (", processor kept awake" if self._awake else "")

    def _load(self, text: str) -> Part:
        return part_of(load_rig(text, input_dbu=self.options.input_dbu), self.engine, self._ask_for_reset)

    def _ask_for_reset(self) -> None:
        self.inbox.put(SERVE)  # from the callback: it wakes up who serves, and neither waits nor locks

    def serve(self) -> None:
        """Reset what a monitor has asked for; from the thread that made the session, while it plays."""
        for part in self.all_parts:
            part.monitor.serve()

    # Playing

    def run(self, on_tick: Callable[[Session], None] | None = None) -> None:
        """Play until the duration or the file ends, or Ctrl-C; ``on_tick`` is called 20 times a second.

        Raises
        ------
        DeviceError
            If the device cannot be opened or is lost.
        FxcloneError
            If a model fails while running.
        """
        engine = self.engine
        self._open_recorders()
        try:
            with stop_on_signals() as stop, audio_priority(), processor_awake() as self._awake:
                try:
                    self.device.start(engine)
                    self._device_latency_s = self.device.latency_s
                    self._watch(stop, on_tick)
                finally:
                    self.device.stop()
        finally:
            for recorder in self.recorders.values():
                if engine.meters.blocks:
                    recorder.close()
                else:
                    recorder.discard()

    def _open_recorders(self) -> None:
        options, engine = self.options, self.engine
        wanted: dict[str, tuple[Path | None, int]] = {
            "heard": (options.record, engine.channels_out),
            "dry": (options.record_dry, engine.channels_in),
        }
        for name, (path, channels) in wanted.items():
            if path is not None:
                self.recorders[name] = Recorder(path, engine.sample_rate, channels, force=options.force)
        engine.recorder, engine.dry_recorder = self.recorders.get("heard"), self.recorders.get("dry")

    def _watch(self, stop: threading.Event, on_tick: Callable[[Session], None] | None) -> None:
        began = time.perf_counter()
        duration = self.options.duration_s
        while not self._ended():
            left = TICK_S if duration is None else began + duration - time.perf_counter()
            if left <= 0 or stop.is_set() or not self._obey(self._until_a_gap(min(TICK_S, left))):
                self._fade_out()
                return
            self._wait_for_a_gap()
            self._check_hang()
            self.device.check()
            if self.engine.failure is not None:
                reason = " ".join(str(self.engine.failure).split())
                raise FxcloneError(f"playing stopped because the model failed: {reason}")
            for recorder in self.recorders.values():
                recorder.drain()
            self.publish()
            if on_tick is not None:
                on_tick(self)

    def _wait_for_a_gap(self) -> None:
        """Return when a block has just been done, if they come regularly: what is done now holds up no other."""
        since_s = time.perf_counter() - self.meters.ended_s
        if since_s % self.engine.budget_s > LATEST_SHARE * self.engine.budget_s:
            time.sleep(self._until_a_gap(0.0))

    def _until_a_gap(self, wait_s: float) -> float:
        """Seconds to the first gap between two blocks after ``wait_s``, if blocks come regularly.

        When this thread wakes up, it wants the interpreter, which the callback lets go of while a clone runs, and would
        have to wait for then.
        """
        budget_s = self.engine.budget_s
        since_s = time.perf_counter() - self.meters.ended_s
        gap_s = math.ceil((since_s + wait_s) / budget_s) * budget_s - since_s + EARLIEST_SHARE * budget_s
        return min(gap_s, wait_s + TICK_S)

    def _check_hang(self) -> None:
        meters, now = self.meters, time.perf_counter()
        if meters.entered == meters.blocks or meters.blocks != self._seen_blocks:
            self._seen_blocks, self._seen_at = meters.blocks, now
        elif now - self._seen_at > HANG_S + 4 * self.engine.budget_s:
            raise FxcloneError(
                f"playing stopped because {self.engine.playing.name or self.parts[self.chosen].rig.name} hangs: it has "
                f"not given a block back for {HANG_S:g} s; leave out what does not come back, a plugin for example"
            )

    @property
    def orphaned(self) -> bool:
        """Whether nobody is left who could stop it."""
        return self._orphaned_at is not None

    def _obey(self, wait_s: float) -> bool:
        """Carry out the next line, if one comes in time; False to end."""
        if self._orphaned_at is not None and time.perf_counter() > self._orphaned_at + ORPHAN_S:
            return False
        try:
            line = self.inbox.get(timeout=max(0.001, wait_s))
        except queue.Empty:
            return True
        if line == ORPHANED:
            self._orphaned_at = time.perf_counter()
            return True
        if line == SERVE:
            self.serve()
            return True
        try:
            return self.do(line)
        except FxcloneError as error:
            self._answers.append(str(error))
            return True

    def _fade_out(self) -> None:
        blocks = self.engine.meters.blocks
        self.engine.fade_out()
        until = time.perf_counter() + 0.02 + 3 * self.engine.budget_s
        while time.perf_counter() < until and self.engine.meters.blocks >= blocks:
            time.sleep(0.002)

    def do(self, line: str) -> bool:
        """Carry out one line (see `control`); False for quit.

        Raises
        ------
        FxcloneError
            If it makes no sense here; the sound goes on as it was.
        """
        engine, command = self.engine, parse_command(line)
        if command.name == QUIT:
            return False
        if command.name == "bypass":
            engine.bypass = (not engine.bypass) if command.on is None else command.on
        elif command.name == "mix":
            engine.mix = changed("mix", engine.mix, command)
        elif command.name in self._gains_db:
            gain_db = changed(command.name, self._gains_db[command.name], command)
            self._gains_db[command.name] = gain_db
            if command.name == "gain":
                engine.out_gain = db_to_gain(gain_db)
            else:
                engine.in_gain = db_to_gain(gain_db)
        elif command.name == "against":
            self._turn_to_original((not self.on_original) if command.on is None else command.on)
        elif command.name == "load":
            if len(self.parts) >= MOST_CHAINS:
                raise UsageError(f"{MOST_CHAINS} chains are loaded; choose one of them, or start anew")
            part = self._load(command.text)
            needed = share_the_time([part], self.against, self.engine)
            if not self.options.anyway:
                needed.check()
            self.parts.append(part)
            self._choose(len(self.parts) - 1)
        elif command.name == "next":
            if len(self.parts) == 1:
                raise UsageError("there is no other chain; start with --next CHAIN to have one")
            self._choose((self.chosen + 1) % len(self.parts))
        else:
            self._choose(int(command.number or 0) - 1)
        self.publish()
        return True

    def _choose(self, number: int) -> None:
        if not 0 <= number < len(self.parts):
            raise UsageError(f"chain {number + 1}; expected 1 to {len(self.parts)}")
        self.chosen, self.on_original = number, False
        voice = self.parts[number].voice
        self.engine.play(voice)
        if self.against is not None:
            self.engine.keep_warm(voice, self.against.voice)

    def _turn_to_original(self, on: bool) -> None:
        if self.against is None:
            raise UsageError("there is nothing to compare with; start with --against EFFECT")
        self.on_original = on
        self.engine.play(self.against.voice if on else self.parts[self.chosen].voice)

    def _ended(self) -> bool:
        if self.source is None:
            return False
        tail = round(min(self.tail_s, LONGEST_TAIL_S) * self.engine.sample_rate)
        return self.source.past_end > self.engine.latency_samples + tail

    # What is told

    def publish(self) -> None:
        """Bring the meters up to date with what is set."""
        meters, engine = self.meters, self.engine
        meters.trip_count = sum(part.monitor.status.trip_count for part in self.all_parts)
        heard = self.against if self.on_original and self.against else self.parts[self.chosen]
        meters.bypassed = int(heard.monitor.status.bypassed)
        meters.bypass, meters.against = int(engine.bypass), int(self.on_original)
        meters.mix, meters.voice = engine.mix, self.chosen
        meters.out_gain_db, meters.in_gain_db = self._gains_db["gain"], self._gains_db["in-gain"]
        meters.beats += 1

    @property
    def heard(self) -> tuple[int, bool, int]:
        """Which chain is heard, whether it is the original instead, and how many chains there are."""
        return self.chosen, self.on_original, len(self.parts)

    def take_answers(self) -> list[str]:
        """What there was to say about lines that could not be carried out, since the last call."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def trips(self) -> list[Any]:
        """What the monitors of all chains did, a `Trip` each."""
        return [trip for part in self.all_parts for trip in part.monitor.status.trips]

    @property
    def meters(self) -> Meters:
        """The engine's."""
        return self.engine.meters

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

    @property
    def facts(self) -> Facts:
        """What does not change while it plays."""
        engine = self.engine
        return Facts(
            chains=tuple(part.rig.name for part in self.parts),
            against=None if self.against is None else self.against.rig.name,
            device=self.device.name,
            input_file=None if self.options.input_file is None else self.options.input_file.name,
            sample_rate=engine.sample_rate,
            block=engine.max_block,
            outputs=engine.channels_out,
            wet_channels=engine.wet_channels,
            sound=self.sound,
            latency_ms=self.latency_ms,
            tail_s=self.tail_s,
            notes=tuple(self.notes),
            load=round(self.capacity.load, 3),
            advice=self.capacity.what_helps(),
            priority=self.priority,
            ceiling=self.engine.path.ceiling,
        )

    def report(self) -> dict[str, Any]:
        """What happened, as plain values: the object that ``--json`` prints."""
        return report_of(self)
