"""Leaky averages in frames: as the recursion says it, in any blocks, at any level."""

import numpy as np
import pytest

from fxclone.clone import clone_from_bytes
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone_export.averages import FRAME, taps_and_averages
from fxclone_export.battery import run_in_chunks
from fxclone_export.graph import StreamingGraph
from fxclone_export.write import attach

RATE = 48_000
TAUS = np.array([1.5, 2.0, 9.0, 300.0, 8640.0])
RATES = np.float32(1) - np.exp(-1 / TAUS).astype(np.float32)
SHAPES = {
    "one tap": (1, 5),
    "three": (3, 5),
    "a frame of taps": (FRAME, 2),
    "more": (FRAME + 9, 3),
    "no averages": (4, 0),
}
CHUNKS = {
    "frames": (FRAME, 4 * FRAME, 64 * FRAME),
    "samples": (1, 7, 501),
    "both": (FRAME, 5, 2 * FRAME, 1, 3 * FRAME, FRAME),
}


def weights(rng, m, averages, rows=2):
    return rng.standard_normal((rows, m)), rng.standard_normal((rows, averages)), rng.standard_normal(rows)


def exact(sound, taps, sums, rates, bias):
    """The definition, sample by sample, in double precision: (samples, rows)."""
    slow, past, out = np.zeros(len(rates)), np.zeros(taps.shape[1]), []
    for x in np.asarray(sound, np.float64):
        slow = slow + np.asarray(rates, np.float64) * (x - slow)
        past = np.concatenate([[x], past[:-1]])
        out.append(taps @ past + sums @ slow + bias)
    return np.array(out)


def clone_of(taps, sums, rates, bias):
    """A clone whose output is the sum of all rows."""
    graph = StreamingGraph()
    rows = taps_and_averages(graph, "audio", taps, sums, rates, bias, name="x")
    said = graph.op("MatMul", rows, graph.const(np.ones((len(taps), 1))))
    graph.output(graph.op("Reshape", said, graph.const([1, -1])))
    silence = SelfTest(np.zeros((1, 1), np.float32), np.float32([[bias.sum()]]))
    clone = clone_from_bytes(attach(graph.model(), CloneMeta("test", "ar", RATE, self_test=silence)))
    clone.prepare(RATE, 8192, 1)
    return clone


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_averages_are_what_the_recursion_says_in_any_blocks(rng, shape, chunks):
    taps, sums, bias = weights(rng, *shape)
    rates = RATES[: shape[1]]
    sound = (rng.uniform(-1, 1, 6000) + 0.3).astype(np.float32)
    out = run_in_chunks(clone_of(taps, sums, rates, bias), sound[None], chunks)
    wanted = exact(sound, taps, sums, rates, bias).sum(axis=1)
    assert out.shape == (1, 6000)
    assert np.abs(wanted).max() > 1
    assert np.abs(out[0] - wanted).max() <= 3e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("block", [FRAME, 7, 1])
@pytest.mark.parametrize("level", [1e-6, 1e6])
def test_a_constant_is_its_own_average(level, block):
    """But for what float32 loses: where a step is less than half of the last bit, it is not taken.

    A block of one sample rounds at going back and at going on, a frame once in sixteen samples.
    """
    sums = np.eye(1, 1)
    clone = clone_of(np.zeros((1, 1)), sums, RATES[-1:], np.zeros(1))
    out = run_in_chunks(clone, np.full((1, 30 * 8640), level, np.float32), (block,))
    assert out[0, -1] == pytest.approx(level, rel=(2 if block == 1 else 1) * 2**-24 / float(RATES[-1]))


def test_a_fresh_start_forgets(rng):
    taps, sums, bias = weights(rng, 3, 5)
    clone = clone_of(taps, sums, RATES, bias)
    sound = rng.uniform(-1, 1, (1, 3 * FRAME + 5)).astype(np.float32)
    first = run_in_chunks(clone, sound, (FRAME, 5))
    clone.reset()
    assert first.shape == sound.shape
    assert np.array_equal(first, run_in_chunks(clone, sound, (FRAME, 5)))
