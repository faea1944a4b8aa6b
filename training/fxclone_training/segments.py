"""Drawing passages from a pair for the teacher-forced stage: with lead-in, weights, and noise on the past outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxclone.pairs import Pair

QUIET = 1e-5
"""Passages more than 50 dB under the mean power do not weigh more than those at -50 dB."""
REMOVED = 1e-2
"""Nor does what the effect removes by more than 20 dB: an error there is not heard relative to nearly nothing."""


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

    def part(self, start: int, end: int) -> Segments:
        """Some of the passages."""
        some = slice(start, end)
        return Segments(self.x[some], self.y_noisy[some], self.target[some], self.weight[some])


class SegmentSource:
    """Draws random passages from a mono pair, reproducibly.

    Parameters
    ----------
    pair : Pair
    relative_weight, relative_noise : bool
        Whether the error's weight, and the noise, follow the level of the passage.
    generator : torch.Generator
        The only source of randomness.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        relative_weight: bool,
        relative_noise: bool,
        generator: torch.Generator,
        device: str = "cpu",
    ) -> None:
        self.x = torch.from_numpy(pair.dry[0].copy()).to(device)
        self.y = torch.from_numpy(pair.wet[0].copy()).to(device)
        self.mean_x, self.mean_y = self.x.square().mean(), self.y.square().mean()
        self.relative_weight, self.relative_noise = relative_weight, relative_noise
        self.generator = generator

    def draw(self, batch: int, samples: int, history: int, sigma: float) -> Segments:
        """Draw ``batch`` passages; sound before the pair begins is silence."""
        starts = torch.randint(-history, len(self.x) - history - samples + 1, (batch, 1), generator=self.generator)
        index = (starts + torch.arange(history + samples)).to(self.x.device)
        before = index < 0
        index = index.clamp(min=0)
        x, y = self.x[index].masked_fill(before, 0.0), self.y[index].masked_fill(before, 0.0)
        power = reference_power(
            x.square().mean(1, keepdim=True), y.square().mean(1, keepdim=True), self.mean_x, self.mean_y
        )
        noise = torch.randn(y.shape, generator=self.generator).to(y.device) * sigma
        if self.relative_noise:
            noise = noise * power.sqrt()
        weight = power.rsqrt() if self.relative_weight else torch.ones_like(power)
        return Segments(x, y + noise, y[:, history:], weight)
