"""Running a processor at its own sample rate inside a stream of another rate.

A block-wise FFT resampler such as soxr's hands out its sound in bursts of about 900 samples, 40 ms late: fine for
files, but live every burst would be one long block for the model, which is a drop-out. So this is a direct polyphase
filter: exactly as many samples out as in for any block size, no queue that could run dry, some 2 ms of latency in all.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from fxclone.audio import Audio, valid_sample_rate
from fxclone.processor import Processor, channels_after

HALF_WIDTH = 32
"""Filter taps on each side, in samples of the slower rate. 64 taps: flat to 0.9 of the lower Nyquist frequency."""
KAISER_BETA = 9.0
"""Window shape: stop band about -90 dB, transition from 0.91 to 1.09 of the lower Nyquist frequency."""


class Resampled:
    """A `Processor` that runs ``inner`` at ``inner_rate`` whatever the rate of the stream.

    Parameters
    ----------
    inner : Processor
        What to run. Its latency and tail are converted to the stream's rate.
    inner_rate : int
        The rate in Hz that ``inner`` needs. If the stream has the same rate, nothing is added.

    Notes
    -----
    With r = inner_rate / sample_rate, after N stream samples the first filter has given ceil(N r) inner samples, and
    the second needs floor((N - 1) r) + 1 of them for its N-th output: always there. Both filters are linear-phase and
    the second one's phase is chosen so that the total delay is a whole number of stream samples.
    """

    def __init__(self, inner: Processor, inner_rate: int) -> None:
        self.inner = inner
        self.inner_rate = valid_sample_rate(inner_rate)
        self._same = False
        self._latency = 0
        self._tail = 0
        self.channels_out = 0

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Build both filters and prepare the inner processor for the blocks it will get."""
        rate = valid_sample_rate(sample_rate)
        self._same = rate == self.inner_rate
        if self._same:
            self.inner.prepare(rate, max_block, channels)
            self.channels_out = channels_after(self.inner, channels)
            self._latency, self._tail = self.inner.latency_samples, self.inner.tail_samples
            return
        common = gcd(rate, self.inner_rate)
        up, down = self.inner_rate // common, rate // common  # inner = stream * up / down
        max_inner = -(-max_block * up // down) + 1
        self.inner.prepare(self.inner_rate, max_inner, channels)
        self.channels_out = channels_after(self.inner, channels)
        half_in, half_out = _half_width(up, down), _half_width(down, up)
        # The whole way back: q stream samples, so that (half_out + inner latency) rounds up to whole stream samples.
        q = -(-(half_out + self.inner.latency_samples) * down // up)
        self._to_inner = _Polyphase(up, down, half_in * up, half_in, channels, max_block, max_inner)
        offset = q * up - self.inner.latency_samples * down
        self._to_stream = _Polyphase(down, up, offset, half_out, self.channels_out, max_inner, max_block)
        self._latency = half_in + q
        self._tail = -(-self.inner.tail_samples * down // up) + 2 * half_in
        self._up, self._down = up, down
        self._phase = 0

    def process(self, block: Audio) -> Audio:
        """Process ``(channels, n)`` stream samples to as many."""
        if self._same:
            return self.inner.process(block)
        n = block.shape[1]
        # ceil((N + n) r) - ceil(N r), with N kept modulo `down` so that it never grows
        before = -(-self._phase * self._up // self._down)
        n_inner = -(-(self._phase + n) * self._up // self._down) - before
        self._phase = (self._phase + n) % self._down
        at_inner = self._to_inner.process(block, n_inner)
        if n_inner:
            at_inner = self.inner.process(at_inner)
        else:
            at_inner = at_inner[:1].repeat(self.channels_out, axis=0)  # empty
        return self._to_stream.process(at_inner, n)

    def reset(self) -> None:
        """Forget all sound, in the filters and in the inner processor."""
        self.inner.reset()
        if not self._same:
            self._to_inner.reset()
            self._to_stream.reset()
            self._phase = 0

    @property
    def latency_samples(self) -> int:
        """The filters' delay and the inner latency, in samples of the stream."""
        return self._latency

    @property
    def tail_samples(self) -> int:
        """The inner tail and the filters' ringing, in samples of the stream."""
        return self._tail


def _half_width(up: int, down: int) -> int:
    """Taps on each side, in input samples, for a filter that goes from rate ``down`` to rate ``up``."""
    return -(-HALF_WIDTH * max(up, down) // up)


def _filter_table(up: int, down: int, half: int) -> Audio:
    """Windowed sinc for every phase: shape (up, 2 * half), each row of unit sum."""
    phase = np.arange(up)[:, None] / up
    distance = phase - np.arange(1 - half, half + 1)[None, :]  # from each tap to the wanted instant
    cutoff = min(1.0, up / down)
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (distance / half) ** 2))) / np.i0(KAISER_BETA)
    table = cutoff * np.sinc(cutoff * distance) * window
    table /= table.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(table, dtype=np.float32)


class _Polyphase:
    """Output k is the input at instant (k * down - offset) / up, by a windowed sinc of ``2 * half`` taps."""

    def __init__(self, up: int, down: int, offset: int, half: int, channels: int, max_in: int, max_out: int) -> None:
        taps = 2 * half
        self._up, self._down, self._offset = up, down, offset
        self._table = _filter_table(up, down, half)
        # How far the next output's first tap can lie behind the newest input, with room for rounding.
        self._history = taps + offset // up + down // up + 4
        self._buffer = np.zeros((channels, self._history + max_in), dtype=np.float32)
        self._first_tap = np.arange(max_out, dtype=np.int64) * down
        self._taps = np.arange(1 - half, half + 1, dtype=np.int64)[None, :]
        self._position = np.empty(max_out, dtype=np.int64)
        self._row = np.empty(max_out, dtype=np.int64)
        self._index = np.empty((max_out, taps), dtype=np.int64)
        self._gathered = np.empty((max_out, taps), dtype=np.float32)
        self._weights = np.empty((max_out, taps), dtype=np.float32)
        self._out = np.empty((channels, max_out), dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        self._buffer.fill(0.0)
        # The next output's instant, in 1/up samples, counted from the start of the buffer once a block is in it.
        self._next = self._history * self._up - self._offset

    def process(self, block: Audio, n_out: int) -> Audio:
        n_in = block.shape[1]
        history, buffer = self._history, self._buffer
        buffer[:, history : history + n_in] = block
        out = self._out[:, :n_out]
        if n_out:
            position, row, index = self._position[:n_out], self._row[:n_out], self._index[:n_out]
            gathered, weights = self._gathered[:n_out], self._weights[:n_out]
            np.add(self._first_tap[:n_out], self._next, out=position)
            np.divmod(position, self._up, out=(position, row))
            np.add(position[:, None], self._taps, out=index)
            np.take(self._table, row, axis=0, out=weights, mode="clip")
            for channel in range(buffer.shape[0]):
                np.take(buffer[channel], index, out=gathered, mode="clip")
                np.einsum("kt,kt->k", gathered, weights, out=out[channel])
        self._next += n_out * self._down - n_in * self._up
        buffer[:, :history] = (
            buffer[:, n_in : n_in + history].copy() if n_in < history else buffer[:, n_in : n_in + history]
        )
        return out
