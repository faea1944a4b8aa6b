"""How close an estimate is to the wet sound: ESR and what it does not tell.

Everything is computed in double precision, over all channels together, in blocks, so that an hour fits in memory.
``wet`` is always the reference and ``estimate`` the clone's output; both have shape (channels, samples).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.audio import TINY_POWER, Audio, power_to_db
from fxclone.errors import FxcloneError

Doubles = npt.NDArray[np.float64]

_CHUNK = 1 << 20
_LEVEL_WINDOW_S = 0.05
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop and window length in samples: the three of Yamamoto et al. 2020 (Parallel WaveGAN)."""


def esr(wet: Audio, estimate: Audio) -> float:
    """Error-to-signal ratio, sum (y - ŷ)² / sum y² (Wright et al. 2019, without pre-emphasis).

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate.

    Returns
    -------
    float
        0 is perfect; 1 is as bad as silence. If the wet is silent: 0 for a silent estimate, infinity for any other.
        Infinity as well if the estimate holds NaN or infinity.
    """
    signal, error = _energies(wet, estimate)
    return _ratio(error, signal, wet.size)


def esr_db(wet: Audio, estimate: Audio) -> float:
    """`esr` in dB, 10·log10; floored at -200 dB."""
    return _db(esr(wet, estimate))


def _same_shape(wet: Audio, estimate: Audio) -> None:
    if wet.shape != estimate.shape or wet.ndim != 2 or wet.size == 0:
        raise FxcloneError(
            f"cannot compare wet {wet.shape} with estimate {estimate.shape}; expected the same (channels, samples)"
        )


def _chunks(*sounds: Audio) -> Iterator[tuple[Doubles, ...]]:
    for start in range(0, sounds[0].shape[1], _CHUNK):
        yield tuple(sound[:, start : start + _CHUNK].astype(np.float64) for sound in sounds)


def _energies(wet: Audio, estimate: Audio) -> tuple[float, float]:
    _same_shape(wet, estimate)
    signal = error = 0.0
    for y, e in _chunks(wet, estimate):
        signal += float(np.vdot(y, y))
        y -= e
        error += float(np.vdot(y, y))
    return signal, error


def _ratio(error: float, signal: float, count: int) -> float:
    """Divide energies, with silence defined: power under -200 dBFS counts as none."""
    if not math.isfinite(error):
        return math.inf
    if signal < TINY_POWER * count:
        return 0.0 if error < TINY_POWER * count else math.inf
    return error / signal


def _db(power_ratio: float) -> float:
    return power_to_db(power_ratio) if math.isfinite(power_ratio) else power_ratio


@dataclass(frozen=True)
class Alignment:
    """How an estimate lies against the wet sound.

    Attributes
    ----------
    lag_samples : float
        Positive if the estimate is late; NaN if either sound is silent.
    polarity : int
        +1, or -1 if the estimate is inverted; 0 if either sound is silent.
    gain_db : float
        Level of the wet sound inside the estimate: the least-squares gain at that lag.
    confidence : float
        Normalised cross-correlation at that lag, 0 to 1.
    """

    lag_samples: float
    polarity: int
    gain_db: float
    confidence: float


def alignment(wet: Audio, estimate: Audio, max_lag: int = 4096) -> Alignment:
    """Find lag, polarity and gain of an estimate by cross-correlation.

    The cross-spectrum is weighted by 1/sqrt|C| (half-way to the phase transform of Knapp & Carter 1976), which
    sharpens the peak for sound with little treble and leaves bins without sound alone. The peak is refined on the
    band-limited interpolation of the correlation, so that lags are sub-sample.

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate.
    max_lag : int
        How far to search to both sides, in samples.
    """
    _same_shape(wet, estimate)
    none = Alignment(math.nan, 0, math.nan, 0.0)
    if not np.isfinite(estimate).all():
        return none
    max_lag = max(1, min(max_lag, wet.shape[1] - 1))
    cross, size = _cross_spectrum(wet, estimate, max_lag)
    signal = sum(float(np.vdot(y, y)) for (y,) in _chunks(wet))
    power = sum(float(np.vdot(e, e)) for (e,) in _chunks(estimate))
    if min(signal, power) < TINY_POWER * wet.size:
        return none
    magnitude = np.abs(cross)
    loudest = float(magnitude.max())
    if loudest <= 0.0:
        return none
    weighted = cross / np.sqrt(np.maximum(magnitude, 1e-6 * loudest))
    around = np.roll(fft.irfft(weighted, size), max_lag)[: 2 * max_lag + 1]
    start = int(np.argmax(np.abs(around))) - max_lag
    lag = _refine(weighted, size, start, float(np.sign(around[start + max_lag])))
    plain = _correlation(cross, size, lag)
    gain = plain / signal
    return Alignment(
        lag_samples=lag,
        polarity=int(np.sign(plain)),
        gain_db=float(20.0 * np.log10(max(abs(gain), 1e-10))),
        confidence=min(1.0, abs(plain) / math.sqrt(signal * power)),
    )


def lag_samples(wet: Audio, estimate: Audio, max_lag: int = 4096) -> float:
    """Return how late the estimate is, in samples and fractions; see `alignment`."""
    return alignment(wet, estimate, max_lag).lag_samples


def _cross_spectrum(wet: Audio, estimate: Audio, max_lag: int) -> tuple[npt.NDArray[np.complex128], int]:
    """Sum conj(Y)·Ŷ over blocks; its inverse is the exact linear correlation for lags up to ``max_lag``."""
    block = min(wet.shape[1], max(8 * max_lag, 1 << 16))
    size = int(fft.next_fast_len(block + 2 * max_lag, real=True))
    total = np.zeros(size // 2 + 1, np.complex128)
    for start in range(0, wet.shape[1], block):
        y = wet[:, start : start + block].astype(np.float64)
        left = max(0, start - max_lag)
        e = estimate[:, left : start + block + max_lag].astype(np.float64)
        spectrum = np.conj(fft.rfft(y, size)) * fft.rfft(e, size)
        if left != start:  # put the estimate's first sample at its true offset
            ramp = np.exp(-2j * np.pi * np.arange(spectrum.shape[1]) * ((left - start) % size) / size)
            spectrum *= ramp
        total += spectrum.sum(axis=0)
    return total, size


def _correlation(cross: npt.NDArray[np.complex128], size: int, lag: float, order: int = 0) -> float:
    """Value (or derivative) of the correlation at any real lag."""
    omega = 2.0 * np.pi * np.arange(cross.shape[0]) / size
    terms = cross * np.exp(1j * omega * lag) * (1j * omega) ** order
    weight = np.full(cross.shape[0], 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    return float(np.real(weight @ terms)) / size


def _refine(cross: npt.NDArray[np.complex128], size: int, start: int, sign: float) -> float:
    lag = float(start)
    for _ in range(8):
        slope = sign * _correlation(cross, size, lag, 1)
        curve = sign * _correlation(cross, size, lag, 2)
        if curve >= 0.0:
            break
        step = min(0.5, max(-0.5, -slope / curve))
        lag += step
        if abs(step) < 1e-6:
            break
    return lag if abs(lag - start) <= 1.0 else float(start)


def a_weighting(frequency_hz: Doubles) -> Doubles:
    """Amplitude of the A-weighting curve (IEC 61672-1:2013, annex E), 1 at 1 kHz."""
    f2 = np.square(frequency_hz)
    low, high = 20.598997**2, 12194.217**2
    curve = high * f2**2 / ((f2 + low) * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2)) * (f2 + high))
    out: Doubles = curve * 10.0 ** (2.0 / 20.0)
    return out


def _spectra(wet: Audio, estimate: Audio, size: int = 1 << 15) -> tuple[Doubles, Doubles]:
    """Energy spectra of wet and of the error, summed over blocks whose squared windows add up to one."""
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    hop = size // 2
    signal, error = np.zeros(hop + 1), np.zeros(hop + 1)
    both = np.full(hop + 1, 2.0)
    both[[0, -1]] = 1.0
    for start in range(-hop, wet.shape[1], hop):
        y = np.zeros((wet.shape[0], size))
        d = np.zeros_like(y)
        first, last = max(0, start), min(wet.shape[1], start + size)
        here = slice(first - start, last - start)
        y[:, here] = wet[:, first:last]
        d[:, here] = y[:, here] - estimate[:, first:last]
        signal += np.square(np.abs(fft.rfft(y * window))).sum(axis=0)
        error += np.square(np.abs(fft.rfft(d * window))).sum(axis=0)
    return signal * both / size, error * both / size


def a_weighted_esr(wet: Audio, estimate: Audio, sample_rate: int) -> float:
    """ESR of the A-weighted sounds: the pre-emphasis that listeners agreed with most (Wright & Välimäki 2020)."""
    _same_shape(wet, estimate)
    if not np.isfinite(estimate).all():
        return math.inf
    signal, error = _spectra(wet, estimate)
    weight = np.square(a_weighting(np.linspace(0.0, sample_rate / 2, signal.shape[0])))
    return _ratio(float(weight @ error), float(weight @ signal), wet.size)


def error_db_by_band(wet: Audio, estimate: Audio, sample_rate: int) -> dict[str, float]:
    """Error in each octave band, in dB relative to the wet sound's energy in the whole spectrum.

    The bands are centred on 31.5 Hz to 16 kHz (IEC 61260 nominal, base 2), the outermost open to 0 Hz and to half the
    sample rate, so that their powers add up to the ESR.
    """
    _same_shape(wet, estimate)
    signal, error = _spectra(wet, estimate)
    frequency = np.linspace(0.0, sample_rate / 2, signal.shape[0])
    centres = [1000.0 * 2.0**k for k in range(-5, 5) if 1000.0 * 2.0 ** (k - 0.5) < sample_rate / 2]
    names = ["31.5", "63", "125", "250", "500", "1k", "2k", "4k", "8k", "16k"][: len(centres)]
    band = np.searchsorted([c * math.sqrt(2.0) for c in centres[:-1]], frequency, side="right")
    total = float(signal.sum())
    return {name: _db(_ratio(float(error[band == i].sum()), total, wet.size)) for i, name in enumerate(names)}


def mr_stft(wet: Audio, estimate: Audio, sample_rate: int | None = None) -> float:
    """Multi-resolution STFT distance: spectral convergence plus L1 of log magnitudes, mean of three resolutions.

    FFT sizes 512, 1024, 2048, hops 50, 120, 240, Hann windows 240, 600, 1200 samples (Yamamoto et al. 2020), natural
    logarithm, power floor 1e-8, centred frames: the defaults of auraloss. The sizes are in samples and do not scale
    with ``sample_rate``, which is taken only so that all metrics are called alike; compare numbers at one rate only.

    Returns
    -------
    float
        0 is perfect; infinity if the estimate holds NaN or infinity.
    """
    _same_shape(wet, estimate)
    if not np.isfinite(estimate).all():
        return math.inf
    return sum(_stft_distance(wet, estimate, *sizes) for sizes in STFT_RESOLUTIONS) / len(STFT_RESOLUTIONS)


def _stft_distance(wet: Audio, estimate: Audio, size: int, hop: int, length: int) -> float:
    window = np.zeros(size, np.float32)
    left = (size - length) // 2
    window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    difference = reference = logs = 0.0
    count = 0
    for y, e in zip(wet, estimate, strict=True):
        padded = [np.lib.stride_tricks.sliding_window_view(_reflect(s, size // 2), size)[::hop] for s in (y, e)]
        for start in range(0, padded[0].shape[0], 2048):
            a, b = (
                np.sqrt(np.maximum(np.square(np.abs(fft.rfft(p[start : start + 2048] * window))), 1e-8)) for p in padded
            )
            difference += float(np.sum(np.square(a - b, dtype=np.float64)))
            reference += float(np.sum(np.square(a, dtype=np.float64)))
            logs += float(np.sum(np.abs(np.log(a) - np.log(b)), dtype=np.float64))
            count += a.size
    return math.sqrt(difference / reference) + logs / count


def _reflect(sound: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    return np.pad(sound, width, mode="reflect" if sound.shape[0] > 1 else "edge")


def worst_window(
    wet: Audio, estimate: Audio, sample_rate: int, window_ms: float = 100.0, gate_db: float = -60.0
) -> tuple[float, int]:
    """Find the window with the highest ESR among those loud enough to matter.

    Windows overlap by half. Only those count whose wet energy is within ``gate_db`` of the loudest window's.

    Returns
    -------
    float
        Its ESR in dB.
    int
        Its first sample.
    """
    _same_shape(wet, estimate)
    half = max(1, round(sample_rate * window_ms / 2000.0))
    signal, error = (_by_window(s, half) for s in (wet, _difference(wet, estimate)))
    if signal.shape[0] > 1:
        signal, error = signal[:-1] + signal[1:], error[:-1] + error[1:]
    loud = np.flatnonzero(signal >= signal.max() * 10.0 ** (gate_db / 10.0))
    ratios = [_ratio(float(error[i]), float(signal[i]), 2 * half * wet.shape[0]) for i in loud]
    worst = int(np.argmax(ratios))
    return _db(ratios[worst]), int(loud[worst]) * half


def worst_window_esr_db(
    wet: Audio, estimate: Audio, sample_rate: int, window_ms: float = 100.0, gate_db: float = -60.0
) -> float:
    """ESR in dB of the worst window; see `worst_window`."""
    return worst_window(wet, estimate, sample_rate, window_ms, gate_db)[0]


def _difference(wet: Audio, estimate: Audio) -> Audio:
    out: Audio = wet - estimate
    return out


def _by_window(sound: Audio, length: int, what: str = "energy") -> Doubles:
    """Energy or peak of consecutive windows, over all channels; the last may be shorter."""
    out = np.zeros(-(-sound.shape[1] // length))
    step = max(1, _CHUNK // length)
    for first in range(0, out.shape[0], step):
        part = sound[:, first * length : (first + step) * length].astype(np.float64)
        part = np.pad(part, ((0, 0), (0, -part.shape[1] % length))).reshape(part.shape[0], -1, length)
        values = np.square(part).sum(axis=(0, 2)) if what == "energy" else np.abs(part).max(axis=(0, 2))
        out[first : first + step] = values
    return out


def esr_db_by_level(dry: Audio, wet: Audio, estimate: Audio, sample_rate: int) -> dict[str, float]:
    """ESR in dB in bands of 10 dB by how loud the input is: does the clone follow quiet and loud playing alike?

    Each window of 50 ms belongs to the band of the dry sound's peak in it, in dBFS. Windows under -60 dBFS and
    bands with less than one whole window are left out; 0 dBFS itself belongs to ``-10..0``.

    Returns
    -------
    dict
        From band (``-60..-50`` to ``-10..0``, and ``above 0``) to ESR in dB.
    """
    _same_shape(wet, estimate)
    if dry.shape[1] != wet.shape[1]:
        raise FxcloneError(f"dry has {dry.shape[1]} samples and wet {wet.shape[1]}; expected the same")
    length = max(1, round(sample_rate * _LEVEL_WINDOW_S))
    whole = dry.shape[1] // length
    with np.errstate(divide="ignore"):
        level = 20.0 * np.log10(_by_window(dry, length, "peak")[:whole])
    signal, error = (_by_window(s, length)[:whole] for s in (wet, _difference(wet, estimate)))
    out = {}
    for low in (*range(-60, 0, 10), 0):
        inside = (level >= low) & (level < low + 10) if low < -10 else (level >= low) & (level <= 1e-6)
        name = f"{low}..{low + 10}"
        if low == 0:
            inside, name = level > 1e-6, "above 0"
        if inside.any():
            count = int(inside.sum()) * length * wet.shape[0]
            out[name] = _db(_ratio(float(error[inside].sum()), float(signal[inside].sum()), count))
    return out


@dataclass(frozen=True)
class Comparison:
    """Everything that is said about an estimate. NaN where a thing is undefined, as the lag of silence.

    Attributes
    ----------
    esr, esr_db : float
        See `esr`.
    lag_samples, polarity, gain_db, confidence
        See `Alignment`.
    a_weighted_esr_db, mr_stft, worst_100ms_esr_db : float
        See the functions of these names.
    worst_100ms_at_s : float
        Where that worst window begins.
    esr_db_by_level : dict
        See `esr_db_by_level`; empty without a dry sound.
    error_db_by_band : dict
        See `error_db_by_band`.
    level_difference_db : float
        RMS of the estimate over RMS of the wet sound.
    dc : float
        Mean of the estimate minus mean of the wet sound, of the channel where it is largest; full scale = 1.
    samples, sample_rate : int
        What was compared.
    """

    esr: float
    esr_db: float
    lag_samples: float
    polarity: int
    gain_db: float
    confidence: float
    a_weighted_esr_db: float
    mr_stft: float
    worst_100ms_esr_db: float
    worst_100ms_at_s: float
    esr_db_by_level: dict[str, float]
    error_db_by_band: dict[str, float]
    level_difference_db: float
    dc: float
    samples: int
    sample_rate: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which knows neither NaN nor infinity: those become None."""
        return {key: _json_safe(value) for key, value in asdict(self).items()}


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def compare(wet: Audio, estimate: Audio, sample_rate: int, dry: Audio | None = None, max_lag: int = 4096) -> Comparison:
    """Compare an estimate with the wet sound in every way this module knows.

    Parameters
    ----------
    wet, estimate : Audio [shape=(channels, samples)]
        Reference and estimate, of the same shape.
    sample_rate : int
        In Hz.
    dry : Audio or None
        The effect's input, for the ESR by level; its channel count may differ.
    max_lag : int
        How far to look for a lag, in samples.
    """
    _same_shape(wet, estimate)
    ratio = esr(wet, estimate)
    if not math.isfinite(ratio) and not np.isfinite(estimate).all():
        nan, inf = math.nan, math.inf
        return Comparison(
            inf, inf, nan, 0, nan, 0.0, inf, inf, inf, nan, {}, {}, nan, nan, wet.shape[1], sample_rate
        )  # fmt: skip
    lie = alignment(wet, estimate, max_lag)
    worst, at = worst_window(wet, estimate, sample_rate)
    powers = [float(np.mean(np.square(s, dtype=np.float64))) for s in (estimate, wet)]
    offsets = estimate.mean(axis=1, dtype=np.float64) - wet.mean(axis=1, dtype=np.float64)
    silent = min(powers) < TINY_POWER
    return Comparison(
        esr=ratio,
        esr_db=_db(ratio),
        lag_samples=lie.lag_samples,
        polarity=lie.polarity,
        gain_db=lie.gain_db,
        confidence=lie.confidence,
        a_weighted_esr_db=_db(a_weighted_esr(wet, estimate, sample_rate)),
        mr_stft=mr_stft(wet, estimate, sample_rate),
        worst_100ms_esr_db=worst,
        worst_100ms_at_s=at / sample_rate,
        esr_db_by_level={} if dry is None else esr_db_by_level(dry, wet, estimate, sample_rate),
        error_db_by_band=error_db_by_band(wet, estimate, sample_rate),
        level_difference_db=math.nan if silent else float(10.0 * np.log10(powers[0] / powers[1])),
        dc=float(offsets[np.argmax(np.abs(offsets))]),
        samples=wet.shape[1],
        sample_rate=sample_rate,
    )
