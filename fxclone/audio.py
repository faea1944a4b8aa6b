"""Sound in memory: one layout, one gate, one decibel.

Audio is float32 with shape ``(channels, samples)``. Never guess a layout from a shape; the only place that knows
``(frames, channels)`` is the device module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.errors import FxcloneError, UsageError

Audio = npt.NDArray[np.float32]
"""float32, shape (channels, samples), full scale = ±1."""

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 384_000
TINY_POWER = 1e-20
"""Power under which a signal counts as digital silence (-200 dB)."""


def valid_audio(audio: Any, *, name: str = "audio", channels: int | None = None, allow_empty: bool = False) -> Audio:
    """Check sound at a border of the library and return it as float32 ``(channels, samples)``.

    Parameters
    ----------
    audio : array_like [shape=(channels, samples)]
        Any real floating type.
    name : str
        How the error calls it.
    channels : int or None
        The channel count to insist on, if any.
    allow_empty : bool
        Whether zero samples are fine.

    Raises
    ------
    FxcloneError
        If it is not two-dimensional, holds integers, is empty, or holds NaN or infinity.
    """
    array = np.asarray(audio)
    if array.ndim != 2:
        raise FxcloneError(f"{name} has shape {array.shape}; expected (channels, samples): add the channel axis")
    if not np.issubdtype(array.dtype, np.floating):
        raise FxcloneError(f"{name} has type {array.dtype}; expected float32 in ±1: divide by full scale first")
    if channels is not None and array.shape[0] != channels:
        raise FxcloneError(f"{name} has {array.shape[0]} channels; expected {channels}")
    if array.shape[0] == 0 or (array.shape[1] == 0 and not allow_empty):
        raise FxcloneError(f"{name} is empty (shape {array.shape}); expected at least one sample")
    out: Audio = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(out).all():
        bad = int(np.size(out) - np.count_nonzero(np.isfinite(out)))
        first = int(np.argmax(~np.isfinite(out).all(axis=0)))
        raise FxcloneError(
            f"{name} holds {bad} values that are NaN or infinite, the first at sample {first}; expected finite sound"
        )
    return out


def valid_sample_rate(sample_rate: int | float) -> int:
    """Return the rate in Hz as an int, or raise UsageError if it is outside 8 to 384 kHz or not whole."""
    if sample_rate != int(sample_rate) or not MIN_SAMPLE_RATE_HZ <= sample_rate <= MAX_SAMPLE_RATE_HZ:
        raise UsageError(
            f"sample rate {sample_rate} Hz; expected a whole number from {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}"
        )
    return int(sample_rate)


def db_to_gain(db: float) -> float:
    """Amplitude factor of a level in dB."""
    return float(10.0 ** (db / 20.0))


def gain_to_db(gain: float) -> float:
    """Level in dB of an amplitude factor; -inf for 0."""
    return float(20.0 * np.log10(abs(gain))) if gain != 0 else float("-inf")


def power_to_db(power: float) -> float:
    """Level in dB of a power ratio; floored at -200 dB so that perfection is still a number."""
    return float(10.0 * np.log10(max(power, TINY_POWER)))


def rms(audio: npt.NDArray[np.floating[Any]]) -> float:
    """Root mean square over all channels and samples, accumulated in double precision; 0 for empty."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0


def peak(audio: npt.NDArray[np.floating[Any]]) -> float:
    """Largest absolute value; 0 for empty."""
    return float(np.abs(audio).max()) if audio.size else 0.0


def fit_channels(audio: Audio, channels: int) -> Audio:
    """Give ``audio`` a channel count: mono is copied to all, any number is averaged to mono.

    Raises
    ------
    UsageError
        For a change that would have to guess, such as 6 channels to stereo.
    """
    if audio.shape[0] == channels:
        return audio
    if channels == 1:
        mono: Audio = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        return mono
    if audio.shape[0] == 1:
        return np.repeat(audio, channels, axis=0)
    raise UsageError(f"{audio.shape[0]} channels cannot become {channels}; mix down to mono or to {channels} first")
