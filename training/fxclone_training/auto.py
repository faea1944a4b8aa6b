"""Which family fits an effect: measured on the pair, not taken from what the effect says of itself."""

from __future__ import annotations

import math

import torch

from fxclone.pairs import Pair
from fxclone_training import ar_stages, tail_stages
from fxclone_training.grow import linear_stage
from fxclone_training.session import Session
from fxclone_training.tail import Tail
from fxclone_training.tail_drive import race, train_driven
from fxclone_training.tail_front import curve_then_response_db
from fxclone_training.tail_identify import identify
from fxclone_training.tail_length import LINEAR_DB, SHORT_S

CURVE_S, CURVE_HZ = 6.0, 24_000
"""How much of the pair, and at which rate, a first curve and response are fitted to: half a second of work."""
SOME_COPY_DB, CURVE_DB = -8.0, -20.0
"""At first sight: worth a try, and clearly it."""
DRIVEN_WORTH_DB = 3.0
SMALL = 32
"""Inputs of a linear `ar` model that is worth trying before a response, which takes a second."""
FULLY_LINEAR_DB = -60.0
"""A linear `ar` model this good needs no response."""
WORTH_DB = 6.0
"""A response has a thousand weights: it must be this much better."""


def train(session: Session, start: None, device: torch.device) -> str:
    """Choose a family and run its stages, telling the user what was found; returns why training ended."""
    pair = session.training
    session.stage = "looking"
    found = tail_stages.look_at(pair)
    channels = pair.dry.shape[0], pair.wet.shape[0]
    session.findings["auto"] = {"kind": found.kind, "long_db": found.long_db, "short_db": found.short_db}
    if found.kind != "short" and found.short_db > FULLY_LINEAR_DB:  # below that, both are only rounding
        session.tell(
            f"it rings: a response of {found.tail_s:.1f} s explains sound to {found.long_db:.0f} dB, one of "
            f"{1e3 * SHORT_S:.0f} ms to {found.short_db:.0f} dB; family tail"
        )
        return tail_stages.train(session, None, device, found)
    if channels != (1, 1):
        session.tell(f"no long tail, {channels[0]} channels in, {channels[1]} out: family tail, with short responses")
        return tail_stages.train(session, None, device, found)
    if session.recipe.m is not None:
        return ar_stages.train(session, None, device)
    if found.short_db <= LINEAR_DB:
        linear_stage(session, largest=SMALL)
        if session.best_esr_db > FULLY_LINEAR_DB and _response_is_better(session):
            session.tell(f"it is linear, and a response of {1e3 * SHORT_S:.0f} ms does it best; family tail")
            return tail_stages.train(session, None, device, found)
        return ar_stages.train(session, None, device)
    return _nonlinear(session, device)


def _nonlinear(session: Session, device: torch.device) -> str:
    """No tail, one channel, not linear: a curve alone, filters behind it, filters around it, or none of these."""
    pair = session.training
    curve_db, both_db = _curve_and_response(pair)
    found = session.findings["auto"]
    found |= {"curve_db": curve_db, "curve_then_response_db": both_db}
    if curve_db <= CURVE_DB and both_db > curve_db - WORTH_DB:
        return ar_stages.train(session, None, device)
    if both_db <= CURVE_DB and both_db <= curve_db - WORTH_DB:
        session.tell(
            f"a curve and a response of {1e3 * SHORT_S:.0f} ms behind it explain it to {both_db:.0f} dB at first "
            f"sight, a curve alone to {curve_db:.0f} dB; family tail"
        )
        ended = tail_stages.front_and_tail(session, round(SHORT_S * pair.sample_rate))
        if session.best_esr_db <= SOME_COPY_DB:
            return ended
    start = race(pair)
    found |= {"driven_db": start.esr_db, "cutoff_hz": start.cutoff_hz, "drive": start.drive}
    if start.esr_db <= min(SOME_COPY_DB, curve_db - DRIVEN_WORTH_DB):
        behind = f"a high-pass of {start.cutoff_hz:.0f} Hz" if start.cutoff_hz else "no filter"
        session.tell(
            f"a clean path beside a curve behind {behind} explains it to {start.esr_db:.0f} dB at first sight; family "
            "tail, with filters before the curve"
        )
        ended = train_driven(session, start)
        if session.best_esr_db <= SOME_COPY_DB:
            return ended
    return ar_stages.train(session, None, device)


def _curve_and_response(pair: Pair) -> tuple[float, float]:
    """ESR of a curve alone (and a response of a third of a millisecond), and of one with a response, at first sight."""
    dry, wet = tail_stages.middle(pair, CURVE_S, CURVE_HZ)
    alone, both = (
        curve_then_response_db(dry, wet, max(1, round(length_s * CURVE_HZ)), CURVE_HZ) for length_s in (3e-4, SHORT_S)
    )
    return alone, both


def _response_is_better(session: Session) -> bool:
    pair, before_db = session.training, session.best_esr_db
    fit = identify(pair.dry, pair.wet, round(SHORT_S * pair.sample_rate), should_stop=session.is_over)
    model = Tail(fit.responses)
    if session.measure(model)[0] > before_db - WORTH_DB:
        return False
    session.judge(model, loss_db=math.nan, sigma=0.0)
    return True
