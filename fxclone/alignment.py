"""How a wet sound lies against its dry sound: lag, polarity, level, clock drift, and how sure that is.

The lag is the pure delay, the onset of the effect's response, and not the group delay of a filter after it. It is found
in three steps, each in a file of its own: a rough line through the lag-over-time plane (`alignment_coarse`), the pure
delay in the phase of the response (`alignment_phase`), and the lag of each short stretch (`alignment_track`), which
tells drift and wander. `alignment_apply` takes lag and drift out of a pair.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from fxclone.alignment_apply import DRIFT_SAMPLES, AlignedPair, apply_alignment, read_between
from fxclone.alignment_coarse import CoarseLine, coarse_line
from fxclone.alignment_phase import (
    SIZE,
    TINY,
    Curves,
    Delay,
    Response,
    Spectra,
    pure_delay,
    response,
    response_through,
    spectra,
)
from fxclone.alignment_track import Line, Track, straight_line, track
from fxclone.audio import TINY_POWER, Audio, valid_audio, valid_sample_rate
from fxclone.errors import UsageError

__all__ = ["HIGH_CONFIDENCE", "AlignedPair", "LagPoint", "PairAlignment", "align_pair", "apply_alignment"]

Floats = npt.NDArray[np.float64]

HIGH_CONFIDENCE = 0.8
"""From here on the lag is right within 0.1 sample (docs/bench_alignment.md)."""
CONFIDENT_SAMPLES = 0.0175
"""Uncertainty of the lag at which confidence is `HIGH_CONFIDENCE`."""
WANDERS = 0.5
"""Share of the lag's wander that counts as uncertainty: modulation turns phases, too."""
LEAD_S, LATE_S = 0.25, 1.2
MIN_SAMPLES = 256
"""Shorter sound says nothing."""
MIN_LEAD_SAMPLES, MIN_LATE_SAMPLES = 4_000, 48_000
"""How far a lag is looked for by default, wet before dry and wet after dry: the larger of seconds and samples."""
FRONTS = (("highpass", 720.0), ("lowpass", 2000.0))
"""Filters that may stand before a distortion; the first is the Tube Screamer's."""
TRIAL_BLOCKS = 24
RIVAL, RIVAL_SAMPLES = 0.7, 0.2
"""Height of the next best line of lags from which the lag is ambiguous, and the uncertainty that this adds."""
LIKENESS = 0.6
"""Likeness of the dry sound to itself at another time from which every lag is ambiguous."""
PARTS = 4
"""Parts of the sound whose delays are compared."""
EXPLAINED = 0.1
"""Unexplained share under which no filter is tried."""
FRONT_BETTER = 0.8
HEARD, FRONT_DOUBT = 0.99, 0.1
"""The dry sound is made of the frequencies up to which it has this share of its power; and how far a filter beyond
them, before a distortion, is feared."""
SLIGHT_DRIFT = 0.5
"""Drift over the whole sound, in samples, that is doubted however straight it looks."""
SIGNIFICANT = 6.0
"""Standard errors from which a slope is drift; wow is not."""
WHOLE_SAMPLES = 0.03
"""A lag this near to a whole number, and not told from it, is that number: most pairs are made by computers."""


@dataclass(frozen=True)
class LagPoint:
    """The lag around one moment.

    Attributes
    ----------
    time_s : float
        In the dry sound.
    lag_samples : float
        How late wet is there.
    confidence : float
        0 to 1.
    """

    time_s: float
    lag_samples: float
    confidence: float


@dataclass(frozen=True)
class PairAlignment:
    """How a wet sound lies against its dry sound.

    Attributes
    ----------
    lag_samples : float
        Wet is late by so much, at the common rate, fractions included; negative if it leads. With drift, at the start
        of the sound. NaN if nothing was found.
    confidence : float
        Of the lag, 0 to 1; from `HIGH_CONFIDENCE` on it is right within 0.1 sample.
    polarity : int
        +1, or -1 if wet is inverted; 0 if unknown.
    polarity_confidence : float
        0 to 1.
    gain_db : float
        Level of the dry sound inside the wet one, by least squares at that lag.
    drift_ppm : float
        Wet's clock against dry's: positive if wet gets later as time goes on, 1e6 times lag per sample. 0 if not told
        from none.
    drift_confidence : float
        0 to 1.
    wander_samples : float
        Rms of the lag about its straight line: wow and flutter, modulation.
    track : tuple of LagPoint
        The lag over time.
    uncertainty_samples : float
        Estimated standard error of the lag; infinite if unknown.
    """

    lag_samples: float
    confidence: float
    polarity: int
    polarity_confidence: float
    gain_db: float
    drift_ppm: float
    drift_confidence: float
    wander_samples: float
    track: tuple[LagPoint, ...] = ()
    uncertainty_samples: float = math.inf

    @property
    def confident(self) -> bool:
        """Whether the lag can be relied on to 0.1 sample."""
        return self.confidence >= HIGH_CONFIDENCE

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON; numbers that are not finite become None."""
        out: dict[str, Any] = asdict(self)
        out["confident"] = self.confident
        out["track"] = [asdict(point) for point in self.track]
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in out.items()}


NOTHING = PairAlignment(math.nan, 0.0, 0, 0.0, math.nan, 0.0, 0.0, 0.0)
"""What is said of silence, and of sound too short to say anything."""


def align_pair(dry: Audio, wet: Audio, sample_rate: int, *, max_lag_s: float | None = None) -> PairAlignment:
    """Measure how a wet sound lies against its dry sound.

    Parameters
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        At one rate; lengths and channel counts may differ. Channels are mixed, unless they cancel: then the loudest.
    sample_rate : int
        Rate of both in Hz.
    max_lag_s : float or None
        How far to look to both sides. By default from 0.25 s early to 1.2 s late, and
        at low rates at least from 4,000 samples early to 48,000 late.

    Returns
    -------
    PairAlignment
        With NaN as lag if one of them is silent or shorter than 256 samples.

    Raises
    ------
    FxcloneError
        If one of them is not finite sound of the right shape.
    UsageError
        For a ``max_lag_s`` that is not above 0.
    """
    rate = valid_sample_rate(sample_rate)
    x = _one_channel(valid_audio(dry, name="dry"))
    y = _one_channel(valid_audio(wet, name="wet"))
    if min(len(x), len(y)) < MIN_SAMPLES or min(float(np.mean(x**2)), float(np.mean(y**2))) < TINY_POWER:
        return NOTHING
    if max_lag_s is None:
        lead, late = max(MIN_LEAD_SAMPLES, round(LEAD_S * rate)), max(MIN_LATE_SAMPLES, round(LATE_S * rate))
    elif not max_lag_s > 0.0:
        raise UsageError(f"max_lag_s is {max_lag_s}; expected seconds above 0")
    else:
        lead = late = max(64, round(max_lag_s * rate))
    coarse = coarse_line(x, y, lead, late)
    if coarse is None:
        return NOTHING
    front = _front(x, y, rate, coarse)
    view = _look(front, y, coarse.lag_samples, coarse.ppm)
    for _ in range(3):
        line = view.line
        # a slope must prove itself once; after that its rest is taken out too
        if line is None or not (_is_drift(line.ppm, line, view.samples) or _is_rest(view.ppm, line, view.samples)):
            break
        view = _look(front, y, view.offset + line.start, view.ppm + line.ppm)
    if view.ppm and not (view.line and _is_drift(view.ppm, view.line, view.samples)):
        middle = view.offset + view.ppm * 1e-6 * len(x) / 2
        view = _look(front, y, middle, 0.0)
    return _verdict(view, coarse, rate)


@dataclass(frozen=True)
class _Front:
    """The dry sound, and as it reaches the distortion: through a filter of first order and into static curves."""

    dry: Floats
    shaped: Floats
    curves: Curves


@dataclass(frozen=True)
class _View:
    """The pair seen after a line of lags was taken out: what is left to find."""

    offset: float
    ppm: float
    delay: Delay
    gain: float
    track: Track
    line: Line | None
    samples: int


def _straightened(dry: Floats, wet: Floats, offset: float, ppm: float) -> tuple[slice, Floats]:
    """The part of dry that has a wet sound after a line of lags was taken out, and that wet sound."""
    step = 1.0 + ppm * 1e-6
    first = min(len(dry) - 1, max(0, math.ceil(-offset / step)))
    last = min(len(dry) - 1, max(first + SIZE, math.floor((len(wet) - 1 - offset) / step)))
    straight = read_between(wet, offset + first * step, step, last + 1 - first)
    return slice(first, last + 1), straight.astype(np.float64, copy=False)


def _look(front: _Front, wet: Floats, offset: float, ppm: float) -> _View:
    offset = float(round(offset))
    inside, straight = _straightened(front.dry, wet, offset, ppm)
    dry, shaped = front.dry[inside], front.shaped[inside]
    parts = spectra(front.curves, dry, shaped, straight, parts=PARTS)
    found = sum(parts[1:], parts[0])
    lag = 0.0
    for _ in range(4):  # the window on the response follows the delay
        heard, weights = response(found, lag)
        delay = pure_delay(heard, lag)
        moved = delay.lag_samples - lag
        lag = delay.lag_samples
        if abs(moved) < 0.5:
            break
    points = track(front.curves, weights, shaped, straight, heard, lag)
    points = Track(points.middles + inside.start, points.lags, points.confidences)
    apart = _disagreement(
        [pure_delay(response_through(part, lag, weights, heard.bins), lag, delay.reading) for part in parts]
    )
    before = _hidden_front(found, heard) if np.any(weights[1:]) else 0.0
    delay = replace(delay, uncertainty_samples=math.hypot(delay.uncertainty_samples, apart, before))
    turn = np.exp(1j * np.pi * np.linspace(0.0, 1.0, len(found.wet)) * lag)
    gain = abs(float(np.sum(found.plain_cross * turn).real)) / max(float(found.plain_auto.sum()), TINY)
    return _View(offset, ppm, delay, gain, points, straight_line(points), len(dry))


def _hidden_front(found: Spectra, heard: Response) -> float:
    """What a filter before a distortion may shift, in samples, without being seen.

    Above the frequencies that the dry sound is made of, a filter is a delay; what the curve leaves unexplained may be
    its work.
    """
    power = np.cumsum(found.plain_auto)
    top = max(4, int(np.searchsorted(power, HEARD * power[-1])))
    return FRONT_DOUBT * (1.0 - heard.coherence) * (SIZE / 2) / (math.pi * top)


def _disagreement(delays: list[Delay]) -> float:
    """Standard error of the mean of delays found in parts of the sound, the certain ones counting more."""
    lags = np.array([one.lag_samples for one in delays])
    weight = 1.0 / (np.array([one.uncertainty_samples for one in delays]) ** 2 + 1e-4)
    if np.count_nonzero(weight) < 2:
        return 0.0
    weight /= weight.sum()
    away = lags - np.sum(weight * lags)
    return float(np.sqrt(np.sum(np.square(weight * away)) * len(delays) / (len(delays) - 1)))


def _front(dry: Floats, wet: Floats, rate: int, coarse: CoarseLine) -> _Front:
    """What the dry sound goes through on its way to the distortion, if there is any: many pedals thin out the bass.

    Of a few filters of first order (they have minimum phase, which the delay does not contain) the one after
    which most of wet is explained; none if all is explained, or if none is better.
    """
    best = _Front(dry, dry, Curves(dry))
    offset = float(round(coarse.lag_samples))
    inside, straight = _straightened(dry, wet, offset, coarse.ppm)
    lag, unexplained = 0.0, 1.0
    for kind, cutoff_hz in (("", 0.0), *FRONTS):
        shaped = _first_order(dry, kind, cutoff_hz, rate) if kind else dry
        trial = _Front(dry, shaped, Curves(shaped))
        (found,) = spectra(trial.curves, dry[inside], shaped[inside], straight, most=TRIAL_BLOCKS)
        heard, _ = response(found, lag)
        if not kind:
            lag = pure_delay(heard, 0.0).lag_samples
            heard, _ = response(found, lag)
        left = 1.0 - heard.coherence
        if not kind or left < FRONT_BETTER * unexplained:
            best, unexplained = trial, left
        if unexplained < EXPLAINED:
            break
    return best


def _first_order(sound: Floats, kind: str, cutoff_hz: float, rate: int) -> Floats:
    """Through an RC high-pass or low-pass (bilinear transform)."""
    warped = math.tan(math.pi * min(cutoff_hz / rate, 0.45))
    b = [1.0, -1.0] if kind == "highpass" else [warped, warped]
    out: Floats = np.asarray(signal.lfilter(b, [1.0 + warped, warped - 1.0], sound), np.float64)
    return out


def _is_drift(ppm: float, line: Line, samples: int) -> bool:
    """Whether a slope is more than nothing and more than chance."""
    return abs(ppm) * 1e-6 * samples > DRIFT_SAMPLES / 2 and abs(ppm) > SIGNIFICANT * line.ppm_error


def _is_rest(ppm: float, line: Line, samples: int) -> bool:
    return ppm != 0.0 and abs(line.ppm) * 1e-6 * samples > DRIFT_SAMPLES / 10


def _verdict(view: _View, coarse: CoarseLine, rate: int) -> PairAlignment:
    lag = view.offset + view.delay.lag_samples
    line = view.line
    spread = view.delay.uncertainty_samples
    drift_error, wander = math.inf, 0.0
    if line is not None:
        drift_error = line.ppm_error * 1e-6 * view.samples
        wander = line.wander
        careful = 2.0 if view.ppm else 1.0  # the start of a sloping line leans on few points
        spread = math.hypot(spread, careful * drift_error, careful * line.start_error, WANDERS * line.wander)
        slid = abs(view.ppm) * 1e-6 * view.samples
        if slid < SLIGHT_DRIFT:  # reverberation may look like it; without it the lag would be that of the middle
            spread = math.hypot(spread, slid / 4.0)
    else:
        spread = math.inf
    polarity_confidence = view.delay.polarity_confidence
    if coarse.rival > RIVAL or coarse.likeness > LIKENESS:
        spread = math.hypot(spread, RIVAL_SAMPLES)
        polarity_confidence *= 0.5
    if abs(lag - round(lag)) < min(WHOLE_SAMPLES, max(0.002, 2.0 * spread)) and view.ppm == 0.0:
        lag = float(round(lag))
    points = tuple(
        LagPoint(float(n / rate), float(lag + view.ppm * 1e-6 * n + late), float(sure))
        for n, late, sure in zip(view.track.middles, view.track.lags, view.track.confidences, strict=True)
    )
    return PairAlignment(
        lag_samples=lag + 0.0,
        confidence=_confidence(spread, CONFIDENT_SAMPLES),
        polarity=view.delay.polarity,
        polarity_confidence=polarity_confidence,
        gain_db=float(20.0 * np.log10(max(view.gain, 1e-10))),
        drift_ppm=view.ppm,
        drift_confidence=_confidence(drift_error, 0.1),
        wander_samples=wander,
        track=points,
        uncertainty_samples=spread,
    )


def _confidence(spread: float, at_high: float) -> float:
    """1 for no uncertainty, `HIGH_CONFIDENCE` at ``at_high``, and on towards 0."""
    if not math.isfinite(spread):
        return 0.0
    return 1.0 / (1.0 + (1.0 / HIGH_CONFIDENCE - 1.0) * (spread / at_high) ** 2)


def _one_channel(sound: Audio) -> Floats:
    """The mix of all channels; the loudest if they cancel in it."""
    mix: Floats = sound.mean(axis=0, dtype=np.float64)
    powers = np.mean(np.square(sound, dtype=np.float64), axis=1)
    if float(np.mean(mix**2)) >= 0.25 * float(powers.mean()):
        return mix
    out: Floats = sound[int(np.argmax(powers))].astype(np.float64)
    return out
