"""``fxclone train`` as typed: one JSON object, one file, a run folder, and one line for whatever goes wrong."""

import csv
import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from fxclone import cli
from fxclone.clone import load_clone
from fxclone.errors import CloneFileError
from fxclone.files import write_sound
from fxclone_training.ar import Ar, ArConfig
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
KEYS = {"model", "family", "seconds", "esr_db", "parameters"}
RUN_FILES = ["best.safetensors", "config.json", "curves.png", "log.csv"]


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    """Run the real command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    preset = tmp_path_factory.mktemp("presets") / "quick.toml"
    preset.write_text(QUICK)

    def run(*words):
        code = cli.run([str(word) for word in words])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    run.quick = ("--preset", str(preset), "--threads", "1")
    return run


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
    return {name: value.numpy() for name, value in RunFolder(run_folder).load_weights().state_dict().items()}


def train_passthrough(fxclone_, *words):
    code, out, err = fxclone_("train", "--effect", "passthrough", *fxclone_.quick, "--json", *words)
    assert code == 0, err
    return one_object(out)


def test_three_seconds_of_tanh(fxclone_, tmp_path):
    code, out, err = fxclone_("train", "--effect", "tanh", "--seconds", 3, "--threads", 1, "--json")
    assert code == 0, err
    facts = one_object(out)
    assert set(facts) >= KEYS
    assert facts["model"] == "tanh.onnx"
    assert facts["family"] == "ar"
    assert 0 < facts["seconds"] < 60
    assert facts["esr_db"] < -20
    clone = load_clone(tmp_path / "tanh.onnx")
    assert clone.meta.parameters == facts["parameters"] > 0
    assert clone.meta.training["reference"].startswith("tanh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "tanh.onnx"]


def test_what_a_run_leaves(fxclone_, tmp_path):
    facts = train_passthrough(fxclone_, "--seed", 4)
    assert facts["esr_db"] <= -80
    assert facts["sample_rate"] == 48_000
    run = tmp_path / facts["run"]
    assert run.parent == tmp_path / "runs"
    assert sorted(path.name for path in run.iterdir()) == RUN_FILES
    config = json.loads((run / "config.json").read_text())
    assert config["effect"] == "passthrough"
    assert (config["recipe"]["seed"], config["recipe"]["m"]) == (4, 4)
    rows = log_of(run)
    assert rows
    assert float(rows[-1]["best_esr_db"]) == pytest.approx(facts["esr_db"], abs=0.1)
    assert (run / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sum(weights.size for weights in weights_in(run).values()) > 0
    meta = load_clone(tmp_path / "passthrough.onnx").meta
    assert meta.training["recipe"] == config["recipe"]
    assert meta.metrics["esr_db"] <= -80
    assert meta.metrics["lag_samples"] == pytest.approx(0, abs=0.01)
    assert set(meta.levels) == {"dry_peak", "wet_peak", "wet_rms", "wet_dc"}
    assert meta.certificate["small_gain"] >= 0


def test_words_for_people(fxclone_, tmp_path):
    code, out, _ = fxclone_("train", "-e", "gain", "--set", "gain_db=-6", *fxclone_.quick, "-o", "quiet.onnx")
    assert code == 0
    assert out.splitlines()[0].startswith("wrote quiet.onnx: ")
    assert "fxclone play --model quiet.onnx" in out
    assert (tmp_path / "quiet.onnx").is_file()
    code, out, err = fxclone_("train", "-e", "gain", *fxclone_.quick, "-o", "loud.onnx", "--quiet")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_never_overwrites_unasked(fxclone_, tmp_path):
    (tmp_path / "passthrough.onnx").write_text("mine")
    words = ("train", "--effect", "passthrough", *fxclone_.quick, "--json")
    refused(fxclone_(*words), "passthrough.onnx exists already", "--force")
    assert (tmp_path / "passthrough.onnx").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["passthrough.onnx"]
    code, out, _ = fxclone_(*words, "--force")
    assert code == 0
    assert one_object(out)["esr_db"] <= -80
    assert load_clone(tmp_path / "passthrough.onnx").name == "passthrough"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no reference effect given"),
        (("--effect", "tnah"), "did you mean tanh"),
        (("--effect", "tanh", "--set", "driev=3"), "drive"),
        (("--effect", "tanh", "--set", "drive=loud"), "drive"),
        (("--effect", "tanh", "--set", "drive=1e9"), "drive"),
        (("--effect", "tanh", "--set", "drive"), "drive"),
        (("--effect", "tanh >"), ""),
        (("--preset", "sede"), "did you mean seed?"),
        (("--preset", "gone.toml"), "gone.toml"),
        (("--preset", "seed"), "no reference effect"),
        (("--effect", "tanh", "--seconds", "0"), "seconds"),
        (("--effect", "tanh", "--seconds", "nan"), "seconds"),
        (("--effect", "tanh", "--seconds", "soon"), "seconds"),
        (("--effect", "tanh", "--width", "0"), "width"),
        (("--effect", "tanh", "--activation", "sine"), "activation"),
        (("--effect", "tanh", "--loss", "mae"), "loss"),
        (("--effect", "tanh", "--m", "9999"), "m is 9999"),
        (("--effect", "tanh", "--seed", "-1"), "seed"),
        (("--effect", "tanh", "--target-esr-db", "3"), "target_esr_db"),
        (("--effect", "tanh", "--sample-rate", "100"), "sample rate 100"),
        (("--effect", "tanh", "--device", "tpu"), "tpu"),
        (("--effect", "tanh", "--threads", "0"), "threads"),
        (("--effect", "tanh", "--threads", "-2"), "threads"),
        (("--effect", "tanh", "--only-dry"), "--dry"),
        (("--effect", "tanh", "-o", "nowhere/x.onnx"), "nowhere"),
        (("--effect", "tanh", "-o", "."), "folder"),
        (("--effect", "tanh", "--resume", "last"), "--resume"),
        (("--resume", "last"), "no run"),
        (("--resume", "gone"), "gone"),
        (("--nonsense",), "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_line(fxclone_, tmp_path, words, says):
    refused(fxclone_("train", *words), says)
    assert list(tmp_path.iterdir()) == []


def test_resume_goes_on(fxclone_, tmp_path):
    words = ("train", "--effect", "tanh > lowpass(cutoff_hz=5000, order=1)", *fxclone_.quick, "--json")
    first = one_object(fxclone_(*words, "-o", "first.onnx")[1])
    refused(fxclone_("train", "--resume", "last", "--json"), "first.onnx exists already")
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 20, "-o", "second.onnx", "--json")
    assert code == 0, err
    second = one_object(out)
    assert second["run"] == first["run"]
    assert second["effect"] == first["effect"]
    assert second["m"] == first["m"] == 4
    assert second["esr_db"] <= first["esr_db"] + 0.5
    rows = log_of(tmp_path / first["run"])
    assert len({row["best_esr_db"] for row in rows}) > 1
    assert load_clone(tmp_path / "second.onnx").meta.parameters == second["parameters"]
    code, out, err = fxclone_("train", "--resume", first["run"], "--max-steps", 4, "-o", "third.onnx", "--json")
    assert code == 0, err


def test_resume_never_makes_the_kept_weights_worse(fxclone_, tmp_path):
    facts = train_passthrough(fxclone_)
    before = weights_in(tmp_path / facts["run"])
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 1, "--force", "--json")
    assert code == 0, err
    assert one_object(out)["esr_db"] <= facts["esr_db"] + 0.5
    after = weights_in(tmp_path / facts["run"])
    assert before.keys() == after.keys()


def made_run(base, name="tanh-run", *, weights=None, config=None):
    """A run folder as an interrupted training would leave it."""
    facts = {"effect": "tanh", "recipe": {"seconds": 5.0}, "sample_rate": 48_000, "dry": [], "only_dry": False,
             "output": "tanh.onnx"}  # fmt: skip
    run = RunFolder.create(base / "runs", name, facts)
    run.save_weights(Ar(ArConfig(m=2, width=2)), -10.0)
    if weights is not None:
        (run.path / "best.safetensors").write_bytes(weights((run.path / "best.safetensors").read_bytes()))
    if config is not None:
        (run.path / "config.json").write_text(config(facts) if callable(config) else config)
    return run.path


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: b"rubbish", lambda data: data[: len(data) // 2], lambda data: data[:-1],
     lambda data: data.replace(b'm\\": 2', b'm\\": 9'), lambda data: data.replace(b"skip_x", b"skip_z"),
     lambda data: data[:-4] + np.float32(np.nan).tobytes()],
    ids=["empty", "rubbish", "half", "a byte short", "other shape", "other names", "NaN"],
)  # fmt: skip
def test_corrupt_weights(fxclone_, tmp_path, damage):
    made_run(tmp_path, weights=damage)
    refused(fxclone_("train", "--resume", "last"), "best.safetensors", code=1)
    assert not (tmp_path / "tanh.onnx").exists()


@pytest.mark.parametrize(
    "config",
    ["", "{", "[]", "null", "{}", lambda facts: json.dumps({**facts, "sample_rate": "fast"}),
     lambda facts: json.dumps({**facts, "sample_rate": None}), lambda facts: json.dumps({**facts, "effect": 5}),
     lambda facts: json.dumps({**facts, "effect": "gone"}), lambda facts: json.dumps({**facts, "recipe": [1]}),
     lambda facts: json.dumps({**facts, "recipe": {"m": "many"}}), lambda facts: json.dumps({**facts, "output": 3}),
     lambda facts: json.dumps({**facts, "dry": 3}), lambda facts: json.dumps({**facts, "dry": [3]})],
    ids=["empty", "cut", "list", "null", "nothing", "rate word", "no rate", "effect 5", "effect gone", "recipe list",
         "recipe word", "output 3", "dry 3", "dry of numbers"],
)  # fmt: skip
def test_a_corrupt_configuration(fxclone_, tmp_path, config):
    made_run(tmp_path, config=config)
    code, out, err = fxclone_("train", "--resume", "last", "--max-steps", 1)
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1


def test_a_run_without_weights(fxclone_, tmp_path):
    run = made_run(tmp_path)
    (run / "best.safetensors").unlink()
    refused(fxclone_("train", "--resume", "last"), "no run with weights")
    refused(fxclone_("train", "--resume", run), "best.safetensors")


def test_resume_with_a_smaller_window(fxclone_, tmp_path):
    """Either a clone, or one line; never a traceback after all the work."""
    train_passthrough(fxclone_)
    code, _, err = fxclone_("train", "--resume", "last", "--m", 1, "--max-steps", 2, "-o", "b.onnx")
    assert code in (0, 2), err
    assert "Traceback" not in err


def test_the_same_seed_gives_the_same_weights(fxclone_, tmp_path):
    words = (
        "train",
        "--effect",
        "tanh > lowpass(cutoff_hz=5000, order=1)",
        *fxclone_.quick,
        "--max-steps",
        130,
        "--json",
    )
    runs = []
    for name, seed in (("a.onnx", 7), ("b.onnx", 7), ("c.onnx", 8)):
        code, out, err = fxclone_(*words, "--seed", seed, "-o", name)
        assert code == 0, err
        runs.append(weights_in(tmp_path / one_object(out)["run"]))
    one, two, other = runs
    assert one.keys() == two.keys() == other.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_own_sound(fxclone_, tmp_path, rng):
    (tmp_path / "dry").mkdir()
    for name in ("one.wav", "two.flac", "three.wav"):
        n = 5 * 44_100
        sound = 0.3 * rng.standard_normal((1, n)) * np.abs(np.sin(np.arange(n) / 20_000))
        write_sound(tmp_path / "dry" / name, sound.astype(np.float32), 44_100)
    words = (
        "train",
        "-e",
        "passthrough",
        "--dry",
        "dry",
        "--sample-rate",
        44_100,
        *fxclone_.quick,
        "--max-steps",
        300,
        "--json",
    )
    code, out, err = fxclone_(*words, "--only-dry")
    assert code == 0, err
    facts = one_object(out)
    assert facts["sample_rate"] == load_clone(tmp_path / "passthrough.onnx").sample_rate == 44_100
    assert facts["esr_db"] <= -80
    config = json.loads((tmp_path / facts["run"] / "config.json").read_text())
    assert config["only_dry"] is True
    assert config["dry"] == ["dry"]


def test_unusable_own_sound_is_told(fxclone_, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.wav").write_text("no sound")
    write_sound(tmp_path / "silence.wav", np.zeros((1, 480_000), np.float32), 48_000)
    for dry in ("gone", "empty", "words.wav", "silence.wav"):
        code, out, err = fxclone_("train", "-e", "tanh", "--dry", dry, "--only-dry", *fxclone_.quick, "--quiet")
        assert code in (1, 2), dry
        assert out == ""
        assert len(err.strip().splitlines()) == 1, err
        assert not (tmp_path / "tanh.onnx").exists()
        assert not (tmp_path / "runs").exists()


def test_a_preset_with_a_bad_recipe(fxclone_, tmp_path):
    for line, says in (("width = 0", "width"), ("widht = 3", "did you mean width"), ("m = 2.5", "m"),
                       ('skip = "no"', "skip")):  # fmt: skip
        (tmp_path / "mine.toml").write_text(f'effect = "tanh"\n[recipe]\n{line}\n')
        refused(fxclone_("train", "--preset", "mine.toml", "--max-steps", 1), says)


def test_a_preset_and_what_is_given_beside_it(fxclone_, tmp_path):
    recipe = 'm = 4\nwidth = 5\nactivation = "relu"\nseconds = 60\nmax_steps = 300\nsound_s = 5\nvalidation_s = 2\n'
    (tmp_path / "mine.toml").write_text(f'effect = "invert"\n[recipe]\n{recipe}')
    code, out, err = fxclone_("train", "-p", "mine.toml", "--width", 3, "--threads", 1, "--json")
    assert code == 0, err
    facts = one_object(out)
    assert facts["model"] == "invert.onnx"
    assert facts["esr_db"] <= -80
    assert json.loads((tmp_path / facts["run"] / "config.json").read_text())["recipe"]["width"] == 3


# Ctrl-C


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


# Verify


def test_verify_passes_and_fails_as_it_should(fxclone_, tmp_path):
    train_passthrough(fxclone_)
    code, out, err = fxclone_("verify", "passthrough.onnx")
    assert (code, err) == (0, "")
    assert "FAILED" not in out
    assert "causal" in out
    code, out, _ = fxclone_("verify", "passthrough.onnx", "--json")
    facts = one_object(out)
    assert code == 0
    assert facts["passed"] is True
    assert all(check["passed"] for check in facts["checks"])
    assert len(facts["checks"]) >= 16
    data = (tmp_path / "passthrough.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    refused(fxclone_("verify", "cut.onnx"), "cut.onnx", code=1)
    refused(fxclone_("verify", "gone.onnx"), "does not exist", code=1)


def test_verify_finds_a_clone_that_depends_on_its_blocks(fxclone_, tmp_path):
    """Scales by the length of the block: the self-test is passed, streaming is not."""
    from clone_files import AUDIO, WET, as_model, good_meta, packed
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Shape", ["audio"], ["size"], start=1, end=2),
        helper.make_node("Cast", ["size"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["length", "small"], ["scale"]),
        helper.make_node("Mul", ["audio", "scale"], ["audio_out"]),
    ]
    model = as_model(nodes, [("small", np.float32([0.01]))], (AUDIO,), (WET,))
    (tmp_path / "bad.onnx").write_bytes(packed(model, good_meta()))  # whose self-test runs in blocks of 100
    code, out, err = fxclone_("verify", "bad.onnx", "--json")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "chunks of 1 == whole" in err
    facts = one_object(out)
    assert facts["passed"] is False
    failed = {check["name"] for check in facts["checks"] if not check["passed"]}
    assert "chunks of 1 == whole" in failed
    assert "deterministic" not in failed


@pytest.mark.slow
def test_the_seed_preset_trains_and_exports(fxclone_, tmp_path):
    code, out, err = fxclone_("train", "--preset", "seed", "--effect", "tanh", "--seconds", 6, "--json")
    assert code == 0, err
    facts = one_object(out)
    assert facts["parameters"] == 394_753
    assert (facts["m"], facts["past_outputs"], facts["activation"]) == (128, 127, "gelu")
    clone = load_clone(tmp_path / "tanh.onnx")
    out = clone.render(np.float32(0.1) * np.ones((1, 100), np.float32))
    assert out.shape == (1, 100)
    assert np.isfinite(out).all()


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


def test_a_name_that_is_no_onnx_file_is_refused(fxclone_, tmp_path):
    code, _, err = fxclone_("train", "--effect", "passthrough", "-o", "clone.wav")
    assert code == 2
    assert "ends in .onnx" in err
    assert not list(tmp_path.rglob("clone.wav"))


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
