"""Least-squares problems around ``ar`` models, and their exact derivatives, for the tests of second-order steps."""

import numpy as np
import torch

from fxclone.pairs import Pair
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.streams import Streams

NAMES = ["w_x", "w_y", "b_in", "hidden", "b_hidden", "out", "skip_x", "skip_y", "b_out"]
SLOW_SHAPES = [
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh", "averages": (3.0, 20.0, 400.0)},
    {"m": 3, "past_outputs": 2, "layers": 2, "width": 4, "activation": "tanh", "envelopes": (2.0, 15.0), "attack": 0.3},
    {"m": 1, "past_outputs": 4, "layers": 1, "width": 5, "activation": "relu", "averages": (9.0,)}
    | {"envelopes": (15.0, 5.0), "attack": 0.2},
    {"m": 4, "layers": 2, "width": 4, "activation": "relu", "averages": (1.5, 30.0), "envelopes": (4.0, 50.0)},
    {"m": 2, "past_outputs": 5, "layers": 2, "width": 3, "activation": "gelu", "averages": (7.0,), "envelopes": (7.0,)},
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh", "skip": False, "averages": (6.0,), "envelopes": (3.0,)},
    {"m": 5, "past_outputs": 1, "layers": 2, "width": 4, "activation": "tanh", "averages": (2.0, 25.0)},
    {"m": 3, "layers": 1, "width": 4, "activation": "tanh", "averages": (3.0, 20.0, 400.0), "past_averages": (90.0,)},
    {"m": 3, "past_outputs": 2, "layers": 2, "width": 3, "activation": "relu", "averages": (9.0,)}
    | {"past_averages": (4.0, 30.0), "envelopes": (15.0,)},
]


def label(shape):
    return "-".join(str(value) for value in shape.values())


def assert_near(got, expected, *, relative=1e-4, name=""):
    """Largest difference against the largest value."""
    assert got.shape == expected.shape, name
    if got.numel():
        got, expected = got.detach().double(), expected.detach().double()
        scale = max(float(expected.abs().max()), 1e-6)
        worst = float((got - expected).abs().max())
        assert worst <= relative * scale, f"{name}: {worst:.3g} of {scale:.3g}"


def flat_jacobian(weights, function):
    """d function / d all weights in the order of `trained`, in double precision."""
    values = tuple(weights[name] for name in NAMES)
    jacobian = torch.autograd.functional.jacobian(
        lambda *parts: function(dict(zip(NAMES, parts, strict=True))), values, vectorize=True
    )
    return torch.cat([part.flatten(1) for part in jacobian], 1)


def source_of(rng, model, samples=4000, **weights):
    dry = (0.3 * rng.standard_normal((1, samples))).astype(np.float32)
    wet = np.tanh(2 * dry + 0.3 * np.roll(dry, 1)).astype(np.float32)
    options = {"relative_weight": True, "relative_noise": True, **weights}
    recording = Recording(Pair(dry, wet, 48_000), model.config)
    return SegmentSource(recording, generator=torch.Generator().manual_seed(5), **options)


def streams_of(rng, model, *, batch=6, block=128, samples=4000, relative_weight=True):
    source = source_of(rng, model, samples)
    return Streams(
        source.recording,
        batch=batch,
        block=block,
        relative_weight=relative_weight,
        generator=source.generator,
        sample_rate=48_000,
    )
