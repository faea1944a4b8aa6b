"""Family ``tail`` as a model: what it computes, that its file plays the same, and that a run folder gives it back."""

import numpy as np
import pytest
from ar_models import random_model
from scipy.signal import fftconvolve

from fxclone.clone import load_clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone_export.battery import check_stream, run_in_chunks
from fxclone_export.write import write_clone
from fxclone_training.curve import Curve, features
from fxclone_training.runs import RunFolder
from fxclone_training.tail import Tail
from fxclone_training.tail_delay import DelayLine

RATE = 48_000


def responses(rng, out, into, taps):
    decay = np.exp(-np.arange(taps) / (taps / 6))
    return (0.3 / np.sqrt(taps) * decay * rng.standard_normal((out, into, taps))).astype(np.float32)


def echoes(channels):
    loop = np.zeros((channels, channels, 2), np.float32)
    loop[np.arange(channels), np.arange(channels)] = (0.4, 0.1)
    feed = np.full((channels, channels, 1), 0.5, np.float32)
    return DelayLine(700, feed, loop)


def pedal_curve(rng, units=5, recent=3, constants=(2.0, 30.0, 700.0)):
    weights = 2 * rng.standard_normal((units, recent + len(constants)))
    return Curve(weights, 0.3 * rng.standard_normal(units), rng.standard_normal(units) / units, constants)


MODELS = {
    "mono room": lambda rng: Tail(responses(rng, 1, 1, 9000)),
    "mono to stereo": lambda rng: Tail(responses(rng, 2, 1, 5000)),
    "stereo with crosstalk": lambda rng: Tail(responses(rng, 2, 2, 5000)),
    "cabinet": lambda rng: Tail(responses(rng, 1, 1, 300)),
    "echoes": lambda rng: Tail(responses(rng, 1, 1, 3), lines=[echoes(1)]),
    "stereo echoes": lambda rng: Tail(responses(rng, 2, 2, 3), lines=[echoes(2)]),
    "amp into room": lambda rng: Tail(
        None, random_model(1, m=4, past_outputs=0, width=6), responses(rng, 2, 1, 4000)
    ),
    "amp with feedback into cabinet, in stereo": lambda rng: Tail(
        None, random_model(1, m=8, width=6, activation="relu"), responses(rng, 2, 2, 800)
    ),
    "pedal": lambda rng: Tail(responses(rng, 1, 1, 60), pedal_curve(rng), responses(rng, 1, 1, 300)),
    "curves on the newest input alone, in stereo": lambda rng: Tail(
        None, pedal_curve(rng, recent=1, constants=()), responses(rng, 2, 2, 40)
    ),
    "dry beside driven": lambda rng: Tail(
        responses(rng, 1, 1, 2), random_model(1, m=1, width=6), responses(rng, 1, 1, 3000)
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request, rng):
    return request.param(rng)


def sound(rng, channels, seconds=0.6):
    return (0.4 * rng.uniform(-1, 1, (channels, int(seconds * RATE)))).astype(np.float32)


def written(model, path, rng):
    silence = SelfTest(np.zeros((model.channels_in, 1), np.float32), np.zeros((model.channels_out, 1), np.float32))
    meta = CloneMeta(
        "tail", "tail", RATE, silence, channels_in=model.channels_in, channels_out=model.channels_out
    )  # fmt: skip
    graph = next(model.graphs(4.0))
    return write_clone(graph, meta, path, model=model.run_freely, replay_sound=sound(rng, model.channels_in, 0.3))


def test_it_is_the_sum_of_convolutions(rng):
    model = Tail(responses(rng, 2, 2, 3000))
    dry = sound(rng, 2)
    out = model.run_freely(dry)
    assert out.shape == dry.shape
    for to in range(2):
        expected = sum(fftconvolve(dry[i].astype(float), model.direct[to, i])[: dry.shape[1]] for i in range(2))
        np.testing.assert_allclose(out[to], expected, atol=1e-5)


def test_a_front_comes_before_its_responses(rng):
    front = random_model(3, m=4, past_outputs=0, width=5)
    after = responses(rng, 1, 1, 200)
    dry = sound(rng, 1)
    expected = fftconvolve(front.run_freely(dry)[0].astype(float), after[0, 0])[: dry.shape[1]]
    np.testing.assert_allclose(Tail(None, front, after).run_freely(dry)[0], expected, atol=1e-5)


def test_an_echo_comes_back_quieter(rng):
    line = DelayLine(1000, np.full((1, 1, 1), 0.5, np.float32), np.full((1, 1, 1), 0.4, np.float32))
    impulse = np.zeros((1, 4000), np.float32)
    impulse[0, 0] = 1
    out = Tail(np.ones((1, 1, 1), np.float32), lines=[line]).run_freely(impulse)[0]
    assert np.flatnonzero(np.abs(out) > 1e-7).tolist() == [0, 1000, 2000, 3000]
    np.testing.assert_allclose(out[[0, 1000, 2000, 3000]], [1, 0.5, 0.2, 0.08], atol=1e-6)


def test_its_file_plays_what_it_computes(model, rng, tmp_path):
    clone = written(model, tmp_path / "tail.onnx", rng)
    dry = sound(rng, model.channels_in, 1.2)
    clone.prepare(RATE, 16_384, model.channels_in)
    out, own = run_in_chunks(clone, dry, (64, 1, 7, 501, 16_384)), model.run_freely(dry)
    assert out.shape == own.shape == (model.channels_out, dry.shape[1])
    assert np.abs(own).max() > 0.01
    assert np.abs(out - own).max() <= 1e-5 * max(1, np.abs(own).max())


def test_its_file_passes_the_battery(model, rng, tmp_path):
    written(model, tmp_path / "tail.onnx", rng)
    clone = load_clone(tmp_path / "tail.onnx")
    assert (clone.channels_in, clone.meta.channels_out) == (model.channels_in, model.channels_out)

    report = check_stream(
        lambda: fresh_stream(clone, model.channels_in), channels_in=model.channels_in, sample_rate=RATE, samples=12_000
    )
    assert len(report) > 5
    assert [check for check in report if not check.passed] == []


def fresh_stream(clone, channels):
    clone.prepare(RATE, 65_536, channels)
    return clone


def test_the_tail_is_as_long_as_it_is_audible(rng):
    figures = Tail(responses(rng, 2, 1, 24_000)).certify(sound(rng, 1), RATE)
    assert 12_000 < figures["tail_samples"] <= 24_000
    assert figures["contracting"]


def test_echoes_ring_for_as_long_as_their_loop_says():
    line = DelayLine(4800, np.full((1, 1, 1), 0.5, np.float32), np.full((1, 1, 1), 0.9, np.float32))
    figures = Tail(np.ones((1, 1, 1), np.float32), lines=[line]).certify(np.zeros((1, RATE), np.float32), RATE)
    rounds = figures["tail_samples"] / 4800
    assert 60 < rounds < 100  # 0.9^80 is -73 dB


def test_a_run_folder_gives_it_back(model, rng, tmp_path):
    run = RunFolder.create(tmp_path, "tail", {})
    run.save_weights(model, -40.0)
    again = run.load_weights()
    dry = sound(rng, model.channels_in, 0.2)
    np.testing.assert_array_equal(again.run_freely(dry), model.run_freely(dry))
    assert again.facts() == model.facts()


def test_a_copy_is_independent(rng):
    model = Tail(responses(rng, 1, 1, 100))
    other = model.copy()
    other.direct[:] = 0
    assert np.abs(model.direct).max() > 0


def test_nothing_at_all_is_refused():
    with pytest.raises(UsageError, match="needs responses"):
        Tail()


def test_a_curve_is_silent_in_silence_and_sees_averages(rng):
    curve = pedal_curve(rng)
    assert np.abs(curve.run_freely(np.zeros((1, 100), np.float32))).max() < 1e-6
    step = np.ones(5000, np.float32)
    seen = features(step, 2, (10.0, 100.0))
    assert seen.shape == (5000, 4)
    np.testing.assert_allclose(seen[0, :2], [1, 0])
    np.testing.assert_allclose(seen[99, 2:], [1 - np.exp(-10), 1 - np.exp(-1)], atol=1e-3)
    expected = curve.out @ np.tanh(curve.weights @ features(step, 3, curve.constants)[77] + curve.bias)
    expected -= curve.out @ np.tanh(curve.bias)
    assert curve.run_freely(step[None])[0, 77] == pytest.approx(expected, abs=1e-5)


def test_a_curve_whose_terms_cancel_is_not_sturdy(rng):
    weights = np.array([[3e5, -3e5, 0.1]])
    dry = 0.5 + 1e-3 * sound(rng, 1)
    assert not Curve(weights, np.zeros(1), np.ones(1), ()).is_sturdy(dry)
    assert pedal_curve(rng).is_sturdy(sound(rng, 1))
