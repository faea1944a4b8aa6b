"""Watches whether a clone forgets: a twin hears the same input from a disturbed state, and has to meet it again.

The twin starts in the clone's own state, hears a few hundred milliseconds of what the clone hears, and a faint noise in
the first two of them. In a stable clone the difference dies away. In one that has begun to oscillate or to run off it
stays or grows, long before that is loud. Running a second clone all the time would double the cost: so what the clone
heard and said is kept, and the twin hears it afterwards, a small piece in every other block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Chain, Processor, channels_after
from fxclone.resampled import Resampled
from fxclone.stability.known import has_feedback
from fxclone.stability.trips import Fault, told_db

LARGEST_STATE_BYTES = 65_536
"""Copying more would be felt. So much state is spectra or delay lines, whose stability is known from their gains."""
SHORTEST_S, LONGEST_S = 0.1, 0.5
MOST_RETURNS = 2.5
"""A test lasts so many times what the clone took to forget when it was exported."""
DISTURBANCE = 1e-3  # -60 dBFS
DISTURBED_S = 0.002
WINDOW_SHARE = 0.15
"""Of the test: where the difference is measured, early and late."""
MET = 1e-5
"""-100 dBFS: as good as no difference."""
FAINT = 1e-4
GROWN = 3.0
FAR = 0.01
"""-40 dB of the sound."""
SHARE = 0.125
"""Of the clone's cost, while a test is being heard: in every second block, a fourth of its length."""
SMALLEST_PIECE = 8
REST_S = 1.0
TIMES = 3
"""One bad test is playing at an edge, such as a gate that opens for one and not for the other."""


@runtime_checkable
class Copyable(Processor, Protocol):
    """A clone: a processor with a certificate, of which there can be another that goes on from the same state."""

    meta: Any

    @property
    def state_bytes(self) -> int:
        """How much it remembers."""

    def another(self) -> Self:
        """One of its own state, not yet prepared."""

    def go_on_from(self, other: Self) -> None:
        """Take over what another one remembers."""


class Twin:
    """A `Processor` that is just the clone in it, and puts it to the test every few seconds.

    ``fault`` says what was found, None while all is well; ``tests`` counts. `reset` begins anew.
    """

    def __init__(self, clone: Copyable) -> None:
        self.clone, self._twin = clone, clone.another()
        self.fault: Fault | None = None
        self.tests = 0
        returned = clone.meta.certificate.get("return_ms")
        self._return_s = 1e-3 * float(returned) if isinstance(returned, int | float) else None

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Prepare the clone, its twin, and room for what they hear."""
        self.clone.prepare(sample_rate, max_block, channels)
        self._twin.prepare(sample_rate, max(SMALLEST_PIECE, max_block), channels)
        self.channels_out = channels_after(self.clone, channels)
        wanted_s = LONGEST_S if self._return_s is None else MOST_RETURNS * self._return_s
        length = self._length = round(min(LONGEST_S, max(SHORTEST_S, wanted_s)) * sample_rate)
        self._must_shrink = self._return_s is not None and MOST_RETURNS * self._return_s <= LONGEST_S
        self._heard = np.zeros((channels, length), dtype=np.float32)
        self._said = np.zeros((self.channels_out, length), dtype=np.float32)
        self._piece = np.zeros((channels, max(SMALLEST_PIECE, max_block)), dtype=np.float32)
        noise = np.random.default_rng(0).uniform(-1.0, 1.0, (channels, round(DISTURBED_S * sample_rate)))
        self._noise = (DISTURBANCE * noise).astype(np.float32)
        window = round(WINDOW_SHARE * length)
        # What a clone sees directly is no memory of its own: the disturbance has left that window first.
        direct = self._noise.shape[1] + min(self.clone.meta.receptive_field_samples, length // 2)
        self._early, self._late = (direct, direct + window), (length - window, length)
        self._rest = round(REST_S * sample_rate)
        # The first piece of a length takes longer than others; not while sound runs.
        self._twin.process(self._piece[:, : max(SMALLEST_PIECE, int(2 * SHARE * max_block))])
        self._begin()

    def reset(self) -> None:
        """Reset the clone, and forget all tests."""
        self.clone.reset()
        self._begin()

    def _begin(self) -> None:
        self.fault = None
        self._bad = 0
        self._wait(self._rest)

    def _wait(self, samples: int) -> None:
        self._resting, self._kept, self._done, self._owed = samples, 0, 0, 0.0
        self._apart, self._loud = [0.0, 0.0], [0.0, 0.0]

    def process(self, block: Audio) -> Audio:
        """What the clone makes of the block, untouched."""
        n = block.shape[1]
        if self._resting > 0:
            self._resting -= n
            return self.clone.process(block)
        if self._kept == 0:
            self._twin.go_on_from(self.clone)
        wet = self.clone.process(block)
        if self._kept < self._length:
            fits = min(n, self._length - self._kept)
            self._heard[:, self._kept : self._kept + fits] = block[:, :fits]
            self._said[:, self._kept : self._kept + fits] = wet[:, :fits]
            self._kept += fits
            return wet
        self._owed += SHARE * n
        if self._owed >= max(SMALLEST_PIECE, 2 * SHARE * n):
            self._hear(int(self._owed))
            self._owed = 0.0
        return wet

    def _hear(self, n: int) -> None:
        start, stop = self._done, min(self._length, self._done + n)
        piece = self._piece[:, : stop - start]
        piece[...] = self._heard[:, start:stop]
        if start < self._noise.shape[1]:
            shaken = self._noise[:, start:stop]
            piece[:, : shaken.shape[1]] += shaken
        other = self._twin.process(piece)
        said = self._said[:, start:stop]
        for place, (first, last) in enumerate((self._early, self._late)):
            here = slice(max(0, first - start), max(0, last - start))
            if here.start < stop - start and here.stop > here.start:
                apart = other[:, here] - said[:, here]
                self._apart[place] += float(np.vdot(apart, apart))
                self._loud[place] += float(np.vdot(said[:, here], said[:, here]))
        self._done = stop
        if stop == self._length:
            self._judge()

    def _judge(self) -> None:
        self.tests += 1
        values = self._said.shape[0] * (self._late[1] - self._late[0])
        early, late = (math.sqrt(apart / values) for apart in self._apart)
        # Against the sound of the same moment: what a compressor does to a difference, it does to the sound.
        early_share, late_share = (
            apart / (FAINT + math.sqrt(loud / values)) for apart, loud in zip((early, late), self._loud, strict=True)
        )
        grown = late_share > GROWN * early_share and late_share > FAR
        stayed = self._must_shrink and late > FAINT and late_share > 0.5 * early_share
        bad = not late <= MET and (grown or stayed or not math.isfinite(late))
        self._bad = self._bad + 1 if bad else 0
        if self._bad >= TIMES:
            self.fault = (
                "twin state does not converge",
                {"early_db": told_db(early), "late_db": told_db(late), "after_s": round(self._length / self._rate, 3)},
            )
        self._wait(0 if self._bad else self._rest)

    @property
    def _rate(self) -> float:
        return float(self.clone.meta.sample_rate)

    @property
    def latency_samples(self) -> int:
        """The clone's."""
        return self.clone.latency_samples

    @property
    def tail_samples(self) -> int:
        """The clone's."""
        return self.clone.tail_samples


def with_twins(processor: Processor) -> tuple[Processor, list[Twin]]:
    """The same sound, with every clone that has feedback put to the test; and the twins that do it."""
    if isinstance(processor, Chain):
        pairs = [with_twins(link) for link in processor.processors]
        twins = [twin for _, found in pairs for twin in found]
        return (Chain([link for link, _ in pairs]) if twins else processor), twins
    if isinstance(processor, Resampled):
        inner, twins = with_twins(processor.inner)
        return (Resampled(inner, processor.inner_rate) if twins else processor), twins
    wanted = isinstance(processor, Copyable) and processor.state_bytes <= LARGEST_STATE_BYTES
    if wanted and _is_uncertain(processor.meta.certificate):  # type: ignore[attr-defined]
        twin = Twin(processor)  # type: ignore[arg-type]
        return twin, [twin]
    return processor, []


def _is_uncertain(certificate: Mapping[str, Any]) -> bool:
    """Whether there is feedback of which more is to be feared than of echoes, whose gain is known for ever."""
    return has_feedback(certificate) and certificate["small_gain"] != certificate.get("loop_gain")
