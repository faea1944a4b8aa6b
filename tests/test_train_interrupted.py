"""Training that is interrupted or fails: Ctrl-C keeps the best so far, a full disk leaves nothing half-written."""

import signal
import subprocess
import sys
import threading

import pytest
from train_runs import RUN_FILES, CommandLine

from fxclone.clone import load_clone
from fxclone.errors import CloneFileError


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    return CommandLine(monkeypatch, tmp_path, tmp_path_factory, capsys)


def start(tmp_path, *words):
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fxclone import cli; sys.exit(cli.run(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code, *map(str, words)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(running, timeout=90):
    """Exit code, standard output, standard error; the process is stopped whatever happens."""
    timer = threading.Timer(timeout, running.kill)
    timer.start()
    try:
        out, err = running.communicate()
    finally:
        timer.cancel()
    return running.returncode, out, err


def lines_until(running, word):
    seen = []
    for line in running.stderr:
        seen.append(line)
        if word in line:
            return seen
    raise AssertionError("".join(seen))


def test_ctrl_c_exports_the_best_so_far(tmp_path):
    words = ("train", "--effect", "compressor", "--seconds", 60, "--m", 4, "--width", 3, "--activation", "tanh",
             "--threads", 1)  # fmt: skip
    running = start(tmp_path, *words)
    lines_until(running, "free-running")
    running.send_signal(signal.SIGINT)
    code, out, err = ended(running)
    assert code == 0, err
    assert "Traceback" not in err
    assert "stopped by the user" in out
    clone = load_clone(tmp_path / "compressor.onnx")
    assert clone.meta.training["ended"] == "stopped by the user"
    (run,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in run.iterdir()) == RUN_FILES


def test_ctrl_c_at_once_still_ends_well(tmp_path):
    running = start(tmp_path, "train", "--effect", "compressor", "--seconds", 60, "--threads", 1)
    lines_until(running, "cloning")
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code in (0, 130), err
    assert "Traceback" not in err
    assert (tmp_path / "compressor.onnx").exists() == (code == 0)
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_a_failed_training_leaves_no_clone(fxclone_, tmp_path, monkeypatch):
    """A full disk, as the weights are kept or the clone is written: one line, nothing half-written."""
    from fxclone_training import finish

    def full(*args, **options):
        raise CloneFileError("no space left")

    monkeypatch.setattr(finish, "write_clone", full)
    code, out, err = fxclone_("train", "-e", "passthrough", *fxclone_.quick, "--quiet")
    assert (code, out) == (1, "")
    assert "no space left" in err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    (run,) = (tmp_path / "runs").iterdir()
    assert "best.safetensors" in {path.name for path in run.iterdir()}


def test_a_run_folder_that_fails_does_not_cost_the_clone(fxclone_, tmp_path, monkeypatch):
    """A full disk under runs/ ends the diary, not the training."""
    from fxclone_training.runs import RunFolder

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "save_weights", full)
    code, _, err = fxclone_("train", "--effect", "passthrough", "--seconds", "2")
    assert code == 0, err
    assert err.count("is not kept any more") == 1
    assert load_clone(tmp_path / "passthrough.onnx").meta.metrics["esr_db"] < -80
