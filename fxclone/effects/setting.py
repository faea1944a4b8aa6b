"""One knob of an effect: its name with its unit, its legal values, and how text becomes one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fxclone.errors import UsageError

Value = float | int | bool | str
"""What a setting may hold."""

_SHOWN_CHOICES = 40
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True)
class Setting:
    """One knob of an effect: its name with its unit, its legal range and its default.

    Parameters
    ----------
    name : str
        With a unit suffix where it has a unit (``cutoff_hz``).
    default : float, int, bool or str
        Its type is the kind of the setting. The default 0.0 is a float, 0 an int; a str is a word or a file.
    minimum, maximum : float or None
        The range, both ends included; None for bool and str.
    unit : str
        For people ("Hz"); empty if there is none.
    help : str
        One sentence.
    choices : tuple of str or None
        The legal words, if it is a choice.
    below_nyquist : bool
        Whether it must be under half of the sample rate, which is only known when sound comes.
    """

    name: str
    default: Value
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    help: str = ""
    choices: tuple[str, ...] | None = None
    below_nyquist: bool = False

    @property
    def kind(self) -> str:
        """One of "bool", "int", "float", "choice", "text"."""
        if isinstance(self.default, bool):
            return "bool"
        if isinstance(self.default, str):
            return "choice" if self.choices else "text"
        return "int" if isinstance(self.default, int) else "float"

    @property
    def range_text(self) -> str:
        """The legal values, for people."""
        if self.choices:
            few = [*self.choices[:_SHOWN_CHOICES], "..."] if len(self.choices) > _SHOWN_CHOICES else self.choices
            return ", ".join(few)
        if self.kind == "bool":
            return "true, false"
        if self.kind == "text":
            return "text"
        return f"{format_value(self.minimum)} to {format_value(self.maximum)}"

    def parse(self, value: object, *, effect: str) -> Value:
        """Return ``value`` in the type of this setting.

        Raises
        ------
        UsageError
            If it has another type, is not finite, or is out of range.
        """
        parsed = self._convert(value)
        if parsed is None:
            unit = f" {self.unit}" if self.unit else ""
            raise UsageError(
                f"{effect}: {self.name} is {value!s}; expected {_KIND_WORDS[self.kind]} ({self.range_text}{unit})"
            )
        return parsed

    def _convert(self, value: object) -> Value | None:
        if self.kind == "bool":
            word = str(value).strip().lower()
            return True if word in _TRUE else False if word in _FALSE else None
        if isinstance(value, bool):
            return None
        if self.kind == "text":
            return str(value)
        if self.kind == "choice":
            return next((c for c in self.choices or () if c.lower() == str(value).strip().lower()), None)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not math.isfinite(number) or not low <= number <= high:
            return None
        if self.kind == "int":
            return int(number) if number == int(number) else None
        return number


_KIND_WORDS = {
    "bool": "a switch",
    "int": "a whole number",
    "float": "a number",
    "choice": "one word of",
    "text": 'a word or "text in quotes"',
}


def format_value(value: object) -> str:
    """Text of a setting that `effect` reads back as the same value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    text = str(value)
    if text and text.replace("_", "a").replace("-", "a").isalnum() and text[0].isalpha():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
