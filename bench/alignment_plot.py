"""The picture of `alignment`: how wrong each lag is, against how wrong it said it might be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

if TYPE_CHECKING:
    from alignment import Outcome

mpl.use("Agg")

LEAST, MOST = 1e-5, 1e5


def draw(outcomes: Sequence[Outcome], target: Path, *, right: float, sure_below: float) -> None:
    """One dot for each pair; the forbidden corner is at the upper left."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
    axis.fill_between([LEAST, sure_below], right, MOST, color="#f3c6c4", lw=0)
    axis.text(LEAST * 1.5, MOST / 4, "confidently wrong", color="#9e2a2b", va="top")
    colours = plt.get_cmap("tab20")
    for place, family in enumerate(sorted({one.family for one in outcomes})):
        mine = [one for one in outcomes if one.family == family and np.isfinite(one.error)]
        said = np.clip([one.uncertainty for one in mine], LEAST, MOST)
        error = np.clip([one.error for one in mine], LEAST, MOST)
        axis.scatter(said, error, s=14, color=colours(place), label=family, alpha=0.8, linewidths=0)
    axis.plot([LEAST, MOST], [LEAST, MOST], color="#888888", lw=0.8)
    axis.axvline(sure_below, color="#888888", lw=0.8, ls=":")
    axis.axhline(right, color="#888888", lw=0.8, ls=":")
    axis.set(xscale="log", yscale="log", xlim=(LEAST, MOST), ylim=(LEAST, MOST))
    axis.set_xlabel("uncertainty that was stated (samples); left of the dotted line it is called confident")
    axis.set_ylabel("error of the lag (samples); below the dotted line it is right")
    axis.legend(loc="lower right", fontsize=8, ncols=2)
    figure.savefig(target, dpi=110)
    plt.close(figure)
