"""``fxclone render``: files through one or more clones."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fxclone.render import RenderReport


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("render")(render)


def render(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Sound files and folders of them.")],
    model: Annotated[list[Path], typer.Option("--model", "-m", help="Clone file; several run in series.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File for one input, folder for several. [<name>-<clone> here]"),
    ] = None,
    mix: Annotated[float, typer.Option(help="0 is dry, 1 is wet.")] = 1.0,
    in_gain_db: Annotated[float, typer.Option(help="Gain into the first clone.")] = 0.0,
    out_gain_db: Annotated[float, typer.Option(help="Gain of the result.")] = 0.0,
    sample_rate: Annotated[int | None, typer.Option(help="Of the output, in Hz. [the input's]")] = None,
    subtype: Annotated[
        str | None,
        typer.Option("--bit-depth", "--subtype", help="8, 16, 24, 32, float, double, VORBIS ... [the input's]"),
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Bring the input to so many first. [as it is]")] = None,
    tail_s: Annotated[float | None, typer.Option(help="Seconds after the input's end. [while audible]")] = None,
    no_tail: Annotated[bool, typer.Option("--no-tail", help="Stop where the input stops.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Step in where a clone misbehaves, as playing does, and tell of it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only problems.")] = False,
) -> None:
    """Render sound files through a clone.

    Format, sample rate, channels and bit depth stay those of the input. Rates that differ from the clone's are
    resampled there and back, latency is removed, and the tail is written while it is audible. No file is replaced
    without --force, and one that fails does not stop the others.
    """
    from fxclone.clone import load_clone
    from fxclone.errors import FxcloneError, UsageError
    from fxclone.render import can_keep_format, render_file
    from fxclone.render_plan import plan_renders
    from fxclone.stability.watched import WatchedClone

    if no_tail and tail_s is not None:
        raise UsageError("--no-tail and --tail-s contradict each other; give one of them")
    is_folder = output is not None and output.endswith("/")
    clones = [load_clone(path) for path in model]
    plan = plan_renders(
        inputs,
        None if output is None else Path(output),
        "-".join(path.stem for path in model),
        output_is_folder=is_folder,
        keeps_format=lambda path: can_keep_format(path, sample_rate, subtype),
    )
    named = len(plan) == 1 and output is not None and plan[0][1] == Path(output)
    reports: list[RenderReport] = []
    failed: list[dict[str, Any]] = []
    trips: list[list[dict[str, Any]]] = []
    for index, (source, target) in enumerate(plan, 1):
        label = source.name if len(plan) == 1 else f"{source.name} ({index} of {len(plan)})"
        watched = [WatchedClone(clone) for clone in clones] if watch else []
        try:
            if not named:
                _make_folder(target.parent)
            with _Progress(label, shown=not (quiet or as_json)) as progress:
                report = render_file(
                    watched or clones,
                    source,
                    target,
                    mix=mix,
                    in_gain_db=in_gain_db,
                    out_gain_db=out_gain_db,
                    sample_rate=sample_rate,
                    subtype=subtype,
                    channels=channels,
                    tail_s=0.0 if no_tail else tail_s,
                    force=force,
                    progress=progress,
                )
        except FxcloneError as error:
            if len(plan) == 1:
                raise
            failed.append({"source": str(source), "error": " ".join(str(error).split())})
            sys.stderr.write(f"fxclone: {failed[-1]['error']}\n")
            continue
        reports.append(report)
        told = [(clone.name, trip) for clone in watched for trip in clone.status.trips]
        trips.append([{"clone": name, **asdict(trip)} for name, trip in told])
        for note in [*report.notes, *(f"{target}: {name} {trip}" for name, trip in told)]:
            sys.stderr.write(f"fxclone: note: {note}\n")
        if target.suffix.lower() != source.suffix.lower() and not named:
            sys.stderr.write(f"fxclone: note: {source.suffix} cannot be written here; {target} is WAV\n")
        if not quiet and not as_json:
            typer.echo(_line(report))
    if as_json:
        files = [report.as_dict() for report in reports]
        if watch:
            files = [{**file, "trips": found} for file, found in zip(files, trips, strict=True)]
        typer.echo(json.dumps({"files": files, "failed": failed}))
    elif len(plan) > 1 and not quiet:
        typer.echo(f"{len(reports)} of {len(plan)} files rendered")
    if failed:
        raise typer.Exit(1)


def _make_folder(folder: Path) -> None:
    from fxclone.errors import FxcloneError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FxcloneError(f"the folder {folder} cannot be made: {error.strerror}; choose another with -o") from None


def _line(report: RenderReport) -> str:
    from fxclone.audio import gain_to_db

    seconds = report.seconds
    length = f"{int(seconds // 60)}:{seconds % 60:05.2f}"
    tail = report.tail_samples / report.sample_rate
    return (
        f"{report.target}: {length}{f' with {tail:.2f} s of tail' if tail >= 0.005 else ''}, "
        f"{report.sample_rate} Hz, {report.channels} ch, {report.format} {report.subtype}, "
        f"peak {gain_to_db(report.peak):.1f} dBFS, {report.times_real_time:.1f} x real time"
    )


class _Progress:
    """A bar on stderr if that is a terminal; otherwise nothing."""

    def __init__(self, label: str, *, shown: bool) -> None:
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(label, total=1)

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
