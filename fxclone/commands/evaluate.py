"""``fxclone evaluate``: how good is a clone, free-running?"""

from __future__ import annotations

import json
import math
import statistics
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
    wet: Annotated[
        list[Path] | None,
        typer.Option(help="What the real device made of it: a file for each --dry file, or a folder."),
    ] = None,
    effect: Annotated[
        str | None, typer.Option(help="Reference effect instead of --wet: tanh, tanh(drive=5) ...")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="name=value of the effect.")] = None,
    align: Annotated[
        bool, typer.Option("--align/--no-align", help="Move --wet to where the clone plays, or not.")
    ] = True,
    plot: Annotated[Path | None, typer.Option(help="Draw the evaluation into this PNG.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a clone with its reference.

    The clone runs free over each whole file, from a fresh state, fed only the dry sound; all of its output is compared.
    Everything runs at the clone's sample rate. A recording's own lag is measured, reported, and taken out.
    """
    from fxclone.clone import load_clone
    from fxclone.effects import effect as make_effect
    from fxclone.effects import parse_settings
    from fxclone.errors import UsageError
    from fxclone.evaluate import dry_files, evaluate_effect, evaluate_files, total_of, verdict
    from fxclone.paths import check_target
    from fxclone.takes import find_takes

    if bool(wet) == (effect is not None):
        raise UsageError("expected either --wet FILE or --effect NAME, one of them")
    if setting and effect is None:
        raise UsageError("--set belongs to --effect; leave it out with --wet")
    if plot is not None:
        check_target(plot, force=force)
    clone = load_clone(model)
    results: list[Evaluation] = []
    notes: list[str] = []
    if wet:
        takes, notes = find_takes(dry, wet)
        removed = _latency_removed(clone)
        for number, take in enumerate(takes, 1):
            _count(number, len(takes), take.name, quiet=as_json)
            results.append(
                evaluate_files(
                    clone, clone.sample_rate, take.dry, take.wet, align=align, latency_removed_samples=removed
                )
            )
    else:
        reference = make_effect(effect or "", parse_settings(setting or []))
        files = dry_files(dry)
        for number, path in enumerate(files, 1):
            _count(number, len(files), path.name, quiet=as_json)
            results.append(evaluate_effect(clone, clone.sample_rate, path, reference))
        if not reference.deterministic:
            notes.append("two renders of this effect differ, so no clone can reach a low ESR")
    for note in notes:
        sys.stderr.write(f"fxclone: note: {note}\n")
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
            "reference": ", ".join(map(str, wet)) if wet else reference.expression,
            **total.as_dict(),
            **(_lags(results) if wet else {}),
            "verdict": verdict(total),
            "files": [result.as_dict() for result in results],
        }
        typer.echo(json.dumps(answer, allow_nan=False))
        return
    if len(results) > 1:
        typer.echo(_table(results))
        typer.echo("")
    typer.echo(_report(total, files=len(results)))
    if wet:
        typer.echo(_lag_line(results))


def _count(number: int, files: int, name: str, *, quiet: bool) -> None:
    if quiet or files == 1 or not sys.stderr.isatty():
        return
    sys.stderr.write(f"\r{number} of {files}: {name}\x1b[K")
    if number == files:
        sys.stderr.write("\r\x1b[K")


def _latency_removed(clone: object) -> float | None:
    """What training took out of its recording, in samples at the clone's rate; None if it was made of no recording."""
    training = getattr(getattr(clone, "meta", None), "training", {})
    alignment = training.get("alignment") if isinstance(training, dict) else None
    removed = alignment.get("latency_removed_samples") if isinstance(alignment, dict) else None
    return float(removed) if isinstance(removed, int | float) and math.isfinite(removed) else None


def _lags(results: list[Evaluation]) -> dict[str, float | None]:
    """How late the recordings are against the clone (the median), and how late the training's was."""
    found = [result.wet_lag_samples for result in results if result.wet_lag_samples is not None]
    return {
        "wet_lag_samples": statistics.median(found) if found else None,
        "latency_removed_samples": results[0].latency_removed_samples,
    }


def _lag_line(results: list[Evaluation]) -> str:
    lags = _lags(results)
    wet, removed = lags["wet_lag_samples"], lags["latency_removed_samples"]
    if wet is None:
        return "the lag between the recording and the clone was not measured"
    side = "early" if round(wet, 1) < 0 else "late"
    trained = "" if removed is None else f"; training removed {removed:.1f}"
    return f"the recording is {abs(wet):.1f} samples {side} against the clone{trained}"


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
