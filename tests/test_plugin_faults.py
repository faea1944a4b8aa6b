"""A plugin that crashes or hangs is one line, and nothing of it is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from plugins import ABORTS, HANGS, READS_NOWHERE, children, needs_zam, temporary_files, wrong_plugin

from fxclone.cli import run
from fxclone.effects import effect
from fxclone.errors import EffectError, UsageError


@pytest.fixture(autouse=True)
def plugins_of_other_tests_are_gone():
    """Plugins that were played in this process say something when they are deleted, whenever that is."""
    gc.collect()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.parametrize(("wrong", "sign"), [(ABORTS, "SIGABRT"), (READS_NOWHERE, "SIGSEGV")])
def test_a_crash_while_loading_is_one_line(tmp_path, temporary, capfd, wrong, sign) -> None:
    plugin = wrong_plugin(tmp_path, wrong)
    assert run(["effects", f"vst3:{plugin}"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"Wrong crashed while loading (signal {int(signal.Signals[sign])}, {sign})" in err
    assert 'it said "no licence found"' in err
    assert children() == []
    assert temporary_files(temporary) == []


def test_training_on_a_plugin_that_crashes_ends_in_one_line(tmp_path, temporary, capfd, monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    plugin = wrong_plugin(tmp_path, ABORTS)
    assert run(["train", "--effect", f"vst3:{plugin}", "--seconds", "1"]) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "crashed while loading" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Wrong.vst3", "temporary"]


def test_a_plugin_that_hangs_is_given_up(tmp_path, temporary, capfd, monkeypatch) -> None:
    monkeypatch.setenv("FXCLONE_PLUGIN_TIMEOUT_S", "1.5")
    plugin = wrong_plugin(tmp_path, HANGS)
    assert run(["effects", f"vst3:{plugin}"]) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Wrong hangs while loading (no answer for 1.5 s)" in err
    assert "FXCLONE_PLUGIN_TIMEOUT_S" in err
    assert children() == []
    assert temporary_files(temporary) == []


def test_a_timeout_that_is_no_time_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "Empty.vst3").mkdir()
    monkeypatch.setenv("FXCLONE_PLUGIN_TIMEOUT_S", "soon")
    with pytest.raises(UsageError, match=r"FXCLONE_PLUGIN_TIMEOUT_S is soon; expected seconds"):
        effect(f"vst3:{tmp_path / 'Empty.vst3'}")


def test_a_bundle_without_a_plugin_says_so(tmp_path) -> None:
    (tmp_path / "Empty.vst3").mkdir()
    with pytest.raises(EffectError, match="Empty failed"):
        effect(f"vst3:{tmp_path / 'Empty.vst3'}")


@needs_zam
def test_a_render_that_is_killed_is_one_line(temporary) -> None:
    reference = effect("vst3:ZamTube")
    dry = np.zeros((1, 20 * 48_000), np.float32)
    failed: list[Exception] = []

    def render() -> None:
        try:
            reference.render(dry, 48_000)
        except EffectError as error:
            failed.append(error)

    work = threading.Thread(target=render)
    work.start()
    patience = time.monotonic() + 20.0
    while not children() and time.monotonic() < patience:
        time.sleep(0.01)
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    work.join()
    assert len(failed) == 1
    assert "ZamTube crashed while" in str(failed[0])
    assert "(signal 9, SIGKILL)" in str(failed[0])
    assert children() == []
    assert temporary_files(temporary) == []
    assert effect("vst3:ZamTube").render(dry[:, :1000], 48_000).shape == (1, 1000)  # and the next one works


def test_a_plugin_that_hangs_does_not_outlive_fxclone(tmp_path) -> None:
    plugin = wrong_plugin(tmp_path, HANGS)
    code = "import sys; from fxclone.effects import effect; effect(sys.argv[1])"
    parent = subprocess.Popen([sys.executable, "-c", code, f"vst3:{plugin}"])
    try:
        patience = time.monotonic() + 30.0
        child = 0
        while not child and time.monotonic() < patience:
            listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
            child = int(listed[0]) if listed else 0
            time.sleep(0.01)
        assert child
        while "Wrong.so" not in Path(f"/proc/{child}/maps").read_text() and time.monotonic() < patience:
            time.sleep(0.01)
        assert "Wrong.so" in Path(f"/proc/{child}/maps").read_text()
    finally:
        parent.kill()
        parent.wait()
    while command_line(child) and time.monotonic() < patience:
        time.sleep(0.01)
    assert command_line(child) == ""


def command_line(pid: int) -> str:
    """How a process was started; empty if there is none, or only a zombie that its new parent has not seen yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
