"""The picture of `feedback_noise`: what each run does on its own outputs, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from fxclone.pairs import Pair

if TYPE_CHECKING:
    from feedback_noise import Run

mpl.use("Agg")

COLOURS = {"stable": "#2b7a78", "drifts": "#e09f3e", "oscillates": "#9e2a2b", "blows up": "#540b0e"}
REFERENCE = "#c9ced6"
COLUMNS = 1200
SHOWN = 1.6
"""Full scale that fits in one lane; what is beyond it is cut there."""


def draw(runs: Sequence[Run], pair: Pair, target: Path, *, title: str) -> None:
    """Two columns of lanes (envelopes of the outputs, one lane for each seed), and a strip of errors."""
    from matplotlib import pyplot as plt

    sigmas = sorted({run.sigma for run in runs})
    figure, axes = plt.subplots(1, 3, figsize=(15, 8.5), width_ratios=[3, 3, 2.2], layout="constrained")
    for axis, sigma in zip(axes, sigmas, strict=False):
        lanes(axis, [run for run in runs if run.sigma == sigma], pair)
        bad = sum(run.verdict != "stable" for run in runs if run.sigma == sigma)
        count = sum(run.sigma == sigma for run in runs)
        what = "without noise" if sigma == 0 else f"with noise, σ = {sigma:g}"
        axis.set_title(f"{what}: {bad} of {count} runs fail", fontsize=12)
    errors(axes[2], runs, sigmas)
    used = [verdict for verdict in COLOURS if any(run.verdict == verdict for run in runs)]
    handles = [plt.Line2D([], [], color=COLOURS[verdict], lw=6, label=verdict) for verdict in used]
    handles.append(plt.Line2D([], [], color=REFERENCE, lw=6, label="reference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=11)
    figure.suptitle(title, fontsize=14)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def lanes(axis, runs: Sequence[Run], pair: Pair) -> None:
    """Envelopes over time: the reference behind, the run's own output in the colour of its verdict."""
    seconds = runs[0].out.shape[1] / pair.sample_rate
    wet = np.zeros(runs[0].out.shape[1])
    wet[: pair.wet.shape[1]] = pair.wet[0]
    for place, run in enumerate(runs):
        for sound, colour in ((wet, REFERENCE), (run.out[0], COLOURS[run.verdict])):
            low, high = envelope(sound)
            t = np.linspace(0, seconds, len(low))
            scale = 0.46 / SHOWN
            axis.fill_between(t, place + low * scale, place + high * scale, color=colour, lw=0.4, alpha=0.9)
        if not np.isfinite(run.out).all():
            end = np.argmin(np.isfinite(run.out[0])) / pair.sample_rate
            axis.plot(end, place, "x", color=COLOURS[run.verdict], ms=9, mew=2)
            axis.text(end + 0.15, place + 0.42, "not finite any more", color=COLOURS[run.verdict], fontsize=8)
    axis.axvspan(pair.seconds, seconds, color="#f2f4f7", zorder=-1)
    axis.text((pair.seconds + seconds) / 2, -0.62, "silence in", ha="center", va="center", fontsize=8, color="#555")
    axis.set(xlim=(0, seconds), ylim=(len(runs) - 0.4, -0.8), xlabel="seconds", yticks=range(len(runs)))
    axis.set_yticklabels([f"seed {run.seed}" for run in runs])
    axis.spines[["top", "right"]].set_visible(False)


def envelope(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each column of pixels; NaN from where the sound is not finite."""
    whole = len(sound) // COLUMNS * COLUMNS
    columns = np.clip(np.where(np.isfinite(sound), sound, np.nan)[:whole], -SHOWN, SHOWN).reshape(COLUMNS, -1)
    return columns.min(1), columns.max(1)


def errors(axis, runs: Sequence[Run], sigmas: Sequence[float]) -> None:
    """For each run a line from its one-step error to its free-running error."""
    finite = [run.free_db for run in runs if np.isfinite(run.free_db)]
    top = min(20.0, max([3.0, *finite]))
    for column, sigma in enumerate(sigmas):
        some = [run for run in runs if run.sigma == sigma]
        for place, run in enumerate(some):
            x = column + 0.72 * (place / max(1, len(some) - 1) - 0.5)
            free = min(run.free_db, top + 2)
            axis.plot([x, x], [run.one_step_db, free], color=COLOURS[run.verdict], lw=1.2, alpha=0.6)
            axis.plot(x, run.one_step_db, "o", mfc="white", mec=COLOURS[run.verdict], ms=6)
            axis.plot(x, free, "^" if run.free_db > top else "o", color=COLOURS[run.verdict], ms=7)
    axis.axhline(0, color="#999", lw=0.8, ls=":")
    axis.text(len(sigmas) - 0.52, 0.3, "as bad as silence", fontsize=8, color="#555", ha="right", va="bottom")
    axis.set(xlim=(-0.5, len(sigmas) - 0.5), ylabel="ESR on held-back sound, dB")
    axis.set_xticks(range(len(sigmas)), [f"σ = {sigma:g}" for sigma in sigmas])
    axis.set_title("one step ahead (○) flatters; on its own (●)", fontsize=12)
    axis.grid(axis="y", lw=0.4, alpha=0.5)
    axis.spines[["top", "right"]].set_visible(False)
