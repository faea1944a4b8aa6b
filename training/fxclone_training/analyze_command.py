"""What ``fxclone analyze`` does: read or render the sound, measure it, say what it is like and what to train."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fxclone.paths import check_target
from fxclone_training.analysis import Analysis, analyse
from fxclone_training.analysis_choice import Choice, choose
from fxclone_training.plan import Plan, TrainRequest, make_plan
from fxclone_training.trainer import use_threads

LONGEST_S = 120.0
"""Of a recording, so much is enough to know it by."""


def run_analysis(request: TrainRequest, *, plot: Path | None) -> None:
    """The whole command.

    Parameters
    ----------
    request : TrainRequest
        As for training; only what says what is cloned is used.
    plot : Path or None
        A picture to draw.
    """
    console = Console(stderr=True, quiet=request.quiet or request.as_json or not sys.stderr.isatty())
    if plot is not None:
        check_target(plot, force=request.force)
    use_threads(request.threads)
    plan = _plan(request)
    with console.status(f"looking at {plan.reference.expression}") as status:
        material = plan.reference.material(plan.recipe, plan.sample_rate, plan.channels)
        pair = material.training
        found = analyse(pair, render=plan.reference.render, listen=lambda what: status.update(f"measuring {what}"))
        choice = choose(found)
        if plot is not None:
            from fxclone_training.analysis_plot import plot_analysis

            status.update("drawing")
            title = f"{plan.reference.expression}: {choice.kind}, family {choice.family}"
            plot_analysis(pair, found, plot, title=title, force=request.force)
    if request.as_json:
        facts = {
            "effect": plan.reference.expression,
            "notes": list(material.notes),
            "analysis": found.as_dict(),
            "choice": choice.as_dict(),
        }
        sys.stdout.write(json.dumps(facts, allow_nan=False) + "\n")
        return
    for note in material.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
    sys.stdout.write(report(plan, found, choice))


def report(plan: Plan, found: Analysis, choice: Choice) -> str:
    """The paragraph, and the figures under it."""
    lines = [f"{plan.reference.expression}, {found.seconds:.0f} s at {found.sample_rate} Hz", "", choice.words, ""]
    lines += [f"{label:34}{value:>12}    {meaning}".rstrip() for label, value, meaning in _rows(found)]
    return "\n".join(lines) + "\n"


def _rows(found: Analysis) -> list[tuple[str, str, str]]:
    linear, curves, gain, time = found.linear, found.curves, found.gain, found.time
    rows = [
        ("a filter of 50 ms leaves", _db(linear.short_db), "of the sound unexplained; -40 dB and less is linear"),
        (f"one of {linear.tail_s:.2g} s", _db(linear.long_db), "much less than that: it rings"),
    ]
    if linear.filter_db is not None:
        rows.append(("a recursive filter", _db(linear.filter_db), "of 32 samples"))
    rows.append(("memory", f"{1e3 * linear.memory_s:.3g} ms", "0.1 ms is none"))
    if curves:
        rows.append(("a curve alone", _db(curves.curve_db), "plain distortion"))
        rows.append(("a curve and a response", _db(curves.curve_then_response_db), "distortion before a cabinet"))
        if curves.driven_db is not None and curves.cutoff_hz is not None:
            meaning = f"most pedals; high-pass at {curves.cutoff_hz:.0f} Hz"
            rows.append(("filters around a curve", _db(curves.driven_db), meaning))
    if gain:
        rows.append(("a gain that follows the level", _db(gain.following_db), "compressors, limiters, gates"))
        rows.append(("a gain that is free", _db(gain.free_db), "those and tremolo: no gain that moves leaves less"))
        rows.append(("  range of that gain", _db(gain.range_db), f"{gain.slope:+.2f} dB for each dB of level"))
        rows.append(("  attack, release", f"{gain.attack_ms:.0f}, {gain.release_ms:.0f} ms", "of the few tried"))
    if found.side_db is not None:
        rows.append(("stereo difference", _db(found.side_db), "of left and right against their sum"))
    if time:
        rows.append(("moves by itself", "yes" if time.moves else "no", "phaser, flanger, chorus, tremolo, tape"))
        if time.moves and time.still_db is not None:
            rows.append(("a clone without the movement", _db(time.still_db), "at best"))
        at_most = "" if time.floor_exact else "at most; a guess"
        rows.append(("noise", "none" if time.floor_db <= -100 else _db(time.floor_db), at_most))
    return rows


def _db(value: float) -> str:
    return f"{value:.1f} dB"


def _plan(request: TrainRequest) -> Plan:
    """As for training; nothing is written, so the place of the clone is one that can always be written to."""
    output = Path(tempfile.gettempdir()) / "fxclone-analyze.onnx"
    plan = make_plan(replace(request, output=output, force=True, resume=None))
    recipe = plan.recipe.with_settings({"sound_s": min(plan.recipe.sound_s, LONGEST_S)})
    return replace(plan, recipe=recipe)
