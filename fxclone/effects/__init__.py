"""Reference effects: what a clone is made of. `effect` makes one from text, `available_effects` lists them.

Anyone may add effects: an entry point in the group ``fxclone.effects`` that loads to a sequence of `EffectSpec`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points

from fxclone.effects.expression import Link, apply_overrides, parse_chain, parse_settings
from fxclone.effects.spec import Effect, EffectSpec, RenderFn, Setting, Stage, Value
from fxclone.errors import UsageError
from fxclone.presets import preset_names

__all__ = [
    "Effect",
    "EffectSpec",
    "RenderFn",
    "Setting",
    "Stage",
    "available_effects",
    "effect",
    "find_spec",
    "parse_settings",
]

ENTRY_POINT_GROUP = "fxclone.effects"


def available_effects() -> dict[str, EffectSpec]:
    """Every installed effect by name: fxclone's own first, then pedalboard's, then others by the alphabet.

    An entry point that fails to load, or a name that is taken already, is left out with one line on stderr.
    """
    return dict(_load())


@cache
def _load() -> Mapping[str, EffectSpec]:
    found: dict[str, EffectSpec] = {}
    first = {"builtin": 0, "pedalboard": 1}
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: (first.get(p.name, 2), p.name, p.value))
    for point in points:
        try:
            loaded = point.load()
            specs = list(loaded.values() if isinstance(loaded, Mapping) else loaded)
            for spec in specs:
                if not isinstance(spec, EffectSpec):
                    raise TypeError(f"holds {type(spec).__name__}, expected EffectSpec")
        except Exception as error:  # a stranger's package may fail in any way; the others must still work
            sys.stderr.write(f"fxclone: the effects of {point.value} are left out: {' '.join(str(error).split())}\n")
            continue
        for spec in specs:
            if spec.name in found:
                sys.stderr.write(f"fxclone: {spec.name} of {point.value} is left out: there is one already\n")
            else:
                found[spec.name] = spec
    return found


def find_spec(name: str) -> EffectSpec:
    """Return the effect of that name; case, ``_`` and ``-`` do not matter, and aliases count.

    Raises
    ------
    UsageError
        If there is none; the message names the nearest ones.
    """
    effects = _load()
    if name in effects:
        return effects[name]
    folded = {_fold(n): spec for spec in reversed(list(effects.values())) for n in (*spec.aliases, spec.name)}
    if _fold(name) in folded:
        return folded[_fold(name)]
    nearest = difflib.get_close_matches(_fold(name), folded, n=3, cutoff=0.5)
    names = list(dict.fromkeys(folded[n].name for n in nearest))
    hint = f"; did you mean {' or '.join(names)}?" if names else ""
    preset = difflib.get_close_matches(name.lower(), preset_names(), n=1, cutoff=0.7)
    if preset:
        hint += f"{'' if names else ';'} there is a preset {preset[0]} (--preset {preset[0]})"
    raise UsageError(f'there is no effect "{name}"{hint} (fxclone effects lists them all)')


def effect(expression: str, settings: Mapping[str, Value] | None = None) -> Effect:
    """Make an effect from text.

    Parameters
    ----------
    expression : str
        A name (``tanh``), a name with settings (``tanh(drive=5)``), or a chain of them
        (``highpass(cutoff_hz=200) > distortion(drive_db=20)``). A plugin is named by where it is
        (``vst3:/path/Plugin.vst3(drive=3)``) or, if it is in a standard folder, ``vst3:Plugin``. A Neural Amp Modeler
        file is named by its path: ``nam:amp.nam``.
    settings : mapping or None
        More settings, which win: ``drive``, and in a chain ``distortion.drive_db`` or ``2.drive_db``.

    Raises
    ------
    UsageError
        For text that cannot be read, an unknown effect or setting, or a value out of range.
    EffectError
        For a plugin that crashes, hangs or is no effect, and a .nam file that is damaged.
    """
    links = parse_chain(expression)
    specs = [_link_spec(link) for link in links]
    for link, spec in zip(links, specs, strict=True):
        link.name = spec.name
        _name_positional(link, spec)
    if settings:
        keys = _canonical_keys(settings, {_fold(spec.name): spec.name for spec in specs})
        apply_overrides(links, keys, [{s.name for s in spec.settings} for spec in specs])
    specs = [spec.with_named(link.named) if spec.with_named else spec for link, spec in zip(links, specs, strict=True)]
    return Effect(tuple(_stage(link, spec) for link, spec in zip(links, specs, strict=True)))


def _link_spec(link: Link) -> EffectSpec:
    if not link.scheme:
        return find_spec(link.name)
    if link.scheme == "nam":
        from fxclone.effects.nam import nam_spec

        return nam_spec(link.name)
    from fxclone.effects.plugin import find_plugin_spec

    return find_plugin_spec(link.scheme, link.name)


def _name_positional(link: Link, spec: EffectSpec) -> None:
    if len(link.positional) > len(spec.settings):
        count, has = len(link.positional), f"{len(spec.settings)} settings{_listed(spec.settings)}"
        raise UsageError(f"{spec.name} got {count} values; it has {has}")
    for setting, value in zip(spec.settings, link.positional, strict=False):
        if setting.name in link.named:
            raise UsageError(f"{spec.name}: {setting.name} is set twice, by place and by name; give it once")
        link.named[setting.name] = value
    link.positional = []


def _canonical_keys(settings: Mapping[str, Value], here: Mapping[str, str]) -> dict[str, Value]:
    """Spell the effect part of each key as the effect itself does; ``here`` are the names in the chain, folded."""
    keys = {}
    for key, value in settings.items():
        where, dot, name = key.rpartition(".")
        if dot and not where.isdecimal():
            key = f"{here.get(_fold(where)) or find_spec(where).name}.{name}"
        keys[key] = value
    return keys


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _stage(link: Link, spec: EffectSpec) -> Stage:
    by_name = {setting.name: setting for setting in spec.settings}
    values = spec.defaults()
    for name, value in link.named.items():
        if name not in by_name:
            nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0.4)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise UsageError(f'{spec.name} has no setting "{name}"; {hint}it has{_listed(spec.settings) or " none"}')
        values[name] = by_name[name].parse(value, effect=spec.name)
    if spec.check is not None:
        spec.check(values)
    return Stage(spec, values)


def _listed(settings: Iterable[Setting]) -> str:
    names = ", ".join(setting.name for setting in settings)
    return f": {names}" if names else ""
