"""``fxclone train`` as typed, for the tests of it: a quick recipe, the real command line, what comes out."""

import csv
import json

from fxclone import cli
from fxclone_training.runs import RunFolder

QUICK = """
[recipe]
m = 4
width = 3
activation = "tanh"
seconds = 60
max_steps = 300
sound_s = 6
validation_s = 2
"""
RUN_FILES = ["best.safetensors", "config.json", "curves.png", "log.csv"]


class CommandLine:
    """Runs the real command line in an empty folder: exit code, standard output, standard error.

    Parameters
    ----------
    monkeypatch, tmp_path, tmp_path_factory, capsys
        pytest's fixtures of these names.
    """

    def __init__(self, monkeypatch, tmp_path, tmp_path_factory, capsys):
        monkeypatch.chdir(tmp_path)
        preset = tmp_path_factory.mktemp("presets") / "quick.toml"
        preset.write_text(QUICK)
        self.capsys = capsys
        self.quick = ("--preset", str(preset), "--threads", "1")

    def __call__(self, *words):
        code = cli.run([str(word) for word in words])
        seen = self.capsys.readouterr()
        return code, seen.out, seen.err


def one_object(out):
    assert len(out.strip().splitlines()) == 1
    return json.loads(out)


def refused(result, *says, code=2):
    """Wrong use: the exit code, nothing on standard output, one line that says what is wrong."""
    got, out, err = result
    assert got == code, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("fxclone: ")
    for part in says:
        assert part in err
    return err


def log_of(run_folder):
    return list(csv.DictReader((run_folder / "log.csv").read_text().splitlines()))


def weights_in(run_folder):
    return {name: value.numpy() for name, value in RunFolder(run_folder).load_weights().stored()[1].items()}


def train_passthrough(fxclone_, *words):
    code, out, err = fxclone_("train", "--effect", "passthrough", *fxclone_.quick, "--json", *words)
    assert code == 0, err
    return one_object(out)
