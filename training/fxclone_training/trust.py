"""The price of a step by what it moves: units of the first layer may not be thrown about.

Marquardt's damping weighs each weight by its own slope. A unit that says little has small slopes, so its weights go
anywhere: to hundreds, where it is a switch, has no slope at all any more, and never comes back. So the price of a move
d is counted at the unit's sum, u = w·z: the mean of (d·z)^2, which is d' E[zz'] d, whatever its slope and its share in
the output. (Levenberg's damping, not of weights but of what they add up to. Moré, The Levenberg-Marquardt algorithm,
1978, on why the scale must not follow slopes that vanish.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fxclone_training.ar import Ar


def second_moment(z: Tensor) -> npt.NDArray[np.float64]:
    """E[zz'] with a 1 at the end of each row for the bias: (rows, seen) -> (seen + 1, seen + 1)."""
    led = torch.cat([z, torch.ones(len(z), 1)], 1)
    return (led.T @ led).double().numpy() / max(len(z), 1)


def price(model: Ar, moment: npt.NDArray[np.float64], weight: float) -> npt.NDArray[np.float64]:
    """What a step costs: the mean over units of how far it moves each, squared, as a quadratic form on first weights.

    Parameters
    ----------
    model : Ar
    moment : array [shape=(seen_x + seen_y + 1, seen_x + seen_y + 1)]
        Of what the units hear (`second_moment`).
    weight : float
        What it costs to move every unit by 1.

    Returns
    -------
    array [shape=(n, n)]
        For the first n weights in the order of the Jacobian: w_x, w_y and b_in. Empty if ``weight`` is 0.
    """
    if not weight:
        return np.zeros((0, 0))
    width, seen_x = model.w_x.shape
    seen_y = model.w_y.shape[1]
    of_x, of_y = np.arange(width * seen_x).reshape(width, seen_x), np.arange(width * seen_y).reshape(width, seen_y)
    biases = np.arange(width)[:, None]
    of_unit = np.concatenate([of_x, of_x.size + of_y, of_x.size + of_y.size + biases], 1)  # (width, seen + 1)
    form = np.zeros((of_unit.size, of_unit.size))
    form[of_unit[:, :, None], of_unit[:, None, :]] = weight / width * moment
    return form
