"""SOAP: Adam along the axes of the gradients (Vyas et al. 2024, *SOAP: Improving and Stabilizing Shampoo using Adam*).

Adam scales each weight by itself. But the gradients of a layer's weights mostly vary together, along a few axes, and
those are not the weights themselves. Here a matrix of weights is turned so that its rows and columns lie along the
axes of its past gradients, Adam takes its step there, and the step is turned back. The axes follow the gradients by one
step of orthogonal iteration each few steps: for matrices of some dozen rows that is next to free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.9)
"""Of the mean gradient, and of its squares: how much is kept from one step to the next."""
AXES_BETA = 0.9
"""The same of the gradients' covariance, whose axes are used."""
EVERY_STEPS = 10
"""The axes are brought up to date so often."""
LARGEST = 512
"""Sides longer than this are not turned: axes cost the cube of it."""
_EPSILON = 1e-8


class Soap(torch.optim.Optimizer):
    """Adam along the axes of the gradients.

    Of a parameter the last two dimensions are a matrix, with axes of its own for each index of those before; a vector
    is a matrix of one row. The first step only looks.

    Parameters
    ----------
    parameters : iterable of Tensor
    lr : float
        Learning rate: about what Adam takes.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or not parameter.numel():
                    continue
                gradient, state = _matrices(parameter.grad), self.state[parameter]
                if not state:
                    _begin(state, gradient)
                else:
                    parameter.sub_(_direction(state, gradient).view_as(parameter), alpha=group["lr"])


def _matrices(values: Tensor) -> Tensor:
    """(matrices, rows, columns)."""
    return values.reshape(-1, *values.shape[-2:]) if values.ndim > 1 else values.reshape(1, 1, -1)


def _begin(state: dict[str, Any], gradient: Tensor) -> None:
    state["steps"] = 0
    state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    for side, size in (("rows", gradient.shape[1]), ("columns", gradient.shape[2])):
        if 1 < size <= LARGEST:
            state[side] = _covariance(gradient, side)
            axes = torch.linalg.eigh(state[side].double())[1]
            state[f"{side} axes"] = axes.flip(-1).to(gradient.dtype).contiguous()  # the strongest first


def _direction(state: dict[str, Any], gradient: Tensor) -> Tensor:
    state["steps"] += 1
    steps, mean, square = state["steps"], state["mean"], state["square"]
    mean.lerp_(gradient, 1 - BETAS[0])
    square.lerp_(_turn(state, gradient).square_(), 1 - BETAS[1])
    step = _turn(state, mean) / (1 - BETAS[0] ** steps)
    step = _turn(state, step / ((square / (1 - BETAS[1] ** steps)).sqrt_() + _EPSILON), back=True)
    for side in ("rows", "columns"):
        if side in state:
            state[side].lerp_(_covariance(gradient, side), 1 - AXES_BETA)
            if steps % EVERY_STEPS == 0:
                _follow(state, side)
    return step


def _covariance(gradient: Tensor, side: str) -> Tensor:
    return gradient @ gradient.mT if side == "rows" else gradient.mT @ gradient


def _turn(state: dict[str, Any], values: Tensor, *, back: bool = False) -> Tensor:
    """Into the axes of both sides, or back."""
    rows, columns = state.get("rows axes"), state.get("columns axes")
    if rows is not None:
        values = (rows if back else rows.mT) @ values
    if columns is not None:
        values = values @ (columns.mT if back else columns)
    return values


def _follow(state: dict[str, Any], side: str) -> None:
    """One step of orthogonal iteration; axes that have changed their order take their squares along."""
    axes, square = state[f"{side} axes"], state["square"]
    moved = state[side] @ axes
    order = (axes * moved).sum(1).argsort(dim=1, descending=True)  # by strength
    dim, index = (1, order[:, :, None]) if side == "rows" else (2, order[:, None, :])
    state["square"] = square.gather(dim, index.expand_as(square))
    state[f"{side} axes"] = torch.linalg.qr(moved.gather(2, order[:, None, :].expand_as(moved)))[0]


__all__ = ["Soap"]
