"""What training minimises, as text: a weighted sum of named terms, ``esr+0.1*esr:a+0.01*mrstft``.

One rule above all: at least one term compares the two sounds sample by sample. Magnitudes alone cannot tell a sound
from its inverted or shifted copy, and models trained on them come out upside down.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

from fxclone.errors import UsageError

MEASURES = {
    "esr": "squared error over the power of the passage",
    "mse": "squared error over the power of the whole sound",
    "l1": "absolute error over the level of the passage",
    "dc": "offset over the level of the passage, squared",
    "mrstft": "magnitudes of short spectra, three resolutions",
}
FILTERS = {
    "pre": "highs weighted up (first-order pre-emphasis)",
    "a": "weighted as the ear hears (A-weighting)",
}
SAMPLE_BY_SAMPLE = ("esr", "mse", "l1")
"""Measures that see polarity and lag, and that may be taken of filtered sound."""
_SHORT = {name: f"esr:{name}" for name in FILTERS}
_EXPECTED = (
    f"expected a sum such as esr+0.01*mrstft, of {', '.join(MEASURES)}; "
    f"{', '.join(SAMPLE_BY_SAMPLE)} may be followed by {' or '.join(':' + name for name in FILTERS)}"
)


@dataclass(frozen=True)
class TermText:
    """One term: how much it counts, what it measures, and through which filter (None: the sound as it is)."""

    weight: float
    measure: str
    filter: str | None = None

    @property
    def name(self) -> str:
        """``esr`` or ``esr:a``: its name in reports."""
        return self.measure if self.filter is None else f"{self.measure}:{self.filter}"

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.weight:.12g}*{self.name}"


@dataclass(frozen=True)
class LossText:
    """A loss as it is written, checked, without any arithmetic: what a recipe stores."""

    terms: tuple[TermText, ...]

    @classmethod
    def parse(cls, text: str) -> LossText:
        """Read ``[weight*]measure[:filter]`` joined by ``+``.

        Parameters
        ----------
        text : str
            Weights are numbers above 0 (1 if left out); ``pre`` and ``a`` are short for ``esr:pre`` and ``esr:a``;
            spaces do not count.

        Raises
        ------
        UsageError
            For an unknown term, a weight that is not a number above 0, a term given twice, or a sum in which nothing
            compares the sounds sample by sample.
        """
        if not text.strip():
            raise UsageError(f"the loss is empty; {_EXPECTED}")
        parts = re.split(r"(?<![0-9.][eE])\+", text)  # not the plus of 1e+3
        terms = tuple(_term(part.strip(), text) for part in parts)
        names = [term.name for term in terms]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"loss {text!r} has {name} twice; expected each term once, with one weight")
        if not any(term.measure in SAMPLE_BY_SAMPLE for term in terms):
            blind = "sees only offset" if names == ["dc"] else "cannot see an inverted or shifted sound"
            raise UsageError(f"loss {text!r} {blind}; add a term that does, such as esr+{text.strip()}")
        return cls(terms)

    def __str__(self) -> str:
        return "+".join(map(str, self.terms))

    @property
    def is_quadratic(self) -> bool:
        """Whether it is a plain sum of squares, ``esr`` and ``mse`` only: no filter, no past, nothing extra."""
        return all(term.measure in ("esr", "mse") and term.filter is None for term in self.terms)

    @property
    def is_relative(self) -> bool:
        """Whether quiet passages count as much as loud ones: a trainer that can only weight squares asks this."""
        heaviest = max((term for term in self.terms if term.measure in SAMPLE_BY_SAMPLE), key=lambda term: term.weight)
        return heaviest.measure != "mse"

    @property
    def advice(self) -> tuple[str, ...]:
        """Sentences for the user about a sum that is allowed but often a mistake."""
        by_sample = [term for term in self.terms if term.measure in SAMPLE_BY_SAMPLE]
        out = []
        for term in self.terms:
            if term.measure == "mrstft" and term.weight >= sum(other.weight for other in by_sample):
                out.append("mrstft weighs as much as what sees polarity: models may come out inverted; give it less")
        if all(term.filter == "a" for term in by_sample):
            out.append(f"A-weighting hears no offset and few lows, so these go astray: consider {self}+0.1*esr")
        return tuple(out)


def _term(part: str, text: str) -> TermText:
    """One term between two plus signs."""
    weight, star, name = part.rpartition("*")
    name = name.strip()
    number = _weight(weight.strip(), text) if star else 1.0
    measure, colon, filtered = (piece.strip() for piece in _SHORT.get(name, name).partition(":"))
    if measure not in MEASURES:
        raise UsageError(f"loss {text!r}: there is no term {name!r}; {_close(measure)}{_EXPECTED}")
    if not colon:
        return TermText(number, measure)
    if filtered not in FILTERS:
        raise UsageError(f"loss {text!r}: there is no filter {filtered!r}; {_EXPECTED}")
    if measure not in SAMPLE_BY_SAMPLE:
        raise UsageError(f"loss {text!r}: {measure} takes no filter; {_EXPECTED}")
    return TermText(number, measure, filtered)


def _weight(words: str, text: str) -> float:
    try:
        number = float(words)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UsageError(f"loss {text!r}: the weight is {words!r}; expected a number above 0, such as 0.2*esr:a")
    return number


def _close(name: str) -> str:
    close = difflib.get_close_matches(name, [*MEASURES, *FILTERS], n=1)
    return f"did you mean {close[0]}? " if close else ""
