"""``fxclone effects``: which reference effects there are, and what is known of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from fxclone.effects import Effect, EffectSpec, Setting, Stage
    from fxclone.effects.plugin_examine import Examination
    from fxclone.presets import Preset

_SHOWN_RATE_HZ = 48_000


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("effects", help="List the reference effects, or show one: its settings and what is known of it.")
    def effects(
        name: Annotated[
            str | None,
            typer.Argument(
                help="An effect, a preset, a plugin (vst3:NAME_OR_PATH), a .nam file (nam:PATH), or a chain: "
                '"highpass > tanh".'
            ),
        ] = None,
        assignments: Annotated[
            list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; may be repeated.")
        ] = None,
        plugins: Annotated[bool, typer.Option("--plugins", help="List the plugins in the standard folders.")] = False,
        measure: Annotated[
            bool,
            typer.Option("--measure", help="Measure a plugin: latency, repeatability, block sizes; takes seconds."),
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        if plugins:
            _list_plugins(name, as_json)
        elif name is None:
            _list_all(assignments or [], measure, as_json)
        else:
            _show_one(name, assignments or [], measure, as_json)


def _list_plugins(name: str | None, as_json: bool) -> None:
    from fxclone.effects.plugin_find import SUFFIXES, installed_plugins, plugin_folders
    from fxclone.errors import UsageError

    if name is not None:
        raise UsageError(f"--plugins lists all of them; for one: fxclone effects {_shell_quoted(name)}")
    found = installed_plugins()
    folders = [str(folder) for scheme in SUFFIXES for folder in plugin_folders(scheme)]
    if as_json:
        rows = [{"name": a.path.stem, "effect": f"{a.scheme}:{a.path.stem}", "path": str(a.path)} for a in found]
        _print_json({"plugins": rows, "folders": folders})
        return
    console = _console()
    if found:
        entries = [(f"{a.scheme}:{a.path.stem}", str(a.path)) for a in found]
        console.print(_table(console, "", ("plugin", "where"), entries))
    else:
        console.print("There are no plugins in the standard folders.")
    console.print(f"Looked in {', '.join(folders)}; any other: vst3:/path/Plugin.vst3", soft_wrap=True)
    if found:
        console.print(f"One of them with its settings: fxclone effects {_shell_quoted(entries[0][0])}")


def _list_all(assignments: list[str], measure: bool, as_json: bool) -> None:
    from fxclone.effects import available_effects
    from fxclone.errors import UsageError
    from fxclone.presets import available_presets

    if assignments:
        raise UsageError("--set needs an effect; write it like: fxclone effects tanh --set drive=8")
    if measure:
        raise UsageError("--measure needs a plugin; write it like: fxclone effects vst3:NAME --measure")
    specs, presets = available_effects(), available_presets()
    if as_json:
        _print_json(
            {
                "effects": [_spec_facts(spec) for spec in specs.values()],
                "presets": [_preset_facts(preset) for preset in presets.values()],
            }
        )
        return
    console = _console()
    for source in dict.fromkeys(spec.source for spec in specs.values()):
        entries = [(spec.name, spec.summary, _traits(spec)) for spec in specs.values() if spec.source == source]
        console.print(_table(console, source, ("effect", "what it does", "traits"), entries))
    rows = [
        (p.name, p.description, " ".join(["effect"] * bool(p.effect) + ["recipe"] * bool(p.recipe)))
        for p in presets.values()
    ]
    console.print(_table(console, "presets", ("preset", "what it is", "gives"), rows))
    console.print("Traits: linear; moving: it changes with time; stereo: channels differ; late: it has latency.")
    console.print("One of them with its settings: fxclone effects NAME")
    console.print("Your plugins: fxclone effects --plugins")


def _show_one(name: str, assignments: list[str], measure: bool, as_json: bool) -> None:
    from fxclone.effects import Effect, Stage, available_effects, effect, parse_settings
    from fxclone.errors import UsageError
    from fxclone.presets import available_presets, load_preset

    preset = load_preset(name) if name.endswith(".toml") or name in available_presets() else None
    if preset is not None and preset.effect is None:
        if assignments:
            raise UsageError(f"the preset {preset.name} is only a recipe; it has no effect to set")
        chosen = None
    elif preset is None and name in available_effects() and not assignments:
        spec = available_effects()[name]
        chosen = Effect((Stage(spec, spec.defaults()),))  # unchecked: one may be looked at without its file
    else:
        chosen = effect((preset.effect if preset else None) or name, parse_settings(assignments))
    examined = _measured(chosen) if chosen and measure else []
    if measure and not examined:
        raise UsageError("--measure is for plugins; of other effects all is known already")
    if as_json:
        facts = _effect_facts(chosen) if chosen else {}
        measured = {"measured": [one.as_dict() | {"notes": one.notes()} for one in examined]} if measure else {}
        _print_json(facts | measured | ({"preset": _preset_facts(preset)} if preset else {}))
        return
    console = _console()
    if preset is not None:
        console.print(f"preset {preset.name}: {preset.description}\n")
        if preset.recipe:
            recipe = "".join(f"  {key} = {_plain(value)}\n" for key, value in preset.recipe.items())
            console.print(f"recipe\n{recipe}")
    if chosen is not None:
        _show_effect(console, chosen)
    for one in examined:
        _show_measured(console, one.as_dict(), one.notes())
    option = f"--preset {preset.name}" if preset else f"--effect {_shell_quoted(name)}"
    if not assignments and preset is None and chosen is not None and len(chosen.stages) == 1:
        spec = chosen.stages[0].spec
        assignments = [f"{s.name}=FILE" for s in spec.settings if s.default == "" and not spec.address]
    sets = "".join(f" --set {_shell_quoted(assignment)}" for assignment in assignments)
    console.print(f"Try it:\n  fxclone train {option}{sets}", soft_wrap=True)


def _measured(chosen: Effect) -> list[Examination]:
    """Of its plugins; what else may be examined has little to show."""
    from fxclone.effects.plugin_examine import Examination

    return [one for one in chosen.examine(_SHOWN_RATE_HZ) if isinstance(one, Examination)]


def _show_effect(console: Console, chosen: Effect) -> None:
    if len(chosen.stages) > 1:
        console.print(f"{chosen.expression}\n", soft_wrap=True)
    for number, stage in enumerate(chosen.stages, 1):
        spec = stage.spec
        place = f"{number} " if len(chosen.stages) > 1 else ""
        console.print(f"{place}{spec.name} ({spec.source}): {spec.summary}")
        if spec.settings:
            rows = [
                (s.name, _plain(stage.settings[s.name]), s.range_text, s.unit, _help(s, stage)) for s in spec.settings
            ]
            console.print(_table(console, "", ("setting", "value", "range", "unit", "what it is"), rows), "")
        if spec.note:
            console.print(f"Note: {spec.note}")
    tail = "unknown or endless" if chosen.tail_s is None else f"{chosen.tail_s:.3g} s"
    latency = chosen.latency_samples(_SHOWN_RATE_HZ)
    facts = {
        "linear": _yes(chosen.linear),
        "time-varying": _yes(chosen.time_varying),
        "stereo": "yes: channels differ or hear each other" if chosen.stereo else "no: each channel by itself",
        "latency": f"{latency} samples at {_SHOWN_RATE_HZ} Hz" if latency else "none",
        "tail": "none" if chosen.tail_s == 0 else tail,
        "deterministic": _yes(chosen.deterministic),
        "channels": f"up to {chosen.max_channels}" if chosen.max_channels else "any number",
    }
    console.print("".join(f"  {key:<14} {value}\n" for key, value in facts.items()))


def _show_measured(console: Console, facts: dict[str, Any], notes: list[str]) -> None:
    lag, tail = facts["measured_latency_samples"], facts["tail_s"]
    settled, cold = (
        ", ".join(f"{size}: {db:.0f} dB" for size, db in facts[key].items())
        for key in ("block_difference_db", "cold_block_difference_db")
    )
    blocks = "yes"
    if not facts["block_independent"]:
        blocks = f"no (difference from 512 samples at {settled})"
    elif not facts["block_independent_cold"]:
        blocks = f"yes, once it has settled (in its first moments the difference from 512 samples is {cold})"
    rows = {
        "repeats itself": _yes(facts["deterministic"]),
        "any block size": blocks,
        "latency": f"reported {facts['reported_latency_samples']} samples, measured "
        + ("unclear" if lag is None else f"{lag:.1f}"),
        "linear": _yes(facts["linear"]),
        "time-varying": _yes(facts["time_varying"]),
        "tail": "longer than 3 s" if tail is None else f"{tail:.3g} s",
    }
    console.print(f"measured at {facts['sample_rate']} Hz")
    console.print("".join(f"  {key:<14} {value}\n" for key, value in rows.items()), soft_wrap=True)
    for note in notes:
        console.print(f"Note: {note}.", soft_wrap=True)


def _spec_facts(spec: EffectSpec) -> dict[str, Any]:
    from fxclone.effects import Effect, Stage

    facts = _effect_facts(Effect((Stage(spec, spec.defaults()),)))
    return {
        "name": spec.name,
        "summary": spec.summary,
        "source": spec.source,
        "settings": facts["stages"][0]["settings"],
        **{key: facts[key] for key in _TRAIT_KEYS},
        "note": spec.note,
    }


_TRAIT_KEYS = (
    "linear",
    "time_varying",
    "stereo",
    "latency_samples",
    "latency_sample_rate",
    "tail_s",
    "deterministic",
    "max_channels",
)


def _effect_facts(chosen: Effect) -> dict[str, Any]:
    return {
        "name": chosen.name,
        "expression": chosen.expression,
        "linear": chosen.linear,
        "time_varying": chosen.time_varying,
        "stereo": chosen.stereo,
        "latency_samples": chosen.latency_samples(_SHOWN_RATE_HZ),
        "latency_sample_rate": _SHOWN_RATE_HZ,
        "tail_s": chosen.tail_s,
        "deterministic": chosen.deterministic,
        "max_channels": chosen.max_channels,
        "note": " ".join(stage.spec.note for stage in chosen.stages if stage.spec.note),
        "stages": [_stage_facts(stage) for stage in chosen.stages],
    }


def _stage_facts(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.spec.name,
        "summary": stage.spec.summary,
        "source": stage.spec.source,
        "settings": [
            {
                "name": s.name,
                "value": stage.settings[s.name],
                "default": s.default,
                "type": s.kind,
                "minimum": s.minimum,
                "maximum": s.maximum,
                "choices": list(s.choices) if s.choices else None,
                "unit": s.unit,
                "help": s.help,
            }
            for s in stage.spec.settings
        ],
    }


def _preset_facts(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "description": preset.description,
        "effect": preset.effect,
        "recipe": preset.recipe,
    }


def _traits(spec: EffectSpec) -> str:
    words = ["linear"] if spec.linear else []
    words += ["moving"] if spec.time_varying else []
    words += ["stereo"] if spec.stereo else []
    words += ["late"] if spec.latency_at or spec.latency_ms else []
    return " ".join(words)


def _help(setting: Setting, stage: Stage) -> str:
    changed = stage.settings[setting.name] != setting.default
    return f"{setting.help} (default {_plain(setting.default)})" if changed else setting.help


def _plain(value: Any) -> str:
    from fxclone.effects.spec import format_value

    return format_value(value) if isinstance(value, bool | int | float) else str(value)


def _yes(flag: bool | None) -> str:
    return "unknown" if flag is None else "yes" if flag else "no"


def _shell_quoted(text: str) -> str:
    import shlex

    return f'"{text}"' if " " in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _print_json(data: dict[str, Any]) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 80
    return console


def _table(console: Console, title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = box.SIMPLE_HEAD if console.is_terminal else None  # plain columns in a pipe
    table = Table(title=title or None, title_justify="left", box=lines, pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
