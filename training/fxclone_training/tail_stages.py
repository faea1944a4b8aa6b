"""The stages of family ``tail``: how long it rings, its responses by least squares, echoes as delay lines where that is
as good, and a nonlinear front where no response explains the sound.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from fxclone.audio import Audio
from fxclone.files import resample
from fxclone.pairs import Pair
from fxclone_training.ar import Ar
from fxclone_training.session import Finished, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_delay import EXPLAINED_DB, search_delay
from fxclone_training.tail_front import fit_front_and_tail
from fxclone_training.tail_identify import identify
from fxclone_training.tail_length import LINEAR_DB, LongLinear, choose_length, driven, linearity

AS_GOOD_DB = 1.0
"""Delay lines may be this much worse than a response that costs a thousand times as many weights."""
LOOK_S, LOOK_HZ = 20.0, 12_000
"""How much of the pair is looked at, and at which rate: a tail shows below 6 kHz too, in a tenth of the time."""


def look_at(pair: Pair) -> LongLinear:
    """What responses explain of a stretch from the middle, at a low rate: a second of work."""
    return linearity(*middle(pair, LOOK_S, LOOK_HZ), LOOK_HZ)


def middle(pair: Pair, seconds: float, sample_rate: int) -> tuple[Audio, Audio]:
    """Dry and wet of a stretch from the middle, at a rate of one's own."""
    samples = min(pair.samples, round(seconds * pair.sample_rate))
    part = slice((pair.samples - samples) // 2, (pair.samples - samples) // 2 + samples)
    dry, wet = (np.ascontiguousarray(resample(s[:, part], pair.sample_rate, sample_rate)) for s in (pair.dry, pair.wet))
    return dry, wet


def plain_gain(pair: Pair) -> Tail:
    """The dry sound at its best level: from each channel in to each channel out, one number."""
    return Tail(identify(pair.dry, pair.wet, 1).responses)


def keep_dry(session: Session) -> None:
    """Something to keep, however early the end."""
    session.judge(plain_gain(session.training), loss_db=math.nan, sigma=0.0)


def train(session: Session, start: Tail | None, device: torch.device, found: LongLinear | None = None) -> str:
    """Run the stages; returns why training ended. ``found`` is what `look_at` says, if somebody has looked."""
    training = session.training
    if start is not None:
        session.stage = "resumed"
        session.judge(start, loss_db=math.nan, sigma=0.0)
    elif not session.kept:
        keep_dry(session)
    session.stage = "tail length"
    session.spend()
    found = found or look_at(training)
    heard = driven(training.dry, found.drive)  # through a curve, where that is needed to see the tail behind it
    length = choose_length(
        heard, training.wet, training.sample_rate, tail_s=session.recipe.tail_s, should_stop=session.is_over
    )
    if session.is_over():
        session.spend()  # which says why it ends
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
    ended = _responses(session, length.taps)
    if ended:
        return ended
    session.tell("no response alone explains it: looking for a curve before the tail")
    return front_and_tail(session, length.taps)


def _responses(session: Session, taps: int) -> str:
    """Responses alone, and echoes; why they are all that is needed, or nothing."""
    training = session.training
    session.stage = "least squares"
    session.spend()
    fit = identify(training.dry, training.wet, taps, should_stop=session.is_over)
    linear_db = session.judge(Tail(fit.responses), loss_db=fit.residual_db, sigma=0.0)
    session.stage = "echoes"
    session.spend()
    echoes = search_delay(training.dry, training.wet, fit.responses, fit.residual_db, training.sample_rate)
    if echoes is not None and echoes.lines:
        model = Tail(echoes.direct, lines=echoes.lines)
        esr_db = session.judge(model, loss_db=echoes.explained_db, sigma=0.0)
        if esr_db <= EXPLAINED_DB or esr_db <= min(linear_db + AS_GOOD_DB, LINEAR_DB):
            session.prefer(model, esr_db)
            session.tell(f"echoes: {len(echoes.lines)} delay lines with {echoes.weights} weights do it")
            return "delay lines are as good as a response"
    return "the responses are found" if linear_db <= LINEAR_DB else ""


def front_and_tail(session: Session, taps: int) -> str:
    """A curve before the responses, in turns with them; returns why training ended."""
    training, recipe = session.training, session.recipe
    if training.dry.shape[0] != 1:
        session.tell("it is not linear, and a front before a tail is mono: use --channels mono-stereo for that")
        return "the responses are found"
    session.stage = "front and tail"
    session.spend()

    def keep(front: Ar, tail: Audio) -> None:
        session.judge(Tail(None, front.copy(), tail), loss_db=math.nan, sigma=0.0)

    fit_front_and_tail(
        training.dry,
        training.wet,
        taps,
        training.sample_rate,
        width=recipe.units,
        target_db=recipe.target_esr_db,
        seed=recipe.seed,
        should_stop=session.is_over,
        keep=keep,
    )
    if session.is_over():
        raise Finished(f"{recipe.seconds:g} s of training are over")
    return "nothing improves any more"
