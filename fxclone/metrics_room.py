"""What a room does, read off its impulse response: decay times, echo density, and how alike the two ears are.

For reverbs these say more than an ESR: whether the clone's hall is as long, as dense and as wide as the original.
A response has shape (channels, samples), as the wet sound of a single impulse.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import signal
from scipy.special import erfc

from fxclone.audio import Audio
from fxclone.errors import UsageError

Doubles = npt.NDArray[np.float64]

DENSITY_WINDOW_S = 0.02
OCTAVES_HZ = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def energy_decay_db(response: Audio) -> Doubles:
    """Energy that is still to come at each sample, of all channels together, in dB relative to all of it.

    Schroeder's backward integral (M. R. Schroeder 1965; ISO 3382-1, 5.3.3).

    Returns
    -------
    ndarray [shape=(samples,)]
        Begins at 0 dB and never rises; -inf behind the last sound.
    """
    power = np.square(response, dtype=np.float64).sum(axis=0)
    still = np.cumsum(power[::-1])[::-1]
    if still.size == 0 or still[0] <= 0:
        raise UsageError("the response is silent; expected the wet sound of an impulse")
    with np.errstate(divide="ignore"):
        out: Doubles = 10 * np.log10(still / still[0])
    return out


def decay_time_s(response: Audio, sample_rate: int, *, span_db: float = 30.0) -> float:
    """Time for a decay by 60 dB, from the line through the decay curve between -5 dB and ``span_db`` below that.

    Parameters
    ----------
    response : ndarray [shape=(channels, samples)]
    sample_rate : int
        In Hz.
    span_db : float
        20 for T20, 30 for T30 (ISO 3382-1, 3.5).

    Returns
    -------
    float
        In seconds; NaN if the response does not decay that far.
    """
    curve = energy_decay_db(response)
    if not curve[-1] <= -5 - span_db:
        return math.nan
    first, last = (int(np.argmax(curve <= level)) for level in (-5, -5 - span_db))
    if last - first < 2:
        return math.nan
    slope = float(np.polyfit(np.arange(first, last + 1) / sample_rate, curve[first : last + 1], 1)[0])
    return -60 / slope


def t20_s(response: Audio, sample_rate: int) -> float:
    """Decay time from -5 to -25 dB, see `decay_time_s`."""
    return decay_time_s(response, sample_rate, span_db=20.0)


def t30_s(response: Audio, sample_rate: int) -> float:
    """Decay time from -5 to -35 dB, see `decay_time_s`."""
    return decay_time_s(response, sample_rate, span_db=30.0)


def echo_density(response: Audio, sample_rate: int, *, window_s: float = DENSITY_WINDOW_S) -> Doubles:
    """Normalised echo density along a response: about 0 for single echoes, 1 for noise-like reverberation.

    The share of samples, in a Hann window, that lie more than a standard deviation from zero, over the share that
    Gaussian noise has there, erfc(1/sqrt 2) (J. S. Abel and P. Huang, A Simple, Robust Measure of Reverberation Echo
    Density, AES 121, 2006). Channels are averaged.

    Returns
    -------
    ndarray [shape=(windows,)]
        One value every quarter of a window; windows more than 100 dB under the loudest give 0: that is silence.
    """
    length = max(8, round(window_s * sample_rate))
    hop = max(1, length // 4)
    if response.shape[1] < length:
        raise UsageError(f"a response of {response.shape[1]} samples; expected at least {length}, {window_s:g} s")
    weights = np.hanning(length + 2)[1:-1]
    weights = weights / weights.sum()
    values = []
    for channel in response.astype(np.float64):
        frames = np.lib.stride_tricks.sliding_window_view(channel, length)[::hop]
        deviation = np.sqrt(np.square(frames) @ weights)
        outside = (np.abs(frames) > deviation[:, None]) @ weights
        values.append(np.where(deviation > 1e-5 * deviation.max(), outside, 0.0))
    out: Doubles = np.mean(values, axis=0) / float(erfc(1 / math.sqrt(2)))
    return out


def mean_echo_density(response: Audio, sample_rate: int, *, down_to_db: float = -40.0) -> float:
    """Mean of `echo_density` over the part of the response in which it decays to ``down_to_db``."""
    end = int(np.argmin(energy_decay_db(response) > down_to_db)) or response.shape[1]
    least = max(8, round(DENSITY_WINDOW_S * sample_rate))
    return float(echo_density(response[:, : max(end, least)], sample_rate).mean())


def stereo_correlation(response: npt.NDArray[np.floating]) -> float:
    """Correlation of the two channels, lag 0: 1 is mono, 0 is as wide as two rooms, -1 is opposite polarity.

    NaN if a channel is silent.
    """
    if response.shape[0] != 2:
        raise UsageError(f"a response of {response.shape[0]} channels; expected 2 for a stereo correlation")
    left, right = response.astype(np.float64)
    size = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / size if size > 0 else math.nan


def stereo_correlation_by_octave(response: Audio, sample_rate: int) -> dict[str, float]:
    """`stereo_correlation` in octave bands (Butterworth of order 4, forth and back) under half the sample rate."""
    out = {}
    for centre in OCTAVES_HZ:
        low, high = centre / math.sqrt(2), centre * math.sqrt(2)
        if high >= 0.49 * sample_rate:
            break
        band = signal.butter(4, (low, high), "bandpass", fs=sample_rate, output="sos")
        padded = np.pad(response.astype(np.float64), ((0, 0), (0, round(8 * sample_rate / low))))
        out[f"{centre:g}"] = stereo_correlation(signal.sosfiltfilt(band, padded))
    return out
