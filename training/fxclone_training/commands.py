"""``fxclone train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""

    @app.command()
    def train(
        effect: Annotated[
            str | None,
            typer.Option("--effect", "-e", help='Reference effect, or a chain: "highpass(cutoff_hz=200) > tanh".'),
        ] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the effect.")
        ] = None,
        preset: Annotated[
            str | None, typer.Option("--preset", "-p", help="A preset's name or TOML file: effect, recipe, or both.")
        ] = None,
        dry: Annotated[
            list[Path] | None, typer.Option("--dry", help="Your own dry sound, files or folders, to train on as well.")
        ] = None,
        only_dry: Annotated[bool, typer.Option("--only-dry", help="Train on --dry alone, without made sound.")] = False,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="The clone file.  [default: <effect>.onnx]")
        ] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace the clone file if it exists.")] = False,
        seconds: Annotated[
            float | None,
            typer.Option("--seconds", help="Train at most this long; start-up and export come on top.  [default: 45]"),
        ] = None,
        target_esr_db: Annotated[
            float | None,
            typer.Option("--target-esr-db", help="Stop at this free-running error.  [default: -80]"),
        ] = None,
        max_steps: Annotated[int | None, typer.Option("--max-steps", help="Train at most this many steps.")] = None,
        seed: Annotated[
            int | None, typer.Option("--seed", help="The same seed gives the same clone here.  [default: 0]")
        ] = None,
        sample_rate: Annotated[
            int | None, typer.Option("--sample-rate", help="Rate that the clone runs at, in Hz.  [default: 48000]")
        ] = None,
        m: Annotated[
            int | None,
            typer.Option("--m", help="Inputs the model sees; it hears m-1 of its outputs.  [default: grown]"),
        ] = None,
        past_outputs: Annotated[int | None, typer.Option("--past-outputs", help="Past outputs, if not m-1.")] = None,
        layers: Annotated[int | None, typer.Option("--layers", help="Hidden layers.  [default: 1]")] = None,
        width: Annotated[int | None, typer.Option("--width", help="Units in each.  [default: 16]")] = None,
        activation: Annotated[
            str | None, typer.Option("--activation", help="tanh, relu, gelu or auto.  [default: auto]")
        ] = None,
        noise_sigma: Annotated[
            float | None, typer.Option("--noise-sigma", help="Noise on past outputs.  [default: 0.03]")
        ] = None,
        loss: Annotated[str | None, typer.Option("--loss", help="esr or mse.  [default: esr]")] = None,
        device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
        threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.  [default: all]")] = None,
        resume: Annotated[
            str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run's folder, or 'last'.")
        ] = None,
        runs: Annotated[Path, typer.Option("--runs", help="Where the folders of runs are kept.")] = Path("runs"),
        as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what was written.")] = False,
    ) -> None:
        """Train a clone of an effect and write it as one ONNX file."""
        try:
            from fxclone_training.train_command import TrainRequest, run_training
        except ImportError as error:
            from fxclone.errors import FxcloneError

            raise FxcloneError(
                f"training needs packages that are not installed ({error.name}); run: pip install 'fxclone[train]'"
            ) from error
        given: dict[str, Any] = {
            "seconds": seconds,
            "target_esr_db": target_esr_db,
            "max_steps": max_steps,
            "seed": seed,
            "m": m,
            "past_outputs": past_outputs,
            "layers": layers,
            "width": width,
            "activation": activation,
            "noise_sigma": noise_sigma,
            "loss": loss,
        }
        run_training(
            TrainRequest(
                effect=effect,
                settings=tuple(settings or ()),
                preset=preset,
                dry=tuple(dry or ()),
                only_dry=only_dry,
                output=output,
                force=force,
                recipe={name: value for name, value in given.items() if value is not None},
                sample_rate=sample_rate,
                device=device,
                threads=threads,
                resume=resume,
                runs=runs,
                as_json=as_json,
                quiet=quiet,
            )
        )
