"""Training of an ``ar`` model that sees a long window as a pyramid of averages (`pyramid`).

The steps are those of `memory_stages`: a start behind the filter of the race, some steps one sample ahead, then
second-order steps on the model's own outputs. Only what the model remembers differs, so that the two can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from fxclone_training import memory_stages
from fxclone_training.ar import Ar, ArConfig
from fxclone_training.gauss_newton import GaussNewton, OneStep
from fxclone_training.grow import linear_start
from fxclone_training.memory_stages import ONE_STEPS, SIGMA, SPREAD, START_RIDGE
from fxclone_training.pyramid import dyadic
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.session import Session
from fxclone_training.tail_drive import Start, highpass

BEHIND_FILTER_S = 10
"""Of sound, from which units learn to hear what a filter lets through."""


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
    source = SegmentSource(
        Recording(session.training, config), relative_weight=True, relative_noise=True, generator=session.generator
    )
    session.stage = "start"
    model = _started(session, config, source, start)
    session.at_work, steps = model, GaussNewton(model)
    for _ in range(ONE_STEPS):
        session.spend()
        steps.step(OneStep(model, source, SIGMA))
    session.judge(model, loss_db=math.nan, sigma=SIGMA)
    return memory_stages.train(session, config, model)


@torch.no_grad()
def _started(session: Session, config: ArConfig, source: SegmentSource, start: Start | None) -> Ar:
    """Units that hear the right thing, and all that is linear by least squares one sample ahead."""
    model = Ar(config, generator=session.generator)
    model.w_y.zero_()
    if start is not None:
        slopes, biases = _behind_a_filter(session, model, start)
        model.w_x.copy_(slopes)
        model.b_in.copy_(biases)
    x, y = source.recording.x, source.recording.y
    model.out.zero_()
    model.skip_x[0] = (x @ y) / x.square().sum().clamp(min=1e-20)
    session.judge(model, loss_db=math.nan, sigma=SIGMA)  # a plain gain, so that there is something to keep
    linear_start(model, source, SIGMA)
    return model


def _behind_a_filter(session: Session, model: Ar, start: Start) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and biases of units that hear a high-pass of the input, at drives around that of the race."""
    pair, c = session.training, model.config
    sound = np.ascontiguousarray(pair.dry[:, : min(pair.samples, BEHIND_FILTER_S * pair.sample_rate)])
    heard = torch.from_numpy(highpass(sound, start.cutoff_hz, pair.sample_rate)[0]).double()
    x = pad(torch.from_numpy(sound), (c.reach - 1, 0))
    taps = x[0, c.reach - c.m :].unfold(0, c.m, 1).flip(-1)
    further = model.further_input(x, torch.zeros(1, 1, 0))[0]
    seen = torch.cat([taps, further], 1).double()
    normal = seen.T @ seen
    normal += START_RIDGE * normal.diag().mean() * torch.eye(len(normal), dtype=torch.float64)
    filters = torch.linalg.solve(normal, seen.T @ heard)
    level = max(float(heard.square().mean().sqrt()), 1e-9)
    drives = start.drive / level * torch.from_numpy(np.geomspace(*SPREAD, c.width))
    return torch.outer(drives, filters).float(), 0.3 * torch.randn(c.width, generator=session.generator)
