"""What an effect is like, measured once on a pair: linear or not, how it remembers, what level does, what moves.

Simple models are fitted, the simplest first, each in a second or less, and what each leaves says what it is: a response
(linear), a curve (distortion), a curve and a response behind it, filters around a curve (a pedal), a gain that follows
the level (a compressor). As soon as one explains everything, the others are not asked. `analysis_choice` says what
follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fxclone.audio import Audio, power_to_db
from fxclone.pairs import Pair
from fxclone_training import tail_stages
from fxclone_training.analysis_gain import Gain, follow_level
from fxclone_training.analysis_models import (
    FULLY_LINEAR_DB,
    MEMORY_S,
    curve_and_response_db,
    curve_db,
    dry_db,
    loudest_channel,
    memory_s,
    recursive_filter_db,
    response_db,
)
from fxclone_training.analysis_time import EXACT_DB, Render, Steadiness, steadiness
from fxclone_training.tail_drive import race
from fxclone_training.tail_length import LINEAR_DB, LongLinear

NEARLY_LINEAR_DB = -15.0
"""From here on it is worth to look again if it is linear."""
GAIN_S, GAIN_HZ = 30.0, 12_000
"""How much of the pair, and at which rate, a gain that follows the level is fitted to."""
CURVE_DB = -20.0
"""A curve, with or without a response, that leaves no more than this is clearly it."""
GAIN_DB = 2.0
"""A gain that follows the level must leave so much less than any curve, or response, to be what the effect is."""
SOME_COPY_DB = -8.0
"""What a simple model must reach to say anything of what the effect is."""


@dataclass(frozen=True)
class Linear:
    """What responses leave of the wet sound; all errors in dB, on sound that they were not fitted to.

    Attributes
    ----------
    kind : str
        As `tail_length.LongLinear`: ``linear with a long tail``, ``nonlinear then tail`` or ``short``.
    short_db, long_db : float
        Of a response of 50 ms, and of a long one.
    tail_s : float
        Length of the long one.
    drive : float
        Of the curve before both, if there had to be one to see the tail behind it.
    memory_s : float
        How long a response has to be to be within 1 dB of the best; 0.1 ms is none.
    fitted_db : float or None
        Of a response of 50 ms on the very sound that it was fitted to, where that might be needed to see that it is
        linear: short sound may end with what it did not begin with.
    filter_db : float or None
        Of a recursive filter of 32 inputs and 31 outputs; None if it is not linear, and was not tried.
    """

    kind: str
    short_db: float
    long_db: float
    tail_s: float
    drive: float
    memory_s: float
    fitted_db: float | None = None
    filter_db: float | None = None

    @property
    def rings(self) -> bool:
        """Whether a long response does what a short one cannot; below -60 dB, both are only rounding."""
        return self.kind != "short" and self.short_db > FULLY_LINEAR_DB

    @property
    def whole(self) -> bool:
        """Whether a response explains it all."""
        return self.response_db <= LINEAR_DB and self.drive == 0

    @property
    def response_db(self) -> float:
        """What the best response leaves."""
        fitted_db = math.inf if self.fitted_db is None else self.fitted_db
        return min(self.short_db, self.long_db, fitted_db)


@dataclass(frozen=True)
class Curves:
    """What curves leave of the wet sound, in dB; None where that was not asked any more.

    Attributes
    ----------
    curve_db : float
        Of a curve alone.
    curve_then_response_db : float
        Of a curve with a response of 50 ms behind it.
    driven_db : float or None
        Of a curve between a high-pass and a response, with a clean path beside it.
    cutoff_hz, drive : float or None
        Of that high-pass and that curve.
    """

    curve_db: float
    curve_then_response_db: float
    driven_db: float | None = None
    cutoff_hz: float | None = None
    drive: float | None = None

    @property
    def best_db(self) -> float:
        """Of the best of them."""
        return min(self.curve_db, self.curve_then_response_db, math.inf if self.driven_db is None else self.driven_db)


@dataclass(frozen=True)
class Analysis:
    """What was measured of a pair.

    Attributes
    ----------
    sample_rate : int
    seconds : float
        Of the pair.
    channels_in, channels_out : int
    side_db : float or None
        Level of the difference of left and right wet sound against their sum; None if mono.
    linear : Linear
    curves : Curves or None
        None if it is linear, rings, or is not mono.
    gain : Gain or None
        None if it is perfectly linear, rings, or is not mono.
    time : Steadiness or None
        None if nobody asked.
    dry_db : float
        What the dry sound itself leaves, at its best level.
    cut_short : bool
        Whether there was no time to measure all of it.
    """

    sample_rate: int
    seconds: float
    channels_in: int
    channels_out: int
    side_db: float | None
    linear: Linear
    curves: Curves | None = None
    gain: Gain | None = None
    time: Steadiness | None = None
    dry_db: float = math.inf
    cut_short: bool = False

    @property
    def mono(self) -> bool:
        """One channel in, one out."""
        return (self.channels_in, self.channels_out) == (1, 1)

    @property
    def best_db(self) -> float:
        """What the best of the simple models leaves, in dB."""
        found = [self.linear.response_db]
        found += [self.linear.filter_db] if self.linear.filter_db is not None else []
        found += [self.curves.best_db] if self.curves else []
        found += [self.gain.following_db] if self.gain else []
        return min(found)

    @property
    def follows_level(self) -> bool:
        """Whether a gain that follows the level is what makes it: a compressor, a limiter, a gate."""
        if self.gain is None or self.gain.following_db > SOME_COPY_DB:
            return False
        others = min(self.gain.still_db, self.linear.response_db, self.curves.best_db if self.curves else math.inf)
        return self.gain.gates or self.gain.following_db <= others - GAIN_DB

    @property
    def stays_dry(self) -> bool:
        """Whether no simple model comes closer than the dry sound itself, and that is close, though not all."""
        simple = [self.linear.response_db, self.linear.filter_db, self.curves.best_db if self.curves else None]
        closer = any(one is not None and one <= self.dry_db - GAIN_DB for one in simple)
        # Relative to a gain that stands still: both were fitted at a low rate, where there is less to explain.
        closer |= self.gain is not None and self.gain.following_db <= self.gain.still_db - GAIN_DB
        return FULLY_LINEAR_DB < self.dry_db <= SOME_COPY_DB and not closer

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; decibels to a hundredth."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


def analyse(
    pair: Pair,
    *,
    render: Render | None = None,
    look: LongLinear | None = None,
    time: bool = True,
    around: bool = True,
    listen: Callable[[str], None] = lambda what: None,
    enough: Callable[[], bool] = lambda: False,
) -> Analysis:
    """Measure a pair: some seconds of work.

    Parameters
    ----------
    pair : Pair
        Aligned.
    render : callable or None
        The effect, if it is at hand: then it is asked whether it changes with time; a recording is only listened to.
    look : LongLinear or None
        What `tail_stages.look_at` says, if somebody has looked.
    time : bool
        Whether to ask if it changes at all.
    around : bool
        Whether to try filters around a curve: that alone takes half of the time.
    listen : callable
        Gets what is being measured, in a few words.
    enough : callable
        Asked between measurements; True leaves the rest unmeasured.
    """
    listen("how linear it is, and how long it rings")
    found = _first_look(pair, look or tail_stages.look_at(pair))
    if not found.linear.rings and found.mono:
        found = _linear(found, pair, enough) if found.linear.whole else _nonlinear(found, pair, around, listen, enough)
    if time and enough():
        found = replace(found, cut_short=True)
    elif time:
        listen("whether it is the same at another time" if render else "whether it moves, and its noise")
        found = replace(found, time=steadiness(pair, render))
    return found


def _first_look(pair: Pair, look: LongLinear) -> Analysis:
    one = loudest_channel(pair)
    memory = look.tail_s if look.kind != "short" else memory_s(one)
    doubtful = look.kind == "short" and LINEAR_DB < look.short_db <= NEARLY_LINEAR_DB
    fitted_db = response_db(one) if doubtful else None
    linear = Linear(look.kind, look.short_db, look.long_db, look.tail_s, look.drive, memory, fitted_db)
    channels = pair.dry.shape[0], pair.wet.shape[0]
    return Analysis(pair.sample_rate, pair.seconds, *channels, _side(pair.wet), linear, dry_db=dry_db(one))


def _linear(found: Analysis, pair: Pair, enough: Callable[[], bool]) -> Analysis:
    """Which linear effect: one that a few past samples make?"""
    found = replace(found, linear=replace(found.linear, filter_db=recursive_filter_db(pair)))
    if found.linear.response_db <= FULLY_LINEAR_DB:
        return found
    if enough():
        return replace(found, cut_short=True)
    gain, _ = follow_level(*tail_stages.middle(pair, GAIN_S, GAIN_HZ), GAIN_HZ)  # a gate works where it is soft
    return replace(found, gain=gain)


def _nonlinear(
    found: Analysis, pair: Pair, around: bool, listen: Callable[[str], None], enough: Callable[[], bool]
) -> Analysis:
    """Curves, then a gain, then filters around a curve, while nothing explains it."""
    if enough():
        return replace(found, cut_short=True)
    listen("whether a curve makes it")
    curves = Curves(curve_db(pair), curve_and_response_db(pair))
    if enough():
        return replace(found, curves=curves, cut_short=True)
    listen("whether its gain follows the level")
    gain, _ = follow_level(*tail_stages.middle(pair, GAIN_S, GAIN_HZ), GAIN_HZ)
    if around and curves.best_db > CURVE_DB:
        listen("whether filters around a curve make it")
        start = race(pair, should_stop=enough)
        found = replace(found, cut_short=enough())
        if math.isfinite(start.esr_db):
            curves = replace(curves, driven_db=start.esr_db, cutoff_hz=start.cutoff_hz, drive=start.drive)
    if curves.curve_db <= min(CURVE_DB, curves.curve_then_response_db):  # it is all there is
        found = replace(found, linear=replace(found.linear, memory_s=MEMORY_S[0]))
    return replace(found, curves=curves, gain=gain)


def _side(wet: Audio) -> float | None:
    if wet.shape[0] != 2:
        return None
    left, right = wet.astype(np.float64)
    side, middle = float(np.square(left - right).sum()), float(np.square(left + right).sum())
    return max(EXACT_DB, power_to_db(side / max(middle, 1e-30)))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
