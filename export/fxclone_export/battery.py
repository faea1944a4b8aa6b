"""The property battery: what every model family and every exported file must pass, in torch and in ONNX alike.

It knows nothing of either: whatever can start afresh and process blocks can be checked (`Stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fxclone.audio import Audio, peak
from fxclone.errors import FxcloneError

CHUNKS = (1, 7, 64, 100, 4096)
TOLERANCE = 1e-5
"""Of full scale, or of the loudest output where that is louder."""


class Stream(Protocol):
    """Something that processes blocks and carries its state."""

    def process(self, block: Audio) -> Audio:
        """Process ``(channels_in, n)`` to ``(channels_out, n)``."""

    def reset(self) -> None:
        """Back to the fresh state."""


@dataclass(frozen=True)
class Check:
    """One property: whether it holds, and the number that says so."""

    name: str
    passed: bool
    detail: str


def run_in_chunks(stream: Stream, audio: Audio, sizes: Sequence[int]) -> Audio:
    """Process ``audio`` from where the stream is, in blocks of the given sizes, over and over; odd tails included."""
    parts, start, turn = [], 0, 0
    while start < audio.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(stream.process(audio[:, start : start + size]))
        start, turn = start + size, turn + 1
    out = np.concatenate(parts, axis=1)
    if out.shape[1] != audio.shape[1]:
        raise FxcloneError(f"blocks of {sizes} gave {out.shape[1]} samples for {audio.shape[1]}")
    return out


def check_stream(
    fresh: Callable[[], Stream], *, channels_in: int, sample_rate: int, samples: int = 4801, seed: int = 0
) -> list[Check]:
    """Run the battery.

    Parameters
    ----------
    fresh : callable
        Gives a new stream in its fresh state.
    channels_in, sample_rate : int
    samples : int
        Length of each test sound; odd on purpose, so that every chunk size leaves a tail.
    seed : int

    Returns
    -------
    list of Check
        One for each property; none is skipped, and lengths are part of each.
    """
    rng = np.random.default_rng(seed)
    noise = (0.3 * rng.standard_normal((channels_in, samples))).astype(np.float32)
    stream = fresh()
    whole = stream.process(noise)
    limit = TOLERANCE * max(1.0, peak(whole))
    checks = [
        Check("length", whole.shape[1] == samples, f"{whole.shape[1]} samples out for {samples} in"),
        Check("answers", peak(whole) > 1e-6, f"peak {peak(whole):.3g} for noise in"),
    ]

    def same(name: str, other: Audio) -> None:
        good = other.shape == whole.shape
        difference = float(np.abs(other - whole).max()) if good else float("inf")
        checks.append(Check(name, difference <= limit, f"differs by {difference:.2g}, allowed {limit:.2g}"))

    stream.reset()
    same("reset == fresh", stream.process(noise))
    same("deterministic", fresh().process(noise))
    for size in CHUNKS:
        stream.reset()
        # Blocks of one sample are slow in any runtime: a part of the sound is enough there.
        part = noise if size > 1 else noise[:, : samples // 8]
        out = run_in_chunks(stream, part, [size])
        difference = float(np.abs(out - whole[:, : out.shape[1]]).max()) if out.shape[1] == part.shape[1] else np.inf
        checks.append(Check(f"chunks of {size} == whole", difference <= limit, f"differs by {difference:.2g}"))
    stream.reset()
    same("mixed chunks == whole", run_in_chunks(stream, noise, [3, 64, 1, 129, 1000]))

    changed = noise.copy()
    cut = samples // 2
    changed[:, cut:] *= -0.5
    early = np.abs(fresh().process(changed)[:, :cut] - whole[:, :cut])
    checks.append(Check("causal", float(early.max()) <= limit, f"the past changes by {early.max():.2g}"))

    time = np.arange(samples, dtype=np.float32) / sample_rate
    sounds = {
        "silence": np.zeros_like(noise),
        "full-scale noise": np.sign(noise),
        "full-scale sine": np.broadcast_to(np.sin(2 * np.pi * 997 * time), noise.shape),
        "DC": np.ones_like(noise),
        "an impulse": np.eye(1, samples, 10, dtype=np.float32).repeat(channels_in, axis=0),
        "tiny noise": noise * np.float32(1e-6),
    }
    for name, sound in sounds.items():
        out = fresh().process(np.ascontiguousarray(sound, dtype=np.float32))
        good = bool(np.isfinite(out).all()) and out.shape[1] == samples
        checks.append(Check(f"finite on {name}", good, f"peak {peak(out):.3g}" if good else "NaN or infinity"))

    stream = fresh()
    try:
        stream.process(np.full((channels_in, 16), np.nan, dtype=np.float32))
        checks.append(Check("NaN rejected", False, "NaN was taken without an error"))
    except FxcloneError:
        same("NaN rejected, state kept", stream.process(noise))
    return checks


def require(checks: Sequence[Check], *, name: str) -> None:
    """Raise FxcloneError that names the properties which do not hold, if any."""
    failed = [f"{check.name} ({check.detail})" for check in checks if not check.passed]
    if failed:
        raise FxcloneError(f"{name} fails {len(failed)} of {len(checks)} checks: {'; '.join(failed)}")
