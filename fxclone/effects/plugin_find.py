"""Where plugins are: addresses such as ``vst3:ZamTube`` or ``vst3:/path/Plugin.vst3#Name``, the standard folders."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fxclone.effects.expression import written_address
from fxclone.errors import UsageError

SUFFIXES = {"vst3": ".vst3", "au": ".component"}
"""What plugin files of each kind end in."""


@dataclass(frozen=True)
class PluginAddress:
    """A plugin that is there.

    Attributes
    ----------
    scheme : str
        "vst3" or "au".
    path : Path
        The file or bundle.
    name : str
        Which plugin of a file that holds several; empty for the only one.
    """

    scheme: str
    path: Path
    name: str = ""

    @property
    def title(self) -> str:
        """For people: the plugin's name, or that of its file."""
        return self.name or self.path.stem

    @property
    def expression(self) -> str:
        """Text that an effect expression reads back as this."""
        return written_address(self.scheme, f"{self.path}#{self.name}" if self.name else str(self.path))


def plugin_folders(scheme: str) -> list[Path]:
    """The standard folders for plugins on this system, whether they exist or not; VST3_PATH comes first."""
    home = Path.home()
    if scheme == "au":
        roots = [home / "Library", Path("/Library"), Path("/System/Library")] if sys.platform == "darwin" else []
        parts = [(root, "Audio/Plug-Ins/Components") for root in roots[:2]] + [(r, "Components") for r in roots[2:]]
        return [root / part for root, part in parts]
    own = [Path(part) for part in os.environ.get("VST3_PATH", "").split(os.pathsep) if part]
    if sys.platform == "darwin":
        return [*own, *(root / "Library/Audio/Plug-Ins/VST3" for root in (home, Path("/")))]
    if sys.platform == "win32":
        common = Path(os.environ.get("COMMONPROGRAMFILES", r"C:\Program Files\Common Files"))
        local = Path(os.environ.get("LOCALAPPDATA", str(home / "AppData/Local")))
        return [*own, local / "Programs/Common/VST3", common / "VST3"]
    return [*own, home / ".vst3", Path("/usr/lib/vst3"), Path("/usr/local/lib/vst3")]


def installed_plugins() -> list[PluginAddress]:
    """Every plugin file in the standard folders; of two with one name the first wins. None of them is loaded."""
    found: dict[tuple[str, str], PluginAddress] = {}
    for scheme, suffix in SUFFIXES.items():
        for folder in plugin_folders(scheme):
            for path in sorted(_with_suffix(folder, suffix)):
                found.setdefault((scheme, path.stem.lower()), PluginAddress(scheme, path))
    return sorted(found.values(), key=lambda a: (a.scheme, a.path.stem.lower()))


def _with_suffix(folder: Path, suffix: str, depth: int = 3) -> list[Path]:
    """Plugins in a folder and in the folders of makers in it; a bundle is not looked into."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    hits = [entry for entry in entries if entry.name.lower().endswith(suffix)]
    for entry in entries:
        if depth and not entry.name.lower().endswith(suffix) and entry.is_dir() and not entry.is_symlink():
            hits += _with_suffix(entry, suffix, depth - 1)
    return hits


def find_plugin(scheme: str, text: str) -> PluginAddress:
    """Find what an address names.

    Parameters
    ----------
    scheme : str
        "vst3" or "au".
    text : str
        A path, or the name of a plugin in the standard folders; then ``#`` and a name for one of several in a file.

    Raises
    ------
    UsageError
        If there is no such plugin; the message names the nearest ones.
    """
    suffix = SUFFIXES[scheme]
    where, _, name = text.partition("#")
    if not where:
        raise UsageError(f"{scheme}: names no plugin; write it like {scheme}:/path/Plugin{suffix}")
    path = Path(where).expanduser()
    if path.exists() and path.name.lower().endswith(suffix):
        return PluginAddress(scheme, path.resolve(), name)
    if path.exists() and len(path.parts) > 1:
        raise UsageError(f"{path} is no plugin of this kind; expected a name that ends in {suffix}")
    installed = {a.path.stem.lower(): a for a in installed_plugins() if a.scheme == scheme}
    bare = path.name[: -len(suffix)] if path.name.lower().endswith(suffix) else path.name
    if len(path.parts) == 1 and bare.lower() in installed:
        return PluginAddress(scheme, installed[bare.lower()].path, name)
    near = difflib.get_close_matches(bare.lower(), installed, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(f'{scheme}:{installed[n].path.stem}' for n in near)}?" if near else ""
    places = ", ".join(map(str, plugin_folders(scheme))) or "nowhere: this system has no plugins of this kind"
    looked = "" if len(path.parts) > 1 else f" (looked in {places})"
    raise UsageError(f"there is no plugin {scheme}:{where}{hint}{looked} (fxclone effects --plugins lists them)")
