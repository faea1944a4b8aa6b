"""Family ``wavenet`` as a model: what it computes, its gradients, its file, its memory, and what is refused."""

import json

import numpy as np
import pytest
import torch
from ar_models import TorchStream
from wavenet_models import SHAPES, plain, random_model

from fxclone.clone import load_clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone.onnx_peek import ALLOWED_OPS, peek
from fxclone_export.battery import check_stream, require, run_in_chunks
from fxclone_export.verify import fresh_streams
from fxclone_export.write import write_clone
from fxclone_training import wavenet, wavenet_kernels
from fxclone_training.certificate import certified
from fxclone_training.wavenet import SIZES, WaveNet, WaveNetConfig, stacks

RATE = 48_000


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request):
    return random_model(1, **request.param)


def sound(rng, samples=9_000):
    return (0.4 * rng.uniform(-1, 1, (1, samples))).astype(np.float32)


def written(model, path, rng):
    silence = SelfTest(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    meta = CloneMeta("test", "wavenet", RATE, silence, parameters=model.parameter_count)
    (graph,) = model.graphs(4.0)
    return write_clone(graph, meta, path, model=model.run_freely, replay_sound=sound(rng, 12_000))


def loss_and_gradients(model, run, x, target):
    y = run(model, x)
    weights = {name: value for name, value in model.named_parameters() if value.numel()}
    gradients = torch.autograd.grad((y - target).square().sum(), list(weights.values()), allow_unused=True)
    return y.detach().double(), dict(zip(weights, gradients, strict=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=["compiled", "torch"])
def test_forward_and_gradients_are_the_formulas(model, kind, rng):
    """Over several tiles of the compiled loops and an odd rest."""
    x, target = (torch.from_numpy(0.4 * rng.standard_normal((3, 1, 300))) for _ in range(2))
    exact = loss_and_gradients(model.copy().double(), plain, x, target)
    own = loss_and_gradients(model.to(kind), lambda m, s: m(s, m.fresh_state(3))[0], x.to(kind), target.to(kind))
    limit = 1e-4 if kind == torch.float32 else 1e-12
    assert own[0].shape == exact[0].shape == (3, 1, 300)
    assert float((own[0] - exact[0]).abs().max()) <= limit * float(exact[0].abs().max())
    assert own[1].keys() == exact[1].keys()
    for name, expected in exact[1].items():
        assert (own[1][name] is None) == (expected is None), name
        if expected is not None:
            assert float(expected.abs().max()) > 0, name
            worst = float((own[1][name].double() - expected).abs().max())
            assert worst <= limit * float(expected.abs().max()), name


def test_threads_change_nothing_but_rounding(rng):
    model = random_model(2, **SHAPES["gated"])
    x = torch.from_numpy(sound(rng, 5_000))[None]
    threads, results = wavenet_kernels.numba.get_num_threads(), []
    try:
        for count in (1, min(2, wavenet_kernels.numba.config.NUMBA_NUM_THREADS)):
            wavenet_kernels.numba.set_num_threads(count)
            y, _ = model(x, model.fresh_state(1))
            results.append((y.detach(), torch.autograd.grad(y.square().sum(), [model.conv, model.bias])))
    finally:
        wavenet_kernels.numba.set_num_threads(threads)
    assert torch.equal(results[0][0], results[1][0])
    for one, two in zip(results[0][1], results[1][1], strict=True):
        assert float((one - two).abs().max()) <= 1e-5 * float(one.abs().max())


def test_gradients_end_where_the_passage_begins(model, rng):
    """A passage in two parts has the gradients of its second part with the first as given."""
    x = torch.from_numpy(sound(rng, 200))[None]
    _, state = model(x[..., :90], model.fresh_state(1))
    assert all(not part.requires_grad for part in state)
    assert all(part.shape == fresh.shape for part, fresh in zip(state, model.fresh_state(1), strict=True))
    whole, _ = model(x, model.fresh_state(1))
    y, _ = model(x[..., 90:], state)
    assert y.shape == (1, 1, 110)
    assert float((y - whole[..., 90:]).detach().abs().max()) <= 1e-5
    y.sum().backward()
    assert model.conv.grad is not None


def test_passages_side_by_side_do_not_hear_each_other(model, rng):
    x = torch.from_numpy(0.3 * rng.standard_normal((4, 1, 150)).astype(np.float32))
    with torch.no_grad():
        _, before = model(x, model.fresh_state(4))
        together, after = model(x.flip(2), before)
        for row in range(4):
            alone, own = model(x[row : row + 1].flip(2), tuple(part[row : row + 1] for part in before))
            torch.testing.assert_close(alone, together[row : row + 1], atol=1e-6, rtol=0)
            for part, whole in zip(own, after, strict=True):
                torch.testing.assert_close(part, whole[row : row + 1], atol=1e-6, rtol=0)


def test_battery(model):
    checks = check_stream(lambda: TorchStream(model), channels_in=1, sample_rate=RATE, samples=2401)
    assert len(checks) >= 16
    require(checks, name="the model")


def test_its_file_plays_what_it_computes_and_passes_the_battery(model, rng, tmp_path):
    written(model, tmp_path / "clone.onnx", rng)
    clone = load_clone(tmp_path / "clone.onnx")
    require(check_stream(fresh_streams(clone), channels_in=1, sample_rate=RATE, samples=2401), name="the clone")
    dry = sound(rng, 20_000)
    clone.prepare(RATE, 8192, 1)
    out, own = run_in_chunks(clone, dry, (64, 1, 7, 501, 8192)), model.run_freely(dry)
    assert out.shape == own.shape == dry.shape
    assert np.abs(own).max() > 0.01
    assert np.abs(out - own).max() <= 1e-5 * max(1.0, np.abs(own).max())
    assert peek((tmp_path / "clone.onnx").read_bytes()).ops <= ALLOWED_OPS


@pytest.mark.parametrize("size", SIZES)
def test_every_size_can_be_played(size, rng, tmp_path):
    model = WaveNet(SIZES[size], generator=torch.Generator().manual_seed(0))
    clone = written(model, tmp_path / "clone.onnx", rng)
    assert clone.meta.parameters == model.parameter_count > 500
    assert model.receptive_field_samples > 2_000


def test_sizes_cost_more_and_more():
    costs = [WaveNet(config).work_per_sample for config in SIZES.values()]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs) == 4


def test_it_sees_as_far_as_it_says(model):
    reach = model.receptive_field_samples
    samples = reach + 50
    x = torch.zeros(1, 1, samples, dtype=torch.float64).requires_grad_()
    exact = model.copy().double()
    y, _ = exact(x, exact.fresh_state(1))
    (seen,) = torch.autograd.grad(y[0, 0, -1], x)
    (places,) = torch.nonzero(seen[0, 0], as_tuple=True)
    assert int(places[-1]) == samples - 1  # the newest is among them
    assert int(places[0]) == samples - reach


def test_the_reach_of_the_usual_stacks():
    assert WaveNetConfig().reach == 4093
    assert stacks(512, 2) == (*(2**k for k in range(10)),) * 2
    assert stacks(300, base=6) == (1, 6, 36, 216)


def test_silence_is_silent_from_the_first_sample_on(model):
    """A fresh state is what silence leaves: no thump at the start."""
    level = float(model.b_out.detach() * model.scale_out)
    out = model.run_freely(np.zeros((1, 6_000), np.float32))
    assert out.shape == (1, 6_000)
    np.testing.assert_allclose(out, level, atol=1e-6)


def test_the_certificate(rng):
    model = random_model(5, **SHAPES["odd sizes"])
    dry = sound(rng, RATE)
    figures = certified(model, dry, model.run_freely(dry), RATE)
    assert figures["contracting"]
    assert figures["small_gain"] == 0
    assert 0 < figures["tail_samples"] <= model.receptive_field_samples
    assert model.is_sturdy(dry)


def test_sums_that_cancel_are_not_sturdy(rng):
    model = random_model(5, channels=2, dilations=(1,), skip=2)
    rises = 1 - np.exp(-np.arange(9_000, dtype=np.float32) / 1_000)  # slowly, so that the difference is never large
    dry = 0.5 * rises + 1e-4 * sound(rng)
    assert model.is_sturdy(dry)
    with torch.no_grad():
        model.skip[:] = torch.tensor([-3e5, 3e5])
    assert not model.is_sturdy(dry)


def test_stored_and_restored(model, rng):
    shape, weights = model.stored()
    again = WaveNet.restored(json.loads(json.dumps(shape)), weights)
    assert again.config == model.config
    assert again.describe() == model.describe()
    dry = sound(rng)
    np.testing.assert_array_equal(again.run_freely(dry), model.run_freely(dry))


def test_weights_of_another_shape_are_refused(model):
    shape, weights = model.stored()
    with pytest.raises(RuntimeError):
        WaveNet.restored(shape | {"channels": model.config.channels + 1}, weights)


def test_a_copy_is_independent(model, rng):
    dry = sound(rng)
    before, other = model.run_freely(dry), model.copy()
    np.testing.assert_array_equal(other.run_freely(dry), before)
    with torch.no_grad():
        other.read.add_(1.0)
    np.testing.assert_array_equal(model.run_freely(dry), before)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"channels": 4.0}, "channels is 4.0"),
        ({"kernel": 65}, "kernel is 65"),
        ({"head": -1}, "head is -1"),
        ({"skip": 5000}, "skip is 5000"),
        ({"dilations": ()}, "dilations are"),
        ({"dilations": (1, 0)}, "dilations are"),
        ({"dilations": (1,) * 65}, "dilations are"),
        ({"dilations": (100_000,)}, "would see 200001 samples"),
    ],
)
def test_a_wrong_shape_is_named(settings, named):
    with pytest.raises(UsageError, match=named):
        WaveNetConfig(**settings)


def test_the_plain_layers_are_what_other_devices_run(model, rng, monkeypatch):
    dry = sound(rng)
    compiled = model.run_freely(dry)
    monkeypatch.setattr(wavenet_kernels, "run_layers", wavenet.run_layers)
    assert np.abs(model.run_freely(dry) - compiled).max() <= 1e-5
