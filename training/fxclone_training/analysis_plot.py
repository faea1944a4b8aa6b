"""A picture of what was measured: response, level in against level out, gain over time, and what moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio
from fxclone.check_system import stft
from fxclone.pairs import Pair
from fxclone.plot_figure import new_figure, save_figure
from fxclone_training import tail_stages
from fxclone_training.analysis import GAIN_HZ, GAIN_S, Analysis
from fxclone_training.analysis_gain import follow_level
from fxclone_training.analysis_models import loudest_channel

LOWEST_HZ = 30.0
SIZE = 8192
LEVEL_S, SOFTEST_DB = 0.05, -80.0
MOVING_S, MOVING_SIZE = 10.0, 2048
REACH_DB = 20.0
SHOWN_S = 10.0
TITLE_LETTERS = 110


def plot_analysis(pair: Pair, found: Analysis, path: str | Path, *, title: str, force: bool = False) -> Path:
    """Write a PNG (or PDF or SVG, by the suffix).

    Raises
    ------
    FxcloneError
        If matplotlib is not installed.
    UsageError
        If the file exists and ``force`` is not given.
    """
    figure = new_figure(12, 8)
    axes: Any = figure.subplots(2, 2)
    figure.suptitle(title if len(title) < TITLE_LETTERS else f"{title[:TITLE_LETTERS]} ...")
    one = loudest_channel(pair)
    _draw_response(axes[0, 0], one)
    _draw_levels(axes[0, 1], one)
    _draw_gain(axes[1, 0], one)
    _draw_movement(figure, axes[1, 1], one, found)
    return save_figure(figure, path, force=force)


def response_db(dry: Audio, wet: Audio, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and the gain of the part of the wet sound that a filter makes, in dB; one channel each."""
    X, Y = stft(dry[0], SIZE), stft(wet[0], SIZE)
    power = np.sum(np.abs(X) ** 2, axis=0, dtype=np.float64)
    cross = np.abs(np.sum(Y * X.conj(), axis=0, dtype=np.complex128))
    hz = np.fft.rfftfreq(SIZE, 1.0 / sample_rate)
    heard = power > 1e-9 * power.max()
    gain = np.where(heard, 20 * np.log10(np.maximum(cross, 1e-30) / np.maximum(power, 1e-30)), np.nan)
    return hz, gain


def levels_db(sound: Audio, sample_rate: int) -> np.ndarray:
    """RMS level of each 50 ms, in dBFS."""
    block = max(1, round(LEVEL_S * sample_rate))
    count = sound.shape[1] // block
    power = np.square(sound[0, : count * block], dtype=np.float64).reshape(count, block).mean(axis=1)
    out: np.ndarray = 10 * np.log10(np.maximum(power, 1e-12))
    return out


def _draw_response(axes: Any, pair: Pair) -> None:
    hz, gain = response_db(pair.dry, pair.wet, pair.sample_rate)
    axes.semilogx(hz[1:], gain[1:], linewidth=0.7)
    top = float(np.nanmax(gain[hz > LOWEST_HZ]))
    axes.set(title="response (the linear part)", xlabel="Hz", ylabel="dB")
    axes.set_xlim(LOWEST_HZ, pair.sample_rate / 2)
    axes.set_ylim(top - 60, top + 6)


def _draw_levels(axes: Any, pair: Pair) -> None:
    dry, wet = (levels_db(sound, pair.sample_rate) for sound in (pair.dry, pair.wet))
    axes.plot(dry, wet, ".", markersize=3, alpha=0.5)
    axes.plot([SOFTEST_DB, 0], [SOFTEST_DB, 0], linewidth=0.6, color="grey")
    axes.set(title="level in against level out (50 ms)", xlabel="dry, dBFS RMS", ylabel="wet, dBFS RMS")
    axes.set_xlim(SOFTEST_DB, 3)
    axes.set_ylim(SOFTEST_DB, max(3.0, float(wet.max()) + 3))


def _draw_gain(axes: Any, pair: Pair) -> None:
    gain, trace = follow_level(*tail_stages.middle(pair, GAIN_S, GAIN_HZ), GAIN_HZ)
    shown = slice(0, round(SHOWN_S / trace.block_s))
    seconds = np.arange(len(trace.level_db))[shown] * trace.block_s
    axes.plot(seconds, trace.free_db[shown], linewidth=0.7, label=f"free, leaves {gain.free_db:.0f} dB")
    label = f"from the level, leaves {gain.following_db:.0f} dB"
    axes.plot(seconds, trace.following_db[shown], linewidth=0.7, label=label)
    axes.set(title="gain over time", xlabel="s", ylabel="dB")
    axes.legend(loc="lower right")


def _draw_movement(figure: Any, axes: Any, pair: Pair, found: Analysis) -> None:
    samples = min(pair.samples, round(MOVING_S * pair.sample_rate))
    first = (pair.samples - samples) // 2
    X, Y = (np.abs(stft(s[0, first : first + samples], MOVING_SIZE)) ** 2 for s in (pair.dry, pair.wet))
    heard = (X / max(float(X.max()), 1e-30) > 1e-8) & (Y / max(float(Y.max()), 1e-30) > 1e-10)
    gain = np.where(heard, 10 * np.log10(np.maximum(Y, 1e-30) / np.maximum(X, 1e-30)), np.nan)
    middle = float(np.nanmedian(gain)) if heard.any() else 0.0
    hz = np.fft.rfftfreq(MOVING_SIZE, 1.0 / pair.sample_rate)
    seconds = np.arange(X.shape[0]) * MOVING_SIZE / 2 / pair.sample_rate
    shown = axes.pcolormesh(seconds, hz[1:], gain.T[1:], vmin=middle - REACH_DB, vmax=middle + REACH_DB, cmap="RdBu_r")
    moves = found.time.moves if found.time else False
    said = "it moves by itself" if moves else "it does not move by itself"
    axes.set(title=f"gain over time and frequency, dB; {said}", xlabel="s", ylabel="Hz")
    axes.set_yscale("log")
    axes.set_ylim(max(LOWEST_HZ, hz[1]), hz[-1])
    figure.colorbar(shown, ax=axes)
