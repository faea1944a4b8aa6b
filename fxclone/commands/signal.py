"""``fxclone signal``: write some of the sound that clones are trained on, to listen to or to play with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Mount the command."""

    @app.command()
    def signal(
        output: Annotated[Path, typer.Option("--output", "-o", help="The sound file to write.")],
        kind: Annotated[
            str | None, typer.Option("--kind", help="One kind, such as plucked or drums.  [default: a mix of all]")
        ] = None,
        seconds: Annotated[float, typer.Option("--seconds", help="Length.")] = 10.0,
        sample_rate: Annotated[int, typer.Option("--sample-rate", help="In Hz.")] = 48_000,
        peak_dbfs: Annotated[
            float,
            typer.Option("--peak-dbfs", help="Loudest sample of one kind; the mix has a level ladder of its own."),
        ] = -6.0,
        seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same sound.")] = 0,
        force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    ) -> None:
        """Write made sound (guitar, bass, drums, voice, noise, sweeps) to a file."""
        import numpy as np

        from fxclone.audio import db_to_gain, peak, valid_sample_rate
        from fxclone.errors import UsageError
        from fxclone.files import write_sound
        from fxclone.paths import check_target
        from fxclone.signals import KINDS, phrase, training_sound

        if kind is not None and kind not in KINDS:
            raise UsageError(f"there is no kind of sound {kind!r}; expected one of {', '.join(KINDS)}")
        if not 0.1 <= seconds <= 36_000:
            raise UsageError(f"--seconds {seconds:g}; expected 0.1 to 36000")
        check_target(output, force=force)
        rate = valid_sample_rate(sample_rate)
        if not -120 <= peak_dbfs <= 0:
            raise UsageError(f"--peak-dbfs {peak_dbfs:g}; expected -120 to 0")
        if kind is None:
            sound = training_sound(seconds, rate, seed=seed)
        else:
            sound = phrase(kind, seconds, rate, np.random.default_rng(seed))
            sound = sound * np.float32(db_to_gain(peak_dbfs) / max(peak(sound), 1e-9))
        write_sound(output, sound, rate, force=force)
        typer.echo(f"wrote {output}: {seconds:g} s of {kind or 'mixed'} sound at {rate} Hz, seed {seed}")
