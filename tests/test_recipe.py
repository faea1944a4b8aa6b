"""What training is made of: growing windows, linear starts, drawn passages, streams of them."""

import numpy as np
import pytest
import torch
from ar_models import noise, random_model

from fxclone.pairs import Pair
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.ar_stages import sized
from fxclone_training.gauss_newton import FreeRun, GaussNewton
from fxclone_training.grow import linear_start, widen, window_sizes
from fxclone_training.recipe import Recipe
from fxclone_training.segments import GRID, Recording, SegmentSource
from fxclone_training.streams import Streams

RATE = 48_000


def test_window_sizes_grow_up_to_the_one_asked_for():
    assert window_sizes(1) == [1]
    assert window_sizes(2) == [1, 2]
    assert window_sizes(4)[-1] == 4
    assert window_sizes(128)[-1] == 128
    for m in (None, 1, 2, 3, 5, 16, 17, 31, 32, 33, 500):
        sizes = window_sizes(m)
        assert sizes == sorted(set(sizes))
        assert sizes[0] == 1
        assert sizes[-1] == (m or sizes[-1])


@pytest.mark.parametrize(("layers", "activation"), [(1, "tanh"), (3, "gelu"), (2, "relu")])
@pytest.mark.parametrize(("before", "after"), [((1, 0), (8, 7)), ((4, 3), (4, 9)), ((4, 3), (16, 3)), ((4, 3), (4, 3))])
def test_widening_keeps_the_function(rng, layers, activation, before, after):
    model = random_model(1, m=before[0], past_outputs=before[1], layers=layers, width=5, activation=activation)
    wide = widen(model, ArConfig(after[0], after[1], layers, 5, activation))
    assert (wide.config.m, wide.config.taps_y) == after
    for name, old in model.state_dict().items():
        new = wide.state_dict()[name]
        assert torch.equal(new[..., : old.shape[-1]], old)
        assert not new[..., old.shape[-1] :].any()
    dry = noise(rng, 1, 600).numpy()
    np.testing.assert_allclose(wide.run_freely(dry), model.run_freely(dry), atol=2e-6)


SLOW = {"averages": (5.0, 700.0), "envelopes": (30.0,), "attack": 0.2}


@pytest.mark.parametrize(
    "memory", [{"averages": (9.0, 90.0)}, {"past_averages": (9.0,)}, {"blocks": (2, 4), "past_blocks": (2,)}], ids=str
)
def test_a_model_of_another_memory_stays_as_it_is(memory):
    """Asked for 32 inputs, after training that ended with more than taps: nothing of it can be thrown away."""
    model = random_model(1, m=3, past_outputs=3, width=4, **memory)
    assert sized(model, Recipe(m=32, width=4), 48_000) is model
    assert sized(random_model(1, m=3, width=4), Recipe(m=32, width=4), 48_000).config.m == 32


@pytest.mark.parametrize(("layers", "activation"), [(1, "relu"), (1, "tanh"), (2, "gelu")])
@pytest.mark.parametrize(
    ("before", "after", "had"),
    [
        ((1, 0), (8, 7), {}),  # slow values that it had not
        ((4, 3), (4, 3), {}),
        ((4, 3), (16, 8), SLOW),  # those it had
        ((4, 2), (4, 9), SLOW),
        ((4, 3), (4, 3), SLOW),
    ],
)
def test_widening_keeps_the_function_with_slow_values(rng, layers, activation, before, after, had):
    shape = {"layers": layers, "width": 5, "activation": activation}
    model = random_model(1, m=before[0], past_outputs=before[1], **shape, **had)
    wide = widen(model, ArConfig(after[0], after[1], **shape, **SLOW))
    assert (wide.config.m, wide.config.taps_y, wide.config.slow) == (*after, 3)
    assert wide.w_x.shape == (5, after[0] + 3)
    assert wide.w_y.shape == (5, after[1] + 3)
    if had:
        assert torch.equal(wide.w_y[:, after[1] :], model.w_y[:, before[1] :])
        assert torch.equal(wide.skip_x[after[0] :], model.skip_x[before[0] :])
        assert bool(wide.w_x[:, after[0] :].all())
    else:
        assert not wide.w_x[:, after[0] :].any()
        assert not wide.w_y[:, after[1] :].any()
    dry = noise(rng, 1, 3000).numpy()
    np.testing.assert_allclose(wide.run_freely(dry), model.run_freely(dry), atol=2e-6)


def recursive_pair(rng, samples=40_000):
    """y[n] = 0.5 x[n] - 0.2 x[n-1] + 0.7 y[n-1] + 0.1."""
    dry = (0.3 * rng.standard_normal(samples)).astype(np.float32)
    wet = np.zeros(samples)
    for n in range(samples):
        wet[n] = 0.5 * dry[n] + 0.1 + (0.7 * wet[n - 1] - 0.2 * dry[n - 1] if n else 0)
    return Pair(dry[None], wet[None].astype(np.float32), RATE)


def source_of(pair, seed=0, *, relative=False, **shape):
    generator = torch.Generator().manual_seed(seed)
    recording = Recording(pair, ArConfig(**shape))
    return SegmentSource(recording, relative_weight=relative, relative_noise=relative, generator=generator)


def silent(**shape):
    model = Ar(ArConfig(**{"width": 3, **shape}))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    return model


def test_the_linear_start_finds_a_linear_effect(rng):
    pair = recursive_pair(rng)
    model = silent(m=2)
    linear_start(model, source_of(pair), sigma=0.0)
    np.testing.assert_allclose(model.skip_x.detach(), [0.5, -0.2], atol=1e-4)
    np.testing.assert_allclose(model.skip_y.detach(), [0.7], atol=1e-4)
    np.testing.assert_allclose(model.b_out.detach(), [0.1], atol=1e-4)
    out = model.run_freely(pair.dry)
    assert out.shape == pair.wet.shape
    assert np.abs(out - pair.wet).max() < 1e-3


def test_feedback_noise_is_a_ridge_on_the_feedback(rng):
    pair = recursive_pair(rng)
    gains = []
    for sigma in (0.0, 0.1, 1.0):
        model = silent(m=2)
        linear_start(model, source_of(pair), sigma)
        gains.append(float(model.skip_y.detach()[0]))
    assert gains[0] == pytest.approx(0.7, abs=1e-3)
    assert gains[0] > gains[1] > gains[2] > 0


def test_drawn_passages(rng):
    pair = recursive_pair(rng, 3000)
    drawn = source_of(pair).draw(50, 40, 10, sigma=0.0)
    assert drawn.x.shape == drawn.y_noisy.shape == (50, 50)
    assert drawn.target.shape == (50, 40)
    assert drawn.weight.shape == (50, 1)
    assert torch.equal(drawn.target, drawn.y_noisy[:, 10:])
    dry, wet = np.pad(pair.dry[0], (10, 0)), np.pad(pair.wet[0], (10, 0))
    for x, y in zip(drawn.x.numpy(), drawn.y_noisy.numpy(), strict=True):  # each is a real passage, both sides aligned
        starts = np.flatnonzero(dry == x[-1]) - 49
        assert any(np.array_equal(dry[s : s + 50], x) and np.array_equal(wet[s : s + 50], y) for s in starts)


@pytest.mark.parametrize("samples", [64, 63, 1000, 65_536, 65_600, 70_001])
def test_slow_values_of_a_recording_equal_a_plain_loop(rng, samples):
    config = ArConfig(m=4, past_outputs=3, averages=(5.0, 3000.0), envelopes=(40.0, 20_000.0), attack=0.1)
    dry, wet = (0.3 * rng.standard_normal((2, 1, samples))).astype(np.float32) + np.float32(0.05)
    recording = Recording(Pair(dry, wet, RATE), config)
    assert len(recording) == samples
    rates, rows = config.rates().astype(np.float64), samples // GRID + 1
    assert recording.slow_x.shape[0] >= rows
    assert recording.slow_x.shape[1] == recording.slow_y.shape[1] == 4
    slow_x, slow_y = np.zeros(4), np.zeros(4)
    for n in range(samples + 1):
        if n % GRID == 0:  # what is known before sample n; envelopes of y two samples late
            np.testing.assert_allclose(recording.slow_x[n // GRID], slow_x, atol=2e-6)
            np.testing.assert_allclose(recording.slow_y[n // GRID], slow_y, atol=2e-6)
        if n < samples:
            x, y, late = float(dry[0, n]), float(wet[0, n]), float(wet[0, n - 2]) if n > 1 else 0.0
            for slow, heard in (slow_x, [x, x, abs(x), abs(x)]), (slow_y, [y, y, abs(late), abs(late)]):
                slow += np.where(heard > slow, *rates.T) * (heard - slow)


def test_passages_begin_on_the_grid_and_carry_its_slow_values(rng):
    pair, shape = recursive_pair(rng, 3000), {"m": 3, "averages": (100.0,), "envelopes": (300.0,)}
    source = source_of(pair, **shape)
    recording, drawn = source.recording, source.draw(60, 40, 10, sigma=0.5)
    seen = set()
    for k in range(60):
        start = int(np.flatnonzero(pair.dry[0] == float(drawn.x[k, 10]))[0])
        assert start % GRID == 0
        seen.add(start)
        assert torch.equal(drawn.slow_x[k], recording.slow_x[start // GRID])
        assert torch.equal(drawn.slow_y[k], recording.slow_y[start // GRID])  # without the noise
    assert 0 in seen
    assert max(seen) == (3000 - 40) // GRID * GRID  # to the very end
    part = drawn.part(3, 7)
    assert torch.equal(part.slow_y, drawn.slow_y[3:7])
    assert torch.equal(part.target, drawn.target[3:7])


@pytest.mark.parametrize(
    "shape",
    [
        {"m": 3, "width": 4},
        {"m": 5, "past_outputs": 2, "width": 4, "averages": (6.0, 900.0), "envelopes": (50.0,)},
        {"m": 2, "past_outputs": 7, "width": 4, "layers": 2, "averages": (20.0,)},
        {"m": 1, "past_outputs": 2, "width": 4, "envelopes": (9.0, 400.0), "attack": 0.3},
    ],
)
def test_the_state_of_a_passage_runs_on_from_the_recording(rng, shape):
    """A recording of the model's own sound: a run from any passage's state is that sound."""
    model = random_model(3, **shape)
    dry = noise(rng, 1, 2000).numpy()
    pair = Pair(dry, model.run_freely(dry), RATE)
    drawn = source_of(pair, **shape).draw(20, 100, model.history_samples, sigma=0.0)
    with torch.no_grad():
        own, _ = model(drawn.x[:, None, model.history_samples :], drawn.state(model))
    torch.testing.assert_close(own[:, 0], drawn.target, rtol=0, atol=5e-6)


def streams_on(pair, model, *, batch=5, block=128, seed=0, **how):
    generator = torch.Generator().manual_seed(seed)
    return Streams(
        Recording(pair, model.config),
        batch=batch,
        block=block,
        relative_weight=False,
        generator=generator,
        sample_rate=RATE,
        **how,
    )


STREAM_SHAPES = [
    {"m": 4, "width": 4},
    {"m": 4, "past_outputs": 2, "width": 4, "averages": (6.0, 900.0), "envelopes": (50.0, 5000.0)},
    {"m": 2, "past_outputs": 6, "width": 4, "activation": "relu", "averages": (30.0,)}
    | {"envelopes": (30.0,), "attack": 0.1},
]


@pytest.mark.parametrize("shape", STREAM_SHAPES)
def test_streams_carry_the_state(rng, shape):
    """Two blocks of N are one of 2N, to the same state."""
    model = random_model(4, **shape)
    pair = recursive_pair(rng, 20_000)
    short, long = streams_on(pair, model, block=128), streams_on(pair, model, block=256)
    short.position = long.position = torch.tensor([[0], [64], [640], [6400], [12_800]])
    short.age, long.age = torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long)
    state, parts = short.fresh_states(model), []
    with torch.no_grad():
        for _ in range(2):
            x, y, weight, state = short.next_block(model, state)
            assert x.shape == y.shape == (5, 128)
            assert weight.shape == (5, 1)
            own, state = model(x[:, None], state)
            parts.append((x, y, own[:, 0]))
        x, y, _, whole = long.next_block(model, long.fresh_states(model))
        own, whole = model(x[:, None], whole)
    assert torch.equal(torch.cat([part[0] for part in parts], 1), x)
    assert torch.equal(torch.cat([part[1] for part in parts], 1), y)
    torch.testing.assert_close(torch.cat([part[2] for part in parts], 1), own[:, 0], rtol=0, atol=2e-6)
    assert torch.equal(short.position, long.position)
    for name in ("x", "y", "slow_x", "slow_y"):
        torch.testing.assert_close(getattr(state, name), getattr(whole, name), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", STREAM_SHAPES)
def test_streams_start_from_the_true_past(rng, shape):
    """On a recording of the model's own sound every block of every stream is that sound, new starts included."""
    model = random_model(5, **shape)
    dry = noise(rng, 1, 3000).numpy()
    pair = Pair(dry, model.run_freely(dry), RATE)
    streams = streams_on(pair, model, block=256)
    state, renewed = streams.fresh_states(model), 0
    with torch.no_grad():
        for _ in range(40):
            before = streams.position.clone()
            x, y, _, state = streams.next_block(model, state)
            renewed += int((streams.position != before + 256).sum())
            own, state = model(x[:, None], state)
            torch.testing.assert_close(own[:, 0], y, rtol=0, atol=1e-5)
    assert renewed > 5


@pytest.mark.parametrize("shape", STREAM_SHAPES)
def test_streams_may_start_as_a_clone_does_that_is_switched_on(rng, shape):
    """What starts anew is what a fresh clone says of that sound; what goes on is not."""
    model = random_model(5, **shape)
    dry = noise(rng, 1, 3000).numpy()
    streams = streams_on(Pair(dry, model.run_freely(dry), RATE), model, block=256, from_silence=True)
    state, renewed = streams.fresh_states(model), 0
    with torch.no_grad():
        for _ in range(40):
            before = streams.position.clone()
            x, _, _, state = streams.next_block(model, state)
            own, state = model(x[:, None], state)
            for place in (streams.position != before + 256).flatten().nonzero().flatten().tolist():
                fresh = model.run_freely(x[place][None].numpy())
                np.testing.assert_allclose(own[place].numpy(), fresh, rtol=0, atol=1e-5)
                renewed += 1
    assert renewed > 5


@pytest.mark.parametrize("shape", STREAM_SHAPES)
def test_free_running_steps_carry_the_state_on(rng, shape):
    """Each step's block begins with the state in which the last one ended, for the weights of then."""
    model = random_model(6, **shape)
    streams = streams_on(recursive_pair(rng, 20_000), model, block=128)
    streams.age = torch.zeros(5, dtype=torch.long)
    streams.position = torch.tensor([[0], [64], [640], [6400], [12_800]])
    with torch.no_grad():
        first = FreeRun(model, streams)
        assert np.isfinite(first.cost())
        first.accept()
        _, ended = first._run(first.segments, first.noise)
        second = FreeRun(model, streams)
        begun = second.segments.state(model)
        for name in ("x", "y", "slow_x", "slow_y"):
            assert torch.equal(getattr(begun, name), getattr(ended, name)), name
        assert not torch.equal(second.segments.target, first.segments.target)


@pytest.mark.parametrize("blow_up", [False, True])
def test_a_step_that_fails_leaves_no_state_of_another_place(rng, blow_up):
    """After a step without a finite answer the next block begins from its own past, not from an older block's."""
    model = random_model(6, m=3, width=4)
    streams = streams_on(recursive_pair(rng, 20_000), model, block=1024)
    streams.age = torch.zeros(5, dtype=torch.long)
    streams.position = torch.tensor([[0], [64], [640], [6400], [12_800]])
    optimiser = GaussNewton(model)
    optimiser.step(FreeRun(model, streams))
    held = {name: value.clone() for name, value in model.state_dict().items()}
    if blow_up:
        with torch.no_grad():
            model.skip_y[0] = 3.0
    assert optimiser.step(FreeRun(model, streams)).accepted is not blow_up
    model.load_state_dict(held)
    begins = streams.position.clone()
    state = FreeRun(model, streams).segments.state(model)
    heard = streams.recording.cut(begins, 0, 2)[0]
    assert torch.equal(state.x, heard)


def test_noise_is_on_the_past_outputs_alone_and_redrawn(rng):
    pair = recursive_pair(rng, 3000)
    source = source_of(pair)
    clean, noisy = source_of(pair).draw(200, 64, 8, sigma=0.0), source.draw(200, 64, 8, sigma=0.05)
    assert torch.equal(clean.x, noisy.x)
    assert torch.equal(clean.target, noisy.target)
    added = noisy.y_noisy - clean.y_noisy
    assert float(added.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(added.mean())) < 0.002
    again = source.draw(200, 64, 8, sigma=0.05)
    assert not torch.equal(again.y_noisy, noisy.y_noisy)


def test_relative_weights_and_noise_follow_the_level(rng):
    quiet = np.concatenate([0.3 * rng.standard_normal(20_000), 0.003 * rng.standard_normal(20_000)])[None]
    pair = Pair(quiet.astype(np.float32), quiet.astype(np.float32), RATE)
    drawn = source_of(pair, relative=True).draw(400, 64, 4, sigma=0.1)
    level = drawn.target.square().mean(1).sqrt()
    loud = level > 0.1
    soft = level < 0.01
    assert loud.sum() > 50
    assert soft.sum() > 50
    weighted = drawn.weight[:, 0] * level
    assert float(weighted[loud].mean()) == pytest.approx(1.0, abs=0.15)
    assert 0.5 < float(weighted[soft].mean()) < 1.1
    added = (drawn.y_noisy[:, 4:] - drawn.target).square().mean(1).sqrt()
    assert float(added[loud].mean()) == pytest.approx(0.03, rel=0.2)
    assert float(added[soft].mean()) < 0.002


def test_the_same_generator_draws_the_same(rng):
    pair = recursive_pair(rng, 3000)
    one, two, other = (source_of(pair, seed).draw(5, 30, 3, 0.1) for seed in (1, 1, 2))
    assert torch.equal(one.y_noisy, two.y_noisy)
    assert not torch.equal(one.y_noisy, other.y_noisy)
