"""Which family fits an effect: measured on the pair, not taken from what the effect says of itself."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch

from fxclone_training import ar_stages, dynamics_stages, second_opinion, tail_stages, tail_still
from fxclone_training.analysis import SOME_COPY_DB, Analysis, analyse
from fxclone_training.analysis_choice import WORTH_DB, Choice, choose
from fxclone_training.analysis_models import FULLY_LINEAR_DB
from fxclone_training.analysis_time import steadiness
from fxclone_training.grow import linear_stage
from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_drive import train_driven
from fxclone_training.tail_identify import identify
from fxclone_training.tail_length import SHORT_S, LongLinear

SMALL = 32
"""Inputs of a linear `ar` model that is worth trying before a response, which takes a second."""
CLOSER_DB = 2.0
"""A clone that is not closer than the dry sound by so much has learned nothing of the effect but its level."""


def train(session: Session, start: None, device: torch.device) -> str:
    """Measure the pair, choose a family and run its stages, telling the user why; returns why training ended."""
    dry_db = session.measure(tail_stages.plain_gain(session.training))[0]
    try:
        ended = _train(session, device)
    except Finished:
        session.last_look()
        session.at_work = None
        _compare(session, dry_db)
        raise
    _compare(session, dry_db)
    return ended


def _compare(session: Session, dry_db: float) -> None:
    """Say so if the dry sound is as close as the clone."""
    session.findings["auto"] = session.findings.get("auto", {}) | {"dry_db": dry_db}
    if session.best_esr_db <= session.recipe.target_esr_db:
        if "kind" not in session.findings["auto"]:  # nothing had to be measured
            session.tell("The dry sound, at another level, is all there is to it: that is the clone.")
    elif session.best_esr_db > dry_db - CLOSER_DB:
        session.tell(
            f"To be honest: this clone is no closer than the dry sound itself at the right level ({dry_db:.1f} dB). "
            "What the effect does to it is not in the clone: no family here has learned that in this time."
        )


def _train(session: Session, device: torch.device) -> str:
    pair = session.training
    given = session.recipe.m is not None or session.recipe.memory != "auto"
    if not given:
        session.stage = "dry"
        tail_stages.keep_dry(session)
    session.stage = "looking"
    look = tail_stages.look_at(pair)
    session.findings["auto"] = {"kind": look.kind, "long_db": look.long_db, "short_db": look.short_db}
    rings = look.kind != "short" and look.short_db > FULLY_LINEAR_DB
    if given and not rings and (pair.dry.shape[0], pair.wet.shape[0]) == (1, 1):
        return ar_stages.train(session, None, device)

    found = analyse(pair, look=look, time=False, enough=session.measured_enough)
    if found.best_db > SOME_COPY_DB and not session.measured_enough():  # what nothing explains may be moving
        found = replace(found, time=steadiness(pair, session.render))
    choice = choose(found)
    session.findings["auto"] |= _facts(found, choice)
    session.tell(choice.words)
    if session.is_over():
        session.spend()  # which says why it ends
    if _may_be_dynamics(found, choice) and dynamics_stages.explains(session):
        return "nothing improves any more"
    if choice.family not in ("ar", "tail"):
        from fxclone_training.families import FAMILIES

        return FAMILIES[choice.family].train(session, None, device)
    if choice.kind == "moving" and choice.family == "tail":
        return tail_still.train(session, look.tail_s if found.linear.rings else SHORT_S)
    if choice.kind in ("room", "stereo"):
        return tail_stages.train(session, None, device, look)
    if found.linear.whole and choice.kind != "dynamics":
        return _linear(session, device, look, choice)
    ended = _with_a_front(session, choice)
    if ended and session.best_esr_db <= SOME_COPY_DB:
        return second_opinion.after(session, device, ended)
    return second_opinion.train(session, device, choice)


def _may_be_dynamics(found: Analysis, choice: Choice) -> bool:
    """Whether it follows the level, or may: fast limiters look like curves, too. A trial tells within seconds."""
    return choice.kind == "dynamics" or (
        choice.kind == "unknown" and found.gain is not None and found.gain.following_db <= SOME_COPY_DB
    )


def _linear(session: Session, device: torch.device, look: LongLinear, choice: Choice) -> str:
    """A small filter if that does it, else a response."""
    linear_stage(session, largest=SMALL)
    if session.best_esr_db > FULLY_LINEAR_DB and _response_is_better(session):
        session.tell(f"a response of {1e3 * SHORT_S:.0f} ms does it best; family tail")
        return tail_stages.train(session, None, device, look)
    return ar_stages.train(session, None, device, choice)


def _with_a_front(session: Session, choice: Choice) -> str:
    """Family ``tail`` with a curve before it, or filters and a curve; nothing if that is not what fits."""
    if choice.kind == "curve and response":
        return tail_stages.front_and_tail(session, round(SHORT_S * session.training.sample_rate))
    if choice.kind != "pedal and cabinet" or choice.driven is None:
        return ""
    return train_driven(session, choice.driven)


def _facts(found: Analysis, choice: Choice) -> dict[str, Any]:
    """JSON-safe, for the clone file."""
    facts: dict[str, Any] = {"like": choice.kind, "family": choice.family, "size": choice.size}
    facts |= {"best_simple_db": found.best_db} if math.isfinite(found.best_db) else {}
    if found.curves:
        facts |= {name: value for name, value in asdict(found.curves).items() if value is not None}
    if found.gain:
        facts |= {"gain_follows_level_db": found.gain.following_db}
    return facts


def _response_is_better(session: Session) -> bool:
    pair, before_db = session.training, session.best_esr_db
    fit = identify(pair.dry, pair.wet, round(SHORT_S * pair.sample_rate), should_stop=session.is_over)
    model = Tail(fit.responses)
    if session.measure(model)[0] > before_db - WORTH_DB:
        return False
    session.judge(model, loss_db=math.nan, sigma=0.0)
    return True
