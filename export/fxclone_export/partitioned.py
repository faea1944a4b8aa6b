"""Convolution with long responses (rooms, plates, cabinets) as a streaming graph: no latency, and even in cost.

The response is cut in two. Its first ``2 FRAME`` taps, the head, are one ``Conv`` over carried history. The rest, the
tail, is a uniformly partitioned convolution in frames of ``FRAME`` samples (Stockham 1966; Gardner, "Efficient
convolution without input-output delay", 1995): the spectrum of each finished frame of input enters a delay line of
spectra, and the spectrum of an output frame is the sum of the delayed ones, each times that of its partition.

The one idea that keeps the cost even: the tail begins two frames late, so frame m + 1 of its output depends on nothing
newer than frame m - 1 of the input. All of frame m is left to compute it: a block of T samples does the share
T / FRAME of its bins, and when the frame is over, the spectrum is complete.

Fourier transforms are two matrix products, `partitioned_fourier`. Blocks that finish several frames at once (offline)
multiply all spectra in one grouped ``Conv`` along the delay line, and hear whole frames from the first tap on that way.

The delay line is a ring, by far the largest state. Its name lets players write it where they read it (CLONE_FORMAT.md,
*State*). That is safe because a block reads every slot but the one that it writes, or, if it writes all, has joined all
that it read into what it writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.clone_lane import IN_PLACE
from fxclone.errors import UsageError
from fxclone_export.graph import StreamingGraph
from fxclone_export.partitioned_fourier import FOURIER_SIZE, Fourier

FRAME = FOURIER_SIZE // 2
"""Samples. Longer frames make the tail cheaper and the head dearer; at 1024 both cost about the same."""
HEAD = 2 * FRAME
"""Taps of the head."""
RESERVE = 64
"""Samples. The products of a frame are done two such stretches before its end, and the first one transforms the sums
back, so that no block does all kinds of work."""
ENTRY = FRAME // 4
"""When, in the frame after it, a spectrum enters the ring; for the same reason."""
NEVER = 2 * FRAME
"""A position that no frame has."""
STRIDE = 8
"""Outputs that the head computes from one window: a ``Conv`` of few channels wastes most of a processor's width."""
MIX_FLOOR_DB = -100.0

Responses = npt.NDArray[np.floating[Any]]


def convolve(
    graph: StreamingGraph,
    signal: str,
    responses: Responses,
    *,
    name: str = "tail",
    mix_floor_db: float = MIX_FLOOR_DB,
) -> str:
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
    mix_floor_db : float
        A mix of the inputs whose late responses lie this far below those of the loudest mix is left out (see
        `shared_inputs`); -100 dB is below what float32 resolves of them. Responses that were measured seldom agree that
        well: give the error that they are known to have.

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
    if length <= HEAD:
        heard = graph.with_history(signal, length - 1, channels=into, name=f"{name}.heard")
        return _Head(graph, taps).output(heard, graph.length(signal))
    return _Partitioned(graph, signal, taps, name, mix_floor_db).output()


def shared_inputs(
    responses: Responses, floor_db: float = MIX_FLOOR_DB
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64]]:
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
    kept = basis[:, energies > max(energies[-1], 1e-300) * 10 ** (floor_db / 10)]
    if kept.shape[1] in (0, into):
        return None, np.asarray(responses, dtype=np.float64)
    return kept.T, np.ascontiguousarray((rows @ kept).reshape(out, taps, -1).transpose(0, 2, 1))


class _Head:
    """The first taps as one ``Conv``; its channels are `STRIDE` neighbouring outputs of every real channel."""

    def __init__(self, graph: StreamingGraph, taps: Responses) -> None:
        self.graph = graph
        self.outs, into, length = taps.shape
        self.stride = STRIDE if length > STRIDE else 1
        kernel = np.zeros((self.outs, self.stride, into, length + self.stride - 1))
        for shift in range(self.stride):
            kernel[:, shift, :, shift : shift + length] = taps[:, :, ::-1]
        self.kernel = graph.const(kernel.reshape(self.outs * self.stride, into, -1), "head")
        self.zeros = graph.const(np.zeros((into, self.stride - 1)), "zeros") if self.stride > 1 else ""

    def output(self, heard: str, samples: str) -> str:
        """``(channels_in, taps - 1 + T)`` to ``(channels_out, T)``."""
        graph = self.graph
        if self.stride == 1:
            found = graph.op("Conv", graph.op("Unsqueeze", heard, graph.const([0])), self.kernel)
            return str(graph.op("Squeeze", found, graph.const([0])))
        whole = graph.op("Concat", heard, self.zeros, axis=1)  # so that the last window is whole
        batched = graph.op("Unsqueeze", whole, graph.const([0]))
        found = graph.op("Conv", batched, self.kernel, strides=[self.stride])  # (1, O * stride, windows)
        windows = graph.op("Reshape", found, graph.const([self.outs, self.stride, -1]))
        rows = graph.op("Reshape", graph.op("Transpose", windows, perm=[0, 2, 1]), graph.const([self.outs, -1]))
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


class _Partitioned:
    """Head and tail; see the module.

    Shapes: I inputs, R inputs of the tail, O outputs, P partitions, K bins, F frames that a block finishes.
    """

    def __init__(self, graph: StreamingGraph, signal: str, taps: Responses, name: str, floor_db: float) -> None:
        self.graph, self.signal, self.name = graph, signal, name
        self.outs, self.channels_in = taps.shape[:2]
        self.heard = self.late = graph.with_history(signal, HEAD, channels=self.channels_in, name=f"{name}.heard")
        self.fourier = Fourier(graph)
        self.bins = self.fourier.bins
        self.head = _Head(graph, np.pad(taps[:, :, :HEAD], ((0, 0), (0, 0), (0, 1))))  # as many taps as are heard
        self.head_weights = self._weights(taps[:, :, :HEAD])
        mix, rest = shared_inputs(taps[:, :, HEAD:], floor_db)
        self.mixes = mix is not None
        if mix is not None:
            mixed = str(graph.op("MatMul", graph.const(mix, "mix"), signal))
            self.late = graph.with_history(mixed, HEAD, channels=len(mix), name=f"{name}.mixed")
        self.ins = rest.shape[1]
        self.parts = -(-rest.shape[2] // FRAME)
        self.weights = self._weights(rest)

    def _weights(self, taps: Responses) -> str:
        """Spectra of the partitions, the last one first: ``(K, O * 2, inputs * partitions)``."""
        outs, ins, length = taps.shape
        padded = np.zeros((outs, ins, -(-length // FRAME), FRAME))
        padded.reshape(outs, ins, -1)[:, :, :length] = taps
        spectra = self.fourier.of(np.concatenate([padded, np.zeros_like(padded)], axis=-1))  # (O, R, P, K) complex
        pairs = np.stack([spectra.real, spectra.imag])[..., ::-1, :]  # (2, O, R, P, K)
        return self.graph.const(pairs.transpose(4, 1, 0, 2, 3).reshape(self.bins, 2 * outs, -1), "spectra")

    def output(self) -> str:
        """Build it; return the name of ``(O, T)``."""
        graph, ins, outs = self.graph, self.ins, self.outs
        shapes = {
            "place": (3,),
            "ready": (outs, FRAME),
            "coming": (outs, FRAME),
            "sums": (2, self.bins, 2 * outs),
            "newest": (2, self.bins, ins, 1),
            f"ring{IN_PLACE}": (2, self.bins, ins, self.parts),
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
        wet = self._with_head(self._cut(self.ready, place.start, place.end, 1))
        low, high = self._bin_at(place.start), self._bin_at(place.end)
        sums = self._joined_sums(self._products(self.ring, self.newest, place.slot, low, high))
        passes = graph.op("And", graph.op("Less", place.start, late), graph.op("LessOrEqual", late, place.end))
        coming = self._transformed_if(passes, sums)
        is_due = graph.op("LessOrEqual", place.due, place.end)
        ring = self._entered_if(is_due, place.slot)
        due = graph.op("Where", is_due, graph.const([NEVER]), place.due)
        return [graph.op("Cast", due, to=1), wet, self.ready, coming, sums, self.newest, ring]

    def _across(self, place: _Place) -> list[str]:
        """A block that finishes frames: what is left to do of them, and a share of the products of the next."""
        graph = self.graph
        finished = self._finished(place, self.late, self.ins)
        several = graph.op("Less", graph.const([1]), place.frames)
        wet, ready, ring = graph.choose(several, lambda: self._several(place, finished), lambda: self._single(place))
        newest = graph.slice(finished, -1, None, 3)
        begun = self._products(ring, newest, place.next_slot, graph.const([0]), self._bin_at(place.rest))
        sums = self._joined_sums(begun)
        coming = self._transformed_if(graph.op("LessOrEqual", graph.const([FRAME - RESERVE]), place.rest), sums)
        due = graph.const(np.array([ENTRY], np.float32))
        return [due, wet, ready, coming, sums, newest, ring]

    def _single(self, place: _Place) -> list[str]:
        """One frame finished: sound, the frame that plays next, and the ring."""
        graph = self.graph
        low, high = self._bin_at(place.start), graph.const([self.bins])
        done = self._joined_sums(self._products(self.ring, self.newest, place.slot, low, high))
        to_do = graph.op("Less", place.start, graph.const([FRAME - RESERVE]))
        ready = self._transformed_if(to_do, done)
        tail = self._cut(graph.op("Concat", self.ready, ready, axis=1), place.start, place.end, 1)
        not_there = graph.op("Less", place.due, graph.const([NEVER]))
        return [self._with_head(tail), ready, self._entered_if(not_there, place.slot)]

    def _several(self, place: _Place, finished: str) -> list[str]:
        """F > 1 frames finished: those between the first and the last are heard whole, so they need no `_Head`."""
        graph = self.graph
        line = graph.op("Concat", *self._others(self.ring, place.slot), self.newest, finished, axis=3)
        early = self._finished(place, self.heard, self.channels_in) if self.mixes else finished
        between = graph.op(
            "Add",
            self._filtered_frames(graph.slice(line, 0, -2, 3), self.weights, self.ins, self.parts),
            self._filtered_frames(early, self.head_weights, self.channels_in, HEAD // FRAME),
        )  # (2, K, 2 O, F - 1)
        column = graph.op(
            "Reshape", graph.slice(line, -self.parts - 1, -1, 3), graph.const([2, self.bins, self.ins * self.parts, 1])
        )
        last = graph.op("MatMul", self.weights, column)
        sound = self.fourier.inverse_products(graph.op("Concat", between, last, axis=3), self.outs)  # (O, F * FRAME)
        ready = graph.slice(sound, -FRAME, None, 1)
        # The ends of the block, one after the other, with what was heard before each.
        first = graph.op("Sub", graph.const([FRAME]), place.start)
        until = graph.op("Add", first, graph.const([HEAD]))
        begin = graph.op("Sub", graph.length(self.signal), place.rest)
        ends = graph.op(
            "Concat",
            self._cut(self.heard, graph.const([0]), until, 1),
            self._cut(self.heard, begin, None, 1),
            axis=1,
        )
        heads = self.head.output(ends, graph.op("Add", until, place.rest))
        wet = graph.op(
            "Concat",
            graph.op("Add", self._cut(self.ready, place.start, None, 1), self._cut(heads, graph.const([0]), first, 1)),
            graph.slice(sound, 0, -FRAME, 1),
            graph.op("Add", self._cut(ready, graph.const([0]), place.rest, 1), self._cut(heads, until, None, 1)),
            axis=1,
        )
        kept = graph.slice(line, -self.parts, None, 3)  # from the slot after next_slot on, around to next_slot
        turn = graph.op("Sub", graph.const([self.parts - 1]), place.next_slot)
        ring = [self._cut(kept, turn, None, 3), self._cut(kept, graph.const([0]), turn, 3)]
        return [wet, ready, graph.op("Concat", *ring, axis=3)]

    def _filtered_frames(self, line: str, weights: str, ins: int, parts: int) -> str:
        """Sums of products at every place of a line of spectra: ``(2, K, R, P + n)`` to ``(2, K, 2 O, n + 1)``."""
        graph = self.graph
        seen = graph.op("Reshape", line, graph.const([2, self.bins * ins, -1]))
        kernel = graph.op("Reshape", weights, graph.const([self.bins * 2 * self.outs, ins, parts]))
        found = graph.op("Conv", seen, kernel, group=self.bins)
        return str(graph.op("Reshape", found, graph.const([2, self.bins, 2 * self.outs, -1])))

    def _with_head(self, tail: str) -> str:
        return str(self.graph.op("Add", self.head.output(self.heard, self.graph.length(self.signal)), tail))

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

    def _finished(self, place: _Place, heard: str, channels: int) -> str:
        """Spectra of the frames that this block finishes, each with the frame before it: ``(2, K, channels, F)``."""
        graph = self.graph
        begin = graph.op("Sub", graph.const([FRAME]), place.start)
        length = graph.op("Mul", graph.op("Add", place.frames, graph.const([1])), graph.const([FRAME]))
        sound = self._cut(heard, begin, graph.op("Add", begin, length), 1)
        rows = graph.op("Reshape", sound, graph.const([channels, -1, FRAME]))
        pairs = graph.op("Concat", graph.slice(rows, 0, -1, 1), graph.slice(rows, 1, None, 1), axis=2)
        return self.fourier.forward(pairs, channels)

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
