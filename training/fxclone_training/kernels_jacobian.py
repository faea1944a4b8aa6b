"""The Jacobian of a free run, compiled: one-step derivatives and what the feedback makes of them, in one pass.

A weight p moves y[n] directly, and through all of the past that the model heard:

    dy[n]/dp = (one-step derivative) + sum_k gains[n, k] dpast_k[n]/dp
    gains[n, k] = skip_k + sum_h back[n, h] w[h, k]

Only every ``stride``-th row is written: sound is smooth, neighbouring rows say nearly the same, and the product of the
Jacobian with itself costs most. For models of one hidden layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fxclone_training.kernels import _JIT, ENVELOPES_LATE, F32, _moved_row, _rate


@njit(parallel=True, **_JIT)
def free_run_rows(
    z: F32,  # (B, T, X + Y): what the model saw of its input, then of its past outputs: K taps and S slow values
    h: F32,  # (B, T, H): activations
    back: F32,  # (B, T, H): derivative of y by the sums of the units
    w_y: F32,  # (H, Y)
    skip_y: F32,  # (Y,)
    rates: F32,  # (S, 2): while a slow value rises, and while it falls
    averages: int,
    y: F32,  # (B, T)
    stride: int,
    rows: F32,  # (B, count, P): written
) -> None:
    """Write rows 0, ``stride``, 2 ``stride`` ... of the Jacobian, columns in the order of `gauss_newton.trained`."""
    B, T, H = h.shape
    Y, S = skip_y.shape[0], rates.shape[0]
    X, K = z.shape[2] - Y, Y - S
    P = rows.shape[2]
    at_y, at_bias, at_out, at_skip = H * X, H * (X + Y), H * (X + Y) + H, H * (X + Y) + 2 * H
    for b in prange(B):
        slow = np.zeros((S, P), np.float32)
        past = np.zeros((K + 1, P), np.float32)  # a ring: the row of sample n lies at n % (K + 1)
        gains = np.empty(Y, np.float32)
        for n in range(T):
            row, seen, pull = past[n % (K + 1)], z[b, n], back[b, n]
            for k in range(Y):
                gains[k] = skip_y[k]
            for i in range(H):
                for k in range(Y):
                    gains[k] += pull[i] * w_y[i, k]
                for j in range(X):
                    row[i * X + j] = pull[i] * seen[j]
                for k in range(Y):
                    row[at_y + i * Y + k] = pull[i] * seen[X + k]
                row[at_bias + i] = pull[i]
                row[at_out + i] = h[b, n, i]
            for j in range(X + Y):
                row[at_skip + j] = seen[j]
            row[P - 1] = 1
            for k in range(min(K, n)):
                gain, before = gains[k], past[(n - 1 - k) % (K + 1)]
                for p in range(P):
                    row[p] += gain * before[p]
            for j in range(S):
                gain, track = gains[K + j], slow[j]
                for p in range(P):
                    row[p] += gain * track[p]
            for j in range(S):  # what they are at n + 1
                if j < averages:
                    _moved_row(slow[j], row, rates[j, 0], rates[j, 0])
                elif n >= ENVELOPES_LATE:
                    heard = y[b, n - ENVELOPES_LATE]
                    rate = _rate(seen[X + K + j], abs(heard), rates[j])
                    _moved_row(slow[j], past[(n - ENVELOPES_LATE) % (K + 1)], rate, rate if heard > 0 else -rate)
            if n % stride == 0:
                kept = rows[b, n // stride]
                for p in range(P):
                    kept[p] = row[p]
