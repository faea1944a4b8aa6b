"""Presets: TOML files that name a reference effect, a training recipe, or both."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxclone.errors import UsageError

_KEYS = ("description", "effect", "recipe")


@dataclass(frozen=True)
class Preset:
    """One preset.

    Parameters
    ----------
    name : str
        The file's name without ``.toml``.
    description : str
        One line.
    effect : str or None
        An effect expression, see `fxclone.effects.effect`; None if it is only a recipe.
    recipe : dict
        Training options by name; training checks them.
    path : Path
        Where it was read.
    """

    name: str
    description: str
    effect: str | None
    recipe: dict[str, Any] = field(default_factory=dict)
    path: Path = Path()


def preset_folder() -> Path:
    """Return the folder of the presets that come with fxclone: of the installed package, or of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "presets"  # data only: no import finds it before this module
    return installed if installed.is_dir() else package.parent / "presets"


def preset_names() -> list[str]:
    """Names of the presets that come with fxclone, unread."""
    return sorted(path.stem for path in preset_folder().glob("*.toml"))


def available_presets() -> dict[str, Preset]:
    """Every preset that comes with fxclone, by name, in alphabetical order."""
    return {name: _read(preset_folder() / f"{name}.toml") for name in preset_names()}


def load_preset(name_or_path: str) -> Preset:
    """Read a preset.

    Parameters
    ----------
    name_or_path : str
        The name of one that comes with fxclone, or the path of a TOML file (with ``.toml`` or a slash in it).

    Raises
    ------
    UsageError
        If there is none, or it is not a preset.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path:
        return _read(Path(name_or_path).expanduser())
    names = preset_names()
    if name_or_path in names:
        return _read(preset_folder() / f"{name_or_path}.toml")
    nearest = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UsageError(f'there is no preset "{name_or_path}"; {hint}expected one of {", ".join(names)}, or a .toml file')


def _read(path: Path) -> Preset:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the preset {path}: {error.strerror or error}; expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the preset {path} is not valid TOML: {error}") from error
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise UsageError(f"the preset {path} has the key {unknown[0]}; expected only {', '.join(_KEYS)}")
    description, expression, recipe = data.get("description", ""), data.get("effect"), data.get("recipe", {})
    if not isinstance(description, str) or not isinstance(expression, str | None) or not isinstance(recipe, dict):
        raise UsageError(f"the preset {path}: expected description and effect in quotes, and a table [recipe]")
    if expression is None and not recipe:
        raise UsageError(f"the preset {path} says nothing; expected effect = ..., a table [recipe], or both")
    return Preset(path.stem, description, expression, recipe, path)
