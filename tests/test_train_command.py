"""``fxclone train`` as typed: one JSON object, one file, a run folder, and one line for what is wrong."""

import json

import numpy as np
import pytest
from train_runs import RUN_FILES, CommandLine, log_of, one_object, refused, train_passthrough, weights_in

from fxclone.clone import load_clone
from fxclone.files import write_sound

KEYS = {"model", "family", "seconds", "esr_db", "parameters"}


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    return CommandLine(monkeypatch, tmp_path, tmp_path_factory, capsys)


def test_seconds_of_tanh(fxclone_, tmp_path):
    words = ("--seconds", 40, "--target-esr-db", -25, "--threads", 1, "--json")
    code, out, err = fxclone_("train", "--effect", "tanh", *words)
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
        (("--effect", "tanh", "--lag", "30"), "--lag is for recordings"),
        (("--effect", "tanh", "--no-align"), "--no-align is for recordings"),
        (("--effect", "tanh", "--anyway"), "--anyway is for recordings"),
        (("--effect", "tanh", "--channels", "quadro"), "auto, mono, mono-stereo, stereo"),
        (("--effect", "tanh", "--family", "arr"), "family is 'arr'"),
        (("--effect", "tanh", "--tail-s", "-1"), "tail_s is -1"),
        (("--dry", "a.wav"), "--dry alone says nothing of the effect"),
        (("--wet", "a.wav"), "--wet without --dry"),
        (("--wet", "a.wav", "--dry", "b.wav", "--effect", "tanh"), "--wet and --effect"),
        (("--wet", "a.wav", "--dry", "b.wav", "--set", "drive=3"), "--set belongs to --effect"),
        (("--wet", "a.wav", "--dry", "b.wav", "--only-dry"), "--only-dry belongs to --effect"),
        (("--wet", "a.wav", "--dry", "b.wav", "--lag", "3", "--no-align"), "--lag and --no-align"),
        (("--wet", "a.wav", "--dry", "b.wav", "--lag", "nan"), "lag nan"),
        (("--wet", "a.wav", "--dry", "b.wav", "--resume", "last"), "--resume"),
        (("--resume", "last", "--anyway"), "--anyway"),
        (("--resume", "last", "--family", "ar"), "leave --family out"),
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


def test_a_name_that_is_no_onnx_file_is_refused(fxclone_, tmp_path):
    code, _, err = fxclone_("train", "--effect", "passthrough", "-o", "clone.wav")
    assert code == 2
    assert "ends in .onnx" in err
    assert not list(tmp_path.rglob("clone.wav"))


def test_kind_of_model_and_length_of_tail_are_settings_of_the_recipe(fxclone_, tmp_path):
    words = ("--family", "ar", "--tail-s", 0.25, "--max-steps", 30)
    facts = train_passthrough(fxclone_, *words)
    recipe = json.loads((tmp_path / facts["run"] / "config.json").read_text())["recipe"]
    assert (recipe["family"], recipe["tail_s"]) == ("ar", 0.25)


def test_help_is_in_groups(fxclone_):
    code, out, _ = fxclone_("train", "--help")
    assert code == 0
    titles = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Reference:", "Sound:", "Budget:", "Model:", "Output:", "Options:"]
    assert (
        out.index("Reference:") < out.index("--wet") < out.index("Sound:") < out.index("--lag") < out.index("Budget:")
    )
