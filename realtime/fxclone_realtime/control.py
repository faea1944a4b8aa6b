"""What can be changed while playing, as lines of text: keys, a pipe and a test all say the same.

A line is a name and, where it takes one, a value: ``bypass on``, ``gain -3``, ``mix 0.5``, ``load other.onnx``. With
``up`` or ``down`` before it, a number is a step from what is set: ``gain up 1``, ``mix down 0.1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fxclone.errors import UsageError

SWITCHES = ("bypass", "against")
NUMBERS = {"gain": (-60.0, 60.0, "dB"), "in-gain": (-60.0, 60.0, "dB"), "mix": (0.0, 1.0, "")}
PLAIN = ("next", "quit")
ALL = "bypass, against, gain DB, in-gain DB, mix 0..1, next, chain NUMBER, load CHAIN, quit"

KEYS = {
    "b": "bypass",
    " ": "bypass",
    "a": "against",
    "n": "next",
    "+": "gain up 1",
    "=": "gain up 1",
    "-": "gain down 1",
    "]": "in-gain up 1",
    "[": "in-gain down 1",
    "m": "mix down 0.1",
    "M": "mix up 0.1",
    "q": "quit",
    "\x03": "quit",
    "\x1b": "quit",
}
"""What a key says."""


@dataclass(frozen=True)
class Command:
    """A line that was understood.

    Attributes
    ----------
    name : str
    text : str
        The value of ``load``.
    number : float or None
        The value of a number, or of ``chain``.
    relative : bool
        Whether that is added to what is set.
    on : bool or None
        The value of a switch; None turns it over.
    """

    name: str
    text: str = ""
    number: float | None = None
    relative: bool = False
    on: bool | None = None


def parse_command(line: str) -> Command:
    """Read one line.

    Raises
    ------
    UsageError
        If it is none of the commands, or its value is missing or no number.
    """
    name, _, value = line.strip().partition(" ")
    name, value = name.lower(), value.strip()
    if name in PLAIN and not value:
        return Command(name)
    if name in SWITCHES and value.lower() in ("", "on", "off"):
        return Command(name, on=None if not value else value.lower() == "on")
    if name == "load" and value:
        return Command(name, text=value)
    if name in NUMBERS or name == "chain":
        way, _, step = value.lower().partition(" ")
        relative = name in NUMBERS and way in ("up", "down")
        try:
            number = float(step if relative else value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return Command(name, number=-number if relative and way == "down" else number, relative=relative)
    raise UsageError(f"{line.strip()!r} is no command; expected one of: {ALL}")


def changed(name: str, now: float, command: Command) -> float:
    """The new value of a number, kept within its range."""
    low, high, _ = NUMBERS[name]
    wanted = (now if command.relative else 0.0) + (command.number or 0.0)
    return round(min(high, max(low, wanted)), 4)
