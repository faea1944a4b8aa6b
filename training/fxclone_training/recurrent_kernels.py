"""Compiled loops over time for the recurrent model: run it freely, many streams side by side, and send gradients back.

For each stream and sample the model sees one row,

    z[n] = h[n-1],  y[n-1] + noise[n],  x[n-m+1] ... x[n],  1
    i, f, o, g = z[n] W,   c[n] = sigm(f) c[n-1] + sigm(i) tanh(g),   h[n] = sigm(o) tanh(c[n])
    y[n] = out . h[n] + skip . x-part of z[n] + b

so that one product of matrices serves all streams of a step, and everything a step needs is in the cache. The gradients
are exact for the block given; what came before it is constant (truncated backpropagation through time).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from fxclone_training.kernels import F32, _tanh

_JIT: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},  # not nnan, ninf: a run that blows up must show it
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
}
STREAMS_AT_ONCE = 32
"""Streams of one thread's product: enough to be worth it, and small enough for BLAS to stay in that thread."""


@njit(parallel=True, **_JIT)
def lstm(
    x: F32,  # (B, m-1+T)
    noise: F32,  # (B, T), or (B, 0) for none
    w: F32,  # (units + 1 + m + 1, 4 units)
    out: F32,  # (units,)
    skip: F32,  # (m,), oldest first
    bias: float,
    c: F32,  # (T+1, B, units) or, to keep nothing for gradients, (2, B, units): the first row is the state before
    z: F32,  # (T+1, B, units + 1 + m + 1), or (2, ...): h and y of the first row are the state before
    gates: F32,  # (T, B, 4 units), or (1, ...): written
    y: F32,  # (B, T): written
) -> None:
    """Run the model. The row of ``z`` and ``c`` after the last sample holds the state after it."""
    B, T = y.shape
    H, m = out.shape[0], skip.shape[0]
    keep = gates.shape[0] == T
    half, one = np.float32(0.5), np.float32(1)
    parts = (B + STREAMS_AT_ONCE - 1) // STREAMS_AT_ONCE
    for part in prange(parts):
        low, high = part * STREAMS_AT_ONCE, min(B, (part + 1) * STREAMS_AT_ONCE)
        for n in range(T):
            now, after = (n, n + 1) if keep else (n % 2, (n + 1) % 2)
            row = n if keep else 0
            for b in range(low, high):
                seen = z[now, b]
                if noise.shape[1] > 0:
                    seen[H] += noise[b, n]
                for j in range(m):
                    seen[H + 1 + j] = x[b, n + j]
                seen[H + 1 + m] = one
            if high - low > 1:
                np.dot(z[now, low:high], w, gates[row, low:high])
            else:  # one stream, when a model is listened to: calling BLAS costs more than the product
                gate = gates[row, low]
                gate[:] = 0
                for k in range(w.shape[0]):
                    value, weights = z[now, low, k], w[k]
                    for j in range(4 * H):
                        gate[j] += value * weights[j]
            for b in range(low, high):
                gate, seen = gates[row, b], z[now, b]
                before, cell, heard = c[now, b], c[after, b], z[after, b]
                for j in range(3 * H):
                    gate[j] = half + half * _tanh(half * gate[j])
                for j in range(3 * H, 4 * H):
                    gate[j] = _tanh(gate[j])
                for j in range(H):
                    cell[j] = gate[H + j] * before[j] + gate[j] * gate[3 * H + j]
                total = np.float32(bias)
                for j in range(H):
                    heard[j] = gate[2 * H + j] * _tanh(cell[j])
                for j in range(H):
                    total += out[j] * heard[j]
                for j in range(m):
                    total += skip[j] * seen[H + 1 + j]
                y[b, n] = total
                heard[H] = total


@njit(parallel=True, **_JIT)
def lstm_backward(
    gy: F32,  # (B, T): dL/dy from the loss alone
    w_t: F32,  # (4 units, units): transposed weights of h
    w_y: F32,  # (4 units,)
    out: F32,
    skip: F32,
    c: F32,
    z: F32,
    gates: F32,
    g_gates: F32,  # (T, B, 4 units): dL/d gates before their curves, written
    g_out: F32,  # (B, units), (B, m) and (B,): sums for each stream, added to
    g_skip: F32,
    g_bias: F32,
) -> None:
    """Send dL/dy back through a run of `lstm`; the gradient of ``w`` is z transposed times ``g_gates``."""
    B, T = gy.shape
    H, m = out.shape[0], skip.shape[0]
    one = np.float32(1)
    parts = (B + STREAMS_AT_ONCE - 1) // STREAMS_AT_ONCE
    for part in prange(parts):
        low, high = part * STREAMS_AT_ONCE, min(B, (part + 1) * STREAMS_AT_ONCE)
        back = np.zeros((high - low, H), np.float32)
        gc = np.zeros((high - low, H), np.float32)
        fed = np.zeros(high - low, np.float32)
        for n in range(T - 1, -1, -1):
            for b in range(low, high):
                gate, sent, seen, made = gates[n, b], g_gates[n, b], z[n, b], z[n + 1, b]
                before, now = c[n, b], c[n + 1, b]
                later, held = back[b - low], gc[b - low]
                total = gy[b, n] + fed[b - low]
                g_bias[b] += total
                for j in range(m):
                    g_skip[b, j] += total * seen[H + 1 + j]
                for j in range(H):
                    g_out[b, j] += total * made[j]
                for j in range(H):
                    i, f, o, g = gate[j], gate[H + j], gate[2 * H + j], gate[3 * H + j]
                    bent = _tanh(now[j])
                    dh = later[j] + total * out[j]
                    dc = held[j] + dh * o * (one - bent * bent)
                    sent[j] = dc * g * i * (one - i)
                    sent[H + j] = dc * before[j] * f * (one - f)
                    sent[2 * H + j] = dh * bent * o * (one - o)
                    sent[3 * H + j] = dc * i * (one - g * g)
                    held[j] = dc * f
                back_y = np.float32(0)
                for j in range(4 * H):
                    back_y += sent[j] * w_y[j]
                fed[b - low] = back_y
            np.dot(g_gates[n, low:high], w_t, back)
