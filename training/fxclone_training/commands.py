"""``fxclone train`` and ``fxclone analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fxclone.help_groups import GroupedCommand
from fxclone_training import options
from fxclone_training.options import BUDGET, MODEL, OUTPUT, REFERENCE


def register(app: typer.Typer) -> None:
    """Mount the commands of this part."""

    @app.command(cls=GroupedCommand)
    def train(
        effect: options.Effect = None,
        settings: options.Settings = None,
        preset: options.Preset = None,
        wet: options.Wet = None,
        resume: Annotated[
            str | None,
            typer.Option(
                "--resume", metavar="RUN", help="Go on with a run's folder, or 'last'.", rich_help_panel=REFERENCE
            ),
        ] = None,
        dry: options.Dry = None,
        only_dry: options.OnlyDry = False,
        sample_rate: options.SampleRate = None,
        channels: options.Channels = "auto",
        lag: options.Lag = None,
        align: options.Align = True,
        anyway: options.Anyway = False,
        seconds: Annotated[
            float | None,
            typer.Option(
                "--seconds",
                help="Train at most this long; start-up and export come on top.  [default: 45]",
                rich_help_panel=BUDGET,
            ),
        ] = None,
        target_esr_db: Annotated[
            float | None,
            typer.Option(
                "--target-esr-db",
                help="Stop at this free-running error.  [default: -80, or the noise of --wet]",
                rich_help_panel=BUDGET,
            ),
        ] = None,
        max_steps: Annotated[
            int | None,
            typer.Option("--max-steps", help="Train at most this many steps.", rich_help_panel=BUDGET),
        ] = None,
        seed: Annotated[
            int | None,
            typer.Option(
                "--seed", help="The same seed gives the same clone here.  [default: 0]", rich_help_panel=BUDGET
            ),
        ] = None,
        device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", rich_help_panel=BUDGET)] = "auto",
        threads: Annotated[
            int | None, typer.Option("--threads", help="CPU threads.  [default: all]", rich_help_panel=BUDGET)
        ] = None,
        family: Annotated[
            str | None,
            typer.Option(
                "--family",
                help="ar, dynamics (compressors, gates), tail (rooms, echoes), recurrent (LSTM), wavenet.  "
                "[default: auto, after a look]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        size: Annotated[
            str | None,
            typer.Option(
                "--size",
                help="nano, small, standard or large: larger is closer, costs more.  [default: fits the sound]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        memory: Annotated[
            str | None,
            typer.Option(
                "--memory",
                help="How far ar remembers: window (curves, filters), long (pedals) or pyramid (a long window).  "
                "[default: measured]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        tail_s: Annotated[
            float | None,
            typer.Option(
                "--tail-s",
                help="How long a reverb or delay rings on, in s.  [default: measured]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        m: Annotated[
            int | None,
            typer.Option(
                "--m",
                help="Inputs the model sees; it hears m-1 of its outputs.  [default: grown]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        past_outputs: Annotated[
            int | None, typer.Option("--past-outputs", help="Past outputs, if not m-1.", rich_help_panel=MODEL)
        ] = None,
        layers: Annotated[
            int | None, typer.Option("--layers", help="Hidden layers.  [default: 1]", rich_help_panel=MODEL)
        ] = None,
        width: Annotated[
            int | None,
            typer.Option("--width", help="Units in each hidden layer.  [default: by size]", rich_help_panel=MODEL),
        ] = None,
        activation: Annotated[
            str | None,
            typer.Option("--activation", help="tanh, relu, gelu or auto.  [default: auto]", rich_help_panel=MODEL),
        ] = None,
        noise_sigma: Annotated[
            float | None,
            typer.Option("--noise-sigma", help="Noise on past outputs.  [default: 0.03]", rich_help_panel=MODEL),
        ] = None,
        loss: Annotated[
            str | None,
            typer.Option(
                "--loss",
                help="esr, mse, l1 (each also :pre or :a), plus dc, mrstft: esr+0.1*pre.  [default: esr]",
                rich_help_panel=MODEL,
            ),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output", "-o", help="The clone file.  [default: named after what is cloned]", rich_help_panel=OUTPUT
            ),
        ] = None,
        force: Annotated[
            bool, typer.Option("--force", help="Replace the clone file if it exists.", rich_help_panel=OUTPUT)
        ] = False,
        runs: Annotated[
            Path, typer.Option("--runs", help="Where the folders of runs are kept.", rich_help_panel=OUTPUT)
        ] = Path("runs"),
        as_json: Annotated[
            bool,
            typer.Option("--json", help="End with one JSON object on standard output.", rich_help_panel=OUTPUT),
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="Say nothing but what was written.", rich_help_panel=OUTPUT)
        ] = False,
    ) -> None:
        """Train a clone of an effect, or of your own device, and write it as one ONNX file.

        A device is cloned from what went into it and what came out: any two files, or folders of takes. Files named
        one by one go together in their order; in folders, names such as riff_dry.wav and riff_wet.wav do, or the same
        name in two folders. Lag, drift and rates are seen to; the end, or a take, is held back to judge the clone by.
        """
        try:
            from fxclone_training.plan import TrainRequest
            from fxclone_training.train_command import run_training
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
            "family": family,
            "size": size,
            "memory": memory,
            "tail_s": tail_s,
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
                wet=tuple(wet or ()),
                only_dry=only_dry,
                lag_samples=lag,
                align=align,
                anyway=anyway,
                channels=channels,
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

    @app.command(cls=GroupedCommand)
    def analyze(
        effect: options.Effect = None,
        settings: options.Settings = None,
        preset: options.Preset = None,
        wet: options.Wet = None,
        dry: options.Dry = None,
        only_dry: options.OnlyDry = False,
        sample_rate: options.SampleRate = None,
        channels: options.Channels = "auto",
        lag: options.Lag = None,
        align: options.Align = True,
        anyway: options.Anyway = False,
        threads: Annotated[
            int | None, typer.Option("--threads", help="CPU threads.  [default: all]", rich_help_panel=OUTPUT)
        ] = None,
        plot: Annotated[
            Path | None,
            typer.Option(
                "--plot",
                metavar="FILE",
                help="Draw response, levels, gain and movement into this PNG.",
                rich_help_panel=OUTPUT,
            ),
        ] = None,
        force: Annotated[
            bool, typer.Option("--force", help="Replace the picture if it exists.", rich_help_panel=OUTPUT)
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)] = False,
    ) -> None:
        """Say what an effect or a device is like, and what train would make of it, without training.

        Is it a filter, a room, a distortion, a compressor? Does it move by itself, does it hiss? Takes some seconds.
        """
        try:
            from fxclone_training.analyze_command import run_analysis
            from fxclone_training.plan import TrainRequest
        except ImportError as error:
            from fxclone.errors import FxcloneError

            raise FxcloneError(
                f"this needs packages that are not installed ({error.name}); run: pip install 'fxclone[train]'"
            ) from error
        run_analysis(
            TrainRequest(
                effect=effect,
                settings=tuple(settings or ()),
                preset=preset,
                dry=tuple(dry or ()),
                wet=tuple(wet or ()),
                only_dry=only_dry,
                lag_samples=lag,
                align=align,
                anyway=anyway,
                channels=channels,
                output=None,
                force=force,
                recipe={},
                sample_rate=sample_rate,
                device="cpu",
                threads=threads,
                resume=None,
                runs=Path("runs"),
                as_json=as_json,
                quiet=False,
            ),
            plot=plot,
        )
