"""Gradient descent on a model that runs freely: many streams side by side, each carrying the model's own state.

Every block starts from the state in which the last one ended, and a stream that comes to the end of the sound goes on
somewhere else. So a model learns from states that only long runs of its own reach: short windows from a fresh state do
not teach it what a compressor does. Many short updates are worth more than few long ones.

Two sets of weights are judged: those of the moment, and their running average, which forgets the noise of single steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from fxclone.pairs import Pair
from fxclone_training.family import Model
from fxclone_training.losses import Loss, Past
from fxclone_training.session import Session

State = tuple[Tensor, ...]
"""What a model remembers; the first axis of each part is the stream."""
GRADIENT_LIMIT = 1.0
BETAS = (0.9, 0.99)
WARM_UP_STEPS = 100
LAST_RATE = 0.01
"""The cosine ends at this share of the learning rate."""
AVERAGED_STEPS = 100
LOOK_STEPS = 50
LOOK_SHARE = 0.08
"""Looks at the model may take this share of the time. A budget in steps has one every `LOOK_STEPS`: repeatable."""
BLOWN_UP = 1e4
"""A loss above this is no error any more: the running average is gone back to, and all streams begin anew."""
FLOOR = 1.0
"""Of the mean power: softer passages weigh little more than one at the mean, for errors are heard in the whole."""


class Trained(Protocol):
    """What has weights."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is trained."""


class Streaming(Model, Trained, Protocol):
    """A torch model that carries a state from block to block, with exact gradients within a block."""

    def __call__(self, x: Tensor, state: State, noise: Tensor | None = None) -> tuple[Tensor, State]:
        """Run ``x`` (streams, 1, samples) on, with ``noise`` (streams, samples) on the past outputs that it hears."""

    def fresh_state(self, batch: int) -> State:
        """Silence before the first sample."""


@dataclass(frozen=True)
class Descent:
    """How the steps are made.

    Attributes
    ----------
    streams, block_samples : int
        Side by side, and how far one step goes.
    learning_rate : float
        At its highest.
    noise : float
        Standard deviation of the noise on the past outputs that the model hears, relative to the RMS of the wet sound.
    """

    streams: int = 64
    block_samples: int = 128
    learning_rate: float = 0.01
    noise: float = 0.0


class Passages:
    """Stretches of a mono pair side by side, block after block."""

    def __init__(self, pair: Pair, streams: int, block_samples: int, generator: torch.Generator) -> None:
        self.x, self.y = torch.from_numpy(pair.dry[0].copy()), torch.from_numpy(pair.wet[0].copy())
        self.block, self.generator = min(block_samples, pair.samples), generator
        self.position = self._anywhere(streams)
        self.jumped = torch.ones(streams, dtype=torch.bool)
        self.mean_power = float(self.y.square().mean()) + 1e-20

    def next(self) -> tuple[Tensor, Tensor]:
        """Dry and wet (streams, block) of where each stream is; `jumped` says which began anew there."""
        self.jumped = self.position + self.block > len(self.x)
        if bool(self.jumped.any()):
            self.position = torch.where(self.jumped, self._anywhere(len(self.position)), self.position)
        places = self.position[:, None] + torch.arange(self.block)
        self.position = self.position + self.block
        return self.x[places], self.y[places]

    def scatter(self) -> None:
        """All streams go on somewhere else."""
        self.position = torch.full_like(self.position, len(self.x))

    def wet_before(self, samples: int) -> Tensor:
        """What came before the block just given, (streams, samples); silence before the sound."""
        places = self.position[:, None] - self.block + torch.arange(-samples, 0)
        return self.y[places.clamp(min=0)].masked_fill(places < 0, 0.0)

    def _anywhere(self, streams: int) -> Tensor:
        return torch.randint(0, len(self.x) - self.block + 1, (streams,), generator=self.generator)


def descend(session: Session, model: Streaming, how: Descent) -> None:
    """Train until the budget is spent (`Finished`); every look is judged by the session.

    Errors weigh relative to the level of a stream's passage if the recipe's loss does so, down to a share of the mean.
    """
    recipe, pair = session.recipe, session.training
    session.stage = "free-running"
    loss = Loss.parse(recipe.loss, pair.sample_rate, pair.wet)
    block = max(how.block_samples, loss.least_block_samples)
    passages = Passages(pair, how.streams, block, session.generator)
    past = Past(torch.zeros(how.streams, loss.context_samples))
    average, state = model.copy(), model.fresh_state(how.streams)
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate, betas=BETAS)
    session.at_work = average
    began, looked, look_s, mean_loss = 0.0, session.seconds, 0.0, math.nan
    by_steps = recipe.max_steps is not None
    for step in range(1, 10**9):
        session.spend()
        began = session.progress if step == 1 else began  # by steps from here on, if the budget is
        set_rate(optimiser, how.learning_rate, session.spent_since(began), warm=step / WARM_UP_STEPS)
        x, y = passages.next()
        past.restart(passages.jumped, passages.wet_before(loss.context_samples))
        weight = _weight(y, passages.mean_power, relative=recipe.weighs_passages)
        said, after = model(x[:, None], state, _noise(how, y.shape, passages.mean_power, session.generator))
        judged = loss.value_and_grad(said[:, 0], y, weight, past)
        past.push(said[:, 0], y)
        optimiser.zero_grad(set_to_none=True)
        said[:, 0].backward(judged.gradient)  # type: ignore[no-untyped-call]
        length = float(clip_grad_norm_(model.parameters(), GRADIENT_LIMIT))
        if not (judged.value <= BLOWN_UP and math.isfinite(length)):
            follow(model, average, 1.0)
            optimiser.state.clear()
            passages.scatter()
            state = model.fresh_state(how.streams)
            continue
        state = tuple(part.detach() for part in after)
        optimiser.step()
        follow(average, model, 1 / min(AVERAGED_STEPS, step + 1))
        mean_loss = judged.value if math.isnan(mean_loss) else mean_loss + 0.05 * (judged.value - mean_loss)
        if step % LOOK_STEPS == 0 and (by_steps or look_s <= LOOK_SHARE * (session.seconds - looked)):
            looked = session.seconds
            loss_db = 10 * math.log10(max(mean_loss, 1e-20))
            session.judge(average, loss_db=loss_db, sigma=how.noise)
            session.judge(model, loss_db=loss_db, sigma=how.noise)
            look_s = session.seconds - looked


def _weight(y: Tensor, mean_power: float, *, relative: bool) -> Tensor:
    """What errors are divided by, as Loss wants it: one over an RMS level, (streams, 1)."""
    if not relative:
        return torch.full((len(y), 1), mean_power**-0.5)
    return (y.square().mean(1, keepdim=True) + FLOOR * mean_power).rsqrt()


def _noise(how: Descent, shape: torch.Size, mean_power: float, generator: torch.Generator) -> Tensor | None:
    if how.noise == 0:
        return None
    noise: Tensor = how.noise * mean_power**0.5 * torch.randn(shape, generator=generator)
    return noise


def cosine(spent: float, last: float) -> float:
    """1 when nothing is spent, ``last`` when all is, along a cosine."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, spent)))


def set_rate(optimiser: torch.optim.Optimizer, top: float, spent: float, *, warm: float) -> None:
    """Warm up (``warm`` grows to 1 and beyond), and along a cosine down to `LAST_RATE` of ``top``."""
    rate = top * cosine(spent, LAST_RATE) * min(1.0, warm)
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def follow(average: Trained, model: Trained, share: float) -> None:
    """Move the running average towards the weights of the moment; all the way with a share of 1."""
    for mean, now in zip(average.parameters(), model.parameters(), strict=True):
        mean.copy_(now) if share == 1 else mean.lerp_(now, share)
