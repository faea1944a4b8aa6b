"""How a plugin is written in an effect expression; no plugin is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxclone.effects.expression import parse_chain
from fxclone.effects.plugin_find import PluginAddress, find_plugin, installed_plugins
from fxclone.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vst3:ZamTube", [("vst3", "ZamTube", {})]),
        ("VST3:ZamTube(drive=3)", [("vst3", "ZamTube", {"drive": "3"})]),
        ("au:AUDelay > tanh", [("au", "AUDelay", {}), ("", "tanh", {})]),
        ("vst3:/a b/My P.vst3(x=1) > vst3:D.vst3", [("vst3", "/a b/My P.vst3", {"x": "1"}), ("vst3", "D.vst3", {})]),
        ('vst3:"/a (x)/P.vst3#Two Words"(x=1)', [("vst3", "/a (x)/P.vst3#Two Words", {"x": "1"})]),
        ("'vst3:/a (x)/P.vst3' > tanh", [("vst3", "/a (x)/P.vst3", {}), ("", "tanh", {})]),
        ("vst3:/p/Bundle.vst3#Second", [("vst3", "/p/Bundle.vst3#Second", {})]),
        (r'vst3:"C:\Program Files (x86)\New\P.vst3"', [("vst3", r"C:\Program Files (x86)\New\P.vst3", {})]),
        ('vst3:P(preset="a b.vstpreset")', [("vst3", "P", {"preset": "a b.vstpreset"})]),
    ],
)  # fmt: skip
def test_addresses_are_read(text: str, expected: list[tuple[str, str, dict[str, str]]]) -> None:
    assert [(link.scheme, link.name, link.named) for link in parse_chain(text)] == expected


@pytest.mark.parametrize(
    "address",
    [
        PluginAddress("vst3", Path("/usr/lib/vst3/ZamTube.vst3")),
        PluginAddress("vst3", Path("/a (x)/b c, d=e > f.vst3"), "Name of it"),
        PluginAddress("au", Path('/say "hi"/x.component')),
        PluginAddress("vst3", Path(r"/back\\slash\new.vst3")),
    ],
)
def test_addresses_are_written_so_that_they_are_read_back(address: PluginAddress) -> None:
    (link,) = parse_chain(address.expression)
    text = f"{address.path}#{address.name}" if address.name else str(address.path)
    assert (link.scheme, link.name) == (address.scheme, text)


def test_folders_of_makers_are_looked_into_and_bundles_are_not(tmp_path: Path, monkeypatch) -> None:
    for name in ("Maker/Deep.vst3", "Flat.vst3/Contents/Inner.vst3", "other.txt"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("VST3_PATH", str(tmp_path))
    here = {a.path.stem for a in installed_plugins() if tmp_path in a.path.parents}
    assert here == {"Deep", "Flat"}
    assert find_plugin("vst3", "deep").path == tmp_path / "Maker/Deep.vst3"
    with pytest.raises(UsageError, match="did you mean vst3:Deep"):
        find_plugin("vst3", "Deap")
    with pytest.raises(UsageError, match="names no plugin"):
        find_plugin("vst3", "")
