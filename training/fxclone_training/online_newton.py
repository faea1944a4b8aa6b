"""Gauss-Newton with a memory: every step sees a little new sound, its curvature is a running average over many.

A step on a few seconds of sound alone fits those seconds and forgets the rest; a step on all of it takes minutes. The
normal matrix J^T J changes slowly as the model does, so an average of the last ones describes all of the sound, while
the slope J^T r is that of the new sound only. With steps that get shorter towards the end this is natural gradient
descent (Amari 1998; Martens, New insights and perspectives on the natural gradient method, 2020), and needs some
hundred steps where gradient descent needs ten thousand.

A step can go too far in a way that its own sound does not show: the model still says the right thing, but small causes
have huge effects (its feedback is on the edge), and on the next sound it howls. One look at a curvature of 10^18 would
end all learning, for the average keeps it. So such a problem is not learnt from, and the step before it is undone.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from fxclone_training.ar import Ar
from fxclone_training.gauss_newton import Problem, Step, assign, trained
from fxclone_training.trust import price

MEMORY = 0.95
"""Of the curvature, from one step to the next."""
LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e3
"""Relative to the diagonal."""
RIDGE = 1e-9
"""Relative to the mean of the diagonal: what no sound determines stays where it is."""
PRECISION = 1e-3
"""The error that weights may cause which are off by this share, each on its own, counts as error: with D the diagonal
of J^T J, PRECISION^2 sum D w^2. So large terms that cancel, and feedback that adds up rounding, have a price."""
HOWL = 4.0
"""An error of so many times the power aimed at is no error any more: silence has one of 1."""
TRIES = 5
WORSE = 1.02
"""A step may make the error on its own sound worse by this factor: what it costs here, it may gain elsewhere."""


class OnlineNewton:
    """Damped steps of decreasing length; keeps the curvature and the damping.

    Parameters
    ----------
    model : Ar
        Changed in place.
    power : float
        Mean power of the (weighted) sound that is aimed at: tells a howl, and a model that is about to.
    trust : float
        To move every unit's sum by 1 (`trust.price`) costs so many times the error. 0 for free.
    """

    def __init__(self, model: Ar, *, power: float = np.inf, trust: float = 0.0) -> None:
        self.model, self.power, self.trust = model, power, trust
        size = sum(parameter.numel() for parameter in trained(model))
        self.curvature = np.zeros((size, size))
        self.damping = LEAST_DAMPING
        self.steps = 0
        self._before: list[Tensor] | None = None  # the weights before the last step that was kept

    @torch.no_grad()
    def step(self, problem: Problem, rate: float) -> Step:
        """Go ``rate`` (0 to 1) of the way to where the average curvature puts the minimum.

        Returns
        -------
        Step
            Infinite if the model howls on this sound, or is about to: then the step before this one is undone.
        """
        parameters = trained(self.model)
        size = len(self.curvature)
        normal, slope, before = np.zeros((size, size), np.float32), np.zeros(size), 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # a howl is seen below
            for error, jacobian in problem.parts():
                normal += (jacobian.T @ jacobian).numpy()
                slope += (jacobian.T @ error).numpy()
                before += float(error.double().square().sum())
        held = [parameter.clone() for parameter in parameters]
        weights = torch.cat([parameter.flatten() for parameter in held]).double().numpy()
        reach = PRECISION**2 * float(np.diag(normal) @ np.square(weights)) / problem.rows
        finite = bool(np.isfinite(normal).all() and np.isfinite(slope).all())
        if not (finite and before <= HOWL * self.power * problem.rows and reach <= self.power):
            if self._before is not None:
                assign(parameters, self._before, np.zeros(size))
                self._before, self.damping = None, min(self.damping * 25, MOST_DAMPING)
            return Step(np.inf, np.inf, False)
        memory = min(MEMORY, self.steps / (self.steps + 1))
        self.curvature = memory * self.curvature + (1 - memory) / problem.rows * normal
        self.steps += 1
        diagonal = np.diag(self.curvature)
        pull = slope / problem.rows + PRECISION**2 * diagonal * weights
        dear = price(self.model, problem.moment, self.trust * before / problem.rows)
        damping = self.damping
        for _ in range(TRIES):
            lifted = self.curvature + np.diag((damping + PRECISION**2) * diagonal + RIDGE * diagonal.mean())
            lifted[: len(dear), : len(dear)] += dear
            factor = linalg.cho_factor(lifted, overwrite_a=True, check_finite=False)
            move = rate * linalg.cho_solve(factor, pull, check_finite=False)
            assign(parameters, held, move)
            after = problem.cost()
            if after <= WORSE * before:
                problem.accept()
                self.damping, self._before = max(LEAST_DAMPING, damping / 2), held
                return Step(before / problem.rows, after / problem.rows, True)
            damping = min(damping * 5, MOST_DAMPING)
        self.damping = damping
        assign(parameters, held, np.zeros(size))
        return Step(before / problem.rows, before / problem.rows, False)
