"""Asking a plugin something, in a process of its own: whatever it does there ends in an answer or in one clear line."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from fxclone.effects.plugin_wire import Frame, read_frame, write_frame
from fxclone.errors import EffectError, UsageError

TIMEOUT_VARIABLE = "FXCLONE_PLUGIN_TIMEOUT_S"
"""Environment variable: how long a plugin may load, in seconds."""
LOAD_LIMIT_S = 60.0
RENDER_LIMIT_PER_S = 10.0
"""A plugin may take so many times the length of the sound, and the limit for loading on top."""
START_LIMIT_S = 120.0
"""For Python itself, on a machine that is busy."""

_DOING = {"starting": "starting", "loading": "loading", "rendering": "rendering", "done": "ending"}


def ask(what: str, job: dict[str, Any], takes: Sequence[Frame] = (), *, sound_s: float = 0.0) -> list[Frame]:
    """Let a child process do a job with a plugin.

    Parameters
    ----------
    what : str
        The plugin's name, for errors.
    job : dict
        See `plugin_child`.
    takes : sequence of (header, sound)
        What to render.
    sound_s : float
        Length of the longest take.

    Returns
    -------
    list of (header, sound)
        One for each take, or a single one.

    Raises
    ------
    EffectError
        If the plugin crashes, takes too long, or refuses.
    """
    load_limit_s = _load_limit_s()
    render_limit_s = load_limit_s + RENDER_LIMIT_PER_S * sound_s
    limits_s = {
        "starting": START_LIMIT_S,
        "loading": load_limit_s,
        # A description is many short renders, each with a load of its own, reported as one.
        "rendering": render_limit_s if takes else 5 * load_limit_s,
        "done": load_limit_s,
    }
    wanted = max(1, len(takes))
    total_s = START_LIMIT_S + 5 * wanted * (load_limit_s + render_limit_s)
    request = [({**job, "takes": len(takes), "limit_s": total_s}, None), *takes]
    with tempfile.TemporaryFile() as chatter, _child(chatter) as child:
        inbox = _talk(child, request)
        answers: list[Frame] = []
        stage = "starting"
        while len(answers) < wanted:
            try:
                frame = inbox.get(timeout=limits_s[stage])
            except queue.Empty:
                raise EffectError(_too_slow(what, stage, limits_s[stage], chatter)) from None
            if frame is None:
                raise EffectError(_ended(what, stage, child.wait(), chatter))
            header = frame[0]
            if "error" in header:
                raise EffectError(f"{what} failed: {header['error']}{_said(chatter)}")
            stage = str(header["stage"])
            if stage == "done":
                answers.append(frame)
        return answers


@contextlib.contextmanager
def _child(chatter: IO[bytes]) -> Any:
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "fxclone.effects.plugin_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=chatter,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, known] if known else [root])},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _talk(child: subprocess.Popen[bytes], request: Sequence[Frame]) -> queue.Queue[Frame | None]:
    """Send and receive in threads, so that a plugin which hangs holds up nobody. None in the queue: it has ended."""
    inbox: queue.Queue[Frame | None] = queue.Queue()
    stdin, stdout = child.stdin, child.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("a child without pipes")

    def send() -> None:
        with contextlib.suppress(OSError, ValueError), stdin:
            for header, sound in request:
                write_frame(stdin, header, sound)

    def receive() -> None:
        with contextlib.suppress(OSError, ValueError), stdout:
            while (frame := read_frame(stdout)) is not None:
                inbox.put(frame)
        inbox.put(None)

    for work in (send, receive):
        threading.Thread(target=work, daemon=True).start()
    return inbox


def _load_limit_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return LOAD_LIMIT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 86_400.0:
        raise UsageError(f"{TIMEOUT_VARIABLE} is {text}; expected seconds, more than 0")
    return seconds


def _too_slow(what: str, stage: str, limit_s: float, chatter: IO[bytes]) -> str:
    return (
        f"{what} hangs while {_DOING[stage]} (no answer for {limit_s:g} s){_said(chatter)}; it may wait for a licence "
        f"or a window: open it in a host once, or give it more time with {TIMEOUT_VARIABLE}=300"
    )


def _ended(what: str, stage: str, code: int, chatter: IO[bytes]) -> str:
    how = f"exit code {code}"
    if code < 0:
        how = f"signal {-code}"
        with contextlib.suppress(ValueError):
            how += f", {signal.Signals(-code).name}"
    return (
        f"{what} crashed while {_DOING[stage]} ({how}){_said(chatter)}; try other settings, another version of the "
        "plugin, or see whether another host runs it"
    )


def _said(chatter: IO[bytes]) -> str:
    """The last line that the plugin printed."""
    size = os.fstat(chatter.fileno()).st_size
    chatter.seek(max(0, size - 4096))
    text = chatter.read().decode(errors="replace")
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip() and not line.startswith("DPF warning: asked")]
    last = " ".join("".join(c if c.isprintable() else " " for c in lines[-1]).split())[:200] if lines else ""
    return f'; it said "{last}"' if last else ""
