"""Steps along the axes of the gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fxclone_training.descent import set_rate
from fxclone_training.soap import Soap


def descended(
    start: Tensor, loss: Callable[[Tensor], Tensor], steps: int, kind: type = Soap, lr: float = 0.02
) -> Tensor:
    weights = start.clone().requires_grad_()
    optimiser = kind([weights], lr=lr)
    for step in range(steps):
        set_rate(optimiser, lr, step / steps, warm=1.0)
        optimiser.zero_grad()
        torch.autograd.backward(loss(weights))
        optimiser.step()
    return weights.detach()


def turned(size: int, generator: torch.Generator) -> Tensor:
    axes: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return axes


def bowl(rows: Tensor, columns: Tensor, scale: Tensor) -> Callable[[Tensor], Tensor]:
    """A quadratic that is steep along some axes and flat along others; its minimum at 1 along each."""
    return lambda weights: (scale * (rows @ weights @ columns - 1).square()).mean()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_it_does_not_matter_how_the_axes_lie(generator: torch.Generator) -> None:
    scale = torch.logspace(0, -2, 36, dtype=torch.float64).view(6, 6)
    rows, columns, straight = turned(6, generator), turned(6, generator), torch.eye(6, dtype=torch.float64)
    start = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    known = descended(start, bowl(straight, straight, scale), 60)
    askew = descended(rows.T @ start @ columns.T, bowl(rows, columns, scale), 60)
    torch.testing.assert_close(rows @ askew @ columns, known, rtol=1e-6, atol=1e-6)


def test_it_comes_closer_than_adam_where_inputs_are_much_alike(generator: torch.Generator) -> None:
    mixed = turned(24, generator) * torch.logspace(0, -3, 24, dtype=torch.float64) @ turned(24, generator)
    goal = torch.randn(12, 24, generator=generator, dtype=torch.float64)
    inputs = mixed @ torch.randn(24, 4_096, generator=generator, dtype=torch.float64)

    def error(weights: Tensor) -> Tensor:
        some = torch.randint(0, inputs.shape[1], (64,), generator=generator)
        return ((weights - goal) @ inputs[:, some]).square().mean()

    start = torch.zeros_like(goal)
    found = [descended(start, error, 1_000, kind) for kind in (Soap, torch.optim.Adam)]
    ours, adam = (float(((weights - goal) @ inputs).square().mean()) for weights in found)
    assert ours < 0.2 * adam


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 4), (3, 1, 4), (2, 3, 4, 5), (2, 600), (0,), (0, 4, 4)])
def test_weights_of_any_shape(shape: tuple[int, ...], generator: torch.Generator) -> None:
    start = torch.randn(shape, generator=generator)
    found = descended(start, lambda weights: (weights - 2).square().sum(), 400, lr=0.1)
    assert found.shape == start.shape
    torch.testing.assert_close(found, torch.full_like(start, 2.0), rtol=0, atol=0.05)


def test_stacked_matrices_are_independent(generator: torch.Generator) -> None:
    start = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    goals = [
        bowl(turned(4, generator), turned(5, generator), torch.rand(4, 5, dtype=torch.float64, generator=generator))
        for _ in range(3)
    ]
    together = descended(
        start, lambda w: torch.stack([goal(part) for goal, part in zip(goals, w, strict=True)]).sum(), 40
    )
    for goal, part, whole in zip(goals, start, together, strict=True):
        torch.testing.assert_close(descended(part, goal, 40), whole)


def test_no_gradient_no_step() -> None:
    weights = torch.ones(3, requires_grad=True)
    Soap([weights], lr=1.0).step()
    assert torch.equal(weights, torch.ones(3))
