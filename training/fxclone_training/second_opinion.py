"""A second opinion, from family ``wavenet``, where another family does not come close.

``ar`` learns a pedal in seconds and costs next to nothing to play. What many stages of gain do, one behind the other,
it cannot hold: it hears its own output, and a clipped output tells little of what went on before. ``wavenet`` has
layers for that, learns slowly, and costs more to play. Measured on two .nam amps after 150 s: ``ar`` -11.5 and -0.1 dB,
``wavenet`` -18.1 and -17.3 dB; on a Tube Screamer it is the other way round. Nor can a curve before a response do what
a ladder filter does, which bends the sound in its feedback: -27.4 dB; ``wavenet`` leaves -34.4 dB after 120 s.
"""

from __future__ import annotations

import torch

from fxclone_training import ar_stages, memory_stages, wavenet_stages
from fxclone_training.analysis_choice import Choice
from fxclone_training.ar import Ar
from fxclone_training.session import Session
from fxclone_training.wavenet import SIZES

KINDS = ("pedal", "pedal and cabinet", "unknown")
"""What more layers may help with: not what follows the level for longer than a ``wavenet`` remembers, nor what moves by
itself, which they learn by heart."""
LEAST_S = 60.0
"""With less time ``wavenet`` has learned nothing."""
LEAST_STEPS = 400
"""The same for a budget in steps."""
TRIAL_SHARE = 0.15
"""Of the time."""
CLOSE_DB = -18.0
"""What comes to this in the trial will come closer."""
FINISHED_DB = -40.0
"""A fit that ends by itself does not come closer: with more than this another family gets the time that is left."""
WORTH_DB = 3.0
"""So much closer it must come than a fit, which costs less to play."""


def train(session: Session, device: torch.device, choice: Choice) -> str:
    """Train ``ar``, or after a trial of it ``wavenet``; returns why training ended."""
    recipe = session.recipe
    short = recipe.seconds < LEAST_S or (recipe.max_steps is not None and recipe.max_steps < LEAST_STEPS)
    if choice.kind not in KINDS or short:
        return ar_stages.train(session, None, device, choice)
    with session.limited_to(min(1.0, session.progress + TRIAL_SHARE)):
        ar_stages.train(session, None, device, choice)
    if session.best_esr_db <= CLOSE_DB:
        best = session.kept[0][1]
        if isinstance(best, Ar) and best.config.slow:
            return memory_stages.train(session, best.config, best.copy())
        return ar_stages.train(session, None, device, choice)
    session.tell(
        f"After {session.seconds:.0f} s family ar is at {session.best_esr_db:.1f} dB, which is not close: there is "
        "perhaps more than one stage of distortion in it. Family wavenet gets the rest of the time: it learns more "
        "slowly and costs more to play, and has layers for this. If it does not come closer, ar stays."
    )
    return _wavenet(session, device)


def after(session: Session, device: torch.device, ended: str) -> str:
    """What to do when a fit has ended, and why, with time left: end, or train ``wavenet``; returns why that ended."""
    left_s = session.recipe.seconds - session.seconds
    stepless = session.recipe.max_steps is not None and session.recipe.max_steps - session.steps < LEAST_STEPS
    if session.best_esr_db <= FINISHED_DB or left_s < LEAST_S or stepless:
        return ended
    session.tell(
        f"Filters and a curve leave {session.best_esr_db:.1f} dB, and there are {left_s:.0f} s left. Family wavenet "
        f"gets them: its layers can bend more than once. What is there stays unless that is {WORTH_DB:g} dB closer."
    )
    before_db, before = session.kept[0]
    try:
        return _wavenet(session, device)
    finally:
        if before_db - WORTH_DB < session.best_esr_db < before_db:
            session.prefer(before, before_db)


def _wavenet(session: Session, device: torch.device) -> str:
    size = "standard" if session.recipe.size == "auto" else session.recipe.size
    return wavenet_stages.train(session, None, device, config=SIZES[size])
