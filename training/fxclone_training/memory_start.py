"""Where an ``ar`` model with memory begins: units that hear the right thing, and least squares for the linear rest.

- Behind a filter and a drive that won a race (`tail_drive.race`): units hear what the filter lets through, at several
  drives around that one.
- Where the level counts: pairs of units that hear the same envelopes and the input with opposite signs. With an odd
  activation f, f(ax + e) - f(-ax + e) is odd in x, and for small x it is x times a gain that e sets: what a compressor
  does. Training is free to part them.
- Else: random units.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fxclone.pairs import Pair
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import design, last_layer, windows_of_run
from fxclone_training.segments import SegmentSource
from fxclone_training.tail_drive import Start, highpass

PASSAGES, PASSAGE_SAMPLES, LISTEN_S = 128, 512, 10
RIDGE = 1e-5
SPREAD = (0.2, 3.0)
"""Drives of the first units, around the one that won the race."""
BIASES = 0.3
DRIVE, LEAST, FILTERED = 0.5, 0.3, 0.1
"""Of pairs: how far x at its usual size moves a unit; of that, what x[n] has at least, and what other inputs have."""


@torch.no_grad()
def started(pair: Pair, config: ArConfig, source: SegmentSource, start: Start | None) -> Ar:
    """Units that hear the right thing but say nothing yet, beside a plain gain.

    Parameters
    ----------
    pair : Pair
        The training sound.
    config : ArConfig
        One hidden layer.
    source : SegmentSource
        Its generator draws what is random.
    start : Start or None
        The filter and drive that won a race; None if nothing is known.
    """
    model = Ar(config, generator=source.generator)
    model.w_y.zero_()
    if start is not None:
        units = _behind_a_filter(pair, model, start, source.generator)
    elif config.envelopes:
        units = _pairs(pair, model, source.generator)
    else:
        units = single_units(pair, model, source.generator)
    model.w_x.copy_(units[0])
    model.b_in.copy_(units[1])
    x, y = source.recording.x, source.recording.y
    model.out.zero_()
    model.skip_x[0] = (x @ y) / x.square().sum().clamp(min=1e-20)
    return model


@torch.no_grad()
def fit_last(model: Ar, source: SegmentSource, sigma: float) -> None:
    """Set all that the output is linear in by least squares one sample ahead, with noise on the past and a ridge."""
    config = model.config
    segments = source.draw(PASSAGES, PASSAGE_SAMPLES, model.history_samples, sigma)
    z, target, weight = design(model, segments)
    rows = torch.cat([last_layer(model, z), z, torch.ones(len(z), 1)], 1) * weight[:, None]
    normal = (rows.T @ rows).double()
    normal += torch.diag(RIDGE * normal.diag() + 1e-9 * normal.diag().mean())
    found = torch.linalg.solve(normal, (rows.T @ (target * weight)).double()).float()
    out, skip_x, skip_y, bias = found.split([config.width, config.seen_x, config.seen_y, 1])
    for parameter, value in ((model.out, out), (model.skip_x, skip_x), (model.skip_y, skip_y), (model.b_out, bias)):
        parameter.copy_(value)


def single_units(_pair: Pair, model: Ar, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases of units as the model has them, at random: in place of `_pairs`, what those are worth."""
    return model.w_x, model.b_in


def _behind_a_filter(pair: Pair, model: Ar, start: Start, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases of units that hear a high-pass of the input, at drives around that of the race."""
    heard = torch.from_numpy(highpass(_sound(pair), start.cutoff_hz, pair.sample_rate)[0]).double()
    seen = _seen(pair, model).double()
    normal = seen.T @ seen
    normal += RIDGE * normal.diag().mean() * torch.eye(len(normal), dtype=torch.float64)
    filters = torch.linalg.solve(normal, seen.T @ heard)
    level = max(float(heard.square().mean().sqrt()), 1e-9)
    drives = start.drive / level * torch.from_numpy(np.geomspace(*SPREAD, model.config.width))
    return torch.outer(drives, filters).float(), BIASES * torch.randn(model.config.width, generator=generator)


def _pairs(pair: Pair, model: Ar, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights and biases of units that hear alike how loud it is, and opposite what it is."""
    config = model.config
    pairs, direct = (config.width + 1) // 2, config.m + len(config.averages)
    sizes = _seen(pair, model).square().mean(0).sqrt().clamp(min=1e-6)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    sound = FILTERED * normal(pairs, direct)
    sound[:, 0] = LEAST + normal(pairs).abs()
    levels = normal(pairs, len(config.envelopes)) / sizes[direct:] / len(config.envelopes) ** 0.5
    one, other = (torch.cat([sign * DRIVE / sizes[0] * sound, levels], 1) for sign in (1, -1))
    biases = normal(pairs)
    both = torch.stack([one, other], 1).flatten(0, 1), torch.stack([biases, biases], 1).flatten()
    return both[0][: config.width], both[1][: config.width]


def _sound(pair: Pair) -> np.ndarray:
    """The loudest seconds: a recording may begin with silence."""
    samples = min(pair.samples, LISTEN_S * pair.sample_rate)
    starts = [*range(0, pair.samples - samples, max(1, samples // 2)), pair.samples - samples]
    loudest = max(starts, key=lambda start: float(np.square(pair.dry[:, start : start + samples]).mean()))
    return np.ascontiguousarray(pair.dry[:, loudest : loudest + samples])


def _seen(pair: Pair, model: Ar) -> Tensor:
    """What the model sees of the loudest seconds' input, (samples, seen_x)."""
    x = torch.from_numpy(_sound(pair))
    return torch.cat([z[:, : model.config.seen_x] for _, z in windows_of_run(model, x, torch.zeros_like(x))])
