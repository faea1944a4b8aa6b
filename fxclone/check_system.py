"""What the pair says of the effect as a system: how linear it is, how noisy, and whether it repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.audio import TINY_POWER, power_to_db
from fxclone.check_defects import Place

_Array = npt.NDArray[np.float64]
_Sound = npt.NDArray[np.float32]

BLOCK_S = 0.02
SILENT_DRY_DBFS = -75.0
"""A dry block of which every sample is under this counts as silence."""
DECAY_DB_PER_S = 6.0
"""Silence in which the wet sound falls faster than this is an echo or a reverb, and not noise."""
SETTLE_S = 0.3
"""What is left out after dry sound ends, for the effect to ring out."""


def stft(sound: npt.NDArray[np.floating[Any]], size: int, overlap: int = 2) -> npt.NDArray[np.complex64]:
    """Hann-windowed spectra of frames, scaled so that powers sum to the sound's; shape (frames, size // 2 + 1)."""
    from scipy import fft

    if sound.shape[0] < size:
        sound = np.pad(sound, (0, size - sound.shape[0]))
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // overlap]
    window = np.hanning(size).astype(np.float32)
    return np.asarray(fft.rfft(frames * (window / np.float32(size)), axis=1), dtype=np.complex64)


@dataclass(frozen=True)
class Coherence:
    """How much of the wet sound one fixed linear system explains, by frequency.

    Attributes
    ----------
    hz, coherence : ndarray [shape=(bins,)]
        Magnitude-squared coherence, 0 to 1, its bias for few averages taken off.
    dry_power, wet_power : ndarray [shape=(bins,)]
        Mean power by frequency.
    total : float
        Coherence averaged with the wet power as weight: the share of the wet sound that is linear.
    """

    hz: _Array
    coherence: _Array
    dry_power: _Array
    wet_power: _Array
    total: float


def coherence(dry: _Sound, wet: _Sound, sample_rate: int, size: int | None = None) -> Coherence:
    """Magnitude-squared coherence by Welch's method (Carter, Knapp & Nuttall 1973).

    Parameters
    ----------
    dry, wet : ndarray [shape=(samples,)]
        Aligned.
    sample_rate : int
        In Hz.
    size : int or None
        Samples of a frame; by default as long as some forty frames allow, up to 16,384.
    """
    if size is None:
        size = 1 << int(np.clip(np.floor(np.log2(max(dry.shape[0], 1) / 20)), 9, 14))
    X, Y = stft(dry, size), stft(wet, size)
    x, y = (np.sum(np.abs(Z) ** 2, axis=0, dtype=np.float64) for Z in (X, Y))
    cross = np.abs(np.sum(X.conj() * Y, axis=0, dtype=np.complex128)) ** 2
    # Frames that are silent average nothing: count those that carry power, and Hann frames that overlap by half as 0.7.
    power = np.sum(np.abs(X) ** 2, axis=1, dtype=np.float64)
    count = max(2.0, 0.7 * float(power.sum()) ** 2 / max(float(np.sum(power**2)), TINY_POWER**2))
    raw = cross / np.maximum(x * y, 1e-60)
    msc = np.clip((raw - 1.0 / count) / (1.0 - 1.0 / count), 0.0, 1.0)
    total = float(np.sum(msc * y) / max(float(y.sum()), 1e-60))
    hz = np.asarray(np.fft.rfftfreq(size, 1.0 / sample_rate), np.float64)
    return Coherence(hz, msc, x / X.shape[0], y / X.shape[0], total)


def unexplained(dry: _Sound, wet: _Sound, size: int) -> float:
    """Share of the wet power that no fixed linear system with a memory of ``size`` samples explains."""
    return 1.0 - coherence(dry, wet, 1, size).total


@dataclass(frozen=True)
class Noise:
    """What sounds without the dry sound.

    Attributes
    ----------
    floor_db : float
        Level in dBFS (RMS), at least -200.
    exact : bool
        True if it was measured where the dry sound is silent; else the true floor is at most this.
    seconds : float
        Length of what was measured.
    hz, power : ndarray [shape=(bins,)]
        Its spectrum.
    """

    floor_db: float
    exact: bool
    seconds: float
    hz: _Array
    power: _Array


def quiet_spans(dry: _Sound, sample_rate: int) -> list[slice]:
    """Stretches of at least 50 ms where the dry sound is silent, the time to ring out left away."""
    block = max(1, round(BLOCK_S * sample_rate))
    count = dry.shape[0] // block
    tops = np.abs(dry[: count * block]).reshape(count, block).max(axis=1)
    loud = np.concatenate([[False], tops >= 10.0 ** (SILENT_DRY_DBFS / 20.0), [True]])
    edges = np.flatnonzero(np.diff(loud.astype(np.int8)))
    settle = int(np.ceil(SETTLE_S / BLOCK_S))
    spans = []
    last: int | None = 0 if not loud[1] else None
    for edge in edges.tolist():
        if loud[edge + 1]:  # sound begins
            if last is not None and edge - last >= 3:
                spans.append(slice(last * block, edge * block))
            last = None
        else:
            last = int(edge) + settle
    return spans


def noise(dry: _Sound, wet: _Sound, sample_rate: int) -> Noise:
    """Measure the noise floor of the wet sound.

    Where the dry sound is silent, the softest half second of wet is taken, so that echoes and reverb do not count.
    Without silence there are only upper bounds, of which the lowest is given: the softest 50 ms, what no linear system
    explains, and the softest twentieth of time at each frequency (minimum statistics, Martin 2001).
    """
    spans = quiet_spans(dry, sample_rate)
    pieces = [wet[span] for span in spans]
    seconds = sum(piece.shape[0] for piece in pieces) / sample_rate
    if seconds >= 0.2:
        window = max(1, round(min(0.5, seconds / 2.0) * sample_rate))
        candidates = [
            piece[start : start + window]
            for piece in pieces
            for start in range(0, max(1, piece.shape[0] - window + 1), max(1, window // 2))
        ]
        softest = min(candidates, key=_power_of)
        power = _power_of(softest)
        decays = _slope_db_per_s(max(pieces, key=len), sample_rate) < -DECAY_DB_PER_S
        spectrum = np.mean(np.abs(stft(softest, 4096)) ** 2, axis=0)
        hz = np.asarray(np.fft.rfftfreq(4096, 1.0 / sample_rate), np.float64)
        return Noise(power_to_db(power), not decays, seconds, hz, np.asarray(spectrum, np.float64))
    block = max(1, round(0.05 * sample_rate))
    count = max(1, wet.shape[0] // block)
    powers = [_power_of(wet[k * block : (k + 1) * block]) for k in range(count)]
    linear = coherence(dry, wet, sample_rate)
    size = 2048
    periodograms = np.abs(stft(wet, size)) ** 2
    # The power of noise in one bin is exponentially distributed: a twentieth lies under -ln(0.95) of its mean.
    lowest = np.minimum(np.quantile(periodograms, 0.05, axis=0) / -np.log(0.95), periodograms.mean(axis=0))
    # Both halves of the spectrum; the Hann window keeps 3/8 of the power.
    floor = float(lowest.sum()) * 2.0 / (3.0 / 8.0)
    power = min(float(np.min(powers)), (1.0 - linear.total) * _power_of(wet), floor)
    return Noise(
        power_to_db(power), False, 0.0, np.asarray(np.fft.rfftfreq(size, 1.0 / sample_rate), np.float64), lowest
    )


def _slope_db_per_s(sound: _Sound, sample_rate: int) -> float:
    """How fast the level of a stretch changes: a straight line through the levels of 20 ms blocks."""
    block = max(1, round(BLOCK_S * sample_rate))
    count = sound.shape[0] // block
    if count < 4:
        return 0.0
    levels = [10.0 * np.log10(_power_of(sound[k * block : (k + 1) * block]) + TINY_POWER) for k in range(count)]
    return float(np.polyfit(np.arange(count) * BLOCK_S, levels, 1)[0])


def _power_of(sound: npt.NDArray[Any]) -> float:
    """Mean square about the mean: an offset is not noise."""
    centred = sound.astype(np.float64) - float(np.mean(sound, dtype=np.float64))
    return float(np.mean(centred**2)) if sound.size else 0.0


@dataclass(frozen=True)
class Replicate:
    """The same dry passage twice, and how alike its two wet passages are.

    Attributes
    ----------
    first_s, second_s, seconds : float
        Where the two passages are, and how much of them was compared.
    self_esr : float
        Power of their difference over the wet power, 0 if the effect repeats itself exactly. Noise is in both, so a
        clone that knows everything but the noise reaches half of it.
    dry_esr : float
        The same of the dry passages.
    """

    first_s: float
    second_s: float
    seconds: float
    self_esr: float
    dry_esr: float

    @property
    def exact(self) -> bool:
        """Whether the two dry passages are equal enough for the difference to be the effect's own."""
        return self.dry_esr < 0.05 * self.self_esr or self.dry_esr < 1e-9


def replicate(dry: _Sound, wet: _Sound, sample_rate: int) -> Replicate | None:
    """Find dry passages that come twice (correlation above 0.999) and compare what became of them.

    Of each passage the beginning is left out, where the effect still rings from what came before. The passages are
    found by the autocorrelation of the dry sound, whitened so that a short passage stands out; a steady tone, which
    equals itself at any period, is not a passage.
    """
    from scipy import fft
    from scipy.ndimage import uniform_filter1d

    block = max(32, round(BLOCK_S * sample_rate))
    if dry.shape[0] < 8 * block:
        return None
    size = fft.next_fast_len(2 * dry.shape[0], real=True)
    loudness = np.sqrt(np.maximum(uniform_filter1d(np.square(dry, dtype=np.float64), block), 0.0))
    magnitude = np.abs(fft.rfft((dry / (loudness + 1e-4)).astype(np.float32), size))  # loud and soft count the same
    floor = float(np.median(magnitude)) + 1e-20
    alike = fft.irfft((magnitude / (magnitude + floor)) ** 2, size)[: dry.shape[0]]
    first = round(0.2 * sample_rate)
    alike[:first] = 0.0
    noise_level = float(np.std(alike[first:])) + 1e-20
    best: Replicate | None = None
    longest = 0
    for _ in range(24):
        late = int(np.argmax(alike))
        if alike[late] < 5.0 * noise_level:
            break
        alike[max(0, late - block) : late + block] = 0.0
        found = _compare_passages(dry, wet, late, block, sample_rate)
        if found is not None and found[1] > longest:
            best, longest = found
    return best


def _compare_passages(
    dry: _Sound, wet: _Sound, late: int, block: int, sample_rate: int
) -> tuple[Replicate, int] | None:
    count = (dry.shape[0] - late) // block
    if count < 4:
        return None
    early_dry = dry[: count * block].reshape(count, block).astype(np.float64)
    late_dry = dry[late : late + count * block].reshape(count, block).astype(np.float64)
    power = np.sum(early_dry**2, axis=1)
    error = np.sum((early_dry - late_dry) ** 2, axis=1)
    sounding = power > block * 10.0 ** (SILENT_DRY_DBFS / 10.0)
    # 1 - error / (2 power) is the correlation of passages of equal level
    same = (error < 2e-3 * power) | (~sounding & (error <= block * 10.0 ** (SILENT_DRY_DBFS / 10.0)))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    settle = int(np.ceil(SETTLE_S / BLOCK_S))
    chosen = np.zeros(count, bool)
    start_of_best = None
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        skip = settle if start > 0 else 0
        if end - start - skip >= 5 and np.count_nonzero(sounding[start + skip : end]) >= 5:
            chosen[start + skip : end] = True
            if start_of_best is None:
                start_of_best = start
    if start_of_best is None:
        return None
    early = wet[: count * block].reshape(count, block)[chosen].astype(np.float64)
    later = wet[late : late + count * block].reshape(count, block)[chosen].astype(np.float64)
    wet_power = 0.5 * float(np.sum(early**2) + np.sum(later**2))
    if wet_power < TINY_POWER * early.size:
        return None
    esr = float(np.sum((early - later) ** 2)) / wet_power
    dry_esr = float(error[chosen].sum() / max(float(power[chosen].sum()), TINY_POWER))
    where = float(start_of_best * block / sample_rate)
    seconds = float(np.count_nonzero(chosen)) * block / sample_rate
    return Replicate(where, where + late / sample_rate, seconds, esr, dry_esr), int(np.count_nonzero(chosen & sounding))


def envelope_match(dry: _Sound, wet: _Sound, sample_rate: int) -> float:
    """Correlation of the two loudness curves (50 ms, in dB, silence cut at -70 dB below the top), 0 to 1."""
    block = max(1, round(0.05 * sample_rate))
    count = min(dry.shape[0], wet.shape[0]) // block
    if count < 8:
        return 0.0
    curves = []
    for sound in (dry, wet):
        power = np.mean(np.square(sound[: count * block], dtype=np.float64).reshape(count, block), axis=1)
        curve = 10.0 * np.log10(np.maximum(power, 1e-7 * power.max() + 1e-30))
        curves.append(curve - curve.mean())
    scale = float(np.sqrt(np.sum(curves[0] ** 2) * np.sum(curves[1] ** 2)))
    return max(0.0, float(np.sum(curves[0] * curves[1])) / scale) if scale > 0 else 0.0


def clipping_shows(dry: _Sound, wet: _Sound, flat: Sequence[Place]) -> bool:
    """Whether the wet sound was made of more than the clipped dry sound.

    Where an effect was played the very file, clipped or not, wet follows dry as well in flat tops as in other loud
    passages. Where the dry sound was recorded beside it, and too hot, a fixed linear system explains wet much worse
    there.
    """
    size = 2048
    X, Y = stft(dry, size), stft(wet, size)
    starts = np.arange(X.shape[0]) * (size // 2)
    clipped = np.zeros(X.shape[0], bool)
    for place in flat:
        clipped |= (starts < place.start + place.samples) & (starts + size > place.start)
    tops = np.array([float(np.abs(dry[s : s + size]).max(initial=0.0)) for s in starts])
    power = np.sum(np.abs(Y) ** 2, axis=1)
    loud = ~clipped & (tops > 0.6 * float(tops.max())) & (power > 0)
    if np.count_nonzero(clipped) < 3 or np.count_nonzero(loud) < 5:
        return False
    response = np.sum(X[~clipped].conj() * Y[~clipped], axis=0)
    response /= np.maximum(np.sum(np.abs(X[~clipped]) ** 2, axis=0), 1e-20)
    guess = X * response
    # The frame's own gain is free: what compresses is no fault.
    gain = np.real(np.sum(guess.conj() * Y, axis=1)) / np.maximum(np.sum(np.abs(guess) ** 2, axis=1), 1e-20)
    error = np.sum(np.abs(Y - gain[:, None] * guess) ** 2, axis=1) / np.maximum(power, 1e-20)
    with_flats, without = float(np.median(error[clipped])), float(np.median(error[loud]))
    return with_flats > 0.003 and with_flats > 4.5 * without
