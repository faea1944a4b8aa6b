"""Writing a clone file, and proving it first: what onnxruntime plays must be what the model plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from fxclone.audio import Audio, peak
from fxclone.clone import Clone, clone_from_bytes
from fxclone.clone_meta import METADATA_KEY, CloneMeta, SelfTest
from fxclone.errors import CloneFileError
from fxclone.paths import atomic_output
from fxclone_export.battery import run_in_chunks

REPLAY_TOLERANCE = 1e-4
"""-80 dB of full scale: the largest difference that is only rounding, which a high-gain amp turns up like its input."""
RMS_WEIGHT = 10.0
"""On the whole it must be 20 dB less than that."""
REPLAY_CHUNKS = (64, 1, 4096, 7, 8192, 100, 8192, 2049)
SELF_TEST_SAMPLES = 512


def write_clone(
    graph: onnx.ModelProto,
    meta: CloneMeta,
    path: str | Path,
    *,
    model: Callable[[Audio], Audio],
    replay_sound: Audio,
    force: bool = False,
) -> Clone:
    """Replay the graph in onnxruntime against the model, and only then write the file.

    Parameters
    ----------
    graph : onnx.ModelProto
        A streaming graph (`fxclone_export.graph.StreamingGraph.model`).
    meta : CloneMeta
        Its `self_test` is replaced.
    path : path
    model : callable
        Runs the trained model freely on ``(channels_in, samples)`` from a fresh state.
    replay_sound : Audio
        Sound for the replay, ten seconds or so.
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    CloneFileError
        If the graph is not a valid clone, or its sound differs from the model's by more than 1e-4 of full scale (or of
        the loudest output, where that is louder), or on the whole by 1e-5 of it. Nothing is written then.
    """
    test_sound = self_test_sound(meta.channels_in)
    expected = model(test_sound)
    tolerance = 1e-4 * max(1.0, peak(expected))
    data = attach(graph, replace(meta, self_test=SelfTest(test_sound, expected, tolerance)))
    clone = clone_from_bytes(data, name=f"the export to {path}")
    error, limit = replay_error(clone, model, replay_sound)
    if not error <= limit:
        raise CloneFileError(
            f"the export to {path} was not written: onnxruntime's sound differs from the model's by {error:.2g}, "
            f"allowed {limit:.2g}; the model may be unstable: train it with more feedback noise"
        )
    with atomic_output(path, force=force) as temporary:
        temporary.write_bytes(data)
    clone.file_name = str(path)
    return clone


def replay_error(clone: Clone, model: Callable[[Audio], Audio], sound: Audio) -> tuple[float, float]:
    """`difference` of clone (in mixed block sizes) and model (in one run), and what is allowed."""
    expected = model(sound)
    clone.prepare(clone.sample_rate, max(REPLAY_CHUNKS), clone.channels_in)
    out = run_in_chunks(clone, sound, REPLAY_CHUNKS)
    if out.shape != expected.shape:
        return float("inf"), REPLAY_TOLERANCE
    return difference(out, expected), REPLAY_TOLERANCE * max(1.0, peak(expected))


def difference(one: Audio, other: Audio) -> float:
    """Largest difference of two sounds, or ten times its RMS where that is more."""
    apart = np.abs(one.astype(np.float64) - other)
    return max(float(apart.max()), RMS_WEIGHT * float(np.sqrt(np.square(apart).mean())))


def attach(graph: onnx.ModelProto, meta: CloneMeta) -> bytes:
    """The bytes of the clone file: the graph with the metadata in it."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: meta.to_json()})
    return bytes(model.SerializeToString())


def self_test_sound(channels: int) -> Audio:
    """Silence, an impulse, a rising sine and noise, at levels from -40 dBFS up: short, and moves everything."""
    n = np.arange(SELF_TEST_SAMPLES)
    sound = 0.8 * np.sin(2 * np.pi * n * (0.002 + 0.0002 * n / 8)) * (n / SELF_TEST_SAMPLES) ** 2
    sound += 0.05 * np.random.default_rng(0).standard_normal(SELF_TEST_SAMPLES) * (n > 300)
    sound[:16] = 0
    sound[16] = 0.5
    turned = np.stack([sound * (1 - 0.3 * channel) for channel in range(channels)])
    return turned.astype(np.float32)
