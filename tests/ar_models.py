"""Random but stable ``ar`` models, and the same recursion as a plain loop, to hold the compiled code against."""

from __future__ import annotations

from dataclasses import fields

import numba
import numpy as np
import torch
from torch.nn import functional

from fxclone.audio import valid_audio
from fxclone_training.ar import Ar, ArState
from fxclone_training.ar_config import ArConfig

# One thread: these tests run many tiny blocks, and threads that meet at each of them are slower, on a busy machine far.
torch.set_num_threads(1)
numba.set_num_threads(1)

ACTIVATE = {"tanh": torch.tanh, "relu": torch.relu, "gelu": functional.gelu}
STEEPEST = {"tanh": 1.0, "relu": 1.0, "gelu": 1.13}


def random_model(seed=0, feedback=0.6, **shape) -> Ar:
    """All weights at work; the feedback gains add up to at most ``feedback`` whatever the sound, so it is stable.

    Slow values count like taps: an average's gain is at most 1, and an envelope's too.
    """
    generator = torch.Generator().manual_seed(seed)
    config = ArConfig(**shape)
    model = Ar(config, generator=generator)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name not in ("w_y", "skip_y"):
                scale = weights.shape[-1] ** -0.5 if weights.dim() > 1 else 0.3
                weights.copy_(scale * torch.randn(weights.shape, generator=generator))
        if config.seen_y:
            unheard = 0 if config.hears_taps else config.taps_y
            if config.skip:
                model.skip_y.copy_(torch.randn(config.seen_y, generator=generator))
                model.skip_y[:unheard] = 0
                model.skip_y.mul_(0.5 * feedback / model.skip_y.abs().sum())
            reach = STEEPEST[config.activation] * model.out.abs()
            for weights in reversed(model.hidden):
                reach = STEEPEST[config.activation] * (weights.abs() @ reach)
            model.w_y.copy_(torch.randn(model.w_y.shape, generator=generator))
            model.w_y[:, :unheard] = 0
            model.w_y.mul_(0.5 * feedback / (reach @ model.w_y.abs()).sum())
    return model


def one_pole(a: float, **shape) -> Ar:
    """y[n] = x[n] + a y[n-1], all of it in the skip path."""
    model = Ar(ArConfig(**{"m": 2, "width": 2, **shape}))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.skip_x[0], model.skip_y[0] = 1.0, a
    return model


class TorchStream:
    """A torch model as a stream for the battery."""

    def __init__(self, model: Ar) -> None:
        self.model = model
        self.reset()

    def reset(self) -> None:
        self.state = self.model.fresh_state(1)

    @torch.no_grad()
    def process(self, block):
        sound = torch.from_numpy(valid_audio(block, channels=1).copy())
        out, self.state = self.model(sound[None], self.state)
        return out[0].numpy()


def weights_of(model: Ar) -> dict[str, torch.Tensor]:
    """Copies in double precision, buffers too."""
    return {name: value.detach().double().clone() for name, value in model.state_dict().items()}


def one_step(weights, config: ArConfig, window_x, window_y):
    """The formula of the family: windows (rows, lags), newest first, slow values after, to answers (rows,)."""
    activate = ACTIVATE[config.activation]
    h = activate(window_x @ weights["w_x"].T + window_y @ weights["w_y"].T + weights["b_in"])
    for layer in range(config.layers - 1):
        h = activate(h @ weights["hidden"][layer] + weights["b_hidden"][layer])
    linear = window_x @ weights["skip_x"] + window_y @ weights["skip_y"]
    return h @ weights["out"] + linear + weights["b_out"]


def random_state(rng: np.random.Generator, model: Ar, batch: int, level=0.4) -> ArState:
    """Any past; an envelope is never negative."""
    sizes = model.fresh_state(batch)
    x, y, slow_x, slow_y = (noise(rng, *getattr(sizes, field.name).shape, level=level) for field in fields(ArState))
    slow_x[:, len(model.config.averages) :].abs_()
    slow_y[:, len(model.config.averages_y) :].abs_()
    return ArState(x, y, slow_x, slow_y)


def plain_run(weights, config: ArConfig, x, past_x, past_y, slow_x=None, slow_y=None, noise=None):
    """Sample by sample in double precision: x (batch, samples), pasts oldest first; differentiable."""
    return plain_run_and_slow(weights, config, x, past_x, past_y, slow_x, slow_y, noise)[0]


def plain_run_and_slow(weights, config: ArConfig, x, past_x, past_y, slow_x=None, slow_y=None, noise=None):
    """`plain_run`, and the averages and envelopes of x and y after it.

    At sample n the averages of x end at x[n], envelopes of x at x[n-1], averages of y at y[n-1], envelopes of y at
    y[n-3].
    Noise (batch, samples) is heard in the outputs, not said.
    """
    noise = torch.zeros_like(x) if noise is None else noise
    averages, averages_y = len(config.averages), len(config.averages_y)
    rates, rates_y = (torch.from_numpy(both).to(x.dtype) for both in (config.rates(), config.rates_y()))
    of_y = slice(0, config.seen_y - config.taps_y)
    slow_x = x.new_zeros(len(x), config.slow) if slow_x is None else slow_x
    slow_y = x.new_zeros(len(x), of_y.stop) if slow_y is None else slow_y
    heard = torch.cat([past_x, x], 1)
    said = [past_y[:, k] for k in range(config.taps_y)]

    def moved(slow, rates, values):
        if not values:
            return slow
        heard = torch.stack(values, 1)
        return slow + torch.where(heard > slow, rates[:, 0], rates[:, 1]) * (heard - slow)

    for n in range(x.shape[1]):
        before, slow_x = slow_x, moved(slow_x, rates, [x[:, n]] * averages + [x[:, n].abs()] * len(config.envelopes))
        window_x = torch.cat([heard[:, n : n + config.m].flip(1), slow_x[:, :averages], before[:, averages:]], 1)
        newest_first = said[len(said) - config.taps_y :][::-1]
        taps = torch.stack(newest_first, 1) if newest_first else x.new_zeros(len(x), 0)
        said.append(one_step(weights, config, window_x, torch.cat([taps, slow_y[:, of_y]], 1)) + noise[:, n])
        if of_y.stop:
            late = [said[-3].abs()] * len(config.envelopes) if config.envelopes else []
            slow_y = moved(slow_y, rates_y, [said[-1]] * averages_y + late)
    return torch.stack(said[config.taps_y :], 1) - noise, slow_x, slow_y


def doubled(state: ArState) -> tuple[torch.Tensor, ...]:
    """The pasts and slow values, as `plain_run` takes them."""
    return tuple(getattr(state, field.name).double() for field in fields(ArState))


def noise(rng: np.random.Generator, *shape: int, level=0.4) -> torch.Tensor:
    return torch.from_numpy((level * rng.standard_normal(shape)).astype(np.float32))
