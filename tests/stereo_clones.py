"""Small linear clone files, mono and stereo, whose impulse responses are known: no training, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve, lfilter

from fxclone.audio import fit_channels
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.signals import training_sound
from fxclone_export.delay_line import DelayLines, feedback_delay
from fxclone_export.graph import StreamingGraph
from fxclone_export.partitioned import convolve
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
    graph.output(convolve(graph, "audio", taps), channels_out)
    return _write(
        graph,
        path,
        lambda dry: convolved(dry, taps),
        sample_rate=sample_rate,
        channels_in=channels_in,
        channels_out=channels_out,
        tail_samples=length - 1,
    )


def echo_clone(path: Path, delay_samples: int, feedback: float, *, sample_rate=RATE) -> Path:
    """y[n] = x[n] + w[n], w[n] = x[n-d] + feedback w[n-d]: mono echoes, whose tail ends 80 dB down."""
    line = DelayLines(delay_samples, np.ones((1, 1, 1)), np.full((1, 1, 1), feedback), np.ones((1, 1)))
    graph = StreamingGraph()
    graph.output(graph.op("Add", "audio", feedback_delay(graph, "audio", [line])))
    repeats = 1 + int(np.ceil(np.log(1e-4) / np.log(feedback)))
    poles, zeros = np.eye(2, delay_samples + 1) * [[1.0], [0.0]]
    poles[-1], zeros[-1] = -feedback, 1.0
    return _write(
        graph,
        path,
        lambda dry: (dry + lfilter(zeros, poles, dry.astype(np.float64))).astype(np.float32),
        sample_rate=sample_rate,
        tail_samples=repeats * delay_samples,
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
