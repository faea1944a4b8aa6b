"""How long a response is, and what of the wet sound a response explains at all: what `auto` asks before it trains.

A first response, much longer than needed, is fitted to the pair. Its energy decay curve (Schroeder's backward
integral) falls until it meets the level of the errors of estimation, which is the same at all lags. The length is where
what is left out stays under the wanted error, or where the decay meets that floor and more taps would only hold noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft

from fxclone.audio import Audio, power_to_db
from fxclone.errors import UsageError
from fxclone_training.tail_identify import Doubles, convolve, identify

LEFT_OUT_DB = -65.0
"""Energy that the response may lose beyond its end, relative to the wet sound."""
FIRST_S, LONGEST_S = 2.0, 10.0
"""A first response is this long; twice as long, and so on, if the tail does not end well within it."""
ENDS_WITHIN = 0.7
SHARE_OF_SOUND = 0.3
"""A first response is not longer than this share of the pair: less sound would not determine it."""
ITERATIONS, TARGET_DB = 30, -80.0
"""Of the first response: its decay has to be seen, not heard."""
WINDOW_S = 0.01
SHORT_S = 0.05
"""What other families see or remember easily: filters and tone controls ring no longer."""
HELD_BACK = 0.25
LINEAR_DB = -40.0
"""What a response leaves of a linear effect is noise: less than this."""
SHOW_S = 1.0
"""Length of a response that shows that there is a tail, though not all of it."""
DRIVES = (4.0, 16.0, 64.0)
GAIN_DB = 1.0
"""A long response must leave this much less of held-back sound than a short one to be worth its length."""


@dataclass(frozen=True)
class TailLength:
    """How long a response should be.

    Attributes
    ----------
    taps : int
        Length in samples.
    tail_s : float
        The same in seconds.
    noise_floor_db : float
        What no response of the first, long kind explains of the wet sound, in dB relative to it.
    t60_s : float or None
        Time of the response's decay by 60 dB, from the slope of its decay between -5 and -35 dB (T30); None if it
        does not decay that far above its floor.
    left_out_db : float
        Energy beyond the length, relative to the wet sound, in dB, as far as it can be seen.
    reason : str
        For people: what ended the tail.
    """

    taps: int
    tail_s: float
    noise_floor_db: float
    t60_s: float | None
    left_out_db: float
    reason: str


@dataclass(frozen=True)
class LongLinear:
    """What responses explain of sound that they were not fitted to.

    Attributes
    ----------
    kind : str
        ``linear with a long tail``, ``nonlinear then tail`` or ``short``.
    long_db, short_db : float
        ESR of a long and of a short response on held-back sound, in dB.
    tail_s : float
        Length of the long one.
    drive : float
        Of the curve before them, see `driven`; 0 for none.
    reason : str
        For people.
    """

    kind: str
    long_db: float
    short_db: float
    tail_s: float
    drive: float
    reason: str


def choose_length(
    dry: Audio,
    wet: Audio,
    sample_rate: int,
    *,
    tail_s: float | None = None,
    left_out_db: float = LEFT_OUT_DB,
    should_stop: Callable[[], bool] = lambda: False,
) -> TailLength:
    """Choose the length of the response from dry (ci, samples) to wet (co, samples).

    Parameters
    ----------
    dry, wet : ndarray [shape=(channels, samples)]
    sample_rate : int
        In Hz.
    tail_s : float or None
        A length to take as it is; the rest is still measured.
    left_out_db : float
        See `LEFT_OUT_DB`.
    should_stop : callable
        Asked on the way; True gives what the response so far shows.
    """
    if tail_s is not None and not 0 < tail_s * sample_rate <= dry.shape[1]:
        raise UsageError(
            f"a tail of {tail_s:g} s; expected more than 0 and at most the {dry.shape[1] / sample_rate:.1f} s of sound"
        )
    longest = max(min(LONGEST_S, SHARE_OF_SOUND * dry.shape[1] / sample_rate), tail_s or 0.0)
    first = longest if tail_s is not None else min(FIRST_S, longest)
    while True:
        found = _measure(dry, wet, sample_rate, first, tail_s, left_out_db, should_stop)
        if should_stop() or first >= longest or found.tail_s < ENDS_WITHIN * first:
            return found
        first = min(2 * first, longest)


def _measure(
    dry: Audio,
    wet: Audio,
    sample_rate: int,
    longest: float,
    tail_s: float | None,
    left_out_db: float,
    should_stop: Callable[[], bool],
) -> TailLength:
    """The length as a response of ``longest`` seconds shows it."""
    taps = max(1, round(longest * sample_rate))
    fit = identify(dry, wet, taps, iterations=ITERATIONS, target_db=TARGET_DB, should_stop=should_stop)
    heard = _as_heard(fit.responses, dry)
    window = max(1, round(WINDOW_S * sample_rate))
    levels = _window_energies(heard, window)  # both channels together
    floor = _floor(levels)
    clean = np.maximum(levels - floor, 0.0)
    clean[_meets_floor(levels, floor) :] = 0.0  # beyond, only errors of estimation
    total = max(float(np.square(wet, dtype=np.float64).mean(axis=1).sum()), 1e-30)
    beyond = np.append(np.cumsum(clean[::-1])[::-1], 0.0) / total  # energy from window k on
    t60_s = _decay_time(beyond * total, window / sample_rate)
    enough = int(np.argmax(beyond <= 10 ** (left_out_db / 10)))
    taps = min(enough * window, fit.responses.shape[2])
    at_floor = beyond[enough] == 0.0
    if tail_s is not None:
        taps, reason = max(1, round(tail_s * sample_rate)), "as asked"
        enough = min(-(-taps // window), len(beyond) - 1)
    elif at_floor and enough == len(levels):
        reason = f"still ringing after {longest:.1f} s, the longest that this much sound can show"
    elif at_floor:
        reason = "beyond it the response is under the noise of its own measurement"
    else:
        reason = f"beyond it lie {power_to_db(float(beyond[enough])):.0f} dB of the wet sound"
    taps = max(taps, window)
    left = power_to_db(float(beyond[enough]))
    return TailLength(taps, taps / sample_rate, fit.residual_db, t60_s, left, reason)


def linearity(dry: Audio, wet: Audio, sample_rate: int, *, tail_s: float | None = None) -> LongLinear:
    """Fit long and short responses to the first part of a pair, and judge them on the rest.

    A nonlinear effect without a tail gains nothing from a long response: there it only fits itself to its own training
    sound. An effect with a tail gains, whether it distorts before or not; a heavy distortion hides that from a
    response to the plain dry sound, so responses to dry sound through curves of growing drive are tried too.

    Parameters
    ----------
    dry, wet : ndarray [shape=(channels, samples)]
    sample_rate : int
        In Hz.
    tail_s : float or None
        Length of the long response to the plain dry sound; None to ask `choose_length`.
    """
    samples = dry.shape[1]
    cut = round(samples * (1 - HELD_BACK))
    show_s = min(SHOW_S, SHARE_OF_SOUND * cut / sample_rate)
    if tail_s is None:
        tail_s = choose_length(dry[:, :cut], wet[:, :cut], sample_rate).tail_s
    long_s = max(min(tail_s, cut / sample_rate), SHORT_S)
    best = (0.0, 0.0, 0.0, long_s)
    for drive in (0.0, *DRIVES):
        sound = driven(dry, drive)
        length_s = show_s if drive else long_s
        long_db, short_db = (
            _held_back_db(sound, wet, cut, max(1, round(s * sample_rate))) for s in (length_s, min(SHORT_S, length_s))
        )
        gain = short_db - long_db
        words = f"{long_db:.1f} dB of held-back sound, one of {SHORT_S:g} s {short_db:.1f} dB"
        numbers = f"a response of {length_s:.1f} s leaves {words}"
        if not drive and (long_db <= LINEAR_DB or short_db <= LINEAR_DB):
            kind = "linear with a long tail" if gain > GAIN_DB else "short"
            return LongLinear(kind, long_db, short_db, length_s, 0.0, f"linear: {numbers}")
        if gain > best[0]:
            best = (gain, long_db, short_db, length_s)
            found = LongLinear(
                "nonlinear then tail", long_db, short_db, length_s, drive, f"a tail, not linear: {numbers}"
            )
        if not drive:
            plain = LongLinear("short", long_db, short_db, length_s, 0.0, f"no long tail: {numbers}")
    return found if best[0] > GAIN_DB else plain


def driven(dry: Audio, drive: float) -> Audio:
    """The dry sound through tanh(drive x) / drive; itself for 0."""
    return dry if drive == 0 else (np.tanh(np.float32(drive) * dry) / np.float32(drive)).astype(np.float32)


def _held_back_db(dry: Audio, wet: Audio, cut: int, taps: int) -> float:
    """ESR behind ``cut`` of a response fitted to what lies before, in dB."""
    fit = identify(dry[:, :cut], wet[:, :cut], taps, iterations=ITERATIONS, target_db=TARGET_DB)
    lead = max(0, cut - taps + 1)
    made = convolve(dry[:, lead:], fit.responses)[:, cut - lead :]
    aim = wet[:, cut:].astype(np.float64)
    return power_to_db(float(np.square(made - aim).sum()) / max(float(np.square(aim).sum()), 1e-30))


def _as_heard(responses: Audio, dry: Audio) -> Doubles:
    """The responses (co*ci, taps) coloured by the dry sound's spectrum: their energy is then the wet sound's power."""
    size = 4096
    hop = size // 2
    out = np.empty((responses.shape[0] * responses.shape[1], responses.shape[2]))
    window = np.hanning(size)
    for i, channel in enumerate(dry):
        count = max(1, (len(channel) - size) // hop + 1)
        spectrum = np.zeros(size // 2 + 1)
        for k in range(0, count, max(1, count // 2000)):
            part = np.pad(channel[k * hop : k * hop + size], (0, max(0, size - len(channel))))[:size]
            spectrum += np.square(np.abs(fft.rfft(part * window)))
        spectrum *= float(np.square(channel, dtype=np.float64).mean()) / max(float(spectrum.mean()), 1e-30)
        colour = np.roll(fft.irfft(np.sqrt(spectrum)), size // 2)  # zero phase: an impulse stays where it is
        length = fft.next_fast_len(responses.shape[2] + size, real=True)
        coloured = fft.irfft(fft.rfft(responses[:, i], length) * fft.rfft(colour, length), length)
        out[i :: len(dry)] = coloured[:, size // 2 : size // 2 + responses.shape[2]]
    return out


def _window_energies(responses: Doubles, window: int) -> Doubles:
    taps = responses.shape[1]
    count = -(-taps // window)
    padded = np.pad(np.square(responses).sum(axis=0), (0, count * window - taps))
    out: Doubles = padded.reshape(count, window).sum(axis=1)
    return out


def _floor(levels: Doubles) -> float:
    """Energy of a window where nothing rings any more: of the last tenth."""
    return float(np.median(levels[-max(1, len(levels) // 10) :]))


def _meets_floor(levels: Doubles, floor: float) -> int:
    """The window from which on no stretch stands out of the floor by 3 dB (Lundeby et al. 1995, simplified)."""
    smooth = np.convolve(np.pad(levels, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    above = np.flatnonzero(smooth > 2 * floor)
    return int(above[-1]) + 1 if len(above) else 0


def _decay_time(beyond: Doubles, step_s: float) -> float | None:
    """Time for 60 dB, from the line through the decay curve between -5 and -35 dB (ISO 3382-1's T30)."""
    level = 10 * np.log10(np.maximum(beyond / max(beyond[0], 1e-300), 1e-30))
    part = np.flatnonzero((level <= -5) & (level >= -35))
    if len(part) < 3 or level[-2] > -35:
        return None
    slope = float(np.polyfit(part * step_s, level[part], 1)[0])
    return -60 / slope if slope < 0 and math.isfinite(slope) else None
