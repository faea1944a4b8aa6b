"""The stages of family ``dynamics``: which detector, then everything about it at once, then perhaps a second gain."""

from __future__ import annotations

import math

import numpy as np
import torch

from fxclone.audio import Audio, power_to_db
from fxclone_training.ar_stages import require_mono
from fxclone_training.dynamics import Dynamics
from fxclone_training.dynamics_fit import levenberg_marquardt
from fxclone_training.dynamics_kernels import Doubles
from fxclone_training.dynamics_start import gain_before, starts
from fxclone_training.session import Session
from fxclone_training.tail_stages import keep_dry

EXCERPT_S, WHOLE_S = 6.0, 60.0
"""How much of the sound, from its middle, is looked at first, and at the end."""
SETTLED_S = 0.5
"""Of an excerpt, what comes before it is not known: detectors settle while nothing is fitted."""
FIRST_STEPS, STEPS = 15, 40
ENOUGH_DB = -70.0
"""What a fit leaves; with less, there is nothing else in it."""
CLOSE_DB, GOOD_DB = -25.0, -35.0
"""In a trial: with more than ``CLOSE_DB`` after the first fits it is something else, and with ``GOOD_DB`` in the end it
is this."""
BETTER_DB = 10.0
"""It must also be so much closer than what was there before: to many gates the dry sound itself is close."""
TRIAL_SHARE = 0.3
CLIPS = 20
"""So many samples at the very top are a clip."""


def train(session: Session, start: Dynamics | None, device: torch.device) -> str:
    """Run the stages; returns why training ended. It runs on the CPU, whatever ``device`` says."""
    require_mono(session, "dynamics")
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=math.nan, sigma=0.0)
        _refine(session, start)
    else:
        if not session.kept:
            keep_dry(session)
        _from_nothing(session, math.inf)
    return "nothing improves any more"


def explains(session: Session) -> bool:
    """A trial of some seconds: whether a gain that follows the level is all there is to the effect.

    What it found is judged in any case, and so kept where it is the best.
    """
    before_db = session.best_esr_db
    try:
        with session.limited_to(min(1.0, session.progress + TRIAL_SHARE)):
            _from_nothing(session, CLOSE_DB)
    finally:  # a target that is reached ends training at once
        enough = session.best_esr_db <= min(GOOD_DB, before_db - BETTER_DB)
        if enough:
            session.findings["auto"] = session.findings.get("auto", {}) | {"family": Dynamics.family}
            session.tell(
                "A gain that follows the level is all there is to it: family dynamics leaves "
                f"{session.best_esr_db:.0f} dB."
            )
    return enough


def ceiling_of(wet: Audio) -> float:
    """Where a hard clip holds the sound; inf if there is none."""
    top = float(np.abs(wet).max())
    return top if np.count_nonzero(np.abs(wet) > 0.9999 * top) >= CLIPS and top > 0 else math.inf


def _from_nothing(session: Session, close_db: float) -> None:
    rate = session.training.sample_rate
    session.stage = "detectors"
    session.spend()
    dry, wet, first = _stretch(session, EXCERPT_S)
    ceiling = ceiling_of(session.training.wet)
    found = starts(dry, wet, rate, first)
    session.stage = "gain"
    fits: list[tuple[Dynamics, float]] = []
    for start in found:
        one = Dynamics(start.cell[None], [start.squares], ceiling)
        fits.append(_fit(session, one, (dry, wet, first), FIRST_STEPS))
        if fits[-1][1] <= ENOUGH_DB:
            break
    fits.sort(key=lambda fit: fit[1])
    if not fits or fits[0][1] > close_db:
        return
    model, left_db = fits[0]
    session.stage = "two gains"
    for second, alone_db in fits:  # the best detector alone need not be the best behind another gain
        if left_db <= ENOUGH_DB or alone_db > close_db:
            break
        both, both_db = _fit(session, gain_before(second, dry, rate), (dry, wet, first), STEPS)
        if both_db < left_db:
            model, left_db = both, both_db
    _refine(session, model)


def _refine(session: Session, model: Dynamics) -> None:
    session.stage = "all of it"
    _fit(session, model, _stretch(session, WHOLE_S), STEPS)


def _fit(session: Session, model: Dynamics, sound: tuple[Doubles, Doubles, int], steps: int) -> tuple[Dynamics, float]:
    """The best fit and what it leaves of its sound, in dB; judged at the end."""
    dry, wet, first = sound
    left_db = math.inf
    fits = levenberg_marquardt(model, dry, wet, session.training.sample_rate, steps=steps, first=first)
    session.at_work = model
    while True:
        session.spend()
        if (found := next(fits, None)) is None:
            break
        model, left_db = found[0], power_to_db(found[1])
        session.at_work = model
    session.at_work = None
    session.judge(model, loss_db=left_db, sigma=0.0)
    return model, left_db


def _stretch(session: Session, seconds: float) -> tuple[Doubles, Doubles, int]:
    """Dry and wet of a stretch from the middle, and the first sample of it that counts."""
    pair = session.training
    samples = min(pair.samples, round(seconds * pair.sample_rate))
    start = (pair.samples - samples) // 2
    first = max(pair.lead_samples - start, round(SETTLED_S * pair.sample_rate) if start else 0)
    part = slice(start, start + samples)
    return pair.dry[0, part].astype(np.float64), pair.wet[0, part].astype(np.float64), min(first, samples // 2)
