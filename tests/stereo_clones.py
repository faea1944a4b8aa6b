"""Small linear clone files, mono and stereo, whose impulse responses are known: no training, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve, lfilter

from fxclone.audio import fit_channels
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.signals import training_sound
from fxclone_export.graph import Scan, StreamingGraph
from fxclone_export.write import write_clone

RATE = 48_000
WIDE = np.array([[[0.5, 0.0, 0.25]], [[0.0, -0.4, 0.1]]])
"""Mono to stereo: what each ear hears of a click."""
CROSSTALK = np.array([[[0.8, 0.1], [0.0, 0.3]], [[0.2, 0.0], [0.6, -0.1]]])
"""Stereo to stereo: [output][input]."""


def room(seconds=0.5, channels_in=1, seed=7, sample_rate=RATE):
    """A stereo room: noise that falls by 60 dB in this time, different for each pair: (2, channels_in, samples)."""
    n = np.arange(round(seconds * sample_rate))
    noise = np.random.default_rng(seed).standard_normal((2, channels_in, n.size))
    return 0.05 * noise * 10 ** (-3.0 * n / n.size)


def convolved(dry, taps):
    """``(channels_in, samples)`` through ``taps (channels_out, channels_in, length)``; mono is heard by all inputs."""
    dry = fit_channels(np.asarray(dry, np.float32), taps.shape[1]).astype(np.float64)
    wet = [sum(fftconvolve(x, h)[: dry.shape[1]] for x, h in zip(dry, each, strict=True)) for each in taps]
    return np.array(wet).astype(np.float32)


def fir_clone(path: Path, taps, *, sample_rate=RATE) -> Path:
    """A clone that convolves with ``taps (channels_out, channels_in, length)``."""
    taps = np.asarray(taps, np.float64)
    channels_out, channels_in, length = taps.shape
    graph = StreamingGraph(channels_in)
    heard = graph.with_history("audio", length - 1, channels=channels_in)
    batch = graph.const(np.array([0]))
    kernel = graph.const(taps[:, :, ::-1], "taps")
    wet = graph.op("Conv", graph.op("Unsqueeze", heard, batch), kernel)
    graph.output(graph.op("Squeeze", wet, batch), channels_out)
    return _write(
        graph,
        path,
        lambda dry: convolved(dry, taps),
        sample_rate=sample_rate,
        channels_in=channels_in,
        channels_out=channels_out,
        tail_samples=length - 1,
    )


def echo_clone(path: Path, delay_samples: int, feedback: float, *, sample_rate=RATE, tail_samples=None) -> Path:
    """y[n] = x[n] + w[n], w[n] = x[n-d] + feedback w[n-d]: echoes, mono, with the delay line as a state."""
    graph = StreamingGraph()
    row = graph.op("Transpose", "audio", perm=[1, 0])
    body = Scan(["line_in", "x_in"])
    zero, one = graph.const(np.array([0])), graph.const(np.array([1]))
    oldest = body.op("Slice", "line_in", zero, one)
    enters = body.op("Add", "x_in", body.op("Mul", oldest, graph.const(np.float32([feedback]))))
    rest = body.op("Slice", "line_in", one, graph.const(np.array([np.iinfo(np.int64).max])))
    line = body.op("Concat", rest, enters, axis=0)
    body.outputs = [line, body.op("Unsqueeze", body.op("Add", "x_in", oldest), zero)]
    (wet,) = graph.scan({"line": (delay_samples,)}, [(row, 1)], body, [1])
    graph.output(graph.op("Transpose", graph.op("Squeeze", wet, one), perm=[1, 0]))
    if tail_samples is None:
        repeats = 1 + (int(np.ceil(np.log(1e-4) / np.log(feedback))) if feedback else 0)
        tail_samples = repeats * delay_samples
    poles = np.zeros(delay_samples + 1)
    poles[0], poles[-1] = 1.0, -feedback
    zeros = np.zeros(delay_samples + 1)
    zeros[-1] = 1.0
    return _write(
        graph,
        path,
        lambda dry: (dry + lfilter(zeros, poles, dry.astype(np.float64))).astype(np.float32),
        sample_rate=sample_rate,
        tail_samples=tail_samples,
    )


def _write(graph, path, model, *, sample_rate, channels_in=1, **facts) -> Path:
    silence = np.zeros((channels_in, 1), np.float32)
    sound = np.repeat(training_sound(0.5, sample_rate, seed=2), channels_in, axis=0)
    sound[1:] = sound[1:, ::-1]  # not the same in both ears
    meta = CloneMeta(
        path.stem,
        "test",
        sample_rate,
        SelfTest(silence, silence),
        channels_in=channels_in,
        levels={"dry_peak": 1.0, "wet_peak": 1.0},
        **facts,
    )
    write_clone(graph.model(), meta, path, model=model, replay_sound=sound)
    return path
