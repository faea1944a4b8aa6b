"""Echoes that feed back, as a streaming graph: a long delay, and short filters around it.

Ten seconds of echoes are a response of 480,000 taps, or one delay line with a gain below 1 around it. A line gives

    v[n] = u[n - D],    u[n] = (a * x)[n] + (b * v)[n]

where x is the sound, a and b are short filters (a gain, a tone control, a fraction of a sample), and D is the delay.
All that must be remembered is u over the last D samples. Nothing in a block of at most D samples depends on what comes
out of the line in the same block, so such a block is a few slices; a longer one is walked in steps of D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone.errors import UsageError
from fxclone_export.graph import StreamingGraph

Taps = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DelayLines:
    """Lines of one length, side by side; each may feed all of them (left into right: a ping-pong).

    Attributes
    ----------
    delay_samples : int
        D, at least 1.
    feedforward : array [shape=(lines, channels_in, taps)]
        a, from the sound into the lines.
    feedback : array [shape=(lines, lines, taps)]
        b, from the second index's line into the first's. The caller sees to it that the loop decays.
    gains : array [shape=(channels_out, lines)]
        How loud each line is heard.
    """

    delay_samples: int
    feedforward: Taps
    feedback: Taps
    gains: Taps

    def __post_init__(self) -> None:
        """Check that the shapes fit together."""
        a, b, gains = (np.asarray(part) for part in (self.feedforward, self.feedback, self.gains))
        shaped = a.ndim == b.ndim == 3 and gains.ndim == 2 and 0 not in (*a.shape, *b.shape, *gains.shape)
        if not shaped or not a.shape[0] == b.shape[0] == b.shape[1] == gains.shape[1] or self.delay_samples < 1:
            raise UsageError(
                f"delay lines of {self.delay_samples} samples with feedforward {a.shape}, feedback {b.shape} and gains "
                f"{gains.shape}; expected at least 1 sample and (lines, channels_in, taps), (lines, lines, taps), "
                "(channels_out, lines)"
            )
        if not all(np.isfinite(part).all() for part in (a, b, gains)):
            raise UsageError("delay lines with NaN or infinity in a filter or gain; expected finite numbers")


def feedback_delay(graph: StreamingGraph, signal: str, delays: Sequence[DelayLines], *, name: str = "delay") -> str:
    """Run ``(channels_in, T)`` through delay lines: the sum of what they give, ``(channels_out, T)``.

    Causal and without latency beyond that of the lines, for any T; the states are zero when fresh. The dry sound is
    not in it.

    Parameters
    ----------
    graph : StreamingGraph
    signal : str
        Name of the sound, float32.
    delays : sequence of DelayLines
        One for each length of delay; at least one.
    name : str
        Prefix of the states.
    """
    if not delays:
        raise UsageError("no delay lines; expected at least one")
    heard = [_lines(graph, signal, delay, f"{name}.{place}") for place, delay in enumerate(delays)]
    return heard[0] if len(heard) == 1 else str(graph.op("Sum", *heard))


def _lines(graph: StreamingGraph, signal: str, delay: DelayLines, name: str) -> str:
    lines, into, taps = delay.feedforward.shape
    samples = delay.delay_samples
    past = delay.feedback.shape[2] - 1
    fed = _filtered(graph, graph.with_history(signal, taps - 1, channels=into, name=f"{name}.sound"), delay.feedforward)
    held = graph.state(f"{name}.line", (lines, samples))
    before = graph.state(f"{name}.feedback", (lines, past)) if past else ""
    length = graph.length(signal)
    axis = graph.const([1])

    def follow(earlier: str, v: str) -> str:
        """V with what came out of the lines before it."""
        return str(graph.op("Concat", earlier, v, axis=1)) if past else v

    def short() -> list[str]:
        """A block that the lines hold already."""
        v = graph.op("Slice", held, graph.const([0]), length, axis)
        entered = graph.op("Add", fed, _filtered(graph, follow(before, v), delay.feedback))
        left = graph.op("Slice", held, length, graph.const([samples]), axis)
        return [v, graph.op("Concat", left, entered, axis=1)]

    def step(names: Sequence[str]) -> list[str]:
        """D samples: what is in the lines comes out, and as much goes in."""
        *carried, row = names
        out = follow(carried[-1], carried[0])
        entered = graph.op("Add", row, _filtered(graph, out, delay.feedback))
        after = [graph.op("Identity", entered)] + ([graph.slice(out, -past, None, 1)] if past else [])
        return [*after, entered]

    def long() -> list[str]:
        """Steps of D. The last may be filled up with anything: what it makes of that lies after the block."""
        filled = graph.op("Concat", fed, held, axis=1)
        steps = graph.op("Div", graph.op("Add", length, graph.const([samples - 1])), graph.const([samples]))
        whole = graph.op("Slice", filled, graph.const([0]), graph.op("Mul", steps, graph.const([samples])), axis)
        rows = graph.op("Transpose", graph.op("Reshape", whole, graph.const([lines, -1, samples])), perm=[1, 0, 2])
        size = (lines, samples)
        carried = [(held, size)] + ([(before, (lines, past))] if past else [])
        entered = graph.repeat(carried, [(rows, size)], step, [size])[-1]  # (steps, lines, D)
        sound = graph.op("Reshape", graph.op("Transpose", entered, perm=[1, 0, 2]), graph.const([lines, -1]))
        passed = graph.op("Concat", held, sound, axis=1)
        end = graph.op("Add", length, graph.const([samples]))
        return [
            graph.op("Slice", passed, graph.const([0]), length, axis),
            graph.op("Slice", passed, length, end, axis),
        ]

    v, after = graph.choose(graph.op("LessOrEqual", length, graph.const([samples])), short, long)
    graph.next_state(f"{name}.line", after, (lines, samples))
    if past:
        graph.next_state(f"{name}.feedback", graph.slice(follow(before, v), -past, None, 1), (lines, past))
    return str(graph.op("MatMul", graph.const(delay.gains, "gains"), v))


def _filtered(graph: StreamingGraph, signal: str, taps: Taps) -> str:
    """``(channels, taps - 1 + T)`` through an FIR filter for each pair of channels, newest tap first."""
    batched = graph.op("Unsqueeze", signal, graph.const([0]))
    found = graph.op("Conv", batched, graph.const(taps[:, :, ::-1], "taps"))
    return str(graph.op("Squeeze", found, graph.const([0])))
