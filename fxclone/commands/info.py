"""``fxclone info``: what a clone file says about itself, and what it costs here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fxclone.clone import Clone

AUDIBLE_REST = 1e-4
"""-80 dBFS."""


def register(app: typer.Typer) -> None:
    """Mount the command."""

    @app.command()
    def info(
        model: Annotated[Path, typer.Argument(help="The clone file (.onnx).")],
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Show what a clone is a copy of, how good and how stable it is, and what it costs to play here."""
        import json

        from fxclone.clone import load_clone

        clone = load_clone(model)
        cost = cost_us_per_sample(clone)
        if as_json:
            facts = {**clone.meta.as_dict(), "cost_us_per_sample": cost, "operators": sorted(clone.ops)}
            typer.echo(json.dumps(facts))
            return
        for label, text in describe(clone, cost):
            typer.echo(f"{label:12} {text}")


def cost_us_per_sample(clone: Clone, block_samples: int = 64, seconds: float = 0.2) -> float:
    """Median microseconds per sample in blocks as live playing uses them, on this machine, now."""
    import time

    import numpy as np

    clone.prepare(clone.sample_rate, block_samples, clone.channels_in)
    block = (0.1 * np.random.default_rng(0).standard_normal((clone.channels_in, block_samples))).astype(np.float32)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        clone.process(block)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times)) / block_samples


def describe(clone: Clone, cost: float) -> list[tuple[str, str]]:
    """Label and text of each line."""
    from fxclone.processor import channels_text

    meta = clone.meta
    training, metrics, certificate = meta.training, meta.metrics, meta.certificate
    budget = 1e6 / meta.sample_rate
    channels = channels_text(meta.channels_in, meta.channels_out)
    rows = [
        ("clone of", str(training.get("reference", meta.name))),
        ("family", f"{meta.family}, {meta.parameters} weights"),
        ("sound", f"{meta.sample_rate} Hz, {channels}"),
        ("latency", f"{meta.latency_samples} samples"),
        ("tail", _seconds(meta.tail_samples / meta.sample_rate)),
        ("cost here", f"{cost:.2f} us a sample in blocks of 64, {channels}: {_speed(budget / cost)}"),
    ]
    if "esr_db" in metrics:
        error = f"{metrics['esr_db']:.1f} dB" if _is_number(metrics["esr_db"]) else "unknown"
        sound = str(metrics.get("sound", "sound unknown")).removesuffix(", free-running")
        rows.append(("error", f"{error} free-running ({sound})"))
    for knob in meta.knobs:
        span = f"{knob.minimum:g} to {knob.maximum:g} {knob.unit}"
        rows.append(("knob", f"{knob.name}: {span}, default {knob.default:g}"))
    rows += _stability(certificate, meta.sample_rate) if certificate else [("stability", "was not measured")]
    if meta.levels:
        rows.append(("levels", ", ".join(f"{key} {value:.3g}" for key, value in sorted(meta.levels.items()))))
    if meta.calibration_dbu:
        rows.append(
            ("calibration", ", ".join(f"{key} {value:+.1f} dBu" for key, value in meta.calibration_dbu.items()))
        )
    if _is_number(training.get("seconds")):
        made = f"{training['seconds']:g} s, {training.get('steps', '?')} steps, {training.get('made', '')}"
        rows.append(("training", made.rstrip(", ")))
    rows.append(("operators", " ".join(sorted(clone.ops))))
    # What a stranger wrote must not steer the terminal.
    return [(label, "".join(letter if letter.isprintable() else "?" for letter in text)) for label, text in rows]


def _seconds(length_s: float) -> str:
    """A length as people say it: milliseconds below 0.1 s."""
    return f"{1e3 * length_s:.1f} ms" if length_s < 0.1 else f"{length_s:.2f} s"


def _speed(times: float) -> str:
    """So many times faster than the sound, in two digits."""
    rounded = float(f"{times:.1e}")
    text = f"{rounded:.0f}" if rounded >= 10 else f"{rounded:#.2g}"
    return f"{text} x real time" + (": too slow to play live" if times < 1 else "")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _stability(certificate: dict[str, Any], sample_rate: int) -> list[tuple[str, str]]:
    """What the certificate says, in words: whether it can run away, how fast it forgets, what it does in silence."""
    numbers = {key: float(value) for key, value in certificate.items() if _is_number(value)}
    gain, echoes, met = (numbers.get(key) for key in ("small_gain", "loop_gain", "return_ms"))
    exponent, rest = (numbers.get(key) for key in ("lyapunov_per_sample", "rest_peak"))
    rows = []
    if gain == 0:
        rows.append(("stability", "no feedback: nothing can run away"))
    else:
        parts = []
        if echoes is not None:
            parts.append(f"each echo is at most {echoes:.2g} times as loud as the one before")
        if gain is not None and gain == echoes and gain < 1:
            parts[-1] += ", so they are proven to die away"
        elif certificate.get("contracting") is True and gain is not None:
            # On the sound it was measured with: another sound may find larger gains.
            parts.append(f"whatever was tried: its feedback gains add up to {gain:.2g}, below 1 disturbances die away")
        elif gain is not None:
            parts.append(f"measured, not proven: its feedback gains add up to {gain:.3g}, below 1 would be proof")
        back = f"a disturbed state is back after {_seconds(1e-3 * met)}" if met is not None else None
        rows.append(("stability", "; ".join([*parts, back or "a disturbed state did not return"])))
    if gain != 0 and exponent is not None:
        per_s = abs(exponent) * sample_rate * 20 / math.log(10)
        speed = f"{per_s / 1e3:.2g} dB a millisecond" if per_s >= 1e3 else f"{per_s:.2g} dB a second"
        does = "die away" if exponent < 0 else "grow"
        rows.append(("disturbances", f"{does} by {speed} (largest Lyapunov exponent)"))
    if rest is not None and rest > AUDIBLE_REST:
        rows.append(("in silence", f"it goes on humming or hissing at {20 * math.log10(rest):.0f} dBFS"))
    usual = certificate.get("usual")
    if isinstance(usual, list) and usual:
        meant = ", ".join(str(what) for what in usual)
        rows.append(("no alarm for", f"{meant}: the original does it too"))
    return rows
