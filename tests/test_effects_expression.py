"""The text that names an effect: what it means, and what is said when it means nothing."""

from __future__ import annotations

import pytest

from fxclone.effects import Effect, available_effects, effect, parse_settings
from fxclone.errors import UsageError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tanh", "tanh(drive=5)"),
        ("tanh()", "tanh(drive=5)"),
        ("tanh(3)", "tanh(drive=3)"),
        (" tanh ( drive = 2.5e0 ) ", "tanh(drive=2.5)"),
        ("TANH", "tanh(drive=5)"),
        ("passthrough>invert", "passthrough > invert"),
        ("lowpass(order=2)", "lowpass(cutoff_hz=1000, order=2)"),
        ("Distortion(drive_db=-20)", "distortion(drive_db=-20)"),
        ("noise-gate", "noise_gate(threshold_db=-40, ratio=10, attack_ms=1, release_ms=100)"),
        (
            "BrickwallLimiter(true_peak=yes)",
            "brickwall_limiter(ceiling_db=-1, release_ms=100, lookahead_ms=5, true_peak=true)",
        ),
        ("ladder('hpf24')", "ladder(mode=HPF24, cutoff_hz=200, resonance=0, drive=1)"),
    ],
)
def test_expression_becomes_canonical_and_reads_back(text: str, canonical: str) -> None:
    made = effect(text)
    assert made.expression == canonical
    assert effect(made.expression) == made


def test_chain_has_a_slug_and_settings_of_each_link() -> None:
    made = effect("highpass(cutoff_hz=200) > distortion(drive_db=20) > lowpass(cutoff_hz=3000)")
    assert made.name == "highpass-distortion-lowpass"
    assert made.settings["distortion.drive_db"] == 20
    assert made.settings["lowpass.cutoff_hz"] == 3000
    twice = effect("tanh(drive=2) > tanh(drive=3)")
    assert twice.settings == {"1.drive": 2, "2.drive": 3}
    assert effect("tanh > tanh", twice.settings) == twice
    assert effect("tanh").settings == {"drive": 5}


def test_long_chain_keeps_a_short_name() -> None:
    assert len(effect(" > ".join(["passthrough"] * 50)).name) <= 80


def test_set_reaches_the_link_it_is_for() -> None:
    assert effect("tanh", {"drive": 8}).settings == {"drive": 8}
    chain = "highpass > tanh > lowpass"
    assert effect(chain, {"drive": "8"}).settings["tanh.drive"] == 8
    assert effect(chain, {"lowpass.order": 2}).settings == effect(chain, {"3.order": "2"}).settings
    assert effect("NoiseGate > tanh", {"NoiseGate.ratio": 2}).settings["noise_gate.ratio"] == 2
    assert parse_settings(["drive=8", "a.b = c=d"]) == {"drive": "8", "a.b": "c=d"}


def test_path_with_spaces_and_quotes_survives(tmp_path) -> None:
    file = tmp_path / 'my "cab", 4x12 (bright) > \\ it\'s.wav'
    file.write_bytes(b"")
    made = effect("convolution", {"impulse_response": str(file)})
    assert effect(made.expression).settings["impulse_response"] == str(file)
    plain = tmp_path / "plain.wav"
    plain.touch()
    assert effect(f"convolution({plain})").settings["impulse_response"] == str(plain)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the end where the name of an effect"),
        ("tanh(", "character 6"),
        ("tanh(drive=5", "character 13"),
        ("tanh(drive=)", "a value for drive"),
        ("tanh)", '")"'),
        ("> tanh", "name of an effect"),
        ("tanh >", "the end"),
        ("tanh > > tanh", "character 8"),
        ("tanh tanh", "character 6"),
        ('tanh(drive="5)', "never closed"),
        ("tanh(drive=5, drive=6)", "set twice"),
        ("tanh(5, drive=6)", "set twice"),
        ("tanh(5, 6)", "2 values"),
        ("lowpass(order=2, 300)", "no name"),
        ("lv2:ZamTube", "lv2:"),
        ("vst3:/no/such/Zam.vst3", "no plugin vst3:"),
        ("tahn", "did you mean tanh"),
        ("overdriv", "preset overdrive"),
        ("__import__('os')", "name of an effect"),
        ("tanh(dirve=5)", "did you mean drive"),
        ("passthrough(x=5)", "it has none"),
        ("tanh(drive=0)", "0.001 to 1000"),
        ("tanh(drive=nan)", "expected a number"),
        ("tanh(drive=inf)", "expected a number"),
        ("tanh(drive=loud)", "expected a number"),
        ("lowpass(order=2.5)", "whole number"),
        ("ladder(mode=LPF99)", "LPF12"),
        ("brickwall_limiter(true_peak=maybe)", "true, false"),
        ("convolution", "needs a sound file"),
        ("convolution(/nowhere/ir.wav)", "no file /nowhere/ir.wav"),
        ("tanh" * 10_000, "at most"),
    ],
)
def test_bad_expression_says_what_and_where(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        effect(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("chain", "key", "says"),
    [
        ("tanh > tanh", "drive", "1.drive or 2.drive"),
        ("tanh > tanh", "tanh.drive", "1.drive or 2.drive"),
        ("tanh > invert", "3.drive", "1 tanh, 2 invert"),
        ("tanh > invert", "volume", "1 tanh, 2 invert"),
        ("tanh", "lowpass.order", "1 tanh"),
        ("tanh", "volume", 'no setting "volume"'),
    ],
)
def test_bad_set_says_what_fits(chain: str, key: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        effect(chain, {key: 1})
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["drive", "=5", ""])
def test_bad_assignment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="name=value"):
        parse_settings([text])
    with pytest.raises(UsageError, match="twice"):
        parse_settings(["a=1", "a=2"])


def test_every_setting_takes_its_bounds_and_refuses_beyond() -> None:
    checked = 0
    for spec in available_effects().values():
        for setting in spec.settings:
            if setting.minimum is None or setting.maximum is None:
                continue
            assert setting.minimum <= setting.default <= setting.maximum, (spec.name, setting.name)
            for good in (setting.minimum, setting.maximum):
                assert setting.parse(good, effect=spec.name) == good
            for bad in (setting.minimum - 1, setting.maximum + 1):
                with pytest.raises(UsageError):
                    setting.parse(bad, effect=spec.name)
                checked += 1
    assert checked > 100


def test_empty_chain_is_refused() -> None:
    with pytest.raises(UsageError):
        Effect(())
