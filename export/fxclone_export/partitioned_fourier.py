"""Fourier transforms of real frames as matrix products, inside a graph.

Cooley and Tukey in two steps, N = N1 x N2: with n = N2 n1 + n2 and k = k1 + N1 k2,

    X[k1, k2] = sum_n2 W2^(n2 k2) sum_n1 x[n1, n2] W1^(n1 k1) W^(n2 k1),    W = exp(-2 pi i / N)

The twiddles W^(n2 k1) are folded into the inner sum, whose matrix then differs from one n2 to the next. The sound is
real, so rows k1 = 0 ... N1/2 say all; the others are their conjugates. (Rows 0 and N1/2 hold each bin twice, which
costs 3 % and saves a special case.) The order of the bins is that of (k1, k2) and matters to nobody.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fxclone_export.graph import StreamingGraph

FOURIER_SIZE = 2048
_N1, _N2 = 32, FOURIER_SIZE // 32
_K1 = _N1 // 2 + 1


class Fourier:
    """The transforms of one graph; their matrices are stored in it once."""

    bins = _K1 * _N2

    def __init__(self, graph: StreamingGraph) -> None:
        self.graph = graph
        n1, n2, k1, k2 = np.arange(_N1), np.arange(_N2), np.arange(_K1), np.arange(_N2)
        turns = n1[None, :, None] * k1 / _N1 + n2[:, None, None] * k1 / FOURIER_SIZE  # (N2, N1, K1)
        inner = np.exp(-2j * np.pi * turns)
        outer = np.exp(-2j * np.pi * np.outer(n2, k2) / _N2)  # (n2, k2)
        self._inner = graph.const(np.stack([inner.real, inner.imag], axis=3).reshape(_N2, _N1, -1), "dft")
        self._outer = graph.const(np.block([[outer.real, outer.imag], [-outer.imag, outer.real]]), "dft")
        # Back: the real part only, of the second half of the samples only.
        back = outer.conj().T  # (k2, n2)
        re, im = np.hstack([back.real, back.imag]), np.hstack([-back.imag, back.real])
        self._outer_back = graph.const(np.vstack([re, im, im, -re]), "idft")
        twice = np.where((k1 == 0) | (k1 == _N1 // 2), 1.0, 2.0)[:, None] / FOURIER_SIZE
        late = inner[:, _N1 // 2 :].conj().transpose(0, 2, 1) * twice  # (N2, K1, N1 / 2)
        self._inner_back = graph.const(np.stack([late.real, -late.imag], axis=2).reshape(_N2, 2 * _K1, -1), "idft")

    def of(self, frames: npt.NDArray[Any]) -> npt.NDArray[np.complex128]:
        """Transform ``(..., FOURIER_SIZE)`` here and now: ``(..., bins)`` in the order of the graph."""
        order = (np.arange(_K1)[:, None] + _N1 * np.arange(_N2)).ravel()
        return np.fft.fft(frames)[..., order]

    def forward(self, frames: str, channels: int) -> str:
        """``(channels, F, FOURIER_SIZE)`` to real and imaginary parts, ``(2, bins, channels, F)``."""
        graph = self.graph
        x = graph.op("Reshape", frames, graph.const([-1, _N1, _N2]))
        rows = graph.op("MatMul", graph.op("Transpose", x, perm=[2, 0, 1]), self._inner)  # (N2, C F, K1 2)
        ready = graph.op("Reshape", graph.op("Transpose", rows, perm=[1, 2, 0]), graph.const([-1, 2 * _N2]))
        found = graph.op("MatMul", ready, self._outer)  # (C F K1, 2 N2)
        shaped = graph.op("Reshape", found, graph.const([-1, _K1, 2, _N2]))
        parts = graph.op("Transpose", shaped, perm=[2, 0, 1, 3])  # (2, C F, K1, N2)
        flat = graph.op("Reshape", parts, graph.const([2, -1, self.bins]))
        turned = graph.op("Transpose", flat, perm=[0, 2, 1])
        return str(graph.op("Reshape", turned, graph.const([2, self.bins, channels, -1])))

    def inverse_products(self, products: str, channels: int) -> str:
        """Products of parts of spectra, back to the last half of each frame.

        ``(2, bins, channels * 2, F)``: part of the one spectrum, bin, channel and part of the other. The four are
        joined to two on the way (re re - im im, re im + im re). Gives ``(channels, F * FOURIER_SIZE / 2)``.
        """
        graph = self.graph
        # In onnxruntime, moving one axis, or whole rows, is ten times faster than an arbitrary transposition.
        split = graph.op("Reshape", products, graph.const([2, _K1, _N2, -1]))
        last = graph.op("Transpose", split, perm=[0, 1, 3, 2])  # (2, K1, C 2 F, N2)
        parted = graph.op("Reshape", last, graph.const([2, _K1, channels, 2, -1, _N2]))
        rows = graph.op("Transpose", parted, perm=[2, 4, 1, 3, 0, 5])  # (C, F, K1, 2, 2, N2)
        found = graph.op("MatMul", graph.op("Reshape", rows, graph.const([-1, 4 * _N2])), self._outer_back)
        parts = graph.op("Reshape", found, graph.const([-1, 2 * _K1, _N2]))
        ready = graph.op("Transpose", parts, perm=[2, 0, 1])  # (N2, C F, K1 2)
        sound = graph.op("MatMul", ready, self._inner_back)  # (N2, C F, N1 / 2)
        return str(graph.op("Reshape", graph.op("Transpose", sound, perm=[1, 2, 0]), graph.const([channels, -1])))
