"""Filters before a curve and behind it, beside a clean path: what is inside most pedals.

    y = direct * x  +  after * curve(filters(x))             a Wiener-Hammerstein system with a parallel path

Started by a race: dry sound through one of a few high-passes and one of a few drives of tanh, and both responses by
least squares; the best pair of cutoff and drive wins (on a Tube Screamer that is 720 Hz, the corner of its own
circuit). Then Levenberg-Marquardt steps on the error behind the responses: the curve's Jacobian is sent through
``after`` by FFT. The responses follow by least squares (`identify`, with the driven sound as a second input), so no
step has to find them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from fxclone.audio import Audio, power_to_db
from fxclone.files import resample
from fxclone.pairs import Pair
from fxclone_training.curve import Curve, features
from fxclone_training.session import Session
from fxclone_training.tail import Tail
from fxclone_training.tail_identify import Doubles, identify

RACE_S, EXCERPTS, RACE_HZ, RACE_RESPONSE_S = 9.0, 6, 24_000, 0.01
"""How much of the pair the race runs on, in how many pieces, at which rate, with responses of which length."""
CUTOFFS_HZ = (0.0, 60.0, 125.0, 250.0, 500.0, 720.0, 1000.0, 1500.0, 2500.0)
DRIVES = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0)
"""Of tanh, on filtered sound of RMS level 1; two neighbours at a time, so that a curve between them is seen too."""
UNITS = 10
RECENT, AVERAGES = 3, 12
SHORTEST_SAMPLES, LONGEST_S = 2.0, 0.09
"""Inputs seen as they are, and averages of all before: log-spaced time constants over this span."""
RIDGE = 1e-7
"""Of the first filters, relative to the power of what they see: neighbours are nearly copies of each other, and weights
that cancel would lose what is left to rounding."""
RESPONSE_S = 0.02
PASSAGES, PASSAGE_S = 24, 0.12
"""A step sees so many passages of that length, anywhere in the sound."""
FIT_S, FIT_ITERATIONS = 10.0, 10
LOOK_EVERY, PATIENCE, WORTH_DB = 4, 10, 0.05
DAMPING, TRIES = 1e-2, 6
LEFT_OUT = 1e-8
"""Energy of a response that its end may lose."""


@dataclass(frozen=True)
class Start:
    """The winner of the race.

    Attributes
    ----------
    cutoff_hz, drive : float
        Of the high-pass (0 for none), and of tanh on sound of RMS level 1.
    esr_db : float
        What is left of the sound raced on, at the race's rate.
    """

    cutoff_hz: float
    drive: float
    esr_db: float


def race(pair: Pair, *, should_stop: Callable[[], bool] = lambda: False) -> Start:
    """Which high-pass and drive explain a mono pair best: some seconds of work.

    First the high-pass, with curves of all drives at once; then the drive behind that high-pass and its neighbours.
    ``should_stop`` is asked on the way; True gives the best so far, with an infinite error if there is none.
    """
    dry, wet = (np.ascontiguousarray(resample(sound, pair.sample_rate, RACE_HZ)) for sound in _excerpts(pair))
    taps = round(RACE_RESPONSE_S * RACE_HZ)

    def left_db(cutoff_hz: float, drives: Sequence[float]) -> float:
        if should_stop():
            return math.inf
        heard = highpass(dry, cutoff_hz, RACE_HZ)
        level = max(float(np.sqrt(np.square(heard, dtype=np.float64).mean())), 1e-9)
        curves = [np.tanh(np.float32(drive / level) * heard) for drive in drives]
        return identify(np.concatenate([dry, *curves]), wet, taps, iterations=12, target_db=-50).residual_db

    errors = [left_db(cutoff_hz, DRIVES[1::2]) for cutoff_hz in CUTOFFS_HZ]
    place, best = int(np.argmin(errors)), Start(0.0, 0.0, math.inf)
    for cutoff_hz in (CUTOFFS_HZ[place], *CUTOFFS_HZ[max(0, place - 1) : place], *CUTOFFS_HZ[place + 1 : place + 2]):
        for two in pairwise(DRIVES):
            found = Start(cutoff_hz, math.sqrt(two[0] * two[1]), left_db(cutoff_hz, two))
            best = min(best, found, key=lambda one: one.esr_db)
    return best


def _excerpts(pair: Pair) -> tuple[Audio, Audio]:
    """Some stretches from all over a pair, one after the other: cuts harm no more than a response is long."""
    length = min(pair.samples, round(RACE_S * pair.sample_rate)) // EXCERPTS
    starts = np.linspace(0, pair.samples - length, EXCERPTS).astype(int)
    return tuple(  # type: ignore[return-value]
        np.concatenate([sound[:, first : first + length] for first in starts], axis=1) for sound in (pair.dry, pair.wet)
    )


def highpass(sound: Audio, cutoff_hz: float, sample_rate: float) -> Audio:
    """First order, Butterworth; the sound itself for 0."""
    if cutoff_hz == 0:
        return sound
    b, a = signal.butter(1, cutoff_hz, "highpass", fs=sample_rate)
    out: Audio = signal.lfilter(b, a, sound).astype(np.float32)
    return out


def train_driven(session: Session, start: Start) -> str:
    """Train from the winner of a race; hands every look to the session, and returns why it ended."""
    session.stage = "drive"
    fit = _Fit(session, start)
    best_db, waited, step = fit.look(math.nan), 0, 0
    while waited < PATIENCE:
        session.spend()
        loss = fit.step()
        step += 1
        if step % LOOK_EVERY == 0:
            fit.responses(whole=step % (4 * LOOK_EVERY) == 0)
            esr_db = fit.look(power_to_db(loss))
            waited = 0 if esr_db < best_db - WORTH_DB else waited + 1
            best_db = min(best_db, esr_db)
        elif step % 2 == 0:
            fit.responses(whole=False)
    fit.responses(whole=True)
    fit.look(math.nan)
    return "nothing improves any more"


class _Fit:
    """The curve at work, its responses, and the sound."""

    def __init__(self, session: Session, start: Start) -> None:
        pair = session.training
        self.session, self.pair, rate = session, pair, pair.sample_rate
        self.random = np.random.default_rng(session.recipe.seed)
        self.constants = tuple(float(samples) for samples in np.geomspace(SHORTEST_SAMPLES, LONGEST_S * rate, AVERAGES))
        self.seen = features(pair.dry[0], RECENT, self.constants)  # (samples, features)
        self.taps = round(RESPONSE_S * rate)
        heard = highpass(pair.dry, start.cutoff_hz, rate)[0]
        some = slice(0, min(len(heard), 10 * rate))
        seen = self.seen[some].astype(np.float64)
        lifted = seen.T @ seen
        lifted += RIDGE * np.trace(lifted) / len(lifted) * np.eye(len(lifted))
        filters = np.linalg.solve(lifted, seen.T @ heard[some])
        level = max(float(np.sqrt(np.square(heard, dtype=np.float64).mean())), 1e-9)
        slopes = start.drive / level * np.geomspace(0.2, 3.0, UNITS)
        self.weights: Doubles = slopes[:, None] * filters
        self.bias: Doubles = 0.3 * self.random.standard_normal(UNITS)
        self.out: Doubles = np.full(UNITS, 1 / UNITS)
        self.damping = DAMPING
        self.direct = self.after = np.zeros(self.taps)
        self.responses(whole=False)

    @property
    def curve(self) -> Curve:
        """As it is now."""
        return Curve(self.weights, self.bias, self.out, self.constants)

    def responses(self, *, whole: bool) -> None:
        """Both responses by least squares, on the whole sound or on a stretch of it."""
        samples = self.pair.samples
        count = samples if whole else min(samples, round(FIT_S * self.pair.sample_rate))
        first = 0 if whole else int(self.random.integers(0, samples - count + 1))
        part = slice(first, first + count)
        driven = self._run(self.seen[part].astype(np.float64), self.weights, self.bias, self.out)[0]
        both = np.stack([self.pair.dry[0, part], driven.astype(np.float32)])
        iterations = 2 * FIT_ITERATIONS if whole else FIT_ITERATIONS
        stop = self.session.is_over if self.after.any() else lambda: False  # the first ones are needed
        wet = self.pair.wet[:, part]
        found = identify(both, wet, self.taps, iterations=iterations, target_db=-90, should_stop=stop)
        self.direct, self.after = found.responses[0].astype(np.float64)

    def look(self, loss_db: float) -> float:
        """Hand the model to the session."""
        direct, after = (_trimmed(part) for part in (self.direct, self.after))
        model = Tail(direct[None, None], self.curve, after[None, None])
        return self.session.judge(model, loss_db=loss_db, sigma=0.0)

    def step(self) -> float:
        """One Levenberg-Marquardt step of the curve on drawn passages; mean squared error over power, after it."""
        length = round(PASSAGE_S * self.pair.sample_rate)
        whole = length + self.taps
        starts = self.random.integers(0, max(1, self.pair.samples - whole), PASSAGES)
        size = fft.next_fast_len(whole + self.taps, real=True)
        after, direct = fft.rfft(self.after, size), fft.rfft(self.direct, size)
        passages = []
        count = self.weights.size + 2 * UNITS
        normal, slope, cost, power = np.zeros((count, count)), np.zeros(count), 0.0, 1e-30

        def through(sound: Doubles, response: npt.NDArray[np.complex128]) -> Doubles:
            out: Doubles = fft.irfft(fft.rfft(sound, size) * response, size)[..., self.taps : whole]
            return out

        for first in starts:
            part = slice(first, first + whole)
            seen, dry = self.seen[part].astype(np.float64), self.pair.dry[0, part].astype(np.float64)
            aim = self.pair.wet[0, part][self.taps :] - through(dry, direct)
            said, h = self._run(seen, self.weights, self.bias, self.out)
            bend = (1 - h * h) * self.out[:, None]
            rest = (1 - np.tanh(self.bias) ** 2) * self.out
            rows = [
                (bend[:, None, :] * seen.T[None]).reshape(self.weights.size, -1),
                bend - rest[:, None],
                h - np.tanh(self.bias)[:, None],
            ]
            single = fft.rfft(np.concatenate(rows).astype(np.float32), size) * after.astype(np.complex64)
            jacobian = fft.irfft(single, size)[:, self.taps : whole]
            error = through(said, after) - aim
            normal += jacobian @ jacobian.T
            slope += jacobian @ error.astype(np.float32)
            cost += float(error @ error)
            power += float(np.square(self.pair.wet[0, part][self.taps :], dtype=np.float64).sum())
            passages.append((seen, aim))
        for _ in range(TRIES):
            lifted = normal + np.diag(self.damping * np.diag(normal) + 1e-9 * np.trace(normal) / count)
            move = np.linalg.solve(lifted, slope)
            weights, bias, out = np.split(move, [self.weights.size, self.weights.size + UNITS])
            tried = self.weights - weights.reshape(self.weights.shape), self.bias - bias, self.out - out
            after_cost = 0.0
            for seen, aim in passages:
                left = through(self._run(seen, *tried)[0], after) - aim
                after_cost += float(left @ left)
            if after_cost < cost:
                self.weights, self.bias, self.out = tried
                self.damping = max(self.damping / 4, 1e-8)
                return after_cost / power
            self.damping = min(self.damping * 5, 1e8)
        return cost / power

    @staticmethod
    def _run(seen: Doubles, weights: Doubles, bias: Doubles, out: Doubles) -> tuple[Doubles, Doubles]:
        h: Doubles = np.tanh(weights @ seen.T + bias[:, None])
        return out @ h - out @ np.tanh(bias), h


def _trimmed(response: Doubles) -> npt.NDArray[np.float32]:
    """Without an end that has next to no energy."""
    beyond = np.cumsum(np.square(response[::-1]))[::-1]
    kept = int(np.count_nonzero(beyond > LEFT_OUT * max(float(beyond[0]), 1e-30)))
    return response[: max(1, kept)].astype(np.float32)
