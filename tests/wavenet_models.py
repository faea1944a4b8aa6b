"""Random ``wavenet`` models with every weight at work, and the same formula in torch's own convolutions."""

from __future__ import annotations

import numba
import torch
from torch.nn import functional

from fxclone_training.wavenet import WaveNet, WaveNetConfig

torch.set_num_threads(1)
numba.set_num_threads(1)

SHAPES = {
    "gated": {"channels": 4, "dilations": (1, 2, 4, 8, 16), "gated": True},
    "not gated, a head, no skip": {"channels": 8, "dilations": (1, 7, 3), "head": 3, "skip": 0},
    "odd sizes": {"channels": 5, "dilations": (2, 300), "kernel": 4, "gated": True, "head": 2, "skip": 1},
    "one layer": {"channels": 3, "dilations": (3,), "kernel": 2, "gated": True, "skip": 40},
    "no memory": {"channels": 6, "dilations": (1, 1), "kernel": 1, "skip": 1},
    "one channel": {"channels": 1, "dilations": (1, 64), "skip": 2},
}


def random_model(seed=0, **shape) -> WaveNet:
    generator = torch.Generator().manual_seed(seed)
    model = WaveNet(WaveNetConfig(**shape), generator=generator, level_in=0.2, level_out=0.3)
    with torch.no_grad():
        model.skip.normal_(generator=generator).mul_(0.3)
        model.b_out.fill_(0.05)
        model.read.mul_(2)
    return model


def plain(model: WaveNet, x: torch.Tensor) -> torch.Tensor:
    """The family's formula from silence on, (batch, 1, samples), with `conv1d`; differentiable."""
    c = model.config
    heard = x * model.scale_in
    z, total = model.w_in[:, None] * heard, 0.0
    for place, dilation in enumerate(c.dilations):
        padded = functional.pad(z, ((c.kernel - 1) * dilation, 0))
        weights, bias = model.conv[place].permute(1, 2, 0), model.bias[place]
        f = functional.conv1d(padded, weights, bias, dilation=dilation)
        said, rest = torch.tanh(f[:, : c.channels]), torch.tanh(bias[: c.channels])
        if c.gated:
            said, rest = said * torch.sigmoid(f[:, c.channels :]), rest * torch.sigmoid(bias[c.channels :])
        said = said - rest[:, None]
        total = total + model.read[place] @ said
        if place < c.layers - 1:
            z = z + model.mix[place] @ said
    if c.head:
        bent = torch.tanh(total + model.head_bias[:, None]) - torch.tanh(model.head_bias)[:, None]
        total = model.head_out @ bent
        total = total[:, None]
    if c.skip:
        total = total + functional.conv1d(functional.pad(heard, (c.skip - 1, 0)), model.skip[None, None])
    return (total + model.b_out) * model.scale_out
