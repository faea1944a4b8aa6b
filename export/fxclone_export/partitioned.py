"""Convolution with long responses (rooms, plates, cabinets) as a streaming graph: no latency, and even in cost.

The response is cut in two. Its first ``2 FRAME`` taps, the head, are one ``Conv`` over carried history. The rest, the
tail, is a uniformly partitioned convolution in frames of ``FRAME`` samples (Stockham 1966; Gardner, "Efficient
convolution without input-output delay", 1995): the spectrum of each finished frame of input enters a delay line of
spectra, and the spectrum of an output frame is the sum of the delayed ones, each times that of its partition.

The one idea that keeps the cost even: the tail begins two frames late, so frame m + 1 of its output depends on nothing
newer than frame m - 1 of the input. All of frame m is left to compute it: a block of T samples does the share
T / FRAME of its bins, and when the frame is over, the spectrum is complete.

Fourier transforms are two matrix products, `partitioned_fourier`. Blocks that finish several frames at once (offline)
multiply all spectra in one grouped ``Conv`` along the delay line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.errors import UsageError
from fxclone_export.graph import IN_PLACE, StreamingGraph
from fxclone_export.partitioned_fourier import FOURIER_SIZE, Fourier

FRAME = FOURIER_SIZE // 2
"""Samples. Longer frames make the tail cheaper and the head dearer; at 1024 both cost about the same."""
HEAD = 2 * FRAME
"""How many past samples the head sees, besides the one at hand."""
RESERVE = 64
"""Samples. The products of a frame are done two such stretches before its end, and the first one transforms the sums
back, so that no block does all kinds of work."""
ENTRY = FRAME // 4
"""When, in the frame after it, a spectrum enters the ring; for the same reason."""
NEVER = 2 * FRAME
STRIDE = 16
"""Outputs that the head computes from one window: a ``Conv`` of few channels wastes most of a processor's width."""
RANK_FLOOR = 10 ** (-100 / 20)
"""A mix of the inputs whose tail is below this, against the loudest one, is left out."""

Responses = npt.NDArray[np.floating[Any]]


def convolve(graph: StreamingGraph, signal: str, responses: Responses, *, name: str = "tail") -> str:
    """Convolve ``(channels_in, T)`` with a response for each pair of channels: ``(channels_out, T)``.

    Causal and without latency, for any T; the states are zero when fresh.

    Parameters
    ----------
    graph : StreamingGraph
    signal : str
        Name of the sound, float32.
    responses : array [shape=(channels_out, channels_in, taps)]
        Impulse responses; tap 0 acts at once.
    name : str
        Prefix of the states.

    Raises
    ------
    UsageError
        If the responses have another shape, or are not finite.
    """
    taps = np.asarray(responses, dtype=np.float64)
    if taps.ndim != 3 or 0 in taps.shape or not np.isfinite(taps).all():
        raise UsageError(
            f"impulse responses of shape {taps.shape}; expected finite numbers (channels_out, channels_in, taps)"
        )
    _, into, length = taps.shape
    heard = graph.with_history(signal, min(length - 1, HEAD), channels=into, name=f"{name}.heard")
    head = _head(graph, heard, graph.length(signal), taps[:, :, : HEAD + 1])
    if length <= HEAD + 1:
        return head
    late = taps[:, :, HEAD:].copy()
    late[:, :, 0] = 0  # the head has it
    mix, rest = shared_inputs(late)
    if mix is not None:
        mixed = str(graph.op("MatMul", graph.const(mix, "mix"), signal))
        heard = graph.with_history(mixed, HEAD, channels=len(mix), name=f"{name}.mixed")
    return str(graph.op("Add", head, _Tail(graph, signal, heard, rest, name).output()))


def shared_inputs(responses: Responses) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64]]:
    """Split responses into a mix of the inputs and fewer responses to it, where there are fewer.

    Many reverbs add their inputs up before the late part; then one delay line serves all of them.

    Returns
    -------
    mix : array [shape=(rank, channels_in)] or None
        None if every input counts for itself.
    responses : array [shape=(channels_out, rank, taps)]
    """
    out, into, taps = responses.shape
    rows = np.asarray(responses, dtype=np.float64).transpose(0, 2, 1).reshape(out * taps, into)
    energies, basis = np.linalg.eigh(rows.T @ rows)
    kept = basis[:, energies > max(energies[-1], 1e-300) * RANK_FLOOR**2]
    if kept.shape[1] in (0, into):
        return None, np.asarray(responses, dtype=np.float64)
    return kept.T, np.ascontiguousarray((rows @ kept).reshape(out, taps, -1).transpose(0, 2, 1))


def _head(graph: StreamingGraph, heard: str, samples: str, taps: Responses) -> str:
    """The first taps as one ``Conv``; its channels are `STRIDE` neighbouring outputs of every real channel."""
    out, into, length = taps.shape
    stride = STRIDE if length > STRIDE else 1
    kernel = np.zeros((out, stride, into, length + stride - 1))
    for shift in range(stride):
        kernel[:, shift, :, shift : shift + length] = taps[:, :, ::-1]
    if stride > 1:  # zeros, so that the last window is whole
        heard = graph.op("Concat", heard, graph.const(np.zeros((into, stride - 1)), "zeros"), axis=1)
    batched = graph.op("Unsqueeze", heard, graph.const([0]))
    weights = graph.const(kernel.reshape(out * stride, into, -1), "head")
    found = graph.op("Conv", batched, weights, strides=[stride])  # (1, out * stride, windows)
    if stride == 1:
        return str(graph.op("Squeeze", found, graph.const([0])))
    windows = graph.op("Reshape", found, graph.const([out, stride, -1]))
    rows = graph.op("Reshape", graph.op("Transpose", windows, perm=[0, 2, 1]), graph.const([out, -1]))
    return str(graph.op("Slice", rows, graph.const([0]), samples, graph.const([1])))


@dataclass(frozen=True)
class _Place:
    """Where a block lies in the grid of frames: names of integers of shape (1,)."""

    start: str
    """Samples of the frame that were heard before the block."""
    end: str
    """The same after it, if the frame went on."""
    frames: str
    """Frames that it finishes."""
    rest: str
    """Samples of the unfinished frame that were heard after it."""
    slot: str
    """Of the ring: where the newest spectrum belongs."""
    next_slot: str
    """The same after the block."""
    due: str
    """The position from which on it should be there; `NEVER` if it is."""


class _Tail:
    """The partitioned part; see the module. Shapes: R inputs, O outputs, P partitions, K bins, F finished frames."""

    def __init__(self, graph: StreamingGraph, signal: str, heard: str, taps: Responses, name: str) -> None:
        self.graph, self.signal, self.heard, self.name = graph, signal, heard, name
        self.outs, self.ins = taps.shape[:2]
        self.parts = -(-taps.shape[2] // FRAME)
        self.fourier = Fourier(graph)
        self.bins = self.fourier.bins
        padded = np.zeros((self.outs, self.ins, self.parts, FRAME))
        padded.reshape(self.outs, self.ins, -1)[:, :, : taps.shape[2]] = taps
        spectra = self.fourier.of(np.concatenate([padded, np.zeros_like(padded)], axis=-1))  # (O, R, P, K) complex
        pairs = np.stack([spectra.real, spectra.imag])[..., ::-1, :]  # (2, O, R, P, K), oldest first
        self.weights = graph.const(pairs.transpose(4, 1, 0, 2, 3).reshape(self.bins, 2 * self.outs, -1), "spectra")

    def output(self) -> str:
        """Build it; return the name of ``(O, T)``."""
        graph, ins, outs = self.graph, self.ins, self.outs
        shapes = {
            "place": (3,),
            "ready": (outs, FRAME),
            "coming": (outs, FRAME),
            "sums": (2, self.bins, 2 * outs),
            "newest": (2, self.bins, ins, 1),
            f"ring.{IN_PLACE}": (2, self.bins, ins, self.parts),
        }
        before, self.ready, self.coming, self.sums, self.newest, self.ring = (
            graph.state(f"{self.name}.{key}", shape) for key, shape in shapes.items()
        )
        start, slot, due = graph.op("Split", graph.cast_int(before), outputs=3, axis=0, num_outputs=3)
        end = graph.op("Add", start, graph.length(self.signal))
        frames = graph.op("Div", end, graph.const([FRAME]))
        rest = graph.op("Sub", end, graph.op("Mul", frames, graph.const([FRAME])))
        next_slot = graph.op("Mod", graph.op("Add", slot, frames), graph.const([self.parts]))
        place = _Place(start, end, frames, rest, slot, next_slot, due)
        ends_no_frame = graph.op("Less", end, graph.const([FRAME]))
        next_due, wet, *after = graph.choose(ends_no_frame, lambda: self._within(place), lambda: self._across(place))
        position = graph.op("Cast", graph.op("Concat", rest, next_slot, axis=0), to=1)
        states = [graph.op("Concat", position, next_due, axis=0), *after]
        for (key, shape), value in zip(shapes.items(), states, strict=True):
            graph.next_state(f"{self.name}.{key}", value, shape)
        return str(wet)

    def _within(self, place: _Place) -> list[str]:
        """A block that finishes no frame: its share of the products."""
        graph = self.graph
        late = graph.const([FRAME - RESERVE])
        wet = self._cut(self.ready, place.start, place.end, 1)
        low, high = self._bin_at(place.start), self._bin_at(place.end)
        sums = self._joined_sums(self._products(self.ring, self.newest, place.slot, low, high))
        passes = graph.op("And", graph.op("Less", place.start, late), graph.op("LessOrEqual", late, place.end))
        coming = self._transformed_if(passes, sums)
        is_due = graph.op("LessOrEqual", place.due, place.end)
        ring = self._entered_if(is_due, place.slot)
        due = graph.op("Where", is_due, graph.const([NEVER]), place.due)
        return [graph.op("Cast", due, to=1), wet, self.ready, coming, sums, self.newest, ring]

    def _across(self, place: _Place) -> list[str]:
        """A block that finishes F frames: the last products of the first, whole frames between, a share of the next."""
        graph = self.graph
        late = graph.const([FRAME - RESERVE])
        low, high = self._bin_at(place.start), graph.const([self.bins])
        last = self._products(self.ring, self.newest, place.slot, low, high)
        done = self._joined_sums(last)
        finished = self._finished(place)
        # A zero that is not known before the ring has been read: what is written below may be the same memory.
        read = graph.op("Mul", graph.op("Shape", last, start=1, end=2), graph.const([0]))
        next_slot = graph.op("Add", place.next_slot, read)
        to_do, not_there = graph.op("Less", place.start, late), graph.op("Less", place.due, graph.const([NEVER]))
        frames, ring = graph.choose(
            graph.op("Less", graph.const([1]), place.frames),
            lambda: self._several(done, finished, place.slot, next_slot),
            lambda: [self._transformed_if(to_do, done), self._entered_if(not_there, place.slot)],
        )  # (O, F * FRAME), (2, K, R, P)
        sound = graph.op("Concat", self.ready, frames, axis=1)
        wet = self._cut(sound, place.start, place.end, 1)
        newest = graph.slice(finished, -1, None, 3)
        sums = self._joined_sums(self._products(ring, newest, next_slot, graph.const([0]), self._bin_at(place.rest)))
        coming = self._transformed_if(graph.op("LessOrEqual", late, place.rest), sums)
        due = graph.const(np.array([ENTRY], np.float32))
        return [due, wet, graph.slice(sound, -FRAME, None, 1), coming, sums, newest, ring]

    def _transformed_if(self, condition: str, sums: str) -> str:
        """The next frame of output from its finished sums, or what is there of it already."""
        graph = self.graph
        (frame,) = graph.choose(
            condition,
            lambda: [self.fourier.inverse_products(graph.op("Unsqueeze", sums, graph.const([3])), self.outs)],
            lambda: [self.coming],
        )
        return frame

    def _entered_if(self, condition: str, slot: str) -> str:
        """The ring, with the newest spectrum in its slot, whose content nobody has read since it became the oldest."""
        graph = self.graph
        rows = np.zeros((2, self.bins, self.ins, 1), np.int64)
        (ring,) = graph.choose(
            condition,
            lambda: [
                graph.op("ScatterElements", self.ring, graph.op("Add", graph.const(rows), slot), self.newest, axis=3)
            ],
            lambda: [self.ring],
        )
        return ring

    def _several(self, done: str, finished: str, slot: str, next_slot: str) -> list[str]:
        """F > 1 output frames, the sums of the first of which are done, and the ring after them."""
        graph = self.graph
        line = graph.op("Concat", *self._others(self.ring, slot), self.newest, finished, axis=3)  # (2, K, R, P + F)
        seen = graph.op("Reshape", graph.slice(line, 1, -1, 3), graph.const([2, self.bins * self.ins, -1]))
        kernel = graph.op("Reshape", self.weights, graph.const([self.bins * 2 * self.outs, self.ins, self.parts]))
        found = graph.op("Conv", seen, kernel, group=self.bins)  # (2, K * 2 O, F - 1)
        others = graph.op("Reshape", found, graph.const([2, self.bins, 2 * self.outs, -1]))
        sums = graph.op("Concat", graph.op("Unsqueeze", done, graph.const([3])), others, axis=3)
        kept = graph.slice(line, -self.parts, None, 3)  # from the one after next_slot on, around to next_slot
        turn = graph.op("Sub", graph.const([self.parts - 1]), next_slot)
        ring = [self._cut(kept, turn, None, 3), self._cut(kept, graph.const([0]), turn, 3)]
        return [self.fourier.inverse_products(sums, self.outs), graph.op("Concat", *ring, axis=3)]

    def _others(self, ring: str, slot: str) -> list[str]:
        """All of the ring but one slot, in two pieces, oldest first."""
        graph = self.graph
        after = self._cut(ring, graph.op("Add", slot, graph.const([1])), None, 3)
        return [after, self._cut(ring, graph.const([0]), slot, 3)]

    def _products(self, ring: str, newest: str, slot: str, low: str, high: str) -> str:
        """Bins low to high of the next output frame: ``(2, bins, 2 O)``, spectrum part times response part."""
        graph = self.graph
        pieces = [*self._others(self._cut(ring, low, high, 1), slot), self._cut(newest, low, high, 1)]
        shape = graph.const([2, -1, self.ins * self.parts, 1])
        column = graph.op("Reshape", graph.op("Concat", *pieces, axis=3), shape)
        product = graph.op("MatMul", self._cut(self.weights, low, high, 0), column)  # (2, bins, 2 O, 1)
        return str(graph.op("Squeeze", product, graph.const([3])))

    def _joined_sums(self, newest: str) -> str:
        """Shift newly found bins in: when a frame is over, all of its bins are there, in order."""
        count = self.graph.op("Shape", newest, start=1, end=2)
        return str(self.graph.op("Concat", self._cut(self.sums, count, None, 1), newest, axis=1))

    def _finished(self, place: _Place) -> str:
        """Spectra of the frames that this block finishes, each with the frame before it: ``(2, K, R, F)``."""
        graph = self.graph
        begin = graph.op("Sub", graph.const([FRAME]), place.start)
        length = graph.op("Mul", graph.op("Add", place.frames, graph.const([1])), graph.const([FRAME]))
        sound = self._cut(self.heard, begin, graph.op("Add", begin, length), 1)
        rows = graph.op("Reshape", sound, graph.const([self.ins, -1, FRAME]))
        pairs = graph.op("Concat", graph.slice(rows, 0, -1, 1), graph.slice(rows, 1, None, 1), axis=2)
        return self.fourier.forward(pairs, self.ins)

    def _bin_at(self, position: str) -> str:
        """How many bins are done at a position in the frame."""
        graph = self.graph
        span = FRAME - 2 * RESERVE
        scaled = graph.op("Mul", position, graph.const([self.bins]))
        done = graph.op("Div", graph.op("Add", scaled, graph.const([span - 1])), graph.const([span]))
        return str(graph.op("Min", done, graph.const([self.bins])))

    def _cut(self, data: str, start: str, end: str | None, axis: int) -> str:
        stop = self.graph.const([np.iinfo(np.int64).max]) if end is None else end
        return str(self.graph.op("Slice", data, start, stop, self.graph.const([axis])))
