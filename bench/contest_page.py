"""The contest's page and picture, of the results that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import _common as common  # first: it sets thread counts
from contest_cost import QUOTED_LSTM32_US, QUOTED_WAVENET_US
from contest_pairs import DEVICES
from contest_result import Result

WHO = {
    "fxclone": ("fxclone", "#2b7a78"),
    "nam-wavenet": ("Neural Amp Modeler, standard WaveNet", "#9e2a2b"),
    "nam-lstm": ("Neural Amp Modeler, standard LSTM", "#e09f3e"),
    "nam-a2": ("Neural Amp Modeler, A2", "#c06c84"),
    "lstm-32": ("LSTM-32 of the literature", "#6c757d"),
}
ALONE = 0.9
"""Share of its cores' time from which a contestant counts as alone on them."""
PICTURE = "bench_contest.png"


def page(found: Sequence[Result], pairs: Path) -> str:
    """Markdown."""
    if not found:
        return "# Accuracy for time: fxclone and other trainers\n\nNothing has been run yet."
    names = [name for name in DEVICES if any(one.pair == name for one in found)]
    names += sorted({one.pair for one in found} - set(names))
    budgets = sorted({one.budget_s for one in found})
    parts = [_one_pair(name, [one for one in found if one.pair == name], pairs) for name in names]
    body = "\n\n".join(parts)
    return f"""# Accuracy for time: fxclone and other trainers

{common.command()}

Each contestant trained alone on {_cores(found)}, on the same samples, for the same wall-clock; then rendered a test
recording that no trainer saw, free-running, in one run from a fresh state. ESR in dB, lower is better. How it is done,
and what each one's settings are: below the tables.

![ESR on the test recordings against seconds of training]({PICTURE})

## fxclone's lead

By how many dB fxclone's ESR is lower than that of the best Neural Amp Modeler model, and than the LSTM-32's; negative:
it is behind.

{_leads(found, names, budgets)}

{body}

## How

- Material: recordings of devices, as in [bench_pairs.md](bench_pairs.md). fxclone's own alignment takes the lag out of
  them once, for everybody; where it is not certain of it some samples stay in, which everybody has to learn. All train
  on the same part of the recording and choose their checkpoint by the same end of it, which `fxclone train` holds back.
- The clock runs from the first step of the optimiser, validation included. fxclone's runs from the start of training,
  with its first fits. Imports, reading, aligning and export are not in it ("before" in the tables).
- fxclone: `fxclone train --dry --wet --no-align --anyway --seconds N --threads T` and `fxclone render`, once for each
  budget. The others' rates do not depend on the budget: one run, in which at each budget the best checkpoint so far, by
  the trainer's own validation, renders the test. The weights of that moment are validated too, off the clock.
- Neural Amp Modeler comes from PyPI, in environments of its own: networks, data sets, losses, optimisers, rates and
  loop are its own, at its own defaults. WaveNet and LSTM are the standard presets of its last version that has them, A2
  is the newest version's default (the larger of its two models plays). Not its own: alignment is given, its wet sound
  is scaled to -18 dBFS RMS as its newest version does (less where its check for clipping refuses that), it trains at
  the recording's own rate, there is no limit of epochs, and no log or checkpoint costs it time.
- LSTM-32: one LSTM of 32 units, linear output, skip; truncated backpropagation as in Wright et al. and their code.
- µs / sample: playing, 64-sample blocks, one thread, median block. fxclone: its clone file. LSTMs: ONNX `LSTM` nodes in
  fxclone's player, after proof that they give the trainer's own rendering. "≈": quoted; Neural Amp Modeler's C++
  player is in no package index, and {QUOTED_WAVENET_US} µs were measured where an LSTM-32 node takes
  {QUOTED_LSTM32_US} µs: {QUOTED_WAVENET_US / QUOTED_LSTM32_US:.1f} times the node of this run.
- After 1 s: ESR without the first second of the test. The recordings are cut from longer ones: a compressor is already
  turned down when they begin, and no model that starts afresh can know it.
- Peak MB: resident memory of the training process at its largest.
- *: it had less than {ALONE * 100:.0f} % of its cores, because other programs ran. Several seeds: the median, and in
  parentheses the lowest and the highest.

## Settings

{_settings(found)}

## Machine

{_machines(found)}

{_missing(found, names, budgets)}"""


def _one_pair(name: str, found: Sequence[Result], pairs: Path) -> str:
    facts_file = pairs / name / "facts.json"
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {}
    about = ", ".join(
        [
            f"{facts['train_s']:.0f} s to learn from, {facts['held_s']:.0f} s held back",
            f"{facts['test_s']:.0f} s of test",
            f"{facts['sample_rate']} Hz",
            f"{facts['removed_samples']:g} samples of lag taken out",
        ]
        if facts
        else []
    )
    budgets = sorted({one.budget_s for one in found})
    head = ["", *(f"{budget:g} s" for budget in budgets), "after 1 s", "A-weighted", "lag", "µs / sample", "weights",
            "before s", "steps", "peak MB"]  # fmt: skip
    rows = []
    for who in _order(found):
        mine = [one for one in found if one.contestant == who]
        last = max(mine, key=lambda one: (one.budget_s, -one.seed))
        rows.append(
            [
                WHO[who][0],
                *(_esr([one for one in mine if one.budget_s == budget]) for budget in budgets),
                _figure(last.test.get("esr_after_1s_db"), ".1f"),
                _figure(last.test["a_weighted_esr_db"], ".1f"),
                _figure(last.test["lag_samples"], "+.2f"),
                _cost(last),
                f"{last.training['parameters']:,}",
                f"{last.training['prepared_s']:.0f}",
                f"{last.training['steps']:,}",
                f"{last.training['peak_mb']:.0f}",
            ]
        )
    title = DEVICES.get(name, name)
    return f"## {name}: {title}\n\n{about}. What is not ESR is of the longest run.\n\n{common.table(head, rows)}"


def _order(found: Sequence[Result]) -> list[str]:
    return [who for who in WHO if any(one.contestant == who for one in found)]


def _esr(found: Sequence[Result]) -> str:
    """The median over seeds, and whether they had their cores to themselves."""
    if not found:
        return ""
    values = [one.esr_db for one in found]
    shared = any(one.training["cpu_share"] < ALONE * len(one.cores) for one in found)
    spread = f" ({min(values):.1f}, {max(values):.1f})" if len(values) > 1 else ""
    return f"{median(values):.1f}{spread}{'*' if shared else ''}"


def _figure(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _cost(one: Result) -> str:
    if one.contestant == "nam-wavenet":
        return f"≈ {QUOTED_WAVENET_US / QUOTED_LSTM32_US * one.yardstick['lstm32_us']:.2f}"
    return _figure(one.cost.get("us_per_sample"), ".2f")


def _leads(found: Sequence[Result], names: Sequence[str], budgets: Sequence[float]) -> str:
    rivals = {"NAM": [who for who in WHO if who.startswith("nam-")], "LSTM-32": ["lstm-32"]}

    def best(pair: str, budget: float, who: Sequence[str]) -> float | None:
        values = [
            median(all_seeds)
            for name in who
            if (all_seeds := [o.esr_db for o in found if (o.pair, o.budget_s, o.contestant) == (pair, budget, name)])
        ]
        return min(values) if values else None

    columns = {}
    for name, who in rivals.items():
        for budget in budgets:
            pairs = [(best(pair, budget, ["fxclone"]), best(pair, budget, who)) for pair in names]
            leads = ["" if ours is None or theirs is None else f"{theirs - ours:.1f}" for ours, theirs in pairs]
            if any(leads):
                columns[f"{name}, {budget:g} s"] = leads
    rows = [[pair, *(leads[place] for leads in columns.values())] for place, pair in enumerate(names)]
    return common.table(["", *columns], rows)


def _settings(found: Sequence[Result]) -> str:
    lines = []
    for who in _order(found):
        some = next(one for one in found if one.contestant == who)
        if who == "fxclone":
            families = sorted({f"{o.training['settings']['family']} ({o.pair})" for o in found if o.contestant == who})
            lines.append(f"- fxclone: its defaults; it chose {', '.join(families)}")
            continue
        versions = ", ".join(f"{name} {value}" for name, value in some.training["versions"].items())
        lines.append(f"- {WHO[who][0]}: `{json.dumps(some.training['settings'])}`; {versions}")
    return "\n".join(lines)


def _machines(found: Sequence[Result]) -> str:
    """Each machine and state of the code once, and the yardsticks over all runs."""
    matmul, node = (sorted(one.yardstick[name] for one in found) for name in ("matmul_ms", "lstm32_us"))
    heads = sorted({one.machine.split(", load")[0] for one in found})
    codes = sorted({one.machine.split("; code ")[-1] for one in found})
    loads = sorted(
        float(one.machine.split("load ")[1].split()[0]) for one in found if "load unknown" not in one.machine
    )
    shares = sorted(one.training["cpu_share"] / len(one.cores) for one in found)
    lines = [
        f"- {'; '.join(heads)}; runs on {_cores(found)}, from {min(o.when for o in found)} to "
        f"{max(o.when for o in found)}",
        f"- Load at the start {loads[0]:.1f} to {loads[-1]:.1f}; the contestants had {100 * shares[0]:.0f} to "
        f"{100 * shares[-1]:.0f} % of their cores." if loads else "",
        f"- Yardsticks around the runs, median and range: 256 x 256 matrix product in numpy {median(matmul):.3f} ms "
        f"({matmul[0]:.3f} to {matmul[-1]:.3f}); LSTM-32 node in onnxruntime at 64-sample blocks {median(node):.2f} µs "
        f"a sample ({node[0]:.2f} to {node[-1]:.2f}).",
        *(f"- Code {code}" for code in codes),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


def _cores(found: Sequence[Result]) -> str:
    counts = sorted({len(one.cores) for one in found})
    return " or ".join(f"{count} core{'s' if count > 1 else ''}" for count in counts)


def _missing(found: Sequence[Result], names: Sequence[str], budgets: Sequence[float]) -> str:
    there = {(one.pair, one.contestant, one.budget_s) for one in found}
    shortest = [budget for budget in budgets if sum(one.budget_s == budget for one in found) > 1]
    gaps = [
        f"{pair}, {WHO[who][0]}, {budget:g} s"
        for pair in names
        for who in WHO
        for budget in shortest
        if (pair, who, budget) not in there and any(o.pair == pair and o.budget_s == budget for o in found)
    ]
    return f"Not run: {'; '.join(gaps)}." if gaps else "Every contestant ran on every pair above."


def draw(found: Sequence[Result], target: Path) -> None:
    """ESR against seconds of training, a panel for each pair."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in DEVICES if any(one.pair == name for one in found)]
    names += sorted({one.pair for one in found} - set(names))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for name, axis in zip(names, axes.flat, strict=False):
        mine = [one for one in found if one.pair == name]
        budgets = sorted({one.budget_s for one in mine})
        for who in _order(mine):
            points = sorted((one.budget_s, one.esr_db) for one in mine if one.contestant == who)
            at = sorted({budget for budget, _ in points})
            middle = [median([value for budget, value in points if budget == here]) for here in at]
            label, colour = WHO[who]
            axis.plot(at, middle, "o-", color=colour, lw=2 if who == "fxclone" else 1.2, ms=5, label=label)
            if len(points) > len(at):
                axis.plot(*zip(*points, strict=True), ".", color=colour, ms=3)
        axis.set_xscale("log")
        axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
        axis.minorticks_off()
        axis.set_title(f"{name}: {DEVICES.get(name, name)}", fontsize=9)
        axis.grid(alpha=0.3)
        axis.set_xlabel("seconds of training")
        axis.set_ylabel("ESR on the test recording, dB")
    handles = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)), fontsize=8)
    figure.savefig(target, dpi=110)
    plt.close(figure)
