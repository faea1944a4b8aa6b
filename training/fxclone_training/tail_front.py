"""A nonlinear front before a long tail: y = tail * front(x), found in turns, without access to what lies between.

Neither part is known, and each is easy once the other is: given the front, the tail is least squares (`identify`);
given the tail, the sound between the two can be computed, and to fit a front to a dry sound and that is what all other
training does. So the turns are:

1. a curve: the response to tanh(drive x) that explains most, then a sum of curves and the tail in turns, both by least
   squares (the classic iteration for Hammerstein systems, Narendra and Gallman 1966);
2. the sound between: what the front gives now, plus the smallest change of it that explains what the tail leaves of the
   wet sound (a regularised deconvolution). Where the tail has no energy this keeps the front's own sound, so nothing is
   made up there;
3. a front, fitted to (dry, sound between) by the second-order steps of `gauss_newton`, started where the last one
   ended; then the tail again, from 2.

Gain may go to either part: here the tail leaves the level of the sound as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft

from fxclone.audio import TINY_POWER, Audio, power_to_db
from fxclone.errors import FxcloneError, UsageError
from fxclone.pairs import Pair
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.gauss_newton import GaussNewton, OneStep
from fxclone_training.grow import linear_start, widen
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.tail_identify import Doubles, convolve, identify
from fxclone_training.tail_length import driven

CURVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Drives of the tanh curves that the first front is a sum of, besides the dry sound itself; odd and even."""
CURVE_TURNS = 12
CURVE_SECONDS, CURVE_TAILS = 15, 8
"""Sound that the turns of curves use: so many seconds, and so many lengths of the tail."""
TURNS = 6
WINDOWS = (1, 4, 16, 32)
"""Inputs that the front sees, tried in this order while a larger one helps."""
WORTH_DB = 0.7
STEPS = 40
HELD_BACK = 0.15
BETWEEN_ITERATIONS = 12
BETWEEN_RIDGE = 1e-3
"""Of the sound between, relative to the tail's mean power gain: deeper notches of the tail are left to the front."""


@dataclass(frozen=True)
class FrontFit:
    """A front and a tail.

    Attributes
    ----------
    front : Ar
        One input, no past outputs: its ``past_outputs`` is 0.
    tail : ndarray [shape=(channels out, 1, taps)]
        float32.
    esr_db : float
        On the held-back end of the pair.
    log : list of (str, float)
        Stage and held-back ESR in dB, in order.
    """

    front: Ar
    tail: Audio
    esr_db: float
    log: list[tuple[str, float]]


def fit_front_and_tail(
    dry: Audio,
    wet: Audio,
    taps: int,
    sample_rate: int,
    *,
    width: int = 16,
    held_back: float = HELD_BACK,
    target_db: float = -60.0,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    listen: Callable[[str, float], None] | None = None,
    keep: Callable[[Ar, Audio], None] | None = None,
) -> FrontFit:
    """Fit ``wet = tail * front(dry)``.

    Parameters
    ----------
    dry : ndarray [shape=(1, samples)]
    wet : ndarray [shape=(channels out, samples)]
    taps : int
        Length of the tail in samples.
    sample_rate : int
        In Hz.
    width : int
        Units of the front.
    held_back : float
        Share of the sound, at its end, that only judges.
    target_db : float
        Held-back ESR at which to stop.
    seed : int
        Of the front's start and of the passages drawn.
    should_stop : callable
        Asked between steps; True ends the search, and the best so far is the result.
    listen : callable or None
        Gets the stage and the held-back ESR in dB.
    keep : callable or None
        Gets front and tail whenever they are the best so far.
    """
    if dry.shape[0] != 1:
        raise UsageError(f"a front before a tail hears one channel, and dry has {dry.shape[0]}; use mono dry sound")
    search = _Search(dry, wet, taps, sample_rate, held_back, seed, should_stop, listen, keep)
    search.curves()
    model: Ar | None = None
    for window in WINDOWS:
        start_db = search.best_db
        config = ArConfig(m=window, past_outputs=0, width=width)
        if model is None:
            model = search.adopt(search.fresh(config), search.between)
        else:
            model = widen(model, config)
        for _ in range(TURNS):
            if should_stop():
                break
            before_db = search.best_db
            model = search.adopt(model, search.sound_between())
            if search.best_db <= target_db or should_stop() or search.best_db > before_db - WORTH_DB:
                break
        if search.best is not None:
            model = search.go_back()
        if search.best_db <= target_db or should_stop() or (window > 4 and search.best_db > start_db - WORTH_DB):
            break
    if search.best is None:
        raise FxcloneError("no front before the tail gave a finite sound; check the pair for wrong channels")
    front, tail = search.best
    return FrontFit(front, tail, search.best_db, search.log)


def curve_then_response_db(dry: Audio, wet: Audio, taps: int, sample_rate: int) -> float:
    """How well a sum of curves and a response behind it explain a pair: ESR on its end, in dB. Quick, for a first look.

    Parameters
    ----------
    dry : ndarray [shape=(1, samples)]
    wet : ndarray [shape=(channels out, samples)]
    taps, sample_rate : int
        As for `fit_front_and_tail`.
    """
    search = _Search(dry, wet, taps, sample_rate, HELD_BACK, 0, lambda: False)
    search.curves()
    return search.log[-1][1]


class _Search:
    """The pair, what the parts give now, and the best so far."""

    def __init__(
        self,
        dry: Audio,
        wet: Audio,
        taps: int,
        sample_rate: int,
        held_back: float,
        seed: int,
        should_stop: Callable[[], bool],
        listen: Callable[[str, float], None] | None = None,
        keep: Callable[[Ar, Audio], None] | None = None,
    ) -> None:
        self.dry, self.wet, self.taps, self.sample_rate = dry, wet, taps, sample_rate
        self.cut = round(dry.shape[1] * (1 - held_back))
        self.generator = torch.Generator().manual_seed(seed)
        self.should_stop, self.listen, self.keep = should_stop, listen, keep
        self.best: tuple[Ar, Audio] | None = None
        self.best_db = float("inf")
        self.log: list[tuple[str, float]] = []
        self.between = dry  # what the front gives now, (1, samples)
        self.tail = np.zeros((wet.shape[0], 1, taps), np.float32)

    def curves(self) -> None:
        """Turn 1: a sum of curves, and the tail, by least squares in turns, on as much sound as that takes."""
        whole = self.cut
        self.cut = min(whole, max(CURVE_SECONDS * self.sample_rate, CURVE_TAILS * self.taps))
        basis = _curves(self.dry)
        one_curve = [driven(self.dry, drive) for drive in (0.0, *CURVES[2::2])]
        self.between = min(one_curve, key=lambda sound: self._fit_tail(sound, quick=True))
        before_db = float("inf")
        for _ in range(CURVE_TURNS):
            esr_db = self._fit_tail(self.between, quick=True)
            if self.should_stop() or esr_db > before_db - WORTH_DB:
                break
            before_db = esr_db
            weights = self._curve_weights(basis[:, : self.cut])
            self.between = self._levelled((weights @ basis)[None].astype(np.float32))
        self.cut = whole
        self._tell("curves", self._fit_tail(self.between, quick=self.should_stop()))

    def fresh(self, config: ArConfig) -> Ar:
        """A front that does roughly what the curves do."""
        model = Ar(config, generator=self.generator)
        with torch.no_grad():
            slopes = torch.logspace(-0.3, 1.8, config.width)
            model.w_x.zero_()
            model.w_x[:, 0] = slopes
            model.b_in.copy_(torch.randn(config.width, generator=self.generator) * 0.3)
        linear_start(model, self._source(model, self.between), 0.0)
        return model

    def adopt(self, model: Ar, aim: Audio) -> Ar:
        """Fit the front to the sound between, then the tail behind that front, and judge both."""
        source = self._source(model, aim)
        optimiser = GaussNewton(model)
        for _ in range(STEPS):
            if self.should_stop():
                break
            optimiser.step(OneStep(model, source, 0.0))
        self.between = model.run_freely(self.dry)
        _scale_front(model, self._level(self.between))
        self.between = self._levelled(self.between)
        esr_db = self._fit_tail(self.between)
        if esr_db < self.best_db:
            self.best_db, self.best = esr_db, (model.copy(), self.tail.copy())
            if self.keep is not None:
                self.keep(*self.best)
        self._tell(f"front m={model.config.m}", esr_db)
        return model

    def go_back(self) -> Ar:
        """The best front so far, with its tail and what it gives."""
        if self.best is None:
            raise FxcloneError("no front before the tail gave a finite sound; check the pair for wrong channels")
        model, self.tail = self.best[0].copy(), self.best[1]
        self.between = model.run_freely(self.dry)
        return model

    def _tell(self, stage: str, esr_db: float) -> None:
        self.log.append((stage, esr_db))
        if self.listen is not None:
            self.listen(stage, esr_db)

    def _source(self, model: Ar, aim: Audio) -> SegmentSource:
        pair = Pair(self.dry[:, : self.cut], aim[:, : self.cut], self.sample_rate)
        recording = Recording(pair, model.config)
        return SegmentSource(recording, relative_weight=False, relative_noise=True, generator=self.generator)

    def _fit_tail(self, between: Audio, *, quick: bool = False) -> float:
        """The tail by least squares (seconds: even who stops early gets one); the held-back ESR in dB."""
        cut = self.cut
        fit = identify(
            between[:, :cut],
            self.wet[:, :cut],
            self.taps,
            iterations=12 if quick else 40,
            target_db=-40 if quick else -80,
            should_stop=self.should_stop if self.best else lambda: False,  # who stops early gets a tail all the same
        )
        self.tail = fit.responses
        made = convolve(between, self.tail)[:, cut:]
        aim = self.wet[:, cut:].astype(np.float64)
        return power_to_db(float(np.square(made - aim).sum()) / max(float(np.square(aim).sum()), TINY_POWER))

    def _curve_weights(self, basis: Audio) -> Doubles:
        """Weights (curves,) of the sum that, through the tail, explains the wet sound best."""
        cut, out = self.cut, self.wet.shape[0]
        normal: Doubles = np.zeros((len(basis), len(basis)))
        slope: Doubles = np.zeros(len(basis))
        for channel in range(out):
            heard = np.stack([convolve(curve[None, :cut], self.tail[channel : channel + 1])[0] for curve in basis])
            doubles = heard.astype(np.float64)
            normal += doubles @ doubles.T
            slope += doubles @ self.wet[channel, :cut].astype(np.float64)
        scale: Doubles = 1 / np.sqrt(np.maximum(np.diag(normal), TINY_POWER))
        lifted = normal * scale[:, None] * scale + 1e-9 * np.eye(len(basis))
        weights: Doubles = scale * np.linalg.solve(lifted, slope * scale)
        return weights

    def sound_between(self) -> Audio:
        """The front's sound, moved as little as explains what the tail leaves: (1, samples)."""
        n = self.dry.shape[1]
        size = fft.next_fast_len(n + self.taps - 1, real=True)
        spectra = fft.rfft(self.tail[:, 0].astype(np.float64), size)  # (out, f)
        gain = np.square(np.abs(spectra)).sum(axis=0)
        left = (self.wet - convolve(self.between, self.tail)).astype(np.float64)
        share = float(np.square(left).sum()) / max(float(np.square(self.wet, dtype=np.float64).sum()), TINY_POWER)
        # The tail itself is uncertain by what is not explained, spread over as many samples as there are taps.
        unsure = min(1.0, share * self.taps / self.cut)
        ridge = max(BETWEEN_RIDGE, unsure) * float(gain.mean())

        def back(sound: Doubles) -> Doubles:
            """The tail's transpose: every output sample tells the samples between that made it."""
            out: Doubles = fft.irfft((np.conj(spectra) * fft.rfft(sound, size)).sum(axis=0), size)[:n]
            return out

        def times(move: Doubles) -> Doubles:
            heard = fft.irfft(spectra * fft.rfft(move, size), size)[:, :n]
            out: Doubles = back(heard) + ridge * move
            return out

        def divided(slope: Doubles) -> Doubles:
            out: Doubles = fft.irfft(fft.rfft(slope, size) / (gain + ridge), size)[:n]
            return out

        move, r = np.zeros(n), back(left)
        z = divided(r)
        p, rz = z.copy(), float(r @ z)
        first = rz
        for _ in range(BETWEEN_ITERATIONS):
            if self.should_stop() or rz <= 1e-8 * first:
                break
            ap = times(p)
            step = rz / float(p @ ap)
            move += step * p
            r -= step * ap
            z = divided(r)
            rz, old = float(r @ z), rz
            p = z + rz / old * p
        return (self.between + move[None]).astype(np.float32)

    def _level(self, sound: Audio) -> float:
        """What to multiply a sound by so that its peak is that of the dry sound."""
        top = float(np.abs(sound[:, : self.cut]).max())
        return float(np.abs(self.dry[:, : self.cut]).max()) / max(top, 1e-9)

    def _levelled(self, sound: Audio) -> Audio:
        return sound * np.float32(self._level(sound))


def _scale_front(model: Ar, gain: float) -> None:
    with torch.no_grad():
        for parameter in (model.out, model.skip_x, model.b_out):
            parameter.mul_(gain)


def _curves(dry: Audio) -> Audio:
    """The dry sound (1, samples), and it through curves, odd and even: (curves, samples)."""
    odd = [np.tanh(np.float32(drive) * dry[0]) for drive in CURVES]
    even = [np.tanh(np.float32(drive) * dry[0]) ** 2 for drive in CURVES[::2]]
    return np.stack([dry[0], *odd, *even]).astype(np.float32)
