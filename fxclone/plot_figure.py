"""Pictures: a figure where matplotlib is installed, written like every other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fxclone.errors import FxcloneError
from fxclone.paths import atomic_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """An empty figure.

    Raises
    ------
    FxcloneError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise FxcloneError('--plot needs matplotlib, which is not installed: pip install "fxclone[train]"') from None
    return Figure(figsize=(width_inch, height_inch), layout="constrained")


def save_figure(figure: Figure, path: str | Path, *, force: bool) -> Path:
    """Write it as PNG, PDF or SVG, by the suffix; return the path.

    Raises
    ------
    FxcloneError
        If the suffix is none that matplotlib knows, or the file cannot be written.
    UsageError
        If the file exists and ``force`` is not given.
    """
    target = Path(path)
    with atomic_output(target, force=force) as temporary:
        try:
            figure.savefig(temporary, dpi=110)
        except ValueError as error:
            raise FxcloneError(f"{target} cannot be drawn: {error}") from None
    return target
