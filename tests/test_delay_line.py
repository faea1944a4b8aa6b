"""Delay lines with feedback as streaming graphs: equal to the loop over samples that defines them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import UsageError
from fxclone_export.battery import check_stream, require, run_in_chunks
from fxclone_export.delay_line import DelayLines, feedback_delay
from fxclone_export.graph import StreamingGraph
from fxclone_export.verify import fresh_streams
from fxclone_export.write import write_clone

RATE = 48_000


def by_definition(delays, sound):
    """v[n] = (a * x)[n - D] + (b * v)[n - D], one sample after the other, in double precision."""
    total = 0
    for line in delays:
        a, b = np.asarray(line.feedforward, float), np.asarray(line.feedback, float)
        delay, samples = line.delay_samples, sound.shape[1]
        most = max(a.shape[2], b.shape[2])
        x = np.pad(sound.astype(float), ((0, 0), (most, 0)))
        v = np.zeros((a.shape[0], most + samples))
        for n in range(delay, samples):
            at = most + n - delay - np.arange(most)  # newest first
            v[:, most + n] = np.einsum("oij,ij->o", a, x[:, at[: a.shape[2]]])
            v[:, most + n] += np.einsum("oij,ij->o", b, v[:, at[: b.shape[2]]])
        total = total + np.asarray(line.gains, float) @ v[:, most:]
    return total


def lines_of(rng, delay, *, lines=1, channels_in=1, channels_out=1, a_taps=1, b_taps=1, feedback=0.6):
    b = rng.standard_normal((lines, lines, b_taps))
    return DelayLines(
        delay,
        rng.standard_normal((lines, channels_in, a_taps)),
        feedback * b / np.abs(b).sum(axis=(1, 2), keepdims=True),
        rng.uniform(0.3, 1, (channels_out, lines)),
    )


def clone_of(delays, path):
    channels_in, channels_out = delays[0].feedforward.shape[1], delays[0].gains.shape[0]
    graph = StreamingGraph(channels_in)
    graph.output(feedback_delay(graph, "audio", delays), channels_out)
    silence = np.zeros((1, 1), np.float32)
    sound = (0.1 * np.random.default_rng(7).standard_normal((channels_in, 9000))).astype(np.float32)
    return write_clone(
        graph.model(),
        CloneMeta("echo", "delay", RATE, SelfTest(silence, silence), channels_in, channels_out),
        path,
        model=lambda dry: by_definition(delays, dry).astype(np.float32),
        replay_sound=sound,
    )


CASES = {
    "one sample": {"delay": 1},
    "shorter than a block": {"delay": 37, "b_taps": 5, "a_taps": 3},
    "filter longer than the delay": {"delay": 4, "b_taps": 9, "a_taps": 11},
    "a block": {"delay": 64},
    "mono to stereo": {"delay": 301, "channels_out": 2, "lines": 2, "b_taps": 4},
    "ping-pong": {"delay": 1000, "channels_in": 2, "channels_out": 2, "lines": 2, "a_taps": 2},
    "a second": {"delay": 5000, "a_taps": 8, "b_taps": 8},
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_definition_in_any_blocks(tmp_path, rng, case):
    delays = [lines_of(rng, **CASES[case])]
    sound = (0.3 * rng.standard_normal((delays[0].feedforward.shape[1], 12_007))).astype(np.float32)
    expected = by_definition(delays, sound)
    peak = np.abs(expected).max()
    assert peak > 0.1
    stream = fresh_streams(clone_of(delays, tmp_path / "echo.onnx"))()
    for sizes in ((12_007,), (64,), (100,), (4096,), (1000, 1, 7, 3000, 64, 3, 999, 1, 1)):
        stream.reset()
        out = run_in_chunks(stream, sound, sizes)
        assert out.shape == expected.shape
        assert_allclose(out, expected, atol=2e-6 * peak, rtol=0, err_msg=f"blocks of {sizes}")
    stream.reset()
    assert_allclose(run_in_chunks(stream, sound[:, :700], (1,)), expected[:, :700], atol=2e-6 * peak, rtol=0)


def test_several_lengths_add_up(tmp_path, rng):
    delays = [lines_of(rng, delay, channels_out=2, b_taps=2) for delay in (113, 500, 2999)]
    clone = clone_of(delays, tmp_path / "echo.onnx")
    sound = (0.3 * rng.standard_normal((1, 8000))).astype(np.float32)
    out = run_in_chunks(fresh_streams(clone)(), sound, (64, 1, 4000, 7))
    expected = by_definition(delays, sound)
    assert_allclose(out, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


def test_echoes_come_back_in_time_and_die_away(tmp_path):
    """Two seconds of delay, half as loud each time: 16 echoes, for which a response would need 1.5 million taps."""
    line = DelayLines(96_000, np.ones((1, 1, 1)), np.full((1, 1, 1), 0.5), np.ones((1, 1)))
    stream = fresh_streams(clone_of([line], tmp_path / "echo.onnx"))()
    sound = np.zeros((1, 17 * 96_000), np.float32)
    sound[0, 5] = 1
    out = run_in_chunks(stream, sound, (65_536, 1024, 200_000))
    (places,) = np.nonzero(out[0])
    assert places.tolist() == [5 + 96_000 * k for k in range(1, 17)]
    assert_allclose(out[0, places], 0.5 ** np.arange(16), rtol=1e-6)


@pytest.mark.parametrize("delay", [50, 3000])
def test_the_battery(tmp_path, rng, delay):
    delays = [lines_of(rng, delay, lines=2, channels_in=2, channels_out=2, a_taps=3, b_taps=3)]
    checks = check_stream(
        fresh_streams(clone_of(delays, tmp_path / "echo.onnx")), channels_in=2, sample_rate=RATE, samples=9601
    )
    require(checks, name="an echo")


def test_lines_that_do_not_fit_together(rng):
    good = lines_of(rng, 100, lines=2)
    for change in (
        {"delay_samples": 0},
        {"feedforward": np.ones((1, 1, 1))},
        {"feedback": np.ones((2, 1, 1))},
        {"feedback": np.ones((2, 2, 0))},
        {"gains": np.ones((1, 3))},
        {"gains": np.ones(2)},
    ):
        with pytest.raises(UsageError, match="delay lines of"):
            replace(good, **change)
    with pytest.raises(UsageError, match="NaN or infinity"):
        replace(good, feedback=np.full((2, 2, 1), np.nan))
    with pytest.raises(UsageError, match="at least one"):
        feedback_delay(StreamingGraph(1), "audio", [])
