"""The best still of an effect that moves by itself: one response, no longer than other passages bear out.

Where in its movement an effect will be, no clone can know. What leaves least of it on the whole is its mean, and the
mean of a phaser or a flanger is a response. Bigger models learn by heart how it moved while it was recorded, and so
does a long response; the sound held back lies next to sound that was learnt, and shows little of that. So the length is
chosen by cross-validation over all of the sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fxclone.metrics_time import esr, to_db
from fxclone.pairs import Pair
from fxclone_training.session import UNUSABLE_DB, Session
from fxclone_training.tail import Tail
from fxclone_training.tail_identify import convolve, identify
from fxclone_training.tail_length import SHORT_S

LENGTHS_S = (0.0, 0.0007, 0.005, SHORT_S)
"""Of the responses that are tried; 0 is a plain gain."""
FOLDS = 5
"""The sound is cut into so many pieces; each is judged by a response of the others."""


def train(session: Session, longest_s: float = SHORT_S) -> str:
    """Find the response and make it the clone; returns why training ended.

    Parameters
    ----------
    session : Session
    longest_s : float
        A length that is tried as well: how long it may ring.
    """
    pair = session.training
    session.stage = "still"
    errors: dict[int, float] = {}
    for seconds in sorted({*LENGTHS_S, longest_s}):
        taps = max(1, min(round(seconds * pair.sample_rate), pair.samples // FOLDS))
        error = error_elsewhere(pair, taps, should_stop=session.is_over)
        if errors and session.is_over():
            break  # in the middle of it
        errors[taps] = error
    taps = min(errors, key=lambda count: errors[count])
    model = Tail(identify(pair.dry, pair.wet, taps).responses)
    session.tell(
        f"A response of {1e3 * taps / pair.sample_rate:.2g} ms is what stands still in it: on passages that it has not "
        f"seen it leaves {to_db(errors[taps]):.1f} dB."
    )
    esr_db = session.judge(model, loss_db=math.nan, sigma=0.0)
    if session.best_esr_db < esr_db < UNUSABLE_DB:
        session.prefer(model, esr_db)
    if session.is_over():
        session.spend()  # which says why it ends
    return "nothing improves any more"


def error_elsewhere(pair: Pair, taps: int, *, should_stop: Callable[[], bool] = lambda: False) -> float:
    """ESR of responses on pieces of a pair that they were not fitted to, all pieces together."""
    said = np.empty_like(pair.wet)
    for piece in np.array_split(np.arange(pair.samples), FOLDS):
        seen = np.ones(pair.samples, np.float32)
        seen[piece] = 0
        fit = identify(pair.dry * seen, pair.wet * seen, taps, should_stop=should_stop)
        heard = pair.dry[:, max(0, piece[0] - taps + 1) : piece[-1] + 1]
        said[:, piece] = convolve(heard, fit.responses)[:, -len(piece) :]
    return esr(pair.wet, said)
