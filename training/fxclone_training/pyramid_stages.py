"""Training of an ``ar`` model that sees a long window as a pyramid of averages (`pyramid`).

The steps are those of `memory_stages`: a start behind the filter of the race, some steps one sample ahead, then
second-order steps on the model's own outputs. Only what the model remembers differs, so that the two can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from fxclone_training import memory_stages
from fxclone_training.ar_config import ArConfig
from fxclone_training.grow import linear_start
from fxclone_training.pyramid import dyadic
from fxclone_training.session import Session
from fxclone_training.tail_drive import Start


@dataclass(frozen=True)
class Pyramid:
    """How far a model sees and how finely.

    Attributes
    ----------
    width : int
        Hidden units.
    per_octave, octaves : int
        Blocks of the input: so many of 2 samples, of 4, ...; twice as many taps before them.
    past_per_octave, past_octaves : int
        The same of past outputs. A recursion pays for every sample of it.
    """

    width: int
    per_octave: int
    octaves: int
    past_per_octave: int
    past_octaves: int

    def config(self, activation: str) -> ArConfig:
        """The shape; in samples, at any rate."""
        return ArConfig(
            m=2 * self.per_octave,
            past_outputs=2 * self.past_per_octave,
            width=self.width,
            activation=activation,
            blocks=dyadic(self.per_octave, self.octaves),
            past_blocks=dyadic(self.past_per_octave, self.past_octaves),
        )


SIZES = {
    "nano": Pyramid(6, 2, 6, 2, 2),
    "small": Pyramid(10, 4, 5, 2, 2),
    "standard": Pyramid(16, 4, 6, 2, 2),
    "large": Pyramid(16, 8, 8, 4, 3),
}
"""Inputs seen: 256, 256, 512 and 4,096; past outputs: 16, but 64 of the large. Up to standard they cost as much to play
as models of leaky averages of that size; the large one is what a hundred numbers can see, whatever it costs."""


def train(session: Session, config: ArConfig, start: Start | None) -> str:
    """Run the stages until the budget is spent.

    Parameters
    ----------
    session : Session
    config : ArConfig
        One hidden layer, blocks.
    start : Start or None
        The filter and drive that won a race, if one did.
    """
    return memory_stages.train(session, config, start, fit=linear_start)
