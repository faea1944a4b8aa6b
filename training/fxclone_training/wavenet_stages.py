"""The training of family ``wavenet``: `Soap` steps on passages that run side by side, the histories carried along.

There is no feedback, so any passage could be computed by itself, but each output sees thousands of inputs: a lead-in
would cost more than the passage. So passages follow each other, and what a layer heard before is what it said then, a
few steps of the optimiser ago: stale by less than matters, and free. Now and then a passage jumps somewhere else, after
a lead-in.

The first output weights are a least-squares fit. Beside the weights runs their average over the last part of training;
it is what is judged, and mostly what is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fxclone.errors import UsageError
from fxclone.pairs import Pair
from fxclone_training.ar_stages import require_mono
from fxclone_training.descent import set_rate
from fxclone_training.segments import reference_power
from fxclone_training.session import Session
from fxclone_training.soap import Soap
from fxclone_training.wavenet import SIZES, STATE, WaveNet, WaveNetConfig

GRADIENT_LIMIT = 1.0
STREAM_S = 4.0
"""A stream goes on this long before it starts anew."""
_WARM_UP = 30
RIDGE = 1e-4
"""Of the first fit, relative: what random layers say is much alike, and large weights that cancel are hard to train."""
_PIECES, _PIECE = 8, 1 << 14
LOOKS = 30
LOOK_SHARE = 0.08
"""Of the time, looks at the model may take so much; there are fewer than `LOOKS` then."""
AVERAGED = 0.05
"""The average of the weights goes back over this share of the steps so far, with an exponential weight."""


@dataclass(frozen=True)
class Descent:
    """How it is trained.

    Attributes
    ----------
    rate : float
        Of the steps, at its highest.
    batch, block : int
        Streams, and how many samples of each a step sees at first.
    longer_from : tuple of int
        From these steps on each sees twice as much. Short steps go far soon; later what counts is how well each knows
        its way.
    first_fit : bool
        Whether the output weights start from least squares. On tanh and on a curve behind a filter 4 to 5 dB better
        after 200 steps than without after 300, on a pass-through 48 dB; after 12 s on a Tube Screamer 3 dB worse (one
        run of each).
    """

    rate: float = 1e-2
    batch: int = 16
    block: int = 1024
    longer_from: tuple[int, ...] = (1_000, 3_000)
    first_fit: bool = True


class Streams:
    """Stretches of a mono pair that run side by side, block after block, on the device of the model."""

    def __init__(self, pair: Pair, descent: Descent, *, generator: torch.Generator, device: torch.device) -> None:
        self.x, self.y = (torch.from_numpy(sound[0].copy()).to(device) for sound in (pair.dry, pair.wet))
        self.mean_x, self.mean_y = self.x.square().mean(), self.y.square().mean()
        self.descent, self.generator, self.block = descent, generator, descent.block
        if descent.block > len(self.x):
            raise UsageError(f"{pair.name} has {len(self.x)} samples; expected at least {descent.block}")
        self.stream_samples = max(2 * descent.block, int(STREAM_S * pair.sample_rate))
        self.age = torch.randint(0, self.stream_samples, (descent.batch,), generator=generator)  # staggered
        self.position = torch.full((descent.batch,), len(self.x))  # all begin somewhere new
        self.power = torch.zeros(descent.batch, 1, device=device)

    def lengthen(self, step: int) -> None:
        """Make blocks as long as this step wants them."""
        doubled = self.descent.block << sum(step >= longer for longer in self.descent.longer_from)
        self.block = min(doubled, len(self.x))

    def next_block(self, model: WaveNet, state: STATE) -> tuple[Tensor, Tensor, Tensor, STATE]:
        """x and y (batch, 1, block), reference power (batch, 1), and the state, streams that ended begun anew in it."""
        block, count = self.block, len(self.position)
        over = (self.age >= self.stream_samples) | (self.position + block > len(self.x))
        if bool(over.any()):
            places = len(self.x) - block + 1
            self.position[over] = torch.randint(0, places, (int(over.sum()),), generator=self.generator)
            self.age[over & (self.age >= self.stream_samples)] = 0
            fresh = self._lead_in(model, self.position[over])
            rows = over.nonzero()[:, 0].to(self.x.device)
            state = tuple(part.index_copy(0, rows, begun) for part, begun in zip(state, fresh, strict=True))
            self.power[rows] = 0
        x, y = self._cut(self.position, 0, block)
        here = reference_power(
            x.square().mean(1, keepdim=True), y.square().mean(1, keepdim=True), self.mean_x, self.mean_y
        )
        self.power = torch.maximum(here, 0.9 * self.power)  # a note's own level, not a gap's
        self.position = self.position + block
        self.age += block
        return x[:, None], y[:, None], self.power.view(count, 1), state

    def _cut(self, starts: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
        index = (starts[:, None] + torch.arange(-before, after)).to(self.x.device)
        outside = index < 0
        index = index.clamp(min=0)
        return self.x[index].masked_fill(outside, 0.0), self.y[index].masked_fill(outside, 0.0)

    @torch.no_grad()
    def _lead_in(self, model: WaveNet, starts: Tensor) -> STATE:
        """What the model remembers where it has heard all before ``starts``."""
        x, _ = self._cut(starts, model.receptive_field_samples - 1, 0)
        state = model.fresh_state(len(starts))
        return model(x[:, None], state)[1] if x.shape[1] else state


class Average:
    """The exponential average of a model's weights, its memory a share of what has been."""

    def __init__(self, model: WaveNet) -> None:
        self.model = model.copy().to(model.w_in.device)
        self._steps = 0

    @torch.no_grad()
    def add(self, model: WaveNet) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        new = 1 / max(1.0, AVERAGED * self._steps)
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), new)


def train(
    session: Session,
    start: WaveNet | None,
    device: torch.device,
    *,
    config: WaveNetConfig | None = None,
    descent: Descent | None = None,
) -> str:
    """Run the stages; returns why training ended (it ends with the budget: `session.Finished` otherwise)."""
    require_mono(session, "wavenet")
    descent, size = descent or Descent(), session.recipe.size
    config = config or SIZES["small" if size == "auto" else size]
    if start is None:
        level_in, level_out = (float(sound.std()) for sound in (session.training.dry, session.training.wet))
        model = WaveNet(config, generator=session.generator, level_in=level_in, level_out=level_out).to(device)
        if descent.first_fit:
            start_from_least_squares(model, session.training)
        session.stage = "start"
    else:
        model = start.copy().to(device)
        session.stage = "resumed"
    session.judge(model.copy(), loss_db=math.nan, sigma=0.0)  # something to keep, however early the end
    _descend(session, model, descent)
    return "nothing improves any more"


@torch.no_grad()
def start_from_least_squares(model: WaveNet, pair: Pair) -> None:
    """Fit all that is linear in the output, skip path and ``read``, to pieces of the pair; the layers stay random.

    So a linear effect shorter than the skip path is done before the first step, and every other begins well. With a
    head, ``read`` is not linear in the output: it says nothing at first, and the skip path alone is fitted.
    """
    c, device = model.config, model.w_in.device
    model.read.zero_()
    lead = c.reach - 1
    samples = min(lead + _PIECE, pair.samples)
    size = c.skip + (0 if c.head else model.read.numel())
    squares = torch.zeros(size, size, dtype=torch.float64, device=device)
    products = squares.new_zeros(size)
    for start in np.linspace(0, pair.samples - samples, _PIECES).astype(int):
        x, y = (torch.from_numpy(part[0, start : start + samples].copy()).to(device) for part in (pair.dry, pair.wet))
        rows = [functional.pad(x * model.scale_in, (max(0, c.skip - 1), 0)).unfold(0, max(1, c.skip), 1).T[: c.skip]]
        if not c.head:
            rows.append(model.said(x))
        seen = torch.cat(rows)[:, min(lead, samples // 2) :].double()  # what came before a piece is not silence
        squares += seen @ seen.T
        products += seen @ (y / model.scale_out)[-seen.shape[1] :].double()
    if not size:
        return
    squares.diagonal().mul_(1 + RIDGE).add_(1e-9)
    found = torch.linalg.solve(squares, products).to(model.skip.dtype)
    model.skip.copy_(found[: c.skip])
    if not c.head:
        model.read.copy_(found[c.skip :].view_as(model.read))


def _descend(session: Session, model: WaveNet, descent: Descent) -> None:
    session.stage = "training"
    device = model.w_in.device
    streams = Streams(session.training, descent, generator=session.generator, device=device)
    relative = session.recipe.weighs_passages
    optimiser = Soap(model.parameters(), lr=descent.rate)
    average, state, step = Average(model), model.fresh_state(descent.batch), 0
    session.at_work = average.model
    began, look, took = 0.0, 0.0, 0.0
    smooth, seen = 0.0, 0
    while True:
        session.spend()
        step += 1
        if step == 1:  # other families may have had a part of the time; by steps from here on, if the budget is
            began = look = session.progress
        set_rate(optimiser, descent.rate, session.spent_since(began), warm=step / _WARM_UP)
        streams.lengthen(step)
        x, y, power, state = streams.next_block(model, state)
        predicted, after = model(x, state)
        error = (predicted - y)[:, 0].square()
        loss = (error / (power if relative else streams.mean_y)).mean()
        if math.isfinite(loss.item()):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_LIMIT).isfinite():
                optimiser.step()
                average.add(model)
        state = after
        smooth, seen = smooth + loss.item(), seen + 1
        if session.progress - look >= max(1 / LOOKS, took / LOOK_SHARE):
            before = session.progress
            loss_db = 10 * math.log10(max(smooth / seen, 1e-20))
            session.judge(average.model, loss_db=loss_db, sigma=0.0)
            smooth, seen, look = 0.0, 0, session.progress
            took = look - before
