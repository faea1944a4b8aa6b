"""The page of the references' clones, of the results that are there."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import _common as common  # first: it sets thread counts
from references_list import GROUPS, Case
from references_result import Result

BANDS = ("-50..-40", "-40..-30", "-30..-20", "-20..-10", "-10..0")
LIMITS = {
    "again": "rendered twice, it differs from itself by {db:.1f} dB",
    "later": "begun 314 ms later, it differs from itself by {db:.1f} dB",
    "smooth": "without its steps, at the best gain and offset, it differs by {db:.1f} dB",
}
ALONE = 0.9
"""Share of its cores' time from which a command counts as alone on them."""
NO_LAG_DB = -1.0
"""Above this error a lag means nothing."""


def page(found: Sequence[Result], seed: int) -> str:
    """Markdown, of the results with this seed."""
    found = [one for one in found if one.seed == seed]
    if not found:
        return "# How good the clones are\n\nNothing has been run yet."
    parts = [_group(name, [one for one in found if one.group == name]) for name in GROUPS]
    body = "\n\n".join(part for part in parts if part)
    return f"""# How good the clones are

`.venv/bin/python bench/references.py`

Clones of effects that a computer renders: what `fxclone train` makes of them in a given time, with no option but the
time. Recorded devices are in [bench_contest.md](bench_contest.md) and [bench_pairs.md](bench_pairs.md), rooms and
echoes in [bench_tail.md](bench_tail.md), plugins in [bench_plugins.md](bench_plugins.md).

{fill(_how_judged(found, seed))}

- ESR: sum of squared error over sum of squares, all files end to end, in dB, after so many seconds of training at most.
  What stands right of it is of the longest run. Dry: the ESR of the dry sound itself at the gain that fits best; what
  is not lower than that is no clone. Worst 100 ms: the highest ESR of such a piece that is not silent. Lag in samples
  (? where hardly anything is right). Held back: ESR on the sound by which training chose the weights. *: it had less
  than {ALONE * 100:.0f} % of its cores, because other programs ran.
- Training ends at -80 dB on held-back sound, at a standstill, or with its time. In all: the whole command, with
  starting, making sound, looking at the effect, export and proof.
- µs / sample: playing, 64-sample blocks, one thread, median block, as in the contest. Real time at 48 kHz is 20.8.
- By level: bands of 10 dB of the dry sound's peak (50 ms windows), in dBFS. By file: each file by itself.

{body}

## Machine

{_machines(found)}"""


def _how_judged(found: Sequence[Result], seed: int) -> str:
    return (
        f"Judged on {_different(one.heard for one in found)}, which no training heard, against the reference itself. "
        "All errors are free-running: the clone file, run in onnxruntime on its own outputs over whole files from a "
        f"fresh state. Seed {seed}, 48 kHz."
    )


def _group(name: str, found: Sequence[Result]) -> str:
    """Its tables, and what limits each."""
    if not found:
        return ""
    group = GROUPS[name]
    cases = {case.name: case for case in group.cases()}
    names = [one for one in cases if any(one == result.name for result in found)]
    names += sorted({one.name for one in found} - set(names))
    last = {one: max((r for r in found if r.name == one), key=lambda r: r.budget_s) for one in names}
    budgets = sorted({one.budget_s for one in found})
    learned = _different(one.learned for one in found if one.learned)
    sound = f"{learned}, none of which is a test file" if learned else "made sound alone"
    parts = [
        f"## {group.title}",
        fill(f"{group.about} Trained on {sound}."),
        _figures(names, last, budgets, found, cases),
        _by_level(names, last),
        "\n".join(_limit(last[one], cases.get(one)) for one in names),
    ]
    if missing := [one for one in cases if one not in names]:
        parts.append(f"Not run: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _figures(
    names: Sequence[str],
    last: dict[str, Result],
    budgets: Sequence[float],
    found: Sequence[Result],
    cases: dict[str, Case],
) -> str:
    aims = any(case.aim_db is not None for case in cases.values())
    originals = any(case.original_db for case in cases.values())
    head = ["", *(f"{budget:g} s" for budget in budgets), *["aim"] * aims, "dry", "worst 100 ms", "lag", "held back",
            "family", "size", "model", "weights", "µs / sample", "trained s", "in all s",
            *["original"] * originals]  # fmt: skip
    rows = []
    for name in names:
        one, case = last[name], cases.get(name)
        rows.append(
            [
                name,
                *(_esr([r for r in found if r.name == name and r.budget_s == budget]) for budget in budgets),
                *([_figure(case.aim_db if case else None, ".0f")] * aims),
                *_of_training(one),
                *([(case.original_db if case else "") or "-"] * originals),
            ]
        )
    return common.table(head, rows)


def _of_training(one: Result) -> list[str]:
    facts, dry = one.training, _figure(one.limits.get("dry"), ".1f")
    if one.failed:
        return [dry, *["-"] * 9, f"{facts['in_all_s']:.0f}"]
    return [
        dry,
        _figure(one.test["worst_100ms_esr_db"], ".1f"),
        _lag(one.test),
        _figure(facts["esr_db"], ".1f"),
        facts["family"],
        facts.get("auto", {}).get("size", "-"),
        shape(facts),
        f"{facts['parameters']:,}",
        _figure(one.cost_us, ".2f"),
        f"{facts['seconds']:.0f}",
        f"{facts['in_all_s']:.0f}",
    ]


def _by_level(names: Sequence[str], last: dict[str, Result]) -> str:
    files = list(dict.fromkeys(file for one in last.values() for file in one.by_file))
    rows = []
    for name in names:
        one = last[name]
        bands = one.test.get("esr_db_by_level", {})
        rows.append(
            [
                name,
                *(_figure(bands.get(band), ".1f") for band in BANDS),
                *(_figure(one.by_file.get(file), ".1f") for file in files),
            ]
        )
    return common.table(["by level, by file", *BANDS, *files], rows)


def _limit(one: Result, case: Case | None) -> str:
    """What it is, what makes it hard, and what was measured of that."""
    measured = [words.format(db=one.limits[name]) for name, words in LIMITS.items() if name in one.limits]
    end = f"failed: {one.failed}" if one.failed else f"training ended: {one.training['ended']}"
    parts = [
        case.hard if case else "",
        _sentence("; ".join(measured)) if measured else "",
        _sentence(end),
    ]
    what = f" (`{case.shown}`)" if case and case.shown != one.name else ""
    return fill(f"- **{one.name}**{what}: {' '.join(part for part in parts if part)}", subsequent_indent="  ")


def fill(text: str, subsequent_indent: str = "") -> str:
    """Wrapped as the pages are; a formula may be longer than a line."""
    return textwrap.fill(text, 120, subsequent_indent=subsequent_indent, break_long_words=False, break_on_hyphens=False)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def shape(facts: dict[str, Any]) -> str:
    """The model in a few signs."""
    if facts["family"] == "ar":
        slow = f" + {len(facts['averages'])} + {len(facts['envelopes'])}" if facts["averages"] else ""
        return (
            f"{facts['m']} + {facts['past_outputs']}{slow}, {facts['layers']} x {facts['width']} {facts['activation']}"
        )
    if facts["family"] == "tail":
        front = "a curve, then " if facts.get("front") else ""
        return f"{front}{facts.get('direct_taps', 0) + facts.get('after_taps', 0):,} taps"
    if facts["family"] == "recurrent":
        return f"LSTM {facts['units']}"
    if facts["family"] == "wavenet":
        return f"{facts['channels']} channels"
    return f"{facts['parameters']} weights"


def _esr(found: Sequence[Result]) -> str:
    if not found:
        return ""
    shared = "*" if found[0].training["cpu_share"] < ALONE else ""
    return ("failed" if found[0].failed else f"{found[0].esr_db:.1f}") + shared


def _figure(value: float | None, how: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, how)


def _lag(test: dict[str, Any]) -> str:
    lag, error = test["lag_samples"], test["esr_db"]
    known = lag is not None and error is not None and error < NO_LAG_DB
    text = f"{lag:+.2f}" if known else "?"
    return text if test["polarity"] > 0 else f"{text} inverted"


def _different(texts: Any) -> str:
    return "; or ".join(sorted(set(texts)))


def _machines(found: Sequence[Result]) -> str:
    """Each machine and state of the code once, and the yardsticks over all runs."""
    heads = sorted({one.machine.split(", load")[0] for one in found})
    codes = sorted({one.machine.split("; code ")[-1] for one in found})
    shares = sorted(one.training["cpu_share"] for one in found)
    spans = {key: sorted(one.yardstick[key] for one in found) for key in ("matmul_ms", "lstm32_us")}
    first, last = min(one.when for one in found), max(one.when for one in found)
    lines = [
        f"- {'; '.join(heads)}; from {first} to {last}. The commands had {100 * shares[0]:.0f} to "
        f"{100 * shares[-1]:.0f} % of a core for each of their threads.",
        f"- Yardsticks: 256 x 256 matrix product in numpy {_span(spans['matmul_ms'], 3)} ms; LSTM-32 node in "
        f"onnxruntime at 64-sample blocks {_span(spans['lstm32_us'], 2)} µs a sample.",
        *(f"- Code {code}" for code in codes),
    ]  # fmt: skip
    return "\n".join(fill(line, subsequent_indent="  ") for line in lines)


def _span(values: Sequence[float], digits: int) -> str:
    return f"{values[0]:.{digits}f} to {values[-1]:.{digits}f}"
