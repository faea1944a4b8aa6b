"""One call of pedalboard, made safe."""

from __future__ import annotations

from typing import Any

import numpy as np

from fxclone.audio import Audio

_BLOCK_SAMPLES = 8192  # any other gives the same sound: tested


def process(plugin: Any, dry: Audio, sample_rate: int, delay_samples: int = 0) -> Audio:
    """Run a fresh plugin over all of ``dry``, and let its output come late by ``delay_samples``."""
    channels, samples = dry.shape
    padded = dry
    if samples <= channels:  # pedalboard would take channels for samples
        padded = np.zeros((channels, channels + 1), dtype=np.float32)
        padded[:, :samples] = dry
    wet: Audio = plugin.process(padded, float(sample_rate), buffer_size=_BLOCK_SAMPLES, reset=True)[:, :samples]
    if delay_samples:
        wet = np.concatenate([np.zeros((channels, min(delay_samples, samples)), np.float32), wet], axis=1)
    return wet[:, :samples]
