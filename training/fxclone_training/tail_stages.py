"""The stages of family ``tail``: how long it rings, its responses by least squares, echoes as delay lines where that is
as good, and a nonlinear front where no response explains the sound.
"""

from __future__ import annotations

import math

import torch

from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_delay import EXPLAINED_DB, search_delay
from fxclone_training.tail_front import fit_front_and_tail
from fxclone_training.tail_identify import identify
from fxclone_training.tail_length import LINEAR_DB, choose_length

AS_GOOD_DB = 1.0
"""Delay lines may be this much worse than a response that costs a thousand times as many weights."""


def train(session: Session, start: Tail | None, device: torch.device) -> str:
    """Run the stages; returns why training ended."""
    training, recipe = session.training, session.recipe
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=math.nan, sigma=0.0)
    session.stage = "tail length"
    session.spend()
    length = choose_length(training.dry, training.wet, training.sample_rate, tail_s=recipe.tail_s)
    session.findings["tail"] = {
        "tail_s": length.tail_s,
        "noise_floor_db": length.noise_floor_db,
        "t60_s": length.t60_s,
        "left_out_db": length.left_out_db,
    }
    decay = f", decays by 60 dB in {length.t60_s:.2f} s" if length.t60_s else ""
    session.tell(
        f"responses of {length.tail_s:.2f} s ({length.reason}){decay}; a long response leaves "
        f"{length.noise_floor_db:.0f} dB unexplained"
    )
    session.stage = "least squares"
    session.spend()
    fit = identify(training.dry, training.wet, length.taps, should_stop=session.is_over)
    linear_db = session.judge(Tail(fit.responses), loss_db=fit.residual_db, sigma=0.0)
    session.stage = "echoes"
    session.spend()
    echoes = search_delay(training.dry, training.wet, fit.responses, fit.residual_db, training.sample_rate)
    if echoes is not None:
        model = Tail(echoes.direct, lines=echoes.lines)
        esr_db = session.judge(model, loss_db=echoes.explained_db, sigma=0.0)
        if esr_db <= max(linear_db + AS_GOOD_DB, EXPLAINED_DB):
            session.prefer(model, esr_db)
            session.tell(f"echoes: {len(echoes.lines)} delay lines with {echoes.weights} weights do it")
            return "delay lines are as good as a response"
    if min(linear_db, session.best_esr_db) <= LINEAR_DB:
        return "the responses are found"
    if session.training.dry.shape[0] != 1:
        session.tell("it is not linear, and a front before a tail is mono: use --channels mono-stereo for that")
        return "the responses are found"
    session.stage = "front and tail"
    session.spend()
    session.tell("no response alone explains it: looking for a curve before the tail")
    both = fit_front_and_tail(
        training.dry,
        training.wet,
        length.taps,
        training.sample_rate,
        width=recipe.width,
        target_db=recipe.target_esr_db,
        seed=recipe.seed,
        should_stop=session.is_over,
    )
    session.judge(Tail(None, both.front, both.tail), loss_db=both.esr_db, sigma=0.0)
    if session.is_over():
        raise Finished(f"{recipe.seconds:g} s of training are over")
    return "nothing improves any more"
