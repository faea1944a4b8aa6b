"""How a wet sound lies against its dry sound: lag, polarity, level, clock drift, and how sure that is.

The lag is the pure delay, the onset of the effect's response, and not the group delay of a filter after it. It is found
in three steps, each in a file of its own: a rough line through the lag-over-time plane (`alignment_coarse`), the pure delay in the
phase of the response (`alignment_phase`), and the lag of each short stretch (`alignment_track`), which tells drift and
wander. `alignment_apply` takes lag and drift out of a pair.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.alignment_apply import AlignedPair, apply_alignment, read_between
from fxclone.alignment_coarse import CoarseLine, coarse_line
from fxclone.alignment_phase import Curves, Delay, Response, Spectra, pure_delay, response, spectra
from fxclone.alignment_track import Line, Track, straight_line, track
from fxclone.audio import TINY_POWER, Audio, valid_audio, valid_sample_rate

__all__ = ["HIGH_CONFIDENCE", "AlignedPair", "LagPoint", "PairAlignment", "align_pair", "apply_alignment"]

Floats = npt.NDArray[np.float64]

HIGH_CONFIDENCE = 0.8
"""From here on the lag is right within 0.1 sample (docs/bench_alignment.md)."""
CONFIDENT_SAMPLES = 0.05
"""Uncertainty of the lag at which confidence is `HIGH_CONFIDENCE`."""
LEAD_S, LATE_S = 0.25, 1.2
"""How far a lag is looked for by default: wet before dry, wet after dry."""
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
"""What is said of silence."""


def align_pair(dry: Audio, wet: Audio, sample_rate: int, *, max_lag_s: float | None = None) -> PairAlignment:
    """Measure how a wet sound lies against its dry sound.

    Parameters
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        At one rate; lengths and channel counts may differ. Channels are mixed, unless they cancel: then the loudest.
    sample_rate : int
        Rate of both in Hz.
    max_lag_s : float or None
        How far to look to both sides. By default from 0.25 s early to 1.2 s late.

    Returns
    -------
    PairAlignment
        With NaN as lag if one of them is silent or nothing correlates.
    """
    rate = valid_sample_rate(sample_rate)
    x = _one_channel(valid_audio(dry, name="dry"))
    y = _one_channel(valid_audio(wet, name="wet"))
    if min(float(np.mean(x**2)), float(np.mean(y**2))) < TINY_POWER:
        return NOTHING
    lead, late = (LEAD_S, LATE_S) if max_lag_s is None else (max_lag_s, max_lag_s)
    coarse = coarse_line(x, y, max(64, round(lead * rate)), max(64, round(late * rate)))
    if coarse is None:
        return NOTHING
    curves = Curves(x)
    view = _look(curves, x, y, coarse.lag_samples, coarse.ppm)
    for _ in range(3):
        line = view.line
        if line is None or not _is_drift(line, len(x)):
            break
        view = _look(curves, x, y, view.offset + line.start, view.ppm + line.ppm)
    return _verdict(view, coarse, rate, x, y)


@dataclass(frozen=True)
class _View:
    """The pair seen after a line of lags was taken out: what is left to find."""

    offset: float
    ppm: float
    spectra: Spectra
    response: Response
    delay: Delay
    track: Track
    line: Line | None
    samples: int


def _look(curves: Curves, dry: Floats, wet: Floats, offset: float, ppm: float) -> _View:
    offset = float(round(offset))
    step = 1.0 + ppm * 1e-6
    first = max(0, math.ceil(-offset / step))
    last = min(len(dry) - 1, math.floor((len(wet) - 1 - offset) / step))
    last = max(last, first + 64)
    straight = read_between(wet, offset + first * step, step, last - first + 1).astype(np.float64)
    inside = dry[first : last + 1]
    straight = straight[: len(inside)]
    found = spectra(curves, inside, straight)
    lag = 0.0
    for _ in range(4):  # the window on the response follows the delay
        heard, weights = response(found, lag)
        delay = pure_delay(heard, lag)
        moved = delay.lag_samples - lag
        lag = delay.lag_samples
        if abs(moved) < 0.5:
            break
    points = track(curves, weights, inside, straight, heard, lag)
    points = Track(points.middles + first, points.lags, points.confidences)
    return _View(offset, ppm, found, heard, delay, points, straight_line(points), len(inside))


def _is_drift(line: Line, samples: int) -> bool:
    return abs(line.ppm) * 1e-6 * samples > 0.05 and abs(line.ppm) > 4.0 * line.ppm_error


def _verdict(view: _View, coarse: CoarseLine, rate: int, dry: Floats, wet: Floats) -> PairAlignment:
    lag = view.offset + view.delay.lag_samples
    line = view.line
    spread = view.delay.uncertainty_samples
    drift_error, wander = math.inf, 0.0
    if line is not None:
        drift_error = line.ppm_error * 1e-6 * view.samples
        wander = line.wander
        spread = math.hypot(spread, drift_error, line.start_error)
    else:
        spread = math.inf
    if coarse.rival > 0.7:
        spread = math.hypot(spread, 0.2)
    if abs(lag - round(lag)) < min(WHOLE_SAMPLES, max(0.002, 2.0 * spread)) and view.ppm == 0.0:
        lag = float(round(lag))
    cross = float(np.real(np.sum(view.spectra.cross[0] * np.exp(1j * _omega_like(view) * view.delay.lag_samples))))
    scale = float(np.sqrt(np.mean(dry**2)))
    gain = abs(cross) / float(np.real(view.spectra.auto[0, 0].sum())) / max(scale, 1e-300)
    points = tuple(
        LagPoint(float(n / rate), float(lag + view.ppm * 1e-6 * n + late), float(sure))
        for n, late, sure in zip(view.track.middles, view.track.lags, view.track.confidences, strict=True)
    )
    return PairAlignment(
        lag_samples=lag + 0.0,
        confidence=_confidence(spread, CONFIDENT_SAMPLES),
        polarity=view.delay.polarity,
        polarity_confidence=view.delay.polarity_confidence,
        gain_db=float(20.0 * np.log10(max(gain, 1e-10))),
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


def _omega_like(view: _View) -> Floats:
    bins = view.spectra.cross.shape[1]
    out: Floats = np.pi * np.arange(bins) / (bins - 1)
    return out


def _one_channel(sound: Audio) -> Floats:
    """The mix of all channels; the loudest if they cancel in it."""
    mix: Floats = sound.mean(axis=0, dtype=np.float64)
    powers = np.mean(np.square(sound, dtype=np.float64), axis=1)
    if float(np.mean(mix**2)) >= 0.25 * float(powers.mean()):
        return mix
    return sound[int(np.argmax(powers))].astype(np.float64)
