"""Passages that run side by side, block after block, with the model's own state carried along.

So a model is trained on states that only long runs of its own reach. Now and then a stream starts anew somewhere else,
from the true past, or as a clone does that is switched on while the music plays: knowing nothing.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from fxclone_training.ar import Ar, ArState
from fxclone_training.segments import GRID, Recording

STREAM_S = 4.0
"""A stream goes on this long before it starts anew, unless said otherwise."""


class Streams:
    """Passages of a pair that run side by side, block after block."""

    def __init__(
        self,
        recording: Recording,
        *,
        batch: int,
        block: int,
        relative_weight: bool,
        generator: torch.Generator,
        sample_rate: int,
        stream_s: float = STREAM_S,
        from_silence: bool = False,
    ) -> None:
        self.recording, self.from_silence = recording, from_silence
        self.batch, self.generator = batch, generator
        self.block = max(GRID, block // GRID * GRID)
        longest_s = min(stream_s, len(recording) / sample_rate + 1)  # to the end of the sound at most
        self.blocks_per_stream = max(2, int(longest_s * sample_rate / self.block))
        self.relative = relative_weight
        self.age = torch.randint(0, self.blocks_per_stream, (batch,), generator=self.generator)  # staggered
        if stream_s > longest_s:
            self.age.zero_()
        self.position = self.recording.starts(batch, self.block, self.generator)  # (batch, 1)
        self.power = torch.zeros(batch, 1)
        self.state: ArState | None = None
        """Where the streams are, for a trainer that leaves that here; None to begin from the true past."""

    def fresh_states(self, model: Ar) -> ArState:
        """The true past at every stream's position."""
        x, y = self.recording.cut(self.position, 0, model.history_samples)
        row = self.position[:, 0] // GRID
        return model.state_after(x, y, self.recording.slow_x[row], self.recording.slow_y[row])

    def next_block(self, model: Ar, state: ArState) -> tuple[Tensor, Tensor, Tensor, ArState]:
        """x (batch, block), y (batch, block), weight (batch, 1), and the state with streams that ended begun anew."""
        over = (self.age >= self.blocks_per_stream) | (self.position[:, 0] + self.block > len(self.recording))
        if bool(over.any()):
            self.position[over] = self.recording.starts(int(over.sum()), self.block, self.generator)
            self.age[over] = 0
            self.power[over] = 0
            fresh = model.fresh_state(self.batch) if self.from_silence else self.fresh_states(model)
            state = ArState(
                *(
                    torch.where(over[:, None], getattr(fresh, field.name), getattr(state, field.name))
                    for field in fields(ArState)
                )
            )
        x, y = self.recording.cut(self.position, self.block, 0)
        self.power = torch.maximum(self.recording.power(x, y), 0.9 * self.power)  # a note's own level, not a gap's
        weight = self.power.rsqrt() if self.relative else torch.ones_like(self.power)
        self.position = self.position + self.block
        self.age += 1
        return x, y, weight, state
