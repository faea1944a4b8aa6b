"""``fxclone verify`` as typed."""

import numpy as np
import pytest
from train_runs import CommandLine, one_object, refused, train_passthrough


@pytest.fixture
def fxclone_(monkeypatch, tmp_path, tmp_path_factory, capsys):
    return CommandLine(monkeypatch, tmp_path, tmp_path_factory, capsys)


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
