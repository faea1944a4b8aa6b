"""Family ``dynamics``: compressors, limiters, gates and expanders as what they are, a gain that follows the level.

A cell, of which there may be a few in series:

    level[n]    = level[n-1] + rate (|x[n]| - level[n-1])         or of x[n]^2, with the root of what comes out
    envelope[n] = envelope[n-1] + rate (level[n] - envelope[n-1])
    ln gain[n]  = curve(ln envelope[n])
    y[n]        = gain[n] x[n]

Each detector has a rate for rising (attack) and one for falling (release). The curve is the usual one of thresholds,
ratios and soft knees: straight lines that meet at knots, ``width softplus((l - knot) / width)`` each (Giannoulis,
Massberg and Reiss 2012, *Digital dynamic range compressor design*, for the parts; their knee is a parabola). After the
last cell comes a hard clip, if there is one.

A detector is one ``RNN`` node with two units of ReLU, exactly, for going to the level at one of two rates is

    e' = max(0, (1 - release) e + release v)  ±  max(0, |attack - release| (v - e)),    + where the attack is faster
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from fxclone.audio import Audio
from fxclone_export.graph import StreamingGraph
from fxclone_training.certificate import MET, NO_FEEDBACK, ROUNDING, STURDY, tail_samples
from fxclone_training.dynamics_kernels import BELOW, FLOOR, KNOTS, OFFSET, TIMES, rates_of, run


class Dynamics:
    """Cells in series.

    Parameters
    ----------
    cells : ndarray [shape=(cells, 6 + 3 knots)]
        Rows as `fxclone_training.dynamics_kernels` has them.
    squares : sequence of bool
        Whether each cell's first detector hears the power (and so measures RMS) or the magnitude.
    ceiling : float
        What comes out is clipped there, linear; inf for no clip.
    """

    family = "dynamics"
    channels_in = 1
    channels_out = 1
    receptive_field_samples = 1

    def __init__(self, cells: npt.ArrayLike, squares: npt.ArrayLike, ceiling: float = math.inf) -> None:
        self.cells: npt.NDArray[np.float32] = np.array(cells, np.float32)
        self.squares: npt.NDArray[np.bool_] = np.array(squares, bool)
        self.ceiling = float(np.float32(ceiling))
        columns = self.cells.shape[1] - KNOTS if self.cells.ndim == 2 else 0
        if columns < 3 or columns % 3 or self.squares.shape != (len(self.cells),):
            raise ValueError(f"cells of shape {self.cells.shape}, squares of shape {self.squares.shape}")

    @property
    def knots(self) -> int:
        """Of each cell's curve."""
        return (int(self.cells.shape[1]) - KNOTS) // 3

    @property
    def _rates(self) -> npt.NDArray[np.float64]:
        return rates_of(self.cells.astype(np.float64))

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""
        return int(self.cells.size) + math.isfinite(self.ceiling)

    @property
    def work_per_sample(self) -> int:
        """A detector, a logarithm and an exponential for each cell."""
        return len(self.cells) * (60 + 20 * self.knots)

    def run_freely(self, dry: Audio) -> Audio:
        """Run over ``(1, samples)`` from a fresh state."""
        cells = self.cells.astype(np.float64)
        return run(dry[0].astype(np.float64), cells, self._rates, self.squares, self.ceiling)[None].astype(np.float32)

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether what float32 loses of the sound and of the curve is not heard: steep gates turn rounding up."""
        shake = np.random.default_rng(0)
        out = self.run_freely(dry)
        sound = dry * (1 + 4 * ROUNDING * shake.uniform(-1, 1, dry.shape))
        cells = self.cells * (1 + 4 * ROUNDING * shake.uniform(-1, 1, self.cells.shape))
        cells[:, :TIMES] = self.cells[:, :TIMES]  # rates are held as they are
        other = run(sound[0], cells, self._rates, self.squares, self.ceiling)
        apart = float(np.abs(out[0] - other).max())
        return apart <= STURDY * max(1.0, float(np.abs(out).max()))

    def copy(self) -> Dynamics:
        """An independent copy."""
        return Dynamics(self.cells, self.squares, self.ceiling)

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """One form: a node for each detector, and the curve on the block."""
        graph = StreamingGraph()
        signal = "audio"
        for place in range(len(self.cells)):
            signal = self._add_cell(graph, signal, place)
        if math.isfinite(self.ceiling):
            limits = [graph.const(np.array(level, np.float32), "ceiling") for level in (-self.ceiling, self.ceiling)]
            signal = graph.op("Clip", signal, *limits)
        graph.output(signal)
        yield graph.model()

    def _add_cell(self, graph: StreamingGraph, signal: str, place: int) -> str:
        cell, rates, square = self.cells[place], self._rates[place], bool(self.squares[place])
        level = graph.op("Mul", signal, signal) if square else graph.op("Abs", signal)
        level = _detector(graph, level, rates[0], rates[1], f"level{place}")
        if square:
            level = graph.op("Sqrt", graph.op("Max", level, graph.const(np.array([FLOOR**2]), "floor")))
        level = _detector(graph, level, rates[2], rates[3], f"envelope{place}")
        heard = graph.op("Log", graph.op("Max", level, graph.const(np.array([FLOOR]), "floor")))  # (1, T)
        knots, slopes, widths = np.split(cell[KNOTS:].astype(np.float64), 3)
        widths = np.exp(widths)
        knots, turns = np.append(knots, knots[0]), np.append(1 / widths, -1 / widths[0])
        slopes = np.append(slopes * widths, -float(cell[BELOW]) * widths[0])
        away = graph.op("Sub", heard, graph.const(knots[:, None], "knot"))
        soft = graph.op("Softplus", graph.op("Mul", away, graph.const(turns[:, None], "turn")))
        bent = graph.op("MatMul", graph.const(slopes[None], "slope"), soft)
        gain = graph.op("Exp", graph.op("Add", bent, graph.const(cell[OFFSET : OFFSET + 1], "offset")))
        return str(graph.op("Mul", signal, gain))

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """No output is heard again; two runs meet as fast as the slowest detector forgets."""
        slowest = float(np.exp(self.cells[:, :TIMES].max()))
        return NO_FEEDBACK | {
            "lyapunov_per_sample": -1 / slowest,
            "return_ms": 1e3 * math.ceil(-math.log(MET) * slowest) / sample_rate,
            "tail_samples": tail_samples(self, sample_rate),
        }

    def facts(self) -> dict[str, Any]:
        """Its shape, and each cell in the terms of the field: times in samples, levels in dB."""
        decibels = 20 / math.log(10)
        cells = [
            {
                "detector": "rms" if square else "peak",
                "level_samples": [round(float(time), 2) for time in np.exp(cell[:2])],
                "envelope_samples": [round(float(time), 2) for time in np.exp(cell[2:TIMES])],
                "gain_db": round(decibels * float(cell[OFFSET]), 3),
                "slope_below": round(float(cell[BELOW]), 4),
                "thresholds_db": [round(decibels * float(knot), 2) for knot in cell[KNOTS : KNOTS + self.knots]],
                "slopes": [round(float(slope), 4) for slope in cell[KNOTS + self.knots : KNOTS + 2 * self.knots]],
            }
            for cell, square in zip(self.cells, self.squares, strict=True)
        ]
        return {"cells": cells, "ceiling": self.ceiling if math.isfinite(self.ceiling) else None}

    def describe(self) -> str:
        """Its shape in a few words."""
        count = len(self.cells)
        clip = " and a clip" if math.isfinite(self.ceiling) else ""
        return f"{count} gain{'s' if count > 1 else ''} that follow{'' if count > 1 else 's'} the level{clip}"

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        shape = {"squares": self.squares.tolist(), "ceiling": self.ceiling if math.isfinite(self.ceiling) else None}
        return shape, {"cells": torch.from_numpy(self.cells.copy())}

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> Dynamics:
        """The model that `stored` wrote."""
        ceiling = math.inf if shape["ceiling"] is None else shape["ceiling"]
        return Dynamics(weights["cells"].numpy(), shape["squares"], ceiling)


def _detector(graph: StreamingGraph, signal: str, attack: float, release: float, name: str) -> str:
    """``signal`` (1, T), never negative, through a detector."""
    if attack == release == 1:
        return signal
    apart = attack - release
    read = np.array([1.0, math.copysign(1.0, apart)])  # of the two units: the envelope
    keep = np.array([1 - release, -abs(apart)])
    rows = graph.op("Reshape", signal, graph.const(np.array([-1, 1, 1])))
    states, after = graph.op(
        "RNN",
        rows,
        graph.const(np.array([[[release], [abs(apart)]]]), "rate"),
        graph.const(np.outer(keep, read)[None], "keep"),
        "",
        "",
        graph.state(name, (1, 1, 2)),
        outputs=2,
        hidden_size=2,
        activations=["Relu"],
    )
    graph.next_state(name, after, (1, 1, 2))
    followed = graph.op("MatMul", states, graph.const(read[:, None], "read"))
    return str(graph.op("Reshape", followed, graph.const(np.array([1, -1]))))
