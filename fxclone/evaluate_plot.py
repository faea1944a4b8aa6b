"""A picture of an evaluation: the worst moment, spectrograms, and where in the spectrum the error lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio
from fxclone.evaluate import Evaluation
from fxclone.metrics import worst_window
from fxclone.plot_figure import new_figure, save_figure

_SPECTROGRAM_S = 10.0
_FLOOR_DB = -120.0
_LOWEST_HZ = 40.0


def plot_evaluation(evaluation: Evaluation, path: str | Path, *, force: bool = False) -> Path:
    """Write a PNG (or PDF or SVG, by the suffix).

    Raises
    ------
    FxcloneError
        If matplotlib is not installed.
    UsageError
        If the file exists and ``force`` is not given.
    """
    rate = evaluation.comparison.sample_rate
    wet, estimate = evaluation.wet[0], evaluation.estimate[0]
    figure = new_figure(12, 9)
    grid = figure.add_gridspec(3, 3)
    figure.suptitle(f"{evaluation.name}: ESR {evaluation.comparison.esr_db:.1f} dB, {evaluation.verdict}")
    start = worst_window(evaluation.wet, evaluation.estimate, rate)[1]
    _draw_worst(figure.add_subplot(grid[0, :]), wet, estimate, start, rate)
    middle = start + rate // 20
    first = max(0, min(middle - round(_SPECTROGRAM_S / 2 * rate), wet.shape[0] - round(_SPECTROGRAM_S * rate)))
    part = slice(first, first + round(_SPECTROGRAM_S * rate))
    for column, (title, sound) in enumerate(
        (("wet", wet[part]), ("clone", estimate[part]), ("error", estimate[part] - wet[part]))
    ):
        axes = figure.add_subplot(grid[1, column])
        picture = spectrogram_db(sound)
        seconds = np.linspace(first / rate, (first + sound.shape[0]) / rate, picture.shape[1] + 1)
        edges_hz = (np.arange(picture.shape[0] + 1) - 0.5) * rate / (2 * (picture.shape[0] - 1))
        image = axes.pcolormesh(seconds, edges_hz, picture, vmin=_FLOOR_DB, vmax=0.0)
        axes.set_yscale("log")  # as pitch is heard: most of a guitar lies below 2 kHz
        axes.set(title=title, xlabel="s", ylabel="Hz", ylim=(_LOWEST_HZ, rate / 2))
    figure.colorbar(image, ax=axes, label="dBFS")
    axes = figure.add_subplot(grid[2, :2])
    bands = evaluation.comparison.error_db_by_band
    floor = -160.0
    heights = [max(value, floor) - floor if np.isfinite(value) else 0.0 for value in bands.values()]
    axes.bar(list(bands), heights, bottom=floor)
    axes.set(title="error by octave band", xlabel="Hz", ylabel="dB relative to the whole wet sound")
    axes.set_ylim(floor, max(0.0, floor + max(heights, default=0.0)))
    axes = figure.add_subplot(grid[2, 2])
    levels = evaluation.comparison.esr_db_by_level
    axes.bar(list(levels), [value if np.isfinite(value) else 0.0 for value in levels.values()])
    axes.set(title="ESR by input level", xlabel="dBFS", ylabel="dB")
    axes.tick_params(axis="x", rotation=45)
    return save_figure(figure, path, force=force)


def _draw_worst(axes: Any, wet: Any, estimate: Any, start: int, rate: int) -> None:
    part = slice(start, start + rate // 10)
    seconds = np.arange(part.start, min(part.stop, wet.shape[0])) / rate
    axes.plot(seconds, wet[part], label="wet", linewidth=1.2)
    axes.plot(seconds, estimate[part], label="clone", linewidth=0.9, linestyle="--")
    axes.plot(seconds, estimate[part] - wet[part], label="error", linewidth=0.8)
    axes.set(title="the worst 100 ms", xlabel="s", ylabel="full scale")
    axes.legend(loc="upper right")


def spectrogram_db(sound: Any, size: int = 2048) -> Audio:
    """Magnitudes of Hann-windowed frames in dB, a full-scale sine at 0; shape (frequencies, frames)."""
    sound = np.pad(sound, (0, max(0, size - sound.shape[0])))
    hop = max(size // 4, sound.shape[0] // 400)
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop] * np.hanning(size)
    magnitude = np.abs(np.fft.rfft(frames)) * (4.0 / size)
    out: Audio = (20.0 * np.log10(np.maximum(magnitude, 10.0 ** (_FLOOR_DB / 20.0)))).T.astype(np.float32)
    return out
