"""``fxclone evaluate``: how good is a clone, free-running?"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fxclone.evaluate import Evaluation
    from fxclone.metrics import Comparison


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[Path, typer.Option("--model", "-m", help="Clone file.")],
    dry: Annotated[list[Path], typer.Option(help="Input sound: a file or a folder; may be given several times.")],
    wet: Annotated[Path | None, typer.Option(help="What the real effect made of it, for one --dry file.")] = None,
    effect: Annotated[
        str | None, typer.Option(help="Reference effect instead of --wet: tanh, tanh(drive=5) ...")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="name=value of the effect.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the evaluation into this PNG.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a clone with its reference.

    The clone runs free over each whole file, from a fresh state, fed only the dry sound; all of its output is compared.
    Everything runs at the clone's sample rate.
    """
    from fxclone.clone import load_clone
    from fxclone.errors import UsageError
    from fxclone.evaluate import dry_files, evaluate_effect, evaluate_files, parse_settings, total_of, verdict
    from fxclone.paths import check_target

    if (wet is None) == (effect is None):
        raise UsageError("expected either --wet FILE or --effect NAME, one of them")
    if setting and effect is None:
        raise UsageError("--set belongs to --effect; leave it out with --wet")
    if plot is not None:
        check_target(plot, force=force)
    clone = load_clone(model)
    files = dry_files(dry)
    if wet is not None:
        if len(files) != 1:
            raise UsageError(f"--wet goes with one --dry file; there are {len(files)}")
        results = [evaluate_files(clone, clone.sample_rate, files[0], wet)]
    else:
        from fxclone.effects import effect as make_effect

        reference = make_effect(effect or "", parse_settings(setting or []))
        results = []
        for number, path in enumerate(files, 1):
            if sys.stderr.isatty() and len(files) > 1 and not as_json:
                sys.stderr.write(f"\r{number} of {len(files)}: {path.name}\x1b[K")
            results.append(evaluate_effect(clone, clone.sample_rate, path, reference))
        if sys.stderr.isatty() and len(files) > 1 and not as_json:
            sys.stderr.write("\r\x1b[K")
        if not reference.deterministic:
            sys.stderr.write("fxclone: note: two renders of this effect differ, so no clone can reach a low ESR\n")
    for result in results:
        for note in result.notes:
            sys.stderr.write(f"fxclone: note: {note}\n")
    total = total_of(results)
    if plot is not None:
        from fxclone.evaluate_plot import plot_evaluation

        worst = max(results, key=lambda one: one.comparison.esr)
        plot_evaluation(worst, plot, force=force)
        sys.stderr.write(f"fxclone: {plot} shows {worst.name}\n")
    if as_json:
        answer = {
            "model": str(model),
            "reference": str(wet) if wet is not None else reference.expression,
            **total.as_dict(),
            "verdict": verdict(total),
            "files": [result.as_dict() for result in results],
        }
        typer.echo(json.dumps(answer, allow_nan=False))
        return
    if len(results) > 1:
        typer.echo(_table(results))
        typer.echo("")
    typer.echo(_report(total, files=len(results)))


def _db(value: float) -> str:
    return f"{_tidy(value, 1):.1f} dB" if math.isfinite(value) else ("-" if math.isnan(value) else "infinite")


def _tidy(value: float, digits: int) -> float:
    """Rounded, and never -0."""
    return round(value, digits) + 0.0 if math.isfinite(value) else value


def _table(results: list[Evaluation]) -> str:
    width = max(len(result.name) for result in results)
    lines = [f"{'':{width}}      ESR  A-weighted  worst 100 ms     lag"]
    for result in results:
        c = result.comparison
        lines.append(
            f"{result.name:{width}} {c.esr_db:8.1f} {c.a_weighted_esr_db:11.1f} {c.worst_100ms_esr_db:13.1f} "
            f"{_tidy(c.lag_samples, 2):7.2f}"
        )
    return "\n".join(lines)


def _report(c: Comparison, files: int) -> str:
    from fxclone.evaluate import verdict

    polarity = {1: "right", -1: "INVERTED"}.get(c.polarity, "-")
    worst = f"at {c.worst_100ms_at_s:.2f} s" if files == 1 else f"of {files} files"
    lines = [
        verdict(c),
        "",
        f"ESR                {_db(c.esr_db):>12}    error over signal, the whole sound, free-running",
        f"ESR, A-weighted    {_db(c.a_weighted_esr_db):>12}    as the ear weighs it",
        f"ESR, worst 100 ms  {_db(c.worst_100ms_esr_db):>12}    {worst}",
        f"MR-STFT            {c.mr_stft:>12.3f}    distance of spectra",
        f"lag                {_tidy(c.lag_samples, 2):>12.2f}    samples; positive is late",
        f"polarity           {polarity:>12}",
        f"gain               {_db(c.gain_db):>12}    of the wet sound within the clone's output",
        f"level              {_db(c.level_difference_db):>12}    RMS against the wet sound",
        f"DC                 {c.dc + 0.0:>12.1e}    of full scale",
        "",
        "by input level (dBFS, peak in 50 ms)",
        *(f"  {band:>9}        {_db(value):>12}" for band, value in c.esr_db_by_level.items()),
        "by octave (error relative to the whole wet sound)",
        *(f"  {band:>6} Hz        {_db(value):>12}" for band, value in c.error_db_by_band.items()),
        "",
        f"{c.samples} samples at {c.sample_rate} Hz ({c.samples / c.sample_rate:.1f} s)",
    ]
    return "\n".join(lines)
