"""Commands while playing: single keys on a terminal, lines from a pipe. Both end up as lines for `control`."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fxclone.errors import UsageError
from fxclone_realtime.control import KEYS

Lines = Callable[[], list[str]]
STDIN = "-"


@contextmanager
def commands(*, keyboard: bool, control: str | None) -> Iterator[Lines]:
    """Give a function that returns the lines which have come in since its last call.

    Parameters
    ----------
    keyboard : bool
        Read single keys, if standard input is a terminal.
    control : str or None
        A file or pipe to read lines from; ``-`` is standard input.
    """
    with ExitStack() as stack:
        sources: list[Lines] = []
        if control is not None:
            sources.append(_from_pipe(control))
        elif keyboard and sys.stdin.isatty():
            sources.append(stack.enter_context(_from_keyboard()))
        yield lambda: [line for source in sources for line in source()]


def _from_pipe(name: str) -> Lines:
    if name != STDIN and not Path(name).exists():
        raise UsageError(f"--control {name} does not exist; expected a file or a pipe (mkfifo {name}), or - for stdin")
    came: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        if name == STDIN:
            for line in sys.stdin:
                came.put(line.strip())
            return
        again = True
        while again:
            with open(name, encoding="utf-8") as pipe:  # noqa: PTH123
                for line in pipe:
                    came.put(line.strip())
            again = Path(name).is_fifo()  # the next writer

    threading.Thread(target=read, name="control", daemon=True).start()

    def take() -> list[str]:
        lines = []
        while not came.empty():
            lines.append(came.get())
        return [line for line in lines if line]

    return take


@contextmanager
def _from_keyboard() -> Iterator[Lines]:
    if sys.platform == "win32":
        import msvcrt

        def pressed() -> list[str]:
            lines = []
            while msvcrt.kbhit():
                lines += _said(msvcrt.getwch())
            return lines

        yield pressed
        return
    import select
    import termios
    import tty

    terminal = sys.stdin.fileno()
    kept = termios.tcgetattr(terminal)

    def read() -> list[str]:
        lines: list[str] = []
        while select.select([terminal], [], [], 0)[0]:
            text = os.read(terminal, 64).decode(errors="ignore")
            if not text:
                break
            if len(text) > 1 and text[0] == "\x1b":  # an arrow or another key that sends several
                continue
            lines += [line for key in text for line in _said(key)]
        return lines

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, kept)


def _said(key: str) -> list[str]:
    line = KEYS.get(key)
    return [line] if line else []
