"""``fxclone effects`` as a user sees it, and the effects of other packages."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import fxclone.effects as effects_package
from fxclone.cli import run
from fxclone.effects import EffectSpec, available_effects, effect
from fxclone.errors import EffectError
from fxclone.presets import available_presets


def said(capsys, *args: str) -> str:
    assert run(["effects", *args]) == 0
    return capsys.readouterr().out


def test_list_names_every_effect_and_preset_in_80_columns(capsys) -> None:
    out = said(capsys)
    words = out.split()
    assert set(available_effects()) | set(available_presets()) <= set(words)
    assert "\x1b" not in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80


def test_one_effect_shows_its_settings_and_a_command(capsys) -> None:
    out = said(capsys, "brickwall_limiter")
    for word in ("lookahead_ms", "0.001 to 100", "240 samples at 48000 Hz", "fxclone train --effect brickwall_limiter"):
        assert word in out
    assert "impulse_response=FILE" in said(capsys, "convolution")


def test_chain_with_set_and_preset(capsys) -> None:
    out = said(capsys, "highpass > tanh", "--set", "tanh.drive=9")
    assert "highpass(cutoff_hz=200, order=4) > tanh(drive=9)" in out
    out = said(capsys, "seed-tanh")
    assert "m = 128" in out
    assert "--preset seed-tanh" in out
    assert "width = 256" in said(capsys, "seed")


def test_every_effect_and_preset_can_be_shown(capsys) -> None:
    for name in (*available_effects(), *available_presets()):
        assert name in said(capsys, name)
        assert json.loads(said(capsys, name, "--json"))


def test_json_has_the_keys_that_scripts_use(capsys) -> None:
    listed = json.loads(said(capsys, "--json"))
    by_name = {facts["name"]: facts for facts in listed["effects"]}
    assert set(by_name) == set(available_effects())
    assert by_name["lowpass"]["linear"] is True
    assert by_name["tanh"]["settings"][0] | {"name": "drive", "default": 5.0} == by_name["tanh"]["settings"][0]
    one = json.loads(said(capsys, "tanh > gsm", "--set", "drive=2", "--json"))
    assert one["expression"].startswith("tanh(drive=2) > gsm(")
    assert one["tail_s"] is None
    assert one["latency_samples"] > 960
    assert [stage["name"] for stage in one["stages"]] == ["tanh", "gsm"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["tahn"], "did you mean tanh"),
        (["tanh(drive=-1)"], "0.001 to 1000"),
        (["tanh", "--set", "drive"], "name=value"),
        (["--set", "drive=1"], "needs an effect"),
        (["seed", "--set", "m=1"], "only a recipe"),
        (["nowhere.toml"], "cannot read the preset"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys, args, says) -> None:
    assert run(["effects", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_making_an_effect_loads_nothing_heavy() -> None:
    code = (
        "import sys; from fxclone.effects import available_effects, effect; effect('reverb > lowpass');"
        "print([m for m in ('pedalboard', 'scipy', 'torch', 'rich', 'soundfile') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


MINE = EffectSpec("halve", "Half as loud.", (), lambda settings: lambda dry, sample_rate: dry / 2, source="mine")
SHORT = EffectSpec("short", "Breaks its promise.", (), lambda settings: lambda dry, sample_rate: dry[:, 1:])
EFFECTS = [MINE, SHORT, EffectSpec("tanh", "A name that is taken.", (), MINE.build)]
EFFECTS_BY_NAME = {"not": "a spec"}


@pytest.fixture
def with_strangers(monkeypatch):
    ours = list(effects_package.entry_points(group="fxclone.effects"))
    strangers = [
        EntryPoint("good", f"{__name__}:EFFECTS", "fxclone.effects"),
        EntryPoint("broken", "no_such_module_at_all:EFFECTS", "fxclone.effects"),
        EntryPoint("wrong", f"{__name__}:EFFECTS_BY_NAME", "fxclone.effects"),
    ]
    monkeypatch.setattr(effects_package, "entry_points", lambda group: ours + strangers)
    effects_package._load.cache_clear()
    yield
    effects_package._load.cache_clear()


@pytest.mark.usefixtures("with_strangers")
def test_other_packages_add_effects_and_broken_ones_do_no_harm(capsys, rng) -> None:
    found = available_effects()
    warnings = capsys.readouterr().err.splitlines()
    assert found["halve"] is MINE
    assert found["tanh"].source == "fxclone"
    assert len(warnings) == 3
    assert any("no_such_module_at_all" in line for line in warnings)
    dry = rng.standard_normal((1, 100)).astype("float32")
    assert (effect("halve").render(dry, 48_000) == dry / 2).all()
    with pytest.raises(EffectError, match="99 samples for 100"):
        effect("short").render(dry, 48_000)
