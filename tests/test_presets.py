"""Presets: each that comes along works, and a bad one says so."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.presets import available_presets, load_preset

SEED = {"m": 128, "layers": 6, "width": 256, "activation": "gelu", "noise_sigma": 0.1, "loss": "mse", "family": "ar"}


def test_every_preset_renders_sound_at_a_sane_level(rng) -> None:
    dry = (0.2 * rng.standard_normal((1, 4800))).astype(np.float32)
    effects = [p for p in available_presets().values() if p.effect]
    assert len(effects) >= 10
    for preset in effects:
        wet = effect(preset.effect).render(dry, 48_000)
        assert wet.shape == dry.shape
        assert 0.01 < np.abs(wet).max() <= 4.0, preset.name
        assert preset.description


@pytest.mark.parametrize(
    ("name", "shortest_s", "longest_s", "linear"),
    [
        ("room", 0.5, 1.5, True),
        ("plate", 1.0, 3.0, True),
        ("hall", 2.5, 6.0, True),
        ("slapback", 0.2, 0.5, True),
        ("echo", 1.5, 4.0, True),
        ("dotted-echo", 1.5, 4.0, True),
        ("long-echo", 15.0, 30.0, True),
        ("drive-reverb", 0.8, 2.0, False),
        ("amp-cabinet", 0.02, 0.06, False),
    ],
)
def test_presets_with_a_long_memory_ring_as_long_as_they_say(rng, name, shortest_s, longest_s, linear) -> None:
    made = effect(load_preset(name).effect or "")
    assert made.tail_s is not None
    assert shortest_s <= made.tail_s <= longest_s
    assert made.linear is linear
    rate = 16_000
    heard = rate // 2
    dry = np.zeros((1, heard + round((made.tail_s + 1) * rate)), np.float32)
    dry[:, :heard] = 0.2 * rng.standard_normal(heard)
    wet = made.render(dry, rate)[0].astype(float)
    loud = np.sqrt(np.mean(wet[:heard] ** 2))
    end = heard + round(made.tail_s * rate)
    assert np.sqrt(np.mean(wet[end:] ** 2)) < 3e-3 * loud
    # and it does ring: a third of that time after the end it is not over
    rings = np.abs(wet[heard + round(made.tail_s / 3 * rate) : end]).max()
    assert rings > 1e-3 * loud


@pytest.mark.parametrize("name", ["room", "plate", "hall", "drive-reverb"])
def test_reverb_presets_are_wide(rng, name) -> None:
    dry = np.repeat((0.2 * rng.standard_normal((1, 24_000))).astype(np.float32), 2, axis=0)
    left, right = effect(load_preset(name).effect or "").render(dry, 48_000)
    assert np.abs(np.corrcoef(left, right)[0, 1]) < 0.98
    assert np.sqrt(np.mean((left - right) ** 2)) > 0.05 * np.sqrt(np.mean(left**2))


def test_seed_presets_are_the_notebook() -> None:
    for name, expression in {
        "seed": None,
        "seed-passthrough": "passthrough",
        "seed-tanh": "tanh(drive=5)",
        "seed-lowpass": "lowpass(cutoff_hz=1000, order=4)",
        "seed-ringmod": "ringmod(frequency_hz=1000, mix=1)",
    }.items():
        preset = load_preset(name)
        assert preset.effect is None if expression is None else effect(preset.effect or "").expression == expression
        assert preset.recipe | SEED == preset.recipe
        assert preset.recipe["noise_relative"] is False


def test_preset_from_a_path(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("effect = 'tanh(drive=2)'\n[recipe]\nseconds = 5\n")
    preset = load_preset(str(path))
    assert (preset.name, preset.effect, preset.recipe) == ("mine", "tanh(drive=2)", {"seconds": 5})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("effect = ", "not valid TOML"),
        ("effekt = 'tanh'", "effekt"),
        ("effect = 5", "in quotes"),
        ("recipe = 5", "table"),
        ("description = 'x'", "says nothing"),
        (b"\xff\xfe", "not valid TOML"),
    ],
)
def test_bad_preset_file_says_what(tmp_path, content, says) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=says):
        load_preset(str(path))


def test_missing_preset_names_the_nearest(tmp_path) -> None:
    with pytest.raises(UsageError, match="did you mean overdrive"):
        load_preset("overdriv")
    with pytest.raises(UsageError, match="cannot read"):
        load_preset(str(tmp_path / "none.toml"))
