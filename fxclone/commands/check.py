"""``fxclone check``: is a pair of dry and wet sound good to train on?"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fxclone.check import CheckReport


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("check")(check)


def check(
    dry: Annotated[list[Path], typer.Option(help="What went in: a file or a folder; may be given several times.")],
    wet: Annotated[list[Path], typer.Option(help="What the effect made of it: as many files, or a folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the (worst) pair into this PNG.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture if it exists.")] = False,
) -> None:
    """Look at a pair of recordings before training on it.

    Says how late the wet sound is, whether it is inverted, what is wrong with the recording, and how good a clone of
    it can get. Rates may differ: everything is measured at the wet file's. Exit code 1 if a pair cannot be used.
    """
    from fxclone.check_files import check_take
    from fxclone.paths import check_target
    from fxclone.takes import find_takes

    if plot is not None:
        check_target(plot, force=force)
    takes, notes = find_takes(dry, wet)
    for note in notes:
        sys.stderr.write(f"fxclone: note: {note}\n")
    reports = []
    for number, take in enumerate(takes, 1):
        if len(takes) > 1 and sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {len(takes)}: {take.name}\x1b[K")
        reports.append(check_take(take))
    if len(takes) > 1 and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    worst = max(reports, key=lambda report: ("fine", "usable", "unusable").index(report.verdict))
    if as_json:
        whole = worst.as_dict()
        if len(reports) > 1:
            whole |= {"pairs": [report.as_dict() for report in reports]}
        typer.echo(json.dumps(whole, allow_nan=False))
    else:
        typer.echo("\n\n".join(_report(report) for report in reports))
        if len(reports) > 1:
            typer.echo(f"\n{_summary(reports)}")
    if plot is not None:
        from fxclone.check_plot import plot_check

        plot_check(worst, plot, force=force)
        sys.stderr.write(f"fxclone: {plot} shows {worst.name}\n")
    if worst.verdict == "unusable":
        raise typer.Exit(1)


def _summary(reports: list[CheckReport]) -> str:
    counts = [(sum(r.verdict == verdict for r in reports), verdict) for verdict in ("fine", "usable", "unusable")]
    return f"{len(reports)} pairs: " + ", ".join(f"{count} {verdict}" for count, verdict in counts if count)


def _report(report: CheckReport) -> str:
    mark = {"fatal": "!!", "caveat": " !", "fine": "  "}
    head = {"fine": "fine", "usable": "usable, with a caveat", "unusable": "not usable"}[report.verdict]
    lines = [f"{report.name}: {head}", ""]
    for finding in report.findings:
        advice = f": {finding.advice}" if finding.advice else ""
        lines.append(f"{mark[finding.severity]} {finding.words}{advice}")
    if report.findings:
        lines.append("")
    for label, value, meaning in _rows(report):
        lines.append(f"{label:15}{value:>16}    {meaning}")
    files = [
        f"{side} {s.name}: {s.sample_rate} Hz, {s.encoding or 'sound'}, {s.channels} channel{'s' * (s.channels > 1)}, "
        f"{s.samples / s.sample_rate:.2f} s"
        for side, s in zip(("dry", "wet"), report.sources, strict=False)
    ]
    return "\n".join([*lines, "", *files]).rstrip()


def _rows(report: CheckReport) -> list[tuple[str, str, str]]:
    m = report.measured
    if m is None:
        return []
    a = m.alignment
    polarity = {1: "kept", -1: "inverted"}.get(a.polarity, "unknown")
    moving = "no"
    if m.motion.moving:
        moving = "yes" if m.motion.rate_hz is None else f"{m.motion.rate_hz:.2f} Hz"
    at_most = "" if m.noise.exact else "at most; "
    rows = [
        ("lag", _number(a.lag_samples, 2, "samples"), f"at {report.sample_rate} Hz; positive is late"),
        ("  confidence", f"{100 * a.confidence:.0f} %", "80 % and more: right within 0.1 sample"),
        ("  wander", _number(a.wander_samples, 2, "samples"), "RMS about a straight line"),
        ("polarity", polarity, "of wet against dry"),
        ("gain", _number(a.gain_db, 1, "dB"), "of the dry sound within the wet"),
        ("clock drift", _number(a.drift_ppm, 1, "ppm"), "positive: the wet recorder is slow"),
        ("linearity", _number(m.coherence.total, 3, ""), "coherence: 1 for any fixed filter, less for distortion"),
        ("moves by itself", moving, "phaser, flanger, chorus, tremolo"),
        ("noise floor", _number(m.noise.floor_db, 1, "dBFS"), at_most + "RMS, without input"),
        ("best ESR", _number(m.best_esr_db, 1, "dB"), _best_words(report)),
        ("dry levels", _range(m.coverage.softest_dbfs, m.coverage.loudest_dbfs), _silence(m.coverage.silent_share)),
    ]
    if m.replicate is not None:
        esr_db = 10.0 * math.log10(max(m.replicate.self_esr, 1e-20))
        where = f"the passage at {m.replicate.first_s:.1f} s, again at {m.replicate.second_s:.1f} s"
        rows.append(("repeats itself", _number(esr_db, 1, "dB"), f"difference of {where}"))
    return rows


def _best_words(report: CheckReport) -> str:
    m = report.measured
    if m is None or not m.best_esr_exact:
        return "or better: without silence or a passage played twice it is a guess"
    if m.best_esr_db <= -100.0:
        return "no noise to speak of"
    return "what noise leaves possible"


def _range(low: float, high: float) -> str:
    return f"{low:.0f} to {high:.0f} dBFS"


def _silence(share: float) -> str:
    return f"peak in 50 ms; {100 * share:.0f} % silence"


def _number(value: float, digits: int, unit: str) -> str:
    if not math.isfinite(value):
        return "unknown"
    return f"{round(value, digits) + 0.0:.{digits}f} {unit}".rstrip()
