"""The folder of a run: configuration, log, best weights, curves; and how to take a run up again."""

from __future__ import annotations

import csv
import json
import textwrap
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fxclone.errors import FxcloneError, UsageError
from fxclone.paths import atomic_output
from fxclone_training.families import FAMILIES
from fxclone_training.family import Model
from fxclone_training.session import Moment

CONFIG, LOG, WEIGHTS, CURVES = "config.json", "log.csv", "best.safetensors", "curves.png"


@dataclass(frozen=True)
class RunFolder:
    """One training run on disk."""

    path: Path

    @classmethod
    def create(cls, base: Path, name: str, config: dict[str, Any]) -> RunFolder:
        """Make ``base/name-DATE-TIME`` with its configuration."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        for turn in range(100):
            path = base / (f"{name}-{stamp}" + (f"-{turn}" if turn else ""))
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise FxcloneError(
                    f"cannot make the run folder {path}: {error.strerror}; choose another with --runs"
                ) from error
        run = cls(path)
        try:
            with atomic_output(path / CONFIG) as temporary:
                temporary.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except FxcloneError:
            path.rmdir()
            raise
        return run

    @classmethod
    def open(cls, where: str, base: Path) -> RunFolder:
        """Find a run by its folder, or ``last`` for the newest under ``base``.

        Raises
        ------
        UsageError
            If there is no such run, or it holds no weights yet.
        """
        if where == "last":
            runs = sorted(base.glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
            if not runs:
                raise UsageError(f"--resume last: there is no run with weights under {base}")
            return cls(runs[-1].parent)
        run = cls(Path(where))
        for file in (CONFIG, WEIGHTS):
            if not (run.path / file).is_file():
                raise UsageError(f"--resume {where}: there is no {file} in it; expected a folder under {base}, or last")
        return run

    def config(self) -> dict[str, Any]:
        """What `create` wrote."""
        try:
            config = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FxcloneError(f"{self.path / CONFIG} cannot be read ({error}); start a new run") from error
        if not isinstance(config, dict):
            raise FxcloneError(f"{self.path / CONFIG} is not a configuration; start a new run")
        return config

    def save_weights(self, model: Model, esr_db: float) -> None:
        """Keep the best weights, with the shape of the model beside them."""
        shape, tensors = model.stored()
        about = {"family": model.family, "model": json.dumps(shape), "esr_db": f"{esr_db:.3f}"}
        with atomic_output(self.path / WEIGHTS, force=True) as temporary:
            temporary.write_bytes(save(tensors, metadata=about))

    def load_weights(self) -> Model:
        """The best model so far."""
        file = self.path / WEIGHTS
        try:
            with safe_open(file, framework="pt") as opened:
                about = opened.metadata() or {}
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
            model = FAMILIES[about.get("family", "ar")].restored(json.loads(about["model"]), state)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FxcloneError(f"{file} cannot be read ({error}); start a new run") from error
        if not all(bool(torch.isfinite(value).all()) for value in state.values()):
            raise FxcloneError(f"{file} holds weights that are not finite; start a new run")
        return model

    def write_log(self, moments: list[Moment]) -> None:
        """Append moments to the log."""
        file = self.path / LOG
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            if new:
                writer.writerow([field.name for field in fields(Moment)])
            writer.writerows([[_short(value) for value in asdict(moment).values()] for moment in moments])

    def draw(self, moments: list[Moment], title: str) -> None:
        """Plot loss and free-running error against time."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        seconds = [moment.seconds for moment in moments]
        axes.plot(seconds, [moment.loss_db for moment in moments], color="0.7", lw=1, label="loss of the step")
        axes.plot(seconds, [min(moment.esr_db, 10) for moment in moments], ".", ms=4, label="free-running, held back")
        axes.plot(seconds, [min(moment.best_esr_db, 10) for moment in moments], lw=2, label="best so far")
        stages: list[str] = []
        for moment in moments:
            if not stages or stages[-1] != moment.stage:
                axes.axvline(moment.seconds, color="0.85", lw=0.8, zorder=0)
                stages.append(moment.stage)
        axes.set(xlabel="seconds of training", ylabel="error-to-signal ratio in dB (unusable models at +10)")
        axes.set_title(textwrap.fill(title, 90), fontsize=10)
        axes.legend(loc="upper right")
        axes.grid(alpha=0.3)
        with atomic_output(self.path / CURVES, force=True) as temporary:
            figure.savefig(temporary, dpi=110, format="png")


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
