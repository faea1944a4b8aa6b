"""The commands of README.md work, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

BLOCK = re.compile(r"(?:^<!--(?P<comment>(?:(?!-->).)*)-->\n)?^```bash\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)\)")
NOT_RUN = "not run by the tests:"


def commands(text: str) -> list[str]:
    """Every line of the bash blocks that the tests run; a backslash at the end joins lines."""
    found = []
    for block in BLOCK.finditer(text):
        comment = (block["comment"] or "").strip()
        if comment.startswith(NOT_RUN):
            assert comment.removeprefix(NOT_RUN).strip(), "say why a block is not run"
            continue
        joined = block["lines"].replace("\\\n", " ")
        found += [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return found


def test_blocks_are_found_and_marked_ones_left_out() -> None:
    block = "```bash\n{}\n```\n\n"
    text = "<!-- a mark -->\n\n" + block.format("one \\\n  more\n# no\ntwo")
    text += "<!-- a mark -->\n\n<!-- not run by the tests: slow -->\n" + block.format("three")
    assert commands(text) == ["one    more", "two"]


@pytest.mark.slow
def test_readme_commands(tmp_path) -> None:
    lines = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(lines) >= 8
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        assert line.startswith("fxclone "), f"the tests run fxclone only, not {line!r}; mark its block"
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    named = {word for line in lines for word in line.split() if word.endswith((".wav", ".flac", ".onnx"))}
    assert {"guitar.wav", "tanh.onnx"} <= named
    missing = sorted(name for name in named if not (tmp_path / name).is_file())
    assert not missing, f"README.md names files that its commands do not leave: {missing}"


def test_links_of_the_pages_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [ROOT / "export/CLONE_FORMAT.md", ROOT / "docs/TRAINING.md"]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert len(links) >= 5
    gone = [f"{page.name}: {link}" for page, link in links if "://" not in link and not (page.parent / link).exists()]
    assert not gone
