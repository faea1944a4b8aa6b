"""The process in which sound runs: ``python -m fxclone_realtime.audio_process``, started by `live`.

Nothing else happens in it: whoever shows meters, reads keys or prints is another process, so that nothing of that can
hold up the sound. Standard input brings one line of JSON (what to play), then commands, a line each (see `control`);
its end means that nobody is left, and the sound ends a second later. Standard output takes events, a line of JSON each:

- ``ready`` with `Facts`, once sound runs, and ``facts`` when they have changed; ``said`` and ``trip`` with a text;
- ``end`` with the report, if it came to playing, and the error, if there was one. It is always the last.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fxclone.errors import FxcloneError
from fxclone_realtime.options import options_from
from fxclone_realtime.player import ORPHANED, Session

ORPHAN_LIMIT_S = 60.0
"""What is left of a recording is written by then."""


def main() -> None:
    """Play what standard input asks for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until it plays: then it is a good end
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # drivers and plugins print where they like
    asked = sys.stdin.readline()
    if not asked:
        return
    request = json.loads(asked)

    def tell(event: str, **more: Any) -> None:
        try:
            events.write(json.dumps({"event": event, **more}) + "\n")
            events.flush()
        except (OSError, ValueError):
            pass  # nobody listens any more: the end of standard input says so too

    session: Session | None = None
    error: FxcloneError | None = None
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox,), daemon=True).start()
    try:
        memory = _shared(Path(request["memory"]))
        session = Session(options_from(request["options"]), memory=memory, process_began_s=request["began_s"])
        session.inbox = inbox
        for line in request["commands"]:
            session.do(line)
        session.engine.settle()
        session.run(_Teller(tell).tick)
    except FxcloneError as raised:
        error = raised
    played = session is not None and session.meters.blocks > 0
    tell(
        "end",
        report=session.report() if session is not None and played else None,
        error=None if error is None else {"kind": type(error).__name__, "message": str(error)},
    )
    if session is not None and session.orphaned:
        shutil.rmtree(Path(request["memory"]).parent, ignore_errors=True)  # nobody else will
    sys.stderr.flush()
    os._exit(0)  # a driver whose device is gone may hang in its own good-bye


class _Teller:
    """Tells what is new, from the main thread."""

    def __init__(self, tell: Any) -> None:
        self._tell, self._ready = tell, False
        self._heard = (0, False, 0)
        self._trips_told = 0

    def tick(self, session: Session) -> None:
        if not self._ready and session.meters.blocks:
            self._ready = True
            self._heard = session.heard
            self._tell("ready", facts=session.facts.as_dict())
        elif self._ready and session.heard != self._heard:
            self._heard = session.heard
            self._tell("facts", facts=session.facts.as_dict())
        trips = session.trips
        for trip in trips[self._trips_told :]:
            self._tell("trip", text=str(trip))
        self._trips_told = len(trips)
        for text in session.take_answers():
            self._tell("said", text=text)


def _listen(inbox: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        inbox.put(line.strip())
    inbox.put(ORPHANED)
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(1)  # something hangs: a driver, a plugin


def _shared(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0))


if __name__ == "__main__":
    main()
