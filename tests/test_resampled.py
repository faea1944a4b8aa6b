"""A processor at its own rate inside a stream of another one."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.processor import Processor
from fxclone.resampled import Resampled

PAIRS = [(48_000, 44_100), (44_100, 48_000), (48_000, 96_000), (96_000, 48_000), (44_100, 96_000), (8_000, 48_000)]


class Delay:
    """Passes sound through a whole number of its own samples late."""

    def __init__(self, latency: int = 0) -> None:
        self.latency_samples = latency
        self.tail_samples = 0
        self.blocks: list[int] = []

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        self.rate, self.max_block, self.channels = sample_rate, max_block, channels
        self.reset()

    def reset(self) -> None:
        self.held = np.zeros((self.channels, self.latency_samples), dtype=np.float32)

    def process(self, block):
        assert 0 < block.shape[1] <= self.max_block
        self.blocks.append(block.shape[1])
        joined = np.concatenate([self.held, block], axis=1)
        self.held = joined[:, block.shape[1] :]
        return np.ascontiguousarray(joined[:, : block.shape[1]])


def run(processor: Processor, sound, sizes):
    parts, at, turn = [], 0, 0
    while at < sound.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(processor.process(sound[:, at : at + size]).copy())
        at, turn = at + size, turn + 1
    return np.concatenate(parts, axis=1)


def low_tones(rate: int, samples: int):
    t = np.arange(samples) / rate
    tones = [np.sin(2 * np.pi * f * t + i) for i, f in enumerate((110.0, 997.0, 2_950.0))]
    return (np.stack([np.sum(tones, axis=0), tones[1]]) / 4).astype(np.float32)


@pytest.mark.parametrize(("stream", "inner"), PAIRS)
@pytest.mark.parametrize("latency", [0, 13])
def test_pass_through_comes_out_whole_and_exactly_latency_samples_late(stream, inner, latency):
    processor = Resampled(Delay(latency), inner)
    processor.prepare(stream, 256, 2)
    assert processor.inner.rate == inner
    sound = low_tones(stream, stream // 4)
    out = run(processor, sound, [256])
    assert out.shape == sound.shape
    late = processor.latency_samples
    edge = 4 * late  # the tones start with a jump, which no band-limited filter can follow
    error = out[:, late + edge :] - sound[:, edge : sound.shape[1] - late]
    assert error.shape[1] > 1_000
    assert np.sum(error**2) / np.sum(sound[:, edge:] ** 2) < 10 ** (-70 / 10)


@pytest.mark.parametrize(("stream", "inner"), PAIRS)
@pytest.mark.parametrize("sizes", [[1], [7], [64], [3, 256, 1, 100, 17]])
def test_any_block_sizes_give_the_same_sound(stream, inner, sizes, rng):
    sound = rng.uniform(-0.5, 0.5, (1, 3_001)).astype(np.float32)
    whole, pieces = Resampled(Delay(5), inner), Resampled(Delay(5), inner)
    whole.prepare(stream, 4_096, 1)
    pieces.prepare(stream, 256, 1)
    expected, got = run(whole, sound, [4_096]), run(pieces, sound, sizes)
    assert expected.shape == got.shape == sound.shape
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_reset_sounds_as_fresh(rng):
    sound = rng.uniform(-0.5, 0.5, (1, 2_000)).astype(np.float32)
    processor = Resampled(Delay(5), 44_100)
    processor.prepare(48_000, 64, 1)
    fresh = run(processor, sound, [64, 13])
    processor.process(np.ones((1, 64), dtype=np.float32))
    processor.reset()
    np.testing.assert_array_equal(run(processor, sound, [64, 13]), fresh)


def test_what_the_lower_rate_cannot_hold_does_not_fold_back():
    processor = Resampled(Delay(), 22_050)
    processor.prepare(48_000, 512, 1)
    t = np.arange(48_000) / 48_000
    sound = (0.5 * np.sin(2 * np.pi * 16_000 * t)).astype(np.float32)[None, :]
    out = run(processor, sound, [512])
    assert out.shape == sound.shape
    assert np.abs(out[:, 2_000:]).max() < 0.5 * 10 ** (-75 / 20)


def test_the_load_is_even_because_no_block_is_a_burst(rng):
    processor = Resampled(Delay(), 44_100)
    processor.prepare(48_000, 64, 1)
    run(processor, rng.uniform(-0.5, 0.5, (1, 48_000)).astype(np.float32), [64])
    assert set(processor.inner.blocks) == {58, 59}


def test_the_same_rate_adds_nothing(rng):
    processor = Resampled(Delay(), 48_000)
    processor.prepare(48_000, 64, 1)
    sound = rng.uniform(-0.5, 0.5, (1, 64)).astype(np.float32)
    np.testing.assert_array_equal(processor.process(sound), sound)
    assert processor.latency_samples == 0


def test_a_change_of_channels_by_the_inner_processor_is_kept(rng):
    class Widen(Delay):
        channels_out = 2

        def process(self, block):
            return np.repeat(block, 2, axis=0)

    processor = Resampled(Widen(), 8_000)
    processor.prepare(48_000, 4, 1)
    assert processor.channels_out == 2
    assert run(processor, rng.uniform(-1, 1, (1, 50)).astype(np.float32), [1, 4]).shape == (2, 50)
