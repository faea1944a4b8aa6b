"""A front with memory and no feedback: tanh curves, each on a sum of filtered inputs.

    v[n] = o . ( tanh(W f[n] + b) - tanh(b) )

f[n] holds the last few inputs and leaky averages of all before, at time constants from a sample to a second. A sum of
leaky averages is what a tone control or a coupling capacitor in front of a clipping stage does; so this is the inside
of most pedals, without what lies behind the curve (`tail.Tail` has that) and without feedback around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fxclone.audio import Audio
from fxclone_export.averages import taps_and_averages
from fxclone_export.graph import StreamingGraph
from fxclone_training import kernels
from fxclone_training.certificate import NO_FEEDBACK, STURDY

Floats = npt.NDArray[np.floating[Any]]
_CHUNK = 1 << 16


class Curve:
    """See the module.

    Parameters
    ----------
    weights : ndarray [shape=(units, recent + averages)]
        W; the newest input first, then older ones, then averages.
    bias, out : ndarray [shape=(units,)]
        b and o.
    constants : tuple of float
        Time constants of the averages, in samples.
    """

    family = "curve"
    folds = False

    def __init__(self, weights: Floats, bias: Floats, out: Floats, constants: tuple[float, ...]) -> None:
        self.weights, self.bias, self.out = (np.asarray(part, np.float32) for part in (weights, bias, out))
        self.constants = tuple(float(constant) for constant in constants)
        if self.weights.ndim != 2 or self.recent < 1 or not len(self.bias) == len(self.out) == len(self.weights):
            raise ValueError(f"a curve of weights {self.weights.shape}, bias {self.bias.shape}, out {self.out.shape}")

    @property
    def recent(self) -> int:
        """Inputs that are seen as they are, the newest included."""
        return int(self.weights.shape[1]) - len(self.constants)

    @property
    def rates(self) -> npt.NDArray[np.float32]:
        """How far each average moves in a sample."""
        return rates(self.constants)

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""
        return self.weights.size + self.bias.size + self.out.size

    @property
    def work_per_sample(self) -> int:
        """Each weight is used once for a sample."""
        return self.parameter_count

    @property
    def receptive_field_samples(self) -> int:
        """The inputs seen as they are; averages reach further."""
        return self.recent

    def run_freely(self, dry: Audio) -> Audio:
        """Run over ``(1, samples)`` from silence."""
        return self._run(features(dry[0], self.recent, self.constants), np.float32)

    def _run(self, seen: npt.NDArray[np.float32], kind: type[np.floating[Any]]) -> Audio:
        weights, bias, out = (part.astype(kind) for part in (self.weights, self.bias, self.out))
        silent = out @ np.tanh(bias)
        result = np.empty((1, len(seen)), np.float32)
        for start in range(0, len(seen), _CHUNK):
            part = seen[start : start + _CHUNK].astype(kind)
            result[0, start : start + _CHUNK] = np.tanh(part @ weights.T + bias) @ out - silent
        return result

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether float32 sums come out as exact ones do: large terms that cancel lose what is left."""
        seen = features(dry[0], self.recent, self.constants)
        exact = self._run(seen, np.float64)
        return float(np.abs(exact - self._run(seen, np.float32)).max()) <= STURDY * max(1.0, float(np.abs(exact).max()))

    def copy(self) -> Curve:
        """An independent copy."""
        return Curve(self.weights.copy(), self.bias.copy(), self.out.copy(), self.constants)

    def add_to(self, graph: StreamingGraph, signal: str, *, loudest: float, fold: bool, prefix: str) -> str:
        """Run ``signal`` (1, T) through it inside a graph; returns the name of the result (1, T)."""
        taps, sums = np.split(self.weights, [self.recent], axis=1)
        rows = taps_and_averages(graph, signal, taps, sums, self.rates, self.bias, name=prefix + "x")  # (T, 1, units)
        said = graph.op("MatMul", graph.op("Tanh", rows), graph.const(self.out[:, None], "out"))
        silent = float(self.out @ np.tanh(self.bias))
        heard = graph.op("Sub", said, graph.const(np.array([silent]), "silent"))
        return str(graph.op("Reshape", heard, graph.const([1, -1])))

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """There is no feedback to certify."""
        return dict(NO_FEEDBACK)

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe."""
        return {"units": len(self.weights), "recent": self.recent, "averages": list(self.constants)}

    def describe(self) -> str:
        """Its shape in a few words."""
        return f"{len(self.weights)} curves on {self.recent} inputs and {len(self.constants)} averages"

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        named = {"weights": self.weights, "bias": self.bias, "out": self.out}
        return {"constants": list(self.constants)}, {name: torch.from_numpy(part) for name, part in named.items()}

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> Curve:
        """The curve that `stored` wrote."""
        w, bias, out = (weights[name].numpy() for name in ("weights", "bias", "out"))
        return Curve(w, bias, out, tuple(shape["constants"]))


def rates(constants: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """How far an average of each time constant (samples) moves in a sample."""
    moved: npt.NDArray[np.float32] = np.float32(1) - np.exp(-1 / np.array(constants)).astype(np.float32)
    return moved


def features(sound: npt.NDArray[np.float32], recent: int, constants: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """What a curve sees of a mono sound from silence on: (samples, recent + averages)."""
    padded = np.concatenate([np.zeros(recent - 1, np.float32), sound.astype(np.float32)])
    taps = np.stack([padded[recent - 1 - lag : len(padded) - lag] for lag in range(recent)], axis=1)
    if not constants:
        return taps
    before = np.zeros((1, len(constants)), np.float32)
    both = np.repeat(rates(constants)[:, None], 2, axis=1)  # rising and falling
    slow = kernels.leaky(np.ascontiguousarray(sound[None], np.float32), before, both, len(constants))
    return np.concatenate([taps, slow[0, 1:]], axis=1)
