"""A picture of a checked pair: lag over time, coherence and spectra by frequency, level in against level out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fxclone.check import CheckReport, Measured
from fxclone.errors import FxcloneError
from fxclone.plot_figure import new_figure, save_figure

_LOWEST_HZ = 30.0
_FLOOR_DB = -180.0
_TITLE_LETTERS = 110


def plot_check(report: CheckReport, path: str | Path, *, force: bool = False) -> Path:
    """Write a PNG (or PDF or SVG, by the suffix).

    Raises
    ------
    FxcloneError
        If matplotlib is not installed, or there is nothing to draw because a sound is silent or too short.
    UsageError
        If the file exists and ``force`` is not given.
    """
    measured = report.measured
    if measured is None:
        raise FxcloneError(f"there is nothing to draw of {report.name}: {report.verdict_text}")
    figure = new_figure(12, 8)
    axes: Any = figure.subplots(2, 2)
    said = report.verdict_text
    figure.suptitle(f"{report.name}: {said if len(said) < _TITLE_LETTERS else said[:_TITLE_LETTERS] + ' ...'}")
    _draw_lag(axes[0, 0], measured)
    _draw_coherence(axes[0, 1], measured)
    _draw_levels(axes[1, 0], measured)
    _draw_noise(axes[1, 1], measured)
    return save_figure(figure, path, force=force)


def _draw_lag(axes: Any, m: Measured) -> None:
    track = [point for point in m.alignment.track if point.confidence > 0.2]
    axes.plot([p.time_s for p in track], [p.lag_samples for p in track], ".-", markersize=3, linewidth=0.7)
    if track:
        middle = float(np.median([p.lag_samples for p in track]))
        reach = max(1.0, *(1.1 * abs(p.lag_samples - middle) for p in track))
        axes.set_ylim(middle - reach, middle + reach)
    axes.ticklabel_format(useOffset=False)
    axes.set(title="lag over time", xlabel="s", ylabel="samples; wet late is positive")


def _draw_coherence(axes: Any, m: Measured) -> None:
    c = m.coherence
    axes.semilogx(c.hz[1:], c.coherence[1:], linewidth=0.7)
    axes.set(title=f"linear coherence ({m.coherence.total:.3f} in all)", xlabel="Hz", ylabel="1: one fixed filter")
    axes.set_xlim(_LOWEST_HZ, c.hz[-1])
    axes.set_ylim(0.0, 1.05)


def _draw_levels(axes: Any, m: Measured) -> None:
    dry, wet = m.levels_db
    axes.plot(dry, wet, ".", markersize=3, alpha=0.5)
    axes.plot([-120, 0], [-120, 0], linewidth=0.6, color="grey")
    axes.set(title="level in against level out (peak in 50 ms)", xlabel="dry, dBFS", ylabel="wet, dBFS")
    axes.set_xlim(max(-120.0, float(dry.min()) - 3.0), 3.0)
    axes.set_ylim(max(-120.0, float(wet.min()) - 3.0), max(3.0, float(wet.max()) + 3.0))


def _draw_noise(axes: Any, m: Measured) -> None:
    wet = _density_db(m.coherence.hz, m.coherence.wet_power)
    floor = _density_db(m.noise.hz, m.noise.power)
    axes.semilogx(m.coherence.hz[1:], wet[1:], linewidth=0.7, label="wet")
    axes.semilogx(m.noise.hz[1:], floor[1:], linewidth=0.7, label="noise" if m.noise.exact else "noise, at most")
    axes.set(title="spectrum of the wet sound and of its noise", xlabel="Hz", ylabel="dBFS in 1 Hz")
    axes.set_xlim(_LOWEST_HZ, m.noise.hz[-1])
    axes.set_ylim(bottom=float(min(wet.min(), floor.min())) - 5.0)
    axes.legend(loc="upper right")


def _density_db(hz: Any, power: Any) -> Any:
    """Power of Hann-windowed frames, in their own number of bins, as dB of full scale in each Hz."""
    size = 2 * (hz.shape[0] - 1)
    density = power * 2.0 * (8.0 / 3.0) * size / (2.0 * hz[-1])
    return 10.0 * np.log10(np.maximum(density, 10.0 ** (_FLOOR_DB / 10.0)))
