"""Playing as the user's side sees it: starts the audio process, passes on keys, shows what it counts, hears its end.

If the device is lost, the audio process ends and another one is started until the device is back: a fresh process is
the only thing that surely forgets a driver that hangs, and it takes up whatever rate the device has come back with.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

from fxclone import errors
from fxclone.errors import DeviceError, FxcloneError
from fxclone_realtime.facts import Facts, facts_from
from fxclone_realtime.meters import Meters
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.report import report_of_the_dead
from fxclone_realtime.rescue import rescue, unfinished

TICK_S = 0.05
RETRY_S = 1.0
END_LIMIT_S = 5.0
"""How long the audio process may take to end after it was asked to; closing a device takes up to two."""
HANG_S = 10.0
"""Without a sign of life for so long it is ended; closing a long recording or loading a clone is shorter."""
_SHARED_MEMORY = "/dev/shm"


class Watcher(Protocol):
    """Who shows it; `face.Face` does."""

    def tick(self, playing: AudioProcess) -> None:
        """Called 20 times a second while it plays."""

    def say(self, text: str) -> None:
        """Something happened."""


class AudioProcess:
    """The other process, from start to end.

    Attributes
    ----------
    facts : Facts or None
        Known once sound runs.
    end : dict or None
        Its last word.
    """

    def __init__(self, options: PlayOptions, commands: list[str], *, began_s: float) -> None:
        self.options = options
        self.facts_known: Facts | None = None
        self.end: dict[str, Any] | None = None
        self._meters: Meters | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="fxclone-", dir=_in_memory())
        shared = Path(self._folder.name) / "meters"
        shared.write_bytes(bytes(Meters.BYTES))
        with shared.open("r+b") as file:
            self._memory = memoryview(mmap.mmap(file.fileno(), 0))
        self._chatter: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        roots = dict.fromkeys(str(Path(module.__file__ or "").resolve().parents[1]) for module in _modules())
        known = os.environ.get("PYTHONPATH")
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "fxclone_realtime.audio_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("FXCLONE_DEBUG") else self._chatter,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*([known] if known else []), *roots])},
            text=True,
            bufsize=1,
        )
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        request = {"options": options.as_dict(), "memory": str(shared), "began_s": began_s, "commands": commands}
        self.send(json.dumps(request))
        self._beats, self._beat_at = 0, time.perf_counter()

    @property
    def facts(self) -> Facts:
        """Known once sound runs."""
        if self.facts_known is None:
            raise RuntimeError("the audio process has not said that it is ready")
        return self.facts_known

    @property
    def meters(self) -> Meters:
        """What it counts, as it is now."""
        if self._meters is None:
            self._meters = Meters(self.facts.budget_s, self.facts.outputs, self._memory)
        return self._meters

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def send(self, line: str) -> None:
        """Pass on a line; nothing if it has ended."""
        with suppress(OSError, ValueError):
            assert self._child.stdin is not None
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def poll(self, wait_s: float) -> dict[str, Any] | None:
        """The next event, or None if none comes in time.

        Raises
        ------
        FxcloneError
            If the process has died or hangs.
        """
        try:
            event = self._events.get(timeout=wait_s)
        except queue.Empty:
            self._still_alive()
            return None
        if event is None:
            raise FxcloneError(self._died())
        self._beat_at = time.perf_counter()
        if event["event"] in ("ready", "facts"):
            self.facts_known = facts_from(event["facts"])
        elif event["event"] == "end":
            self.end = event
        return event

    def _still_alive(self) -> None:
        if self.facts_known is None:
            return
        # While it loads something, the beats pause and the sound goes on.
        beats, now = self.meters.beats + self.meters.blocks, time.perf_counter()
        if beats != self._beats:
            self._beats, self._beat_at = beats, now
        elif now - self._beat_at > HANG_S:
            self.kill()
            raise FxcloneError(
                f"the audio process has hung for {HANG_S:g} s and was ended; play it again, and if a plugin or an "
                "effect does it each time, leave that out"
            )

    def _died(self) -> str:
        code = self._child.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {-code}"
            with suppress(ValueError):
                how += f", {signal.Signals(-code).name}"
        return f"the audio process ended unexpectedly ({how}){self._last_words()}; play it again"

    def _last_words(self) -> str:
        self._chatter.seek(0)
        lines = [line for line in self._chatter.read().decode(errors="replace").splitlines() if line.strip()]
        return f'; it said "{" ".join(lines[-1].split())[:200]}"' if lines else ""

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def close(self) -> None:
        """Wait for its end, not for ever, and clean up."""
        with suppress(OSError, ValueError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        try:
            self._child.wait(timeout=END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            with suppress(OSError, ValueError):
                self._child.stdout.close()
        self._chatter.close()
        with suppress(OSError):
            self._folder.cleanup()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with suppress(OSError, ValueError):
            for line in self._child.stdout:
                self._events.put(json.loads(line))
        self._events.put(None)


def _in_memory() -> str | None:
    """A folder that is on no disk, if there is one.

    Whenever the system saves a page of a file, the next who writes to it is held up: the audio callback.
    """
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None


def _modules() -> list[Any]:
    import fxclone
    import fxclone_realtime

    return [fxclone, fxclone_realtime]


class LivePlayer:
    """Plays until it is stopped, through as many audio processes as it takes.

    Parameters
    ----------
    options : PlayOptions
    face : Watcher or None
        Who shows it.
    lines : callable
        Returns the commands that have come in since it was last asked.
    stopped : callable
        Whether the user wants an end.
    began_s : float
        When the program began.
    """

    def __init__(
        self,
        options: PlayOptions,
        *,
        face: Watcher | None,
        lines: Callable[[], list[str]],
        stopped: Callable[[], bool],
        began_s: float,
    ) -> None:
        self.options, self._face, self._lines, self._stopped, self._began_s = options, face, lines, stopped, began_s
        self._reports: list[dict[str, Any]] = []
        self._state: list[str] = []
        self._started_at = time.perf_counter()

    def run(self) -> tuple[dict[str, Any] | None, FxcloneError | None]:
        """Play; return the report of what was heard, if anything was, and the error that ended it, if one did."""
        options, lost_at = self.options, None
        while True:
            error, was_ready = self._play_once(options)
            now = time.perf_counter()
            if not isinstance(error, DeviceError) or (lost_at is None and not was_ready):
                return self._report(error), error
            if was_ready:
                lost_at = now
                self._say(f"{error}; silent until it is back")
            assert lost_at is not None
            if self._given_up(now - lost_at) or not self._wait(RETRY_S):
                return self._report(error), None if self._stopped() else error
            options = self._continued()

    def _play_once(self, options: PlayOptions) -> tuple[FxcloneError | None, bool]:
        known = {path: unfinished(path) for path in (options.record, options.record_dry) if path is not None}
        process = AudioProcess(options, self._state, began_s=self._began_s)
        error: FxcloneError | None = None
        asked_to_end_at: float | None = None
        try:
            while process.end is None:
                event = process.poll(TICK_S)
                if event is not None:
                    self._heard(event, process)
                for line in self._lines():
                    process.send(line)
                if self._stopped() and process.facts_known is None:
                    process.kill()  # nothing sounds yet; a driver may hang while it is asked
                    break
                if self._stopped() and asked_to_end_at is None:
                    asked_to_end_at = time.perf_counter()
                    process.send("quit")
                if asked_to_end_at is not None and time.perf_counter() > asked_to_end_at + END_LIMIT_S:
                    process.kill()
                    raise FxcloneError("the audio process did not end when it was asked to, and was ended")
                if process.facts_known is not None:
                    self._remember(process)
                    if self._face is not None:
                        self._face.tick(process)
        except FxcloneError as raised:
            error = raised
        if process.end is not None:
            if process.end["report"] is not None:
                self._reports.append(process.end["report"])
            if process.end["error"] is not None:
                kind = getattr(errors, process.end["error"]["kind"], FxcloneError)
                error = kind(process.end["error"]["message"])
        process.close()
        if process.end is None:
            left = {path: unfinished(path) - before for path, before in known.items()}
            saved = {path: rescue(path, found, force=options.force) for path, found in left.items()}
            if process.facts_known is not None:
                self._reports.append(report_of_the_dead(process, self._began_s, saved))
        return error, process.facts_known is not None

    def _heard(self, event: dict[str, Any], process: AudioProcess) -> None:
        if event["event"] == "ready" and self._reports:
            self._say(f"the device is back: {process.facts.device} at {process.facts.sample_rate} Hz")
        elif event["event"] == "trip":
            self._say(f"monitor {event['text']}")
        elif event["event"] == "said":
            self._say(event["text"])

    def _say(self, text: str) -> None:
        if self._face is not None:
            self._face.say(text)

    def _remember(self, process: AudioProcess) -> None:
        """What is set now, so that it is set again after the device was lost."""
        m = process.meters
        self._state = [f"mix {m.mix}", f"gain {m.out_gain_db}", f"in-gain {m.in_gain_db}"]
        if m.voice < len(process.options.next_chains) + 1:
            self._state.append(f"chain {m.voice + 1}")
        self._state += ["bypass on"] * bool(m.bypass) + ["against on"] * bool(m.against)

    def _given_up(self, lost_for_s: float) -> bool:
        left_s = self._left_s()
        return lost_for_s >= self.options.reconnect_s or (left_s is not None and left_s <= 0)

    def _left_s(self) -> float | None:
        duration = self.options.duration_s
        return None if duration is None else duration - (time.perf_counter() - self._started_at)

    def _wait(self, seconds: float) -> bool:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if self._stopped() or "quit" in self._lines():
                return False
            time.sleep(TICK_S)
        return True

    def _continued(self) -> PlayOptions:
        """The same again, with what is left of the time, and recordings beside the first ones."""
        left_s, number = self._left_s(), len(self._reports) + 1

        def beside(path: Path | None) -> Path | None:
            return None if path is None else path.with_name(f"{path.stem}-{number}{path.suffix}")

        return replace(
            self.options,
            duration_s=None if left_s is None else max(0.05, left_s),
            record=beside(self.options.record),
            record_dry=beside(self.options.record_dry),
        )

    def _report(self, error: FxcloneError | None) -> dict[str, Any] | None:
        if not self._reports:
            return None
        first, last = self._reports[0], self._reports[-1]
        whole = {**last, "reconnects": len(self._reports) - 1, "first_sound_s": first["first_sound_s"]}
        files = [each[key] for each in self._reports for key in ("record", "record_dry")]
        whole["recordings"] = [path for path in files if path is not None]
        if len(self._reports) > 1:
            for key in ("blocks", "seconds", "xruns", "trip_count", "record_lost_samples"):
                whole[key] = round(sum(each[key] for each in self._reports), 3)
            whole["trips"] = [trip for each in self._reports for trip in each["trips"]]
            for key in ("record", "record_dry"):
                whole[key] = first[key]
        if error is not None:
            whole["error"] = str(error)
        return whole
