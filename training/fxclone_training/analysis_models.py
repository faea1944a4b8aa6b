"""Simple models of an effect, each fitted in a second or less: what they leave of the wet sound tells what it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import linalg, signal

from fxclone.audio import Audio, power_to_db, rms
from fxclone.pairs import Pair
from fxclone_training.analysis_time import EXACT_DB
from fxclone_training.tail_front import curve_then_response_db
from fxclone_training.tail_identify import Doubles, identify
from fxclone_training.tail_length import DRIVES, SHORT_S, driven

CURVE_S, PIECES = 8.0, 5
"""How much of the pair, in how many pieces from all over it, curves and responses are fitted to: in one piece alone a
compressor may hold still, and look like a curve. At the pair's own rate: a distorted cymbal is no curve any more once
its treble is taken away."""
CURVE_KNOTS, CURVE_BEND = 1024, 100.0
CURVE_DRIVES, CURVE_RESPONSE_S = (2.0, 8.0, 32.0), 0.02
"""Of tanh, on sound with a peak of 1; and how long a response each of them gets."""
ITERATIONS = 10
MEMORY_S = (0.0001, 0.001, 0.005, 0.02, 0.05)
WORTH_DB = 1.0
"""A longer response must leave so much less to show memory."""
FULLY_LINEAR_DB = -60.0
"""Models this good are only rounding apart."""
FILTER_TAPS, FILTER_S = 32, 4.0
FILTER_NOISE = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""On the past outputs that a recursive filter is fitted to, relative to their level: much noise finds safe feedback,
little noise exact feedback."""


def loudest_channel(pair: Pair) -> Pair:
    """Its loudest wet channel, with the dry channel of the same side."""
    if pair.dry.shape[0] == pair.wet.shape[0] == 1:
        return pair
    loudest = int(np.argmax([rms(channel) for channel in pair.wet]))
    own = min(loudest, pair.dry.shape[0] - 1)
    return replace(pair, dry=pair.dry[own : own + 1], wet=pair.wet[loudest : loudest + 1])


def _pieces(pair: Pair) -> tuple[Audio, Audio]:
    """Dry and wet of stretches from all over a pair, one after the other."""
    length = min(pair.samples, round(CURVE_S * pair.sample_rate)) // PIECES
    starts = np.linspace(0, pair.samples - length, PIECES).astype(int)
    return tuple(  # type: ignore[return-value]
        np.concatenate([sound[:, first : first + length] for first in starts], axis=1) for sound in (pair.dry, pair.wet)
    )


def dry_db(pair: Pair) -> float:
    """What is left by the dry sound itself, at its best level."""
    x, y = pair.dry[0].astype(np.float64), pair.wet[0].astype(np.float64)
    energy = max(float(y @ y), 1e-30)
    return max(EXACT_DB, power_to_db(max(0.0, 1 - float(x @ y) ** 2 / max(float(x @ x), 1e-30) / energy)))


def curve_db(pair: Pair) -> float:
    """What is left by the best curve there is."""
    x, y = pair.dry[0].astype(np.float64), pair.wet[0].astype(np.float64)
    left = y - through_curve(x, y)
    return max(EXACT_DB, power_to_db(float(left @ left) / max(float(y @ y), 1e-30)))


def through_curve(x: Doubles, y: Doubles) -> Doubles:
    """What the curve makes of x (samples,) that is nearest to y: its mean for each value of x, as a polygon."""
    top = max(float(np.abs(x).max()), 1e-9)
    place = (np.arcsinh(CURVE_BEND * x / top) / np.arcsinh(CURVE_BEND) + 1) / 2 * (CURVE_KNOTS - 1)  # finer near zero
    below = np.minimum(place.astype(int), CURVE_KNOTS - 2)
    share = place - below
    diagonal = np.bincount(below, (1 - share) ** 2, CURVE_KNOTS) + np.bincount(below + 1, share**2, CURVE_KNOTS)
    beside = np.bincount(below, share * (1 - share), CURVE_KNOTS)
    aim = np.bincount(below, (1 - share) * y, CURVE_KNOTS) + np.bincount(below + 1, share * y, CURVE_KNOTS)
    band = np.stack([np.append(0.0, beside[:-1]), diagonal + 1e-9 * len(x) / CURVE_KNOTS])
    heights = linalg.solveh_banded(band, aim)
    made: Doubles = (1 - share) * heights[below] + share * heights[below + 1]
    return made


def curve_and_response_db(pair: Pair) -> float:
    """What is left by a sum of curves and one response behind them.

    That is judged on the end of the sound, which may happen to be of one level; so it counts as no better than what a
    response of its own for each curve, which can do more, leaves of all the sound.
    """
    dry, wet = _pieces(pair)
    taps = [max(1, round(length_s * pair.sample_rate)) for length_s in (SHORT_S, CURVE_RESPONSE_S)]
    end_db = curve_then_response_db(dry, wet, taps[0], pair.sample_rate)
    level = max(float(np.abs(dry).max()), 1e-9)
    curves = [np.tanh(np.float32(drive / level) * dry) for drive in CURVE_DRIVES]
    sounds = np.concatenate([dry, *curves, np.square(curves[len(curves) // 2])])
    return max(end_db, identify(sounds, wet, taps[1], iterations=ITERATIONS, target_db=-50).residual_db)


def response_db(pair: Pair) -> float:
    """What a response of 50 ms leaves of the sound that it is fitted to."""
    return identify(pair.dry, pair.wet, min(pair.samples, round(SHORT_S * pair.sample_rate))).residual_db


def memory_s(pair: Pair) -> float:
    """How long a response behind the best of a few curves has to be, to be within 1 dB of the best."""
    dry, wet = _pieces(pair)

    def left_db(drive: float, length_s: float) -> float:
        taps = max(1, round(length_s * pair.sample_rate))
        return max(EXACT_DB, identify(driven(dry, drive), wet, taps, iterations=ITERATIONS, target_db=-80).residual_db)

    drive = min((0.0, *DRIVES), key=lambda one: left_db(one, MEMORY_S[-2]))
    errors = [left_db(drive, length_s) for length_s in MEMORY_S]
    goal = max(min(errors) + WORTH_DB, FULLY_LINEAR_DB)
    return next(length_s for length_s, error in zip(MEMORY_S, errors, strict=True) if error <= goal)


def recursive_filter_db(pair: Pair) -> float:
    """What a linear filter of a few past inputs and outputs leaves when it runs on its own outputs."""
    samples = min(pair.samples, round(FILTER_S * pair.sample_rate))
    first = (pair.samples - samples) // 2
    x, y = (sound[0, first : first + samples].astype(np.float64) for sound in (pair.dry, pair.wet))
    rows = [np.concatenate([np.zeros(k), x[: samples - k]]) for k in range(FILTER_TAPS)]
    rows += [np.concatenate([np.zeros(k), y[: samples - k]]) for k in range(1, FILTER_TAPS)]
    seen = np.stack(rows)
    normal, slope = seen @ seen.T, seen @ y
    energy = max(float(y @ y), 1e-30)
    settled = round(SHORT_S * pair.sample_rate)  # its own past is unknown where the stretch begins
    best = math.inf
    for sigma in FILTER_NOISE:
        ridge = np.full(len(rows), 1e-12 * float(x @ x) + 1e-30)
        ridge[FILTER_TAPS:] += sigma**2 * energy
        weights = np.linalg.solve(normal + np.diag(ridge), slope)
        feedback = np.concatenate([[1.0], -weights[FILTER_TAPS:]])
        if np.abs(np.roots(feedback)).max(initial=0.0) < 1.0:
            left = (y - signal.lfilter(weights[:FILTER_TAPS], feedback, x))[settled:]
            best = min(best, power_to_db(float(left @ left) / energy))
    return max(best, EXACT_DB)
