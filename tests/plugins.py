"""Plugins for tests: Debian's zam-plugins where they are installed, and modules made to go wrong."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ZAM = Path("/usr/lib/vst3")
needs_zam = pytest.mark.skipif(not (ZAM / "ZamTube.vst3").exists(), reason="zam-plugins is not installed")

ABORTS, HANGS, READS_NOWHERE = 1, 2, 3


def wrong_plugin(folder: Path, wrong: int, name: str = "Wrong") -> Path:
    """Compile a VST3 bundle that aborts, hangs or crashes as soon as it is loaded."""
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs gcc and Linux to make a faulty plugin")
    bundle = folder / f"{name}.vst3"
    inside = bundle / "Contents" / f"{platform.machine()}-linux"
    inside.mkdir(parents=True)
    source = Path(__file__).parent / "crash_plugin" / "plugin.c"
    command = [compiler, "-shared", "-fPIC", "-O0", f"-DWRONG={wrong}", "-o", str(inside / f"{name}.so"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return bundle


def children() -> list[int]:
    """Process ids of this process' children, zombies included."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += [int(pid) for pid in (task / "children").read_text().split()]
        except FileNotFoundError:  # a thread that has just ended
            continue
    return found


def temporary_files(folder: Path) -> list[str]:
    """What lies in the folder that TMPDIR names."""
    return sorted(path.name for path in folder.iterdir())
