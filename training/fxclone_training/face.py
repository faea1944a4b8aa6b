"""How training looks while it runs: a progress bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fxclone_training.recipe import Recipe
from fxclone_training.session import UNUSABLE_DB, Moment

QUIET_S = 5.0
"""Off a terminal, a line every so often."""


class Face:
    """Shows moments; a context manager."""

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self.console, self.recipe = console, recipe
        self._last = 0.0
        self._bar: Progress | None = None
        if console.is_terminal and not console.quiet:
            self._bar = Progress(
                TextColumn("{task.description:>18}"),
                BarColumn(bar_width=16),
                TaskProgressColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("start", total=1.0, figures="")

    def __enter__(self) -> Face:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, moment: Moment) -> None:
        """Take up a moment."""
        now = time.perf_counter()
        if self._bar:
            self._bar.update(self._task, completed=moment.progress, description=moment.stage, figures=figures(moment))
        elif now - self._last >= QUIET_S:
            self._last = now
            self.console.print(
                f"{moment.seconds:6.1f} s  {moment.stage:18} {figures(moment)}", highlight=False, soft_wrap=True
            )


def figures(moment: Moment) -> str:
    """The optimiser's own loss, free-running error on held-back sound, output level: in one short line."""
    now = "unusable" if moment.esr_db >= UNUSABLE_DB else f"{moment.esr_db:6.1f} dB"
    level = f"  level {moment.level_db:+.1f} dB" if math.isfinite(moment.level_db) else ""
    loss = f"step {moment.loss_db:6.1f} dB  " if math.isfinite(moment.loss_db) else ""
    return f"{loss}free-running {now} (best {moment.best_esr_db:.1f}){level}"
