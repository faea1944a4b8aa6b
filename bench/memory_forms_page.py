"""The page and the picture of `memory_forms.py`, of the results that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import _common as common  # first: it sets thread counts
from contest_pairs import DEVICES
from memory_forms import ATTACKS, BEGUN, CHEAP, FORMS, WORTH, Form, Result

from fxclone_training.ar_config import ATTACK

PICTURE = "bench_memory_forms.png"
COLOURS = {
    "window": "#6c757d",
    "pyramid": "#e09f3e",
    "pyramid-far": "#b5651d",
    "pyramid-large": "#9e2a2b",
    "leaky": "#2b7a78",
    "grown": "#adb5bd",
    "recurrent": "#c06c84",
}
ALONE = 0.9
"""Share of its core's time from which a run counts as alone on it."""


def page(found: Sequence[Result], throughput: Path) -> str:
    """Markdown."""
    title = "# Forms of memory: window, pyramid, leaky averages, hidden state"
    if not found:
        return f"{title}\n\nNothing has been run yet."
    budgets = sorted({one.budget_s for one in found})
    forms = "\n\n".join(
        f"### {budget:g} s of training\n\n{_forms([one for one in found if one.budget_s == budget])}"
        for budget in budgets
    )
    return f"""{title}

{common.command()}

Family `ar` feeds its own past outputs back. How far it remembers them, and its input, is a choice of form: the last
samples (window); averages over blocks of 2, 4, 8, ... samples behind them (pyramid); or leaky averages, and envelopes
where the level counts, carried as state. Each was trained for the same time on one core; then its clone file rendered
a test recording that no training saw, free-running, in one run. ESR in dB, lower is better.

![Error on held-back sound against seconds of training]({PICTURE})

## At equal time and about equal cost

{forms}

## What each stage is worth

Leaky averages, once without each of the stages that come before the free run or go with it.

{_worth([one for one in found if one.form in WORTH])}

## How soon envelopes rise

Each falls with a time constant of its own; it rises in a share of that. What follows the level turns down sooner than
up, and its recovery depends on how long and how far it was turned down.

{_table(ATTACKS, found, f"in {ATTACK:g} of the release, as it is")}

## Begun anew from silence

A recording begins in the middle of a song, and its test recording in the middle of another: a clone that was only ever
trained from the true past takes long to find the level. So what follows the level is begun anew from silence every
{_fresh_s():g} s of a recording.

{_table(BEGUN, found, "begun anew every " + f"{_fresh_s():g} s, as it is")}

## What cheaper memories lose

{_table(CHEAP, found, "16 units of tanh, 14 averages, as it is")}

## How

- The same steps train window, pyramid and leaky averages: a race of filters before a curve, units behind the best one,
  least squares, {_steps()} steps one sample ahead, then second-order steps on the model's own outputs to the end, with
  noise on what it hears of them. 16 units of tanh. Only the numbers that the model sees differ. `--memory window` is
  what fxclone does where a window is enough: it grows one, and ends with gradients.
- Window: 31 past outputs are as many values as the leaky averages of inputs and outputs are, which cost less to play.
  The pyramid of 512 inputs and 16 past outputs costs about as much. The other two say what more would be worth: 256
  past outputs, and the `large` size, whose hundred numbers see 4,096 inputs. Family `recurrent` has the
  size that is nearest in cost.
- Time: all of training, what looks at the recording first included. Reading, export and rendering are not.
- µs / sample: the clone file at blocks of 64, one thread, median block; in parentheses as a multiple of an LSTM-32 node
  timed right after it.
- *: the run had less than {ALONE * 100:.0f} % of its core. Several seeds: the median, in parentheses lowest, highest.

## Throughput

{_throughput(throughput)}

## Machine

{_machines(found)}"""


def _steps() -> int:
    from fxclone_training.memory_stages import ONE_STEPS

    return ONE_STEPS


def _fresh_s() -> float:
    from fxclone_training.memory_stages import FRESH_EVERY_S

    return FRESH_EVERY_S


def _table(forms: Mapping[str, Form], found: Sequence[Result], as_it_is: str = "") -> str:
    """Error and cost of forms, where they were tried; on request with the form that fxclone has."""
    mine = [one for one in found if one.form in forms]
    columns = sorted({(one.budget_s, one.pair) for one in mine})
    if not columns:
        return "Not run yet."
    labels = ({"leaky": as_it_is} if as_it_is else {}) | {form: about.label for form, about in forms.items()}
    rows = []
    for form, label in labels.items():
        cells = [[o for o in found if (o.form, o.budget_s, o.pair) == (form, *column)] for column in columns]
        rows.append([label, *(text for cell in cells for text in (_esr(cell), _cost(cell) if cell else ""))])
    heads = [text for budget, pair in columns for text in (f"{pair}, {budget:g} s", "µs / sample")]
    return common.table(["", *heads], rows)


def _names(found: Sequence[Result]) -> list[str]:
    known = [name for name in DEVICES if any(one.pair == name for one in found)]
    return known + sorted({one.pair for one in found} - set(known))


def _forms(found: Sequence[Result]) -> str:
    names = _names(found)
    rows = []
    for form, about in FORMS.items():
        mine = [one for one in found if one.form == form]
        if not mine:
            continue
        rows.append(
            [
                about.label,
                *(_esr([one for one in mine if one.pair == name]) for name in names),
                _cost(mine),
                _range([one.weights for one in mine]),
                _range([one.steps for one in mine]),
            ]
        )
    return common.table(["", *names, "µs / sample", "weights", "steps"], rows)


def _worth(found: Sequence[Result]) -> str:
    columns = sorted(
        {(one.budget_s, one.pair) for one in found if any(o.pair == one.pair and o.form != "leaky" for o in found)}
    )
    if not columns:
        return "Not run yet."
    rows = []
    for form, about in WORTH.items():
        cells = [
            _esr([o for o in found if (o.form, o.budget_s, o.pair) == (form, *column)], curve=True)
            for column in columns
        ]
        rows.append([about.label, *cells])
    heads = [f"{pair}, {budget:g} s" for budget, pair in columns]
    early = "In brackets: the best on held-back sound after a quarter of the time, where a start counts most."
    return f"{early}\n\n{common.table(['', *heads], rows)}"


def _esr(found: Sequence[Result], *, curve: bool = False) -> str:
    """The median over seeds."""
    if not found:
        return ""
    values = [one.esr_db for one in found]
    spread = f" ({min(values):.1f}, {max(values):.1f})" if len(values) > 1 else ""
    star = "*" if any(one.cpu_share < ALONE for one in found) else ""
    early = ""
    if curve:
        then = [[best for at, best in one.curve if at <= one.budget_s / 4] for one in found]
        if all(then):
            early = f" [{median([bests[-1] for bests in then]):.1f}]"
    return f"{median(values):.1f}{spread}{early}{star}"


def _cost(found: Sequence[Result]) -> str:
    own = median([one.us_per_sample for one in found])
    return f"{own:.2f} ({median([one.us_per_sample / one.lstm32_us for one in found]):.1f})"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _throughput(file: Path) -> str:
    if not file.exists():
        return "Not measured yet."
    told = json.loads(file.read_text())
    rows = [
        [row["shape"], f"{row['weights']:,}", *(_million(row[name]) for name in ("forward", "both", "second_order"))]
        for row in told["rows"]
    ]
    about = (
        f"Millions of samples a second of processor time, one core; {told['streams']} streams of {told['samples']:,} "
        "samples. Gradients: the free run\nand its exact gradient, input part included. Second order: whole steps as "
        "training makes them, all derivatives of the run\nand the matrix of them included."
    )
    head = ["", "weights", "forward", "forward and backward", "second order"]
    return f"{about}\n\n{common.table(head, rows)}\n\n{told['machine']}"


def _million(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:.2f}"


def _machines(found: Sequence[Result]) -> str:
    heads = sorted({one.machine.split(", load")[0] for one in found})
    codes = sorted({one.machine.split("; code ")[-1] for one in found})
    shares = sorted(one.cpu_share for one in found)
    nodes = sorted(one.lstm32_us for one in found)
    lines = [
        f"- {'; '.join(heads)}; each run on one core, from {min(o.when for o in found)} to "
        f"{max(o.when for o in found)}",
        f"- Runs had {100 * shares[0]:.0f} to {100 * shares[-1]:.0f} % of their core. LSTM-32 node: {nodes[0]:.2f} to "
        f"{nodes[-1]:.2f} µs a sample, median {median(nodes):.2f}.",
        *(f"- Code {code}" for code in codes),
    ]
    return "\n".join(lines)


def draw(found: Sequence[Result], target: Path) -> None:
    """The best on held-back sound against seconds of training, a panel for each pair, of the longest budget there."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = _names(found)
    figure, axes = plt.subplots(
        -(-len(names) // 3), min(3, len(names)), figsize=(4.2 * min(3, len(names)), 3.4 * -(-len(names) // 3)),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    forms: dict[str, Form] = {name: form for name, form in FORMS.items() if any(one.form == name for one in found)}
    for name, axis in zip(names, axes.flat, strict=False):
        mine = [one for one in found if one.pair == name and one.form in forms]
        longest = max((one.budget_s for one in mine), default=0.0)
        for one in sorted((o for o in mine if o.budget_s == longest), key=lambda o: list(forms).index(o.form)):
            first = one.seed == min(o.seed for o in mine if o.form == one.form)
            label = forms[one.form].label if first else None
            points = [(at, min(best, 5.0)) for at, best in one.curve]
            axis.step(*zip(*points, strict=True), where="post", color=COLOURS[one.form], label=label, lw=1.4)
            axis.plot(longest, one.esr_db, "o", color=COLOURS[one.form], ms=4)
        axis.set_title(f"{name}: {DEVICES.get(name, name)}", fontsize=9)
        axis.grid(alpha=0.3)
        axis.set_xlabel("seconds of training")
        axis.set_ylabel("ESR, dB: line held back, dot test", fontsize=8)
    handles = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(target, dpi=110)
    plt.close(figure)
