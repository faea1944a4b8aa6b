"""Drawing passages from a pair: with lead-in, what the model remembers at their start, weights, and feedback noise."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fxclone.errors import UsageError
from fxclone.pairs import Pair
from fxclone_training import kernels
from fxclone_training.ar import Ar, ArState
from fxclone_training.ar_config import ArConfig

QUIET = 1e-5
"""Passages more than 50 dB under the mean power do not weigh more than those at -50 dB."""
REMOVED = 1e-2
"""Nor does what the effect removes by more than 20 dB: an error there is not heard relative to nearly nothing."""
GRID = 64
"""Passages begin at multiples of this many samples, where the slow values of the recording are known."""


def reference_power(dry: Tensor, wet: Tensor, mean_dry: Tensor, mean_wet: Tensor) -> Tensor:
    """What the squared error of a passage is measured against; powers in, power out."""
    return wet + REMOVED * dry * (mean_wet / mean_dry.clamp(min=1e-20)) + QUIET * mean_wet + 1e-20


@dataclass(frozen=True)
class Segments:
    """A batch of passages, each with ``history`` samples of lead-in."""

    x: Tensor  # (batch, history + samples)
    y_noisy: Tensor  # (batch, history + samples): past outputs as the model is shown them
    target: Tensor  # (batch, samples)
    weight: Tensor  # (batch, 1): what the error is multiplied by before it is squared
    slow_x: Tensor  # (batch, slow): averages and envelopes at the end of the lead-in
    slow_y: Tensor  # (batch, slow_y)

    def part(self, start: int, end: int) -> Segments:
        """Some of the passages."""
        return Segments(*(getattr(self, field.name)[start:end] for field in fields(self)))

    def state(self, model: Ar) -> ArState:
        """What the model would remember at the end of the lead-in, had it been right until then."""
        lead_in = slice(0, model.history_samples)
        return model.state_after(self.x[:, lead_in], self.y_noisy[:, lead_in], self.slow_x, self.slow_y)


class Recording:
    """A mono pair as the trainer needs it: the sound, and its slow values at every grid point.

    Parameters
    ----------
    pair : Pair
    config : ArConfig
        Whose time constants count.
    """

    def __init__(self, pair: Pair, config: ArConfig, *, device: str = "cpu") -> None:
        self.x = torch.from_numpy(pair.dry[0].copy()).to(device)
        self.y = torch.from_numpy(pair.wet[0].copy()).to(device)
        # A window knows its whole past after some samples: only what remembers for long has to be led in.
        self.first = -(-pair.lead_samples // GRID) if config.slow or config.slow_y else 0
        self.mean_x, self.mean_y = self.x.square().mean(), self.y.square().mean()
        late = np.concatenate([np.zeros(kernels.ENVELOPES_LATE, np.float32), pair.wet[0]])[: pair.samples]
        averages, rates_y = len(config.averages_y), config.rates_y()
        self.slow_x = _grid(pair.dry[0], config.rates(), len(config.averages)).to(device)
        self.slow_y = _grid(pair.wet[0], rates_y, averages).to(device)
        self.slow_y[:, averages:] = _grid(late, rates_y, averages).to(device)[:, averages:]

    def __len__(self) -> int:
        return len(self.x)

    def cut(self, starts: Tensor, samples: int, history: int) -> tuple[Tensor, Tensor]:
        """x and y (batch, history + samples) of passages that start (after their lead-in) at ``starts`` (batch, 1)."""
        if samples > len(self):
            raise UsageError(f"a pair of {len(self)} samples is too short for passages of {samples}; use more sound")
        index = (starts - history + torch.arange(history + samples)).to(self.x.device)
        before = index < 0
        index = index.clamp(min=0)
        return self.x[index].masked_fill(before, 0.0), self.y[index].masked_fill(before, 0.0)

    def power(self, x: Tensor, y: Tensor) -> Tensor:
        """Reference power of passages (batch, samples): (batch, 1)."""
        return reference_power(
            x.square().mean(1, keepdim=True), y.square().mean(1, keepdim=True), self.mean_x, self.mean_y
        )

    def starts(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Random places on the grid after the pair's lead-in, (count, 1)."""
        places = (len(self) - samples) // GRID + 1
        first = min(self.first, max(0, places - 1))
        return torch.randint(first, max(1, places), (count, 1), generator=generator) * GRID


def _grid(signal: np.ndarray, rates: kernels.F32, averages: int, chunk: int = 1 << 16) -> Tensor:
    """Slow values before every GRID-th sample, (samples // GRID + 1, slow)."""
    rows = []
    state = np.zeros((1, len(rates)), np.float32)
    if len(rates) == 0:
        return torch.zeros(len(signal) // GRID + 1, 0)
    for start in range(0, len(signal), chunk):
        part = np.ascontiguousarray(signal[None, start : start + chunk], dtype=np.float32)
        track = kernels.leaky(part, state, rates, averages)
        rows.append(track[0, :-1:GRID])
        state = track[:, -1].copy()
    rows.append(state)
    return torch.from_numpy(np.concatenate(rows))


class SegmentSource:
    """Draws random passages, reproducibly.

    Parameters
    ----------
    recording : Recording
    relative_weight, relative_noise : bool
        Whether the error's weight, and the noise, follow the level of the passage.
    generator : torch.Generator
        The only source of randomness.
    """

    def __init__(
        self, recording: Recording, *, relative_weight: bool, relative_noise: bool, generator: torch.Generator
    ) -> None:
        self.recording = recording
        self.relative_weight, self.relative_noise = relative_weight, relative_noise
        self.generator = generator

    def draw(self, batch: int, samples: int, history: int, sigma: float) -> Segments:
        """Draw ``batch`` passages; sound before the pair begins is silence."""
        recording = self.recording
        starts = recording.starts(batch, samples, self.generator)
        x, y = recording.cut(starts, samples, history)
        power = recording.power(x, y)
        noise = torch.randn(y.shape, generator=self.generator).to(y.device) * sigma
        if self.relative_noise:
            noise = noise * power.sqrt()
        weight = power.rsqrt() if self.relative_weight else torch.ones_like(power)
        row = (starts[:, 0] // GRID).to(y.device)
        return Segments(x, y + noise, y[:, history:], weight, recording.slow_x[row], recording.slow_y[row])
