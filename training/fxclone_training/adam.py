"""The stages that use gradients: teacher-forced for large models, free-running for all.

Free-running is truncated backpropagation through time: many streams run side by side, each block starts from the state
in which the last one ended, and only now and then does a stream start anew somewhere else, from the true past. So the
model is trained on states that only long runs of its own reach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fxclone_training.ar import Ar
from fxclone_training.descent import set_rate
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.session import Session
from fxclone_training.streams import Streams

GRADIENT_LIMIT = 1.0
TEACHER_FORCED_SHARE = 0.6
"""Of the budget, when free-running training follows."""
_WARM_UP = 20


def teacher_forced(session: Session, model: Ar) -> None:
    """Adam on noise-injected past outputs, two convolutions for a whole batch of passages.

    Ends when its share of the budget is spent: all of it, unless the recipe trains freely afterwards.
    """
    recipe = session.recipe
    session.stage = "teacher-forced"
    device = model.b_out.device
    source = SegmentSource(
        Recording(session.training, model.config, device=str(device)),
        relative_weight=recipe.weighs_passages,
        relative_noise=recipe.noise_relative,
        generator=session.generator,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    sigma, share = recipe.noise_sigma, TEACHER_FORCED_SHARE if recipe.free_running and model.config.taps_y else 1.0
    every = 25 if model.parameter_count > 50_000 else 50
    session.at_work = model
    while session.progress < share:
        session.spend()
        set_rate(optimiser, recipe.learning_rate, session.progress / share, warm=session.steps / _WARM_UP)
        segments = source.draw(recipe.batch, recipe.segment_samples, model.history_samples, sigma)
        shown = segments.x[:, None], segments.y_noisy[:, None], segments.slow_x, segments.slow_y
        predicted = model.teacher_forced(*shown)[:, 0]
        loss = ((predicted - segments.target) * segments.weight).square().mean()
        _descend(optimiser, model, loss)
        if session.steps % every == 0:
            esr_db = session.judge(model.copy(), loss_db=_db(loss), sigma=sigma)
            if recipe.noise_anneal:
                sigma = min(recipe.noise_sigma, max(1e-4, 0.5 * 10 ** (esr_db / 20)))


def free_running(session: Session, model: Ar, *, learning_rate: float | None = None, patience: int = 12) -> None:
    """Adam on the model's own outputs, with the state carried along streams of seconds.

    Ends with `Finished` when the budget is spent, or quietly when nothing has improved for ``patience`` looks.
    """
    recipe = session.recipe
    session.stage = "free-running"
    top_rate = learning_rate or recipe.learning_rate
    streams = Streams(
        Recording(session.training, model.config),
        batch=recipe.batch,
        block=recipe.segment_samples,
        relative_weight=recipe.weighs_passages,
        generator=session.generator,
        sample_rate=session.training.sample_rate,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=top_rate, betas=(0.9, 0.99))
    began, waited, step = session.progress, 0, 0
    state = streams.fresh_states(model)
    session.at_work = model
    while waited < patience:
        session.spend()
        step += 1
        set_rate(optimiser, top_rate, session.spent_since(began), warm=step / _WARM_UP)
        x, y, weight, state = streams.next_block(model, state)
        predicted, after = model(x[:, None], state)
        loss = ((predicted[:, 0] - y) * weight).square().mean()
        if math.isfinite(loss.item()) and loss.item() < 1e4:
            _descend(optimiser, model, loss)
            state = after.detach()
        else:  # the model blew up on its own outputs: start every stream from the truth again
            state = streams.fresh_states(model)
        if step % 50 == 0:
            before = session.best_esr_db
            session.judge(model, loss_db=_db(loss), sigma=0.0)
            waited = 0 if session.best_esr_db < before - 0.02 else waited + 1


def _descend(optimiser: torch.optim.Optimizer, model: Ar, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_LIMIT)
    optimiser.step()


def _db(loss: Tensor) -> float:
    return 10 * math.log10(max(loss.item(), 1e-20))
