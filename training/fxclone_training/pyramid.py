"""Memory as a pyramid: the newest samples one by one, and behind them averages over blocks that get longer.

    newest                                                                      oldest
    | x[n] x[n-1] ... (taps) |  2 |  2 |   4   |   4   |       8       |       8       | ...

The blocks of length 2, 4, 8, ... lie end to end, none overlaps another (Haar's wavelets are the differences of such
averages; Mallat, A Wavelet Tour of Signal Processing, 7). So some dozens of numbers see thousands of samples, the
recent ones finely, the distant ones roughly. The map from samples to averages is fixed and linear: weights on averages
are weights on samples that are alike within a block, and `fold` writes them out. Both sides of the contract, with any
``weights``, are the same sum:

    block_averages(signal) . weights  =  windows of signal . fold(weights)

It forgets at a sharp edge; leaky averages (`fxclone_training.ar`) forget slowly, and carry one number instead of a
block.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor


def dyadic(per_octave: int, octaves: int) -> tuple[int, ...]:
    """Lengths of the blocks: ``per_octave`` of 2 samples, as many of 4, and so on; ``octaves`` kinds.

    Behind 2 ``per_octave`` taps, a block is as long as it lies far back, over ``per_octave``: the same grain at every
    distance. The window is then ``per_octave * 2 ** (octaves + 1)`` samples.
    """
    return tuple(2 ** (octave + 1) for octave in range(octaves) for _ in range(per_octave))


def block_averages(signal: Tensor, taps: int, blocks: tuple[int, ...]) -> Tensor:
    """Averages over the blocks behind the newest ``taps`` samples, by differences of one running sum.

    Parameters
    ----------
    signal : Tensor [shape=(batch, reach - 1 + samples)]
        Led in by all but one of the ``reach = taps + sum(blocks)`` samples that a row sees.
    taps : int
        So many of the newest samples are left out: they are seen as they are.
    blocks : tuple of int
        Lengths, the most recent block first.

    Returns
    -------
    Tensor [shape=(batch, samples, len(blocks))]
    """
    reach = taps + sum(blocks)
    samples = signal.shape[1] - reach + 1
    # In double precision: a sum over minutes must not round what a block of two samples says.
    total = torch.nn.functional.pad(signal.double().cumsum(1), (1, 0))
    edges = list(accumulate(blocks, initial=taps))  # how far back each block begins
    sums = [total[:, reach - edge : reach - edge + samples] for edge in edges]
    columns = [
        ((newer - older) / length).to(signal.dtype)
        for newer, older, length in zip(sums[:-1], sums[1:], blocks, strict=True)
    ]
    return torch.stack(columns, -1)


def fold(weights: Tensor, taps: int, blocks: tuple[int, ...]) -> Tensor:
    """Weights on taps and averages as weights on samples: (..., taps + len(blocks)) to (..., reach), newest first."""
    if not blocks:
        return weights
    lengths = torch.tensor(blocks, device=weights.device)
    spread = (weights[..., taps:] / lengths.to(weights.dtype)).repeat_interleave(lengths, -1)
    return torch.cat([weights[..., :taps], spread], -1)
