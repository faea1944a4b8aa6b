"""Stage one of small models: fit a window of one sample, then let the window grow.

A wide window on smooth sound is full of local minima: hidden units that look along useless differences of neighbouring
samples saturate there and never come back. A model of one input has no such minima, and widening its window with zero
weights changes nothing of what it does, so each size starts where the last one ended. Effects with memory before their
curve (a filter into a clipper) want another start: units that look along the linear prediction of the output. Both
starts are raced for a few steps, and the better one goes on.

The feedback noise is halved at each look: a lot of it finds feedback that is safe, little of it feedback that is exact,
and the free-running error says which to keep. Last come steps on the free-running error itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import (
    FREE_RUN_BLOCK,
    FreeRun,
    GaussNewton,
    OneStep,
    Problem,
    design,
    last_layer,
    row_count,
)
from fxclone_training.recipe import Recipe
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.session import Session
from fxclone_training.streams import Streams

SIZES = (1, 4, 16, 32)
SLOW_FROM, SLOW_TAPS = 16, 8
"""Windows of this size on have slow values; these then replace the farther past outputs."""
AVERAGES_MS = (0.09, 180.0)
ENVELOPES_MS = (1.1, 1300.0)
"""Span of the time constants."""
HARDLY_LINEAR_DB = -15.0
"""Free-running, a linear model of 32 inputs that is no better will not be saved by more of them."""
LINEAR_SIZES = (1, 8, 32, 96)
RIDGE = 1e-10
"""Of least squares, relative to each column: hidden units may be copies of each other."""
NOT_LINEAR_DB = -30.0
"""A linear prediction one step ahead that leaves this much is not the whole effect."""
RACE_STEPS = 6
PATIENCE = 4
WORTH_DB = 0.5
"""A larger window must improve the free-running error by this much to replace a smaller, cheaper one."""
GOOD_ENOUGH_DB = -40.0
"""A window this good sees enough: an effect that remembers more could not be met so closely without it."""
POLISH_PATIENCE = 15
SIGMA_MIN = 3e-5
ANNEAL_LOOKS = 10
"""Looks over which the noise is annealed, each with half the noise of the one before."""


def grow(session: Session, start: Ar | None = None) -> Ar:
    """Train by Gauss-Newton, at growing window sizes, until the target, a standstill at the largest, or the budget.

    Parameters
    ----------
    session : Session
    start : Ar or None
        A model to go on from (at its own size), or None for a fresh one.

    Returns
    -------
    Ar
        The best model of all sizes; of the size asked for, if the recipe names one.
    """
    recipe = session.recipe
    if start is not None:
        return _settle(session, _source(session, start.config), start)[1]
    linear_stage(session)
    best, best_esr_db = None, math.inf
    for m in window_sizes(recipe.m):
        config = model_config(recipe, m, session.training.sample_rate)
        source = _source(session, config)
        model = _race(session, source, _starts(session, source, config, best))
        esr_db, model = _settle(session, source, model)
        if recipe.m is None and esr_db <= GOOD_ENOUGH_DB:
            return _settle(session, source, model, patience=POLISH_PATIENCE)[1]
        if best is None or esr_db < best_esr_db - WORTH_DB or recipe.m is not None:
            best, best_esr_db = model, esr_db
    assert best is not None
    return best


def linear_stage(session: Session, *, largest: int = LINEAR_SIZES[-1]) -> None:
    """Stage zero: is the effect linear? Least squares alone, at several windows and feedback noises.

    Filters and tone controls end here, at the target, with a model that needs no hidden units at all.
    """
    recipe, source = session.recipe, _source(session, ArConfig())
    session.stage = "linear"
    first = _silent(session, 1 if recipe.m is None else recipe.m)  # something to keep, however early the end
    session.judge(first, loss_db=linear_start(first, source, 0.03), sigma=0.03)
    if linear_start(_silent(session, 32), source, 1e-4) > NOT_LINEAR_DB:
        return
    for m in [size for size in LINEAR_SIZES if size <= largest] if recipe.m is None else (recipe.m,):
        model = _silent(session, m)
        for look in range(ANNEAL_LOOKS if model.config.taps_y else 1):
            session.spend()
            sigma = _sigma(session, look) if model.config.taps_y else 0.0
            left_db = linear_start(model, source, sigma)
            session.judge(model, loss_db=left_db, sigma=sigma)
        if m >= 32 and session.best_esr_db > HARDLY_LINEAR_DB:
            return


def _silent(session: Session, m: int) -> Ar:
    """A model whose hidden units do nothing, and stay that way under least squares."""
    recipe = session.recipe
    taps = m - 1 if recipe.past_outputs is None else recipe.past_outputs
    width = 1 if recipe.m is None else recipe.units
    activation = "relu" if recipe.activation == "auto" else recipe.activation
    model = Ar(ArConfig(m, taps, recipe.layers, width, activation), generator=session.generator)
    with torch.no_grad():
        for parameter in (model.w_x, model.w_y, model.b_in, model.hidden, model.b_hidden):
            parameter.zero_()
    return model


def window_sizes(m: int | None) -> list[int]:
    """The sizes to grow through: up to 32, or exactly up to ``m``."""
    if m is None:
        return list(SIZES)
    return [size for size in (1, 4, 16) if size * 2 <= m] + [m]


def has_memory(config: ArConfig) -> bool:
    """Whether it sees more than taps."""
    return bool(config.slow or config.slow_y or config.blocks or config.past_blocks)


def same_memory(one: ArConfig, other: ArConfig) -> bool:
    """Whether both see the same beside taps."""
    names = ("averages", "averages_y", "envelopes", "attack", "blocks", "past_blocks")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def widen(model: Ar, config: ArConfig) -> Ar:
    """The same function with a larger window, or with slow values that it had not: new weights are zero."""
    wide = Ar(config)
    state, before = model.state_dict(), model.config
    same = same_memory(before, config)
    taps = {"w_x": (before.m, config.m), "skip_x": (before.m, config.m)}
    taps |= {"w_y": (before.taps_y, config.taps_y), "skip_y": (before.taps_y, config.taps_y)}
    for name, value in wide.state_dict().items():
        old = state[name]
        if name not in taps:
            value.copy_(old)
            continue
        had, has = taps[name]
        value.zero_()
        value[..., :had] = old[..., :had]
        if same:
            value[..., has:] = old[..., had:]
    return wide


def linear_start(model: Ar, source: SegmentSource, sigma: float) -> float:
    """Set everything that the output is linear in (both skips and the last layer) by least squares.

    The feedback noise is the ridge. Returns the mean squared weighted error that is left, in dB.
    """
    segments = source.draw(128, 256, model.history_samples, sigma)
    z, target, weight = design(model, segments)
    with torch.no_grad():
        rows = torch.cat([z, last_layer(model, z), torch.ones(len(z), 1)], 1).double() * weight[:, None]
        normal = rows.T @ rows
        diagonal = normal.diagonal()
        normal += torch.diag(torch.where(diagonal > 0, diagonal * RIDGE, 1.0))  # silent columns stay at zero
        aim = (target * weight).double()
        exact = torch.linalg.solve(normal, rows.T @ aim)
        left = float((rows @ exact - aim).square().mean())
        solution = exact.float()
        skip_x, skip_y, out, b_out = solution.split([model.config.seen_x, model.config.seen_y, model.config.width, 1])
        for parameter, value in (
            (model.skip_x, skip_x),
            (model.skip_y, skip_y),
            (model.out, out),
            (model.b_out, b_out),
        ):
            parameter.copy_(value)
    return _to_db(left)


def _source(session: Session, config: ArConfig) -> SegmentSource:
    return SegmentSource(
        Recording(session.training, config),
        relative_weight=session.recipe.weighs_passages,
        relative_noise=session.recipe.noise_relative,
        generator=session.generator,
    )


def model_config(recipe: Recipe, m: int, sample_rate: int) -> ArConfig:
    """The model of a window size: the larger ones have slow values too, where the recipe asks for them."""
    last = m == recipe.m
    taps = m - 1
    if recipe.past_outputs is not None:  # on the way to the size asked for, never more than there will be
        taps = recipe.past_outputs if last else min(taps, recipe.past_outputs)
    slow = (recipe.averages > 0 or recipe.envelopes > 0) and taps > 0 and (last or m >= SLOW_FROM)
    if slow and recipe.m is None:
        taps = min(taps, SLOW_TAPS)
    averages = _constants(recipe.averages, AVERAGES_MS, sample_rate) if slow else ()
    envelopes = _constants(recipe.envelopes, ENVELOPES_MS, sample_rate) if slow else ()
    activation = "tanh" if recipe.activation == "auto" else recipe.activation
    return ArConfig(m, taps, recipe.layers, recipe.units, activation, recipe.skip, averages, envelopes)


def _constants(count: int, span_ms: tuple[float, float], sample_rate: int) -> tuple[float, ...]:
    """Log-spaced time constants, in samples."""
    return tuple(float(value) for value in np.geomspace(*span_ms, count) * sample_rate / 1e3) if count else ()


def _starts(session: Session, source: SegmentSource, config: ArConfig, before: Ar | None) -> list[Ar]:
    if before is not None:
        config = replace(config, activation=before.config.activation)
        return [widen(before, config), _fresh(session, source, config)]
    activations = ("relu", "tanh") * 2 if session.recipe.activation == "auto" else (config.activation,) * 2
    return [_fresh(session, source, replace(config, activation=name)) for name in activations]


def _fresh(session: Session, source: SegmentSource, config: ArConfig) -> Ar:
    """Units of many slopes that look along the newest input and along the linear prediction, in turn."""
    model = Ar(config, generator=session.generator)
    units = config.width
    slopes = torch.logspace(-0.5, 1.7, units)  # from nearly linear to nearly a switch
    with torch.no_grad():
        for parameter in (model.w_x, model.w_y, model.b_in):
            parameter.zero_()  # silent units: the first least squares is the linear prediction alone
        linear_start(model, source, session.recipe.noise_sigma)
        scale = slopes / model.skip_x.abs().sum().clamp(min=1e-3)
        newest = torch.zeros(config.seen_x)
        newest[0] = 1
        along = (torch.arange(units) % 2 == 1)[:, None] & (config.m > 1)
        model.w_x.copy_(torch.where(along, scale[:, None] * model.skip_x, slopes[:, None] * newest))
        model.w_y.copy_(torch.where(along, scale[:, None] * model.skip_y, torch.zeros(())))
        model.b_in.copy_(torch.randn(units, generator=session.generator) * 0.5)
        linear_start(model, source, session.recipe.noise_sigma)
    return model


def _race(session: Session, source: SegmentSource, starts: list[Ar]) -> Ar:
    """A few steps each; the one with the lowest free-running error wins. The first wins ties: put the cheaper first."""
    results = []
    for model in starts:
        steps = RACE_STEPS * (20 if model.config.m == 1 else 1)
        results.append((_run(session, source, model, steps, session.recipe.noise_sigma), model))
    lowest = min(esr_db for esr_db, _ in results)
    return next(model for esr_db, model in results if esr_db <= lowest + (1.0 if starts[0].config.m == 1 else 0.0))


def _settle(session: Session, source: SegmentSource, model: Ar, *, patience: int = PATIENCE) -> tuple[float, Ar]:
    """Train at one size until it stands still, one step ahead and then running freely; the best error and its model."""
    best_esr, best = session.measure(model)[0], model.copy()
    for freely in (False, True) if model.config.taps_y and session.recipe.free_running else (False,):
        every = 10 if model.config.m == 1 else 2
        optimiser, waited, look = GaussNewton(model), 0, 0
        streams = None
        if freely:
            model.load_state_dict(best.state_dict())
            streams = _streams(session, source, model)
        while waited < patience or (look < ANNEAL_LOOKS and not freely and model.config.taps_y):
            sigma = 0.0 if freely else _sigma(session, look)
            esr_db = _run(session, source, model, every, sigma, optimiser, streams)
            waited, look = 0 if esr_db < best_esr - 0.3 else waited + 1, look + 1
            if esr_db < best_esr:
                best_esr, best = esr_db, model.copy()
    return best_esr, best


def _streams(session: Session, source: SegmentSource, model: Ar) -> Streams:
    return Streams(
        source.recording,
        batch=max(4, row_count(model) // FREE_RUN_BLOCK),
        block=FREE_RUN_BLOCK,
        relative_weight=session.recipe.weighs_passages,
        generator=session.generator,
        sample_rate=session.training.sample_rate,
    )


def _sigma(session: Session, look: int) -> float:
    """The feedback noise at a look: halved from one to the next, if the recipe anneals it."""
    recipe = session.recipe
    if recipe.noise_sigma == 0:
        return 0.0
    return max(SIGMA_MIN, recipe.noise_sigma * 0.5**look) if recipe.noise_anneal else recipe.noise_sigma


def _run(
    session: Session,
    source: SegmentSource,
    model: Ar,
    steps: int,
    sigma: float,
    optimiser: GaussNewton | None = None,
    streams: Streams | None = None,
) -> float:
    """Some steps with feedback noise ``sigma``, or freely on ``streams``; returns the free-running error after."""
    optimiser = optimiser or GaussNewton(model)
    loss = math.nan
    session.at_work = model
    for _ in range(steps):
        session.spend()
        problem: Problem = FreeRun(model, streams) if streams else OneStep(model, source, sigma)
        loss = optimiser.step(problem).after
    session.stage = f"{'free-running' if streams else 'one-step'} m={model.config.m}"
    return session.judge(model, loss_db=_to_db(loss), sigma=sigma)


def _to_db(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-20)))
