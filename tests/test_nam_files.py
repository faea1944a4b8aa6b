"""A .nam file that is damaged, hostile or too new is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nam_models import write

from fxclone.effects import effect
from fxclone.effects.nam_file import read_nam
from fxclone.errors import EffectError, UsageError

ARRAY = {"input_size": 1, "condition_size": 1, "head_size": 1, "channels": 2, "kernel_size": 3, "dilations": [1, 2]}
ARRAY |= {"activation": "Tanh", "gated": False, "head_bias": False}
LSTM = {"input_size": 1, "hidden_size": 2, "num_layers": 1}
CONVNET = {"channels": 2, "dilations": [1, 2], "batchnorm": True, "activation": "Tanh"}
LINEAR = {"receptive_field": 2, "bias": False}
ONES = [1.0] * 2


def wavenet(**changes) -> dict:
    return {"layers": [{key: value for key, value in (ARRAY | changes).items() if value is not None}], "head": None}


def refusal(path) -> str:
    with pytest.raises((EffectError, UsageError)) as caught:
        read_nam(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("architecture", "config", "weights", "others", "expected"),
    [
        ("WaveNet", wavenet(), [0.1] * 47, {}, "has 47 weights, and its layers need 49"),
        ("WaveNet", wavenet(), [0.1] * 50, {}, "has 50 weights, and its layers need 49"),
        ("LSTM", LSTM, [0.1] * 40, {}, "has 40 weights, and its layers need 39"),
        ("LSTM", LSTM, [], {}, "has 0 weights, and its layers need 39"),
        ("ConvNet", CONVNET, [0.1] * 7, {}, "has 7 weights, and its layers need 33"),
        ("Linear", LINEAR, [0.1] * 3, {}, "has 3 weights, and its layers need 2"),
        ("ConvNet", CONVNET, [-1.0] * 33, {}, "a variance of layer 0 is not positive"),
        ("Linear", LINEAR, [1.0, float("nan")], {}, "the first at place 1"),
        ("Linear", LINEAR, [1e300, 1.0], {}, "the first at place 0"),
        ("Linear", LINEAR, [10**400, 1], {}, "NaN, infinity or what is too large"),
        ("Linear", LINEAR, ["1.0", 1.0], {}, "weights is [...] of 2"),
        ("Linear", LINEAR, [[1.0], [1.0]], {}, "weights is [...] of 2"),
        ("Linear", LINEAR, None, {}, "weights is null"),
        ("Linear", LINEAR, ONES, {"version": "0.8.0"}, "newer: update fxclone"),
        ("Linear", LINEAR, ONES, {"version": "1.0.0"}, "newer: update fxclone"),
        ("Linear", LINEAR, ONES, {"version": "0.4.9"}, "older: export it again"),
        ("Linear", LINEAR, ONES, {"version": "new"}, "three numbers such as 0.5.4"),
        ("Linear", LINEAR, ONES, {"version": 5}, "version is 5; expected text"),
        ("Linear", LINEAR, ONES, {"sample_rate": 48000.5}, "sample_rate is 48000.5"),
        ("Linear", LINEAR, ONES, {"sample_rate": 1e9}, "sample_rate is 1000000000.0"),
        ("CatWaveNet", LINEAR, ONES, {}, "architecture 'CatWaveNet'; known here are WaveNet, LSTM"),
        ("Linear", None, ONES, {}, "config is null"),
        ("Linear", {"receptive_field": 2**40, "bias": False}, ONES, {}, "receptive_field is 1099511627776"),
        ("Linear", LINEAR | {"in_channels": 2}, ONES, {}, "one input and one output"),
        ("LSTM", LSTM | {"hidden_size": 10**9}, ONES, {}, "hidden_size is 1000000000"),
        ("LSTM", LSTM | {"hidden_size": 0}, ONES, {}, "whole number from 1"),
        ("LSTM", LSTM | {"hidden_size": 2.5}, ONES, {}, "whole number from 1"),
        ("LSTM", LSTM | {"hidden_size": True}, ONES, {}, "whole number from 1"),
        ("LSTM", LSTM | {"input_size": 3}, ONES, {}, "only models with one input"),
        ("LSTM", {"input_size": 1}, ONES, {}, "hidden_size is missing"),
        ("WaveNet", wavenet(channels=1024, kernel_size=4096), ONES, {}, "more than 67108864 numbers"),
        ("WaveNet", wavenet(channels=1000, dilations=[2**20]), ONES, {}, "more than 67108864 numbers"),
        ("WaveNet", wavenet(dilations=[1] * 513), ONES, {}, "dilations is [...] of 513; expected at most 512"),
        ("WaveNet", wavenet(dilations=[]), ONES, {}, "dilations is [...] of 0"),
        ("WaveNet", wavenet(dilations=[1, -2]), ONES, {}, "whole numbers from 1"),
        ("WaveNet", wavenet(activation="Mish"), ONES, {}, "type is 'Mish'; expected one of Tanh"),
        ("WaveNet", wavenet(activation=["Tanh"]), ONES, {}, "2 values, one for each layer"),
        ("WaveNet", wavenet(activation=None), ONES, {}, "activation is null"),
        ("WaveNet", wavenet(gating_mode="half"), ONES, {}, "none, gated or blended"),
        ("WaveNet", wavenet(groups_input=3), ONES, {}, "cannot be split in 3 groups"),
        ("WaveNet", wavenet(input_size=2), ONES, {}, "input_size is 2; expected 1"),
        ("WaveNet", wavenet(condition_size=2), ONES, {}, "condition_size is 2; expected 1"),
        ("WaveNet", wavenet(head_size=2), [0.1] * 51, {}, "has 2 outputs"),
        ("WaveNet", wavenet(conv_pre_film={"active": True}), ONES, {}, "without FiLM"),
        ("WaveNet", {"layers": []}, ONES, {}, "layers is [...] of 0"),
        ("WaveNet", {"layers": [5]}, ONES, {}, "layers[0] is 5"),
        ("SlimmableContainer", {"submodels": []}, [], {}, "submodels is [...] of 0"),
        ("SlimmableContainer", {"submodels": [{"max_value": 1.0}]}, [], {}, "model is null"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, architecture, config, weights, others, expected) -> None:
    assert expected in refusal(write(tmp_path / "amp.nam", architecture, config, weights, **others))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not a Neural Amp Modeler file, or was cut short"),
        (b'{"version": "0.5.4", "weights": [1.0, ', "cut short"),
        (b"RIFF\x00\x00\xff\xfeWAVE", "is not a Neural Amp Modeler file"),
        (b"[1, 2]", "amp.nam is [...] of 2"),
        (b"{}", "version is missing"),
        (b"[" * 200_000, "too many brackets"),
        (b" " * (33 * 2**20), "a .nam file has at most"),
    ],
    ids=["empty", "cut", "sound", "list", "no keys", "brackets", "large"],
)
def test_what_is_no_nam_file_is_refused(tmp_path, content: bytes, expected: str) -> None:
    path = tmp_path / "amp.nam"
    path.write_bytes(content)
    assert expected in refusal(path)


def test_models_within_models_end(tmp_path) -> None:
    path = tmp_path / "amp.nam"
    model = json.loads(write(path, "Linear", LINEAR, ONES).read_text())
    for _ in range(6):
        model = {**model, "architecture": "SlimmableContainer", "config": {"submodels": [{"model": model}]}}
    path.write_text(json.dumps(model))
    assert "models within models" in refusal(path)


def test_a_model_that_blows_up_in_silence_is_refused(tmp_path) -> None:
    arrays = wavenet(activation="ReLU", dilations=[1] * 12)
    path = write(tmp_path / "amp.nam", "WaveNet", arrays, [3e5] * (2 + 12 * 22 + 2 + 1))
    assert "blow up" in refusal(path)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"there is no file .*gone\.nam"):
        effect("nam:gone.nam")
    with pytest.raises(UsageError, match="names no file"):
        effect("nam:")


def test_it_has_no_settings(tmp_path) -> None:
    path = write(tmp_path / "amp.nam", "Linear", LINEAR, ONES)
    with pytest.raises(UsageError, match="no setting"):
        effect(f"nam:{path}(gain=3)")


def test_what_a_file_says_of_itself_cannot_break_a_line(tmp_path) -> None:
    metadata = {"name": "evil\nname\x1b[31m", "modeled_by": 5, "loudness": "loud"}
    path = write(tmp_path / "amp.nam", "Linear", LINEAR, ONES, metadata=metadata)
    (stage,) = effect(f"nam:{path}").stages
    assert stage.spec.summary == "amp: Neural Amp Modeler file, linear response of 2 samples, 48000 Hz."
    named = write(tmp_path / "amp.nam", "Linear", LINEAR, ONES, metadata={"name": "Böse 5150"})
    assert read_nam(named).title == "Böse 5150"
    assert np.isfinite(read_nam(named).render(np.ones(9, np.float32))).all()
