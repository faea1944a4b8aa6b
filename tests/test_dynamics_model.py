"""Family ``dynamics`` as a model: what it computes, that its file plays the same, that a run folder has it."""

import math

import numpy as np
import pytest

from fxclone.clone import load_clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone_export.battery import check_stream
from fxclone_export.write import write_clone
from fxclone_training.dynamics import Dynamics
from fxclone_training.dynamics_kernels import FLOOR, INSTANT, rates_of
from fxclone_training.runs import RunFolder

RATE = 48_000
NONE = [INSTANT, INSTANT]
MODELS = {
    "compressor": lambda: Dynamics([[*NONE, 3, 7, 0.5, 0, -2.8, -0.75, -3]], [False]),
    "gate": lambda: Dynamics([[INSTANT, 5.9, 2, 6.6, 0, 9, -4, 0, -4]], [True]),
    "limiter": lambda: Dynamics(
        [[*NONE, 2.7, 7.3, 0, 0, -1.2, -0.75, -8], [*NONE, INSTANT, 6.6, 1.8, 0, -1.4, -0.999, -8]], [False, False], 0.5
    ),
    "slow attack, quick release, two knots": lambda: Dynamics(
        [[6, 2, 8, 4, 0, 0.3, -3, -1.5, -0.5, -0.2, -1, 0.2]], [True]
    ),
    "a second at 48 kHz": lambda: Dynamics([[*NONE, 10.8, 10.8, 0, 0, -4, -0.5, -1]], [False]),
}  # fmt: skip


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return request.param()


def sound(rng, seconds=0.5):
    samples = int(seconds * RATE)
    level = np.repeat([1.0, 0.01, 0.4, 0.0, 0.1], math.ceil(samples / 5))[:samples]
    return (0.7 * level * rng.uniform(-1, 1, (1, samples))).astype(np.float32)


def plain(model, dry):
    """The formulas of the module's head, as they stand there."""
    for cell, rates, square in zip(
        model.cells.astype(float), rates_of(model.cells.astype(float)), model.squares, strict=True
    ):
        knots, slopes, widths = np.split(cell[6:], 3)
        widths = np.exp(widths)
        level = envelope = 0.0
        out = np.empty(len(dry))
        for n, x in enumerate(dry):
            seen = x * x if square else abs(x)
            level += rates[0 if seen > level else 1] * (seen - level)
            loud = math.sqrt(max(level, FLOOR**2)) if square else level
            envelope += rates[2 if loud > envelope else 3] * (loud - envelope)
            place = math.log(max(envelope, FLOOR))
            gain = cell[4] + float(np.sum(slopes * widths * np.logaddexp(0, (place - knots) / widths)))
            gain -= cell[5] * widths[0] * np.logaddexp(0, (knots[0] - place) / widths[0])
            out[n] = x * math.exp(gain)
        dry = out
    return np.clip(dry, -model.ceiling, model.ceiling)


def written(model, path, rng):
    silence = SelfTest(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    meta = CloneMeta("dynamics", "dynamics", RATE, silence)
    (graph,) = model.graphs(2.0)
    return write_clone(graph, meta, path, model=model.run_freely, replay_sound=sound(rng, 0.3))


def test_it_is_a_gain_that_follows_the_level(model, rng):
    dry = sound(rng, 0.06)
    wet = model.run_freely(dry)
    assert wet.shape == dry.shape
    assert wet.dtype == np.float32
    assert np.abs(wet).max() > 1e-3
    np.testing.assert_allclose(wet[0], plain(model, dry[0].astype(float)), atol=1e-6)


def test_its_file_plays_what_it_computes(model, rng, tmp_path):
    clone = written(model, tmp_path / "dynamics.onnx", rng)
    dry = sound(rng, 1.0)
    clone.prepare(RATE, 65_536, 1)
    out, own = clone.process(dry), model.run_freely(dry)
    assert out.shape == own.shape
    assert np.abs(out - own).max() <= 1e-5 * max(1, np.abs(own).max())


def test_its_file_passes_the_battery(model, rng, tmp_path):
    written(model, tmp_path / "dynamics.onnx", rng)
    clone = load_clone(tmp_path / "dynamics.onnx")

    def fresh():
        clone.prepare(RATE, 65_536, 1)
        return clone

    report = check_stream(fresh, channels_in=1, sample_rate=RATE, samples=6_001)
    assert len(report) > 15
    assert [check for check in report if not check.passed] == []


def test_only_detectors_that_do_something_are_in_the_file():
    assert [sum(node.op_type == "RNN" for node in next(MODELS[name]().graphs(2)).graph.node) for name in MODELS] == [
        1, 2, 2, 2, 1
    ]  # fmt: skip


def test_a_time_constant_of_a_second_survives_float32(rng):
    times = np.full((1, 4), math.log(RATE), float)
    rate = rates_of(times)[0, 0]
    assert rate == pytest.approx(1 / RATE, rel=2e-3)
    assert np.float32(1 - rate) == 1 - rate


def test_it_is_certified_by_its_slowest_detector(rng):
    figures = MODELS["a second at 48 kHz"]().certify(sound(rng), RATE)
    assert figures["tail_samples"] == 0
    assert figures["contracting"]
    assert 4_000 < figures["return_ms"] < 6_000
    assert figures["lyapunov_per_sample"] < 0


def test_a_run_folder_gives_it_back(model, rng, tmp_path):
    run = RunFolder.create(tmp_path, "dynamics", {})
    run.save_weights(model, -40.0)
    again = run.load_weights()
    dry = sound(rng, 0.2)
    np.testing.assert_array_equal(again.run_freely(dry), model.run_freely(dry))
    assert again.facts() == model.facts()


def test_a_copy_is_independent():
    model = MODELS["gate"]()
    other = model.copy()
    other.cells[:] = 0
    assert np.abs(model.cells).max() > 1


def test_only_a_gain_that_turns_rounding_up_is_not_sturdy(rng):
    assert MODELS["gate"]().is_sturdy(sound(rng))
    steep = Dynamics([[*NONE, *NONE, 0, 3_000, math.log(0.5), 0, -8]], [False])
    assert not steep.is_sturdy(np.full((1, 1_000), 0.5, np.float32))


@pytest.mark.parametrize(("cells", "squares"), [([[0] * 8], [False]), ([[0] * 9], [False, True]), ([0] * 9, [False])])
def test_cells_of_another_shape_are_refused(cells, squares):
    with pytest.raises(ValueError, match="cells of shape"):
        Dynamics(cells, squares)
