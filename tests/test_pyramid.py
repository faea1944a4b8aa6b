"""A long window seen through averages over blocks: the map itself, the model, its derivatives, and its clone file."""

import numpy as np
import pytest
import torch
from ar_models import TorchStream, doubled, noise, plain_run, random_model, random_state, weights_of
from ar_problems import assert_near, flat_jacobian, label, source_of, streams_of

from fxclone.clone import clone_from_bytes, load_clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone_export.battery import check_stream, require, run_in_chunks
from fxclone_export.verify import fresh_streams
from fxclone_export.write import attach, write_clone
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.ar_export import LONGEST_FOLDED, export_ar, folded
from fxclone_training.certificate import is_sturdy, small_gain
from fxclone_training.gauss_newton import FreeRun, OneStep, trained
from fxclone_training.pyramid import block_averages, dyadic, fold
from fxclone_training.pyramid_stages import SIZES

RATE = 48_000
SHAPES = [
    {"m": 1, "past_outputs": 1, "width": 5, "blocks": (2, 4, 8, 16)},
    {"m": 3, "past_outputs": 2, "width": 4, "past_blocks": (1, 3, 5)},
    {"m": 4, "past_outputs": 4, "width": 6, "activation": "relu", "blocks": dyadic(2, 5), "past_blocks": dyadic(2, 2)},
    {"m": 2, "past_outputs": 1, "layers": 2, "width": 5, "activation": "gelu", "blocks": (7,), "past_blocks": (6, 2)},
    {"m": 2, "past_outputs": 3, "width": 4, "skip": False, "blocks": (300,), "past_blocks": (2,)},
]


def plain(weights, config):
    """Weights and shape of the same model with taps only; differentiable."""
    of_x, of_y = (config.m, config.blocks), (config.taps_y, config.past_blocks)
    seen = {"w_x": of_x, "skip_x": of_x, "w_y": of_y, "skip_y": of_y}
    written_out = {name: fold(value, *seen[name]) if name in seen else value for name, value in weights.items()}
    return written_out, folded(Ar(config)).config


def test_blocks_get_longer_and_lie_end_to_end():
    assert dyadic(2, 3) == (2, 2, 4, 4, 8, 8)
    for per_octave, octaves in ((1, 1), (3, 4), (8, 8)):
        assert 2 * per_octave + sum(dyadic(per_octave, octaves)) == per_octave * 2 ** (octaves + 1)


def test_averages_are_those_of_the_blocks(rng):
    signal, taps, blocks = noise(rng, 2, 60), 3, (2, 1, 5)
    seen = block_averages(signal, taps, blocks)
    assert seen.shape == (2, 60 - (3 + 8) + 1, 3)
    for row in (0, 17, 49):
        newest_first = signal[:, : row + 11].flip(1)  # the window of the row: its newest sample is the first
        expected = torch.stack([newest_first[:, a:b].mean(1) for a, b in ((3, 5), (5, 6), (6, 11))], 1)
        torch.testing.assert_close(seen[:, row], expected, rtol=0, atol=1e-7)


def test_weights_on_blocks_are_weights_on_samples(rng):
    """The contract: both sides are the same sum."""
    signal, weights = noise(rng, 2, 300), noise(rng, 4, 3 + 8)
    blocks = dyadic(2, 4)
    on_samples = fold(weights, 3, blocks)
    assert on_samples.shape == (4, 3 + 60)
    windows = signal.unfold(1, 63, 1).flip(-1)
    seen = torch.cat([windows[..., :3], block_averages(signal, 3, blocks)], -1)
    torch.testing.assert_close(seen @ weights.T, windows @ on_samples.T, rtol=0, atol=2e-6)
    assert torch.equal(fold(weights, 11, ()), weights)


def test_a_minute_of_loud_sound_does_not_blur_a_short_block():
    signal = torch.full((1, 60 * RATE), 0.9)
    signal[0, -2:] = torch.tensor([1e-6, 3e-6])
    assert float(block_averages(signal, 0, (2,))[0, -1, 0]) == pytest.approx(2e-6, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_battery(shape):
    model = random_model(1, **shape)
    checks = check_stream(lambda: TorchStream(model), channels_in=1, sample_rate=RATE, samples=1201)
    assert len(checks) >= 16
    require(checks, name="the torch model")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_it_is_the_model_of_taps_that_it_folds_to(rng, shape):
    """From a state, sample by sample in double precision; and the folded model itself."""
    model = random_model(2, **shape)
    other = folded(model)
    c = model.config
    assert (other.config.m, other.config.taps_y) == (c.reach, c.past_reach)
    assert other.config.seen_x == c.m + sum(c.blocks) > c.seen_x or not c.blocks
    x, state = noise(rng, 3, 120), random_state(rng, model, 3)
    y, after = model(x[:, None], state)
    assert y.shape == (3, 1, 120)
    assert (after.x.shape, after.y.shape) == ((3, c.reach - 1), (3, c.past_reach))
    torch.testing.assert_close(y, other(x[:, None], state)[0], rtol=0, atol=3e-6)
    weights, shape_of_taps = plain(weights_of(model), c)
    expected = plain_run(weights, shape_of_taps, x.double(), *doubled(state))
    torch.testing.assert_close(y[:, 0].double(), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_teacher_forced_with_its_own_outputs_is_the_free_run(rng, shape):
    model = random_model(3, **shape)
    c, history = model.config, model.history_samples
    assert history == max(c.reach - 1, c.past_reach)
    x, past_y = noise(rng, 2, history + 200), noise(rng, 2, history)
    state = random_state(rng, model, 2)
    state = type(state)(
        x[:, history - c.reach + 1 : history], past_y[:, history - c.past_reach :], state.slow_x, state.slow_y
    )
    own, _ = model(x[:, None, history:], state)
    again = model.teacher_forced(x[:, None], torch.cat([past_y, own[:, 0]], 1)[:, None])
    assert again.shape == (2, 1, 200)
    torch.testing.assert_close(again, own, rtol=0, atol=3e-6)


@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_rows_of_the_free_run_are_its_derivatives(rng, shape, stride):
    """The Jacobian of second-order steps, against autograd through a plain loop over the taps."""
    model = random_model(6, feedback=0.9, **shape)
    c, history = model.config, model.history_samples
    problem = FreeRun(model, streams_of(rng, model, batch=3, block=64), stride=stride, sigma=0.1)
    segments, noises = problem.segments, problem.noise.double()
    with torch.no_grad():
        ((error, jacobian),) = problem.parts()
    assert jacobian.shape == (3 * 64 // stride, sum(weights.numel() for weights in trained(model)))
    state = doubled(segments.state(model))
    x, weight = segments.x[:, history:].double(), segments.weight.double()

    def weighted_error(weights):
        own = plain_run(*plain(weights, c), x, *state, noise=noises)
        return ((own - segments.target) * weight)[:, ::stride].flatten()

    assert_near(error, weighted_error(weights_of(model)), relative=1e-5)
    assert_near(jacobian, flat_jacobian(weights_of(model), weighted_error), relative=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_gradients_of_the_free_run_are_exact(rng, shape):
    """Those of torch's own backward, through the compiled loop and through the folding."""
    model = random_model(4, feedback=0.9, **shape)
    x, state, aim = noise(rng, 2, 80), random_state(rng, model, 2), noise(rng, 2, 80)
    y, _ = model(x[:, None], state)
    (y[:, 0] - aim).square().sum().backward()
    weights = {name: value.requires_grad_() for name, value in weights_of(model).items()}
    own = plain_run(*plain(weights, model.config), x.double(), *doubled(state))
    (own - aim.double()).square().sum().backward()
    checked = [name for name, parameter in model.named_parameters() if parameter.numel()]
    assert len(checked) >= 5
    for name in checked:
        assert_near(getattr(model, name).grad, weights[name].grad, name=name)


def test_one_step_sees_what_teacher_forcing_sees(rng):
    model = random_model(5, **SHAPES[0])
    problem = OneStep(model, source_of(rng, model), sigma=0.0)
    with torch.no_grad():
        error, jacobian = next(problem.parts())
    assert len(error) == len(jacobian) > 1000
    moved = model.copy()
    direction = 1e-3 * torch.randn(jacobian.shape[1], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        at = 0
        for weights in trained(moved):
            weights += direction[at : at + weights.numel()].view(weights.shape)
            at += weights.numel()
    problem.model = moved
    with torch.no_grad():
        after, _ = next(problem.parts())
    assert_near(after - error, jacobian @ direction, relative=0.02)


def test_certificates_are_those_of_the_folded_model(rng):
    """Blocks do not overlap: the sum of gains over blocks is the sum over samples."""
    model = random_model(7, **SHAPES[2])
    sound = noise(rng, 1, 4000).numpy()
    assert 0 < small_gain(model, sound) == pytest.approx(small_gain(folded(model), sound), rel=1e-3)
    assert is_sturdy(model, sound)


def clone_of(model, **options):
    silence = SelfTest(np.zeros((1, 1), np.float32), model.run_freely(np.zeros((1, 1), np.float32)))
    return clone_from_bytes(attach(export_ar(model, **options), CloneMeta("test", "ar", RATE, silence)))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", SIZES)
def test_every_size_plays_in_onnxruntime_what_torch_plays(rng, name, activation):
    config = SIZES[name].config(activation)
    assert config.blocks[-1] >= 32
    assert config.reach == SIZES[name].per_octave * 2 ** (SIZES[name].octaves + 1)
    values = config.width + config.past_reach
    model = random_model(6, **{field: getattr(config, field) for field in ("m", "past_outputs", "width", "activation")},
                         blocks=config.blocks, past_blocks=config.past_blocks)  # fmt: skip
    clone = clone_of(model)
    node = {"relu": "RNN", "tanh": "LSTM"}[activation] if values <= LONGEST_FOLDED else "Scan"
    assert clone.ops & {"RNN", "LSTM", "Scan"} == {node}
    sound = noise(rng, 1, RATE // 2, level=0.2).numpy() + np.float32(0.1)
    clone.prepare(RATE, 8192, 1)
    out, own = run_in_chunks(clone, sound, (1, 64, 501, 8192)), model.run_freely(sound)
    assert out.shape == own.shape == sound.shape
    assert np.abs(own).max() > 0.01
    assert np.abs(out - own).max() <= 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_battery_on_the_file(rng, shape, tmp_path):
    model = random_model(8, **shape)
    sound = noise(rng, 1, 14_000, level=0.2).numpy()
    silence = SelfTest(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    path = tmp_path / "clone.onnx"
    meta = CloneMeta("test", "ar", RATE, silence, parameters=model.parameter_count)
    write_clone(export_ar(model), meta, path, model=model.run_freely, replay_sound=sound)
    checks = check_stream(fresh_streams(load_clone(path)), channels_in=1, sample_rate=RATE, samples=2401)
    assert len(checks) >= 16
    require(checks, name="the clone")


def test_it_is_stored_and_restored(rng):
    model = random_model(9, **SHAPES[2])
    again = Ar.restored(*model.stored())
    assert again.config == model.config
    sound = noise(rng, 1, 500).numpy()
    np.testing.assert_array_equal(again.run_freely(sound), model.run_freely(sound))
    assert "128 inputs in 14 taps and blocks, 16 past outputs in 8" in model.describe()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"blocks": (2, 0)}, r"blocks are \(2, 0\)"),
        ({"past_blocks": (4000, 100)}, "expected lengths of 1 and more, 4096 samples in all"),
        ({"m": 4000, "past_outputs": 1, "blocks": (97,)}, "4096 samples in all"),
        ({"blocks": (2,), "averages": (5.0,)}, "no averages or envelopes beside them"),
        ({"blocks": (2,), "past_outputs": 0}, "blocks need at least one past output"),
    ],
)
def test_shapes_out_of_range_are_told(shape, says):
    with pytest.raises(UsageError, match=says):
        ArConfig(**shape)
