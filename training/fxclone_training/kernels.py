"""Compiled loops over time for the autoregressive model: run it freely, and send gradients back through that run.

A Python loop over time in torch costs tens of microseconds a sample; these kernels cost a few tenths. They compute one
thing, the recursion

    a_1[n] = u[n] + sum_k fb[k] p_k[n],   h_1 = act(a_1),   h_l = act(W_l h_{l-1} + b_l)
    y[n]   = v[n] + sum_k skip[k] p_k[n] + out . h_L[n]

where u and v, everything that depends on the input alone, come in ready, and p is the past: y[n-1] ... y[n-K], then
leaky averages s += rate (y - s) up to y[n-1], then envelopes s += rate (|y| - s) up to y[n-3], with one rate while |y|
is above s and another while it is not (two samples later, so that the whole recursion folds into one recurrent node).
The gradients are exact for the block given (what came before it is constant: truncated backpropagation through time).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

F32 = npt.NDArray[np.float32]

ENVELOPES_LATE = 2
"""An envelope of past outputs, as it is seen at n, has last heard y[n - 1 - ENVELOPES_LATE]."""
TANH, RELU, GELU = 0, 1, 2
ACTIVATIONS = {"tanh": TANH, "relu": RELU, "gelu": GELU}

_JIT: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},  # not nnan, ninf: a run that blows up must show it
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
}


@njit(inline="always")
def _tanh(x: float) -> float:
    # Rational approximation (the one of Eigen and XLA), within a few ulp of float32; unlike libm's it vectorises.
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    s = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@njit(**_JIT)
def _activate(a: F32, h: F32, code: int) -> None:
    if code == TANH:
        for i in range(a.shape[0]):
            h[i] = _tanh(a[i])
    elif code == RELU:
        for i in range(a.shape[0]):
            h[i] = max(a[i], np.float32(0))
    else:
        for i in range(a.shape[0]):
            h[i] = np.float32(0.5) * a[i] * (np.float32(1) + np.float32(math.erf(a[i] * np.float32(0.70710678))))


@njit(**_JIT)
def _derivative(a: F32, h: F32, g: F32, code: int) -> None:
    """Turn g = dL/dh into dL/da in place."""
    if code == TANH:
        for i in range(a.shape[0]):
            g[i] *= np.float32(1) - h[i] * h[i]
    elif code == RELU:
        for i in range(a.shape[0]):
            if a[i] <= 0:
                g[i] = 0
    else:
        for i in range(a.shape[0]):
            cdf = np.float32(0.5) * (np.float32(1) + np.float32(math.erf(a[i] * np.float32(0.70710678))))
            g[i] *= cdf + a[i] * np.float32(0.39894228) * np.float32(math.exp(-np.float32(0.5) * a[i] * a[i]))


@njit(inline="always")
def _rate(value: float, heard: float, rates: F32) -> Any:
    return rates[0] if heard > value else rates[1]


@njit(inline="always")
def _moved(value: float, heard: float, rates: F32) -> Any:
    return value + _rate(value, heard, rates) * (heard - value)


@njit(**_JIT)
def _moved_row(track: F32, heard: F32, rate: float, signed: float) -> None:
    """The derivatives of `_moved` by all weights, in place; ``signed`` is the rate with the sign of what was heard."""
    keep = np.float32(1) - rate
    for p in range(track.shape[0]):
        track[p] = keep * track[p] + signed * heard[p]


@njit(parallel=True, **_JIT)
def free_run(
    u: F32,  # (B, T, H)
    v: F32,  # (B, T)
    past: F32,  # (B, K): y before the block, newest first; at least `ENVELOPES_LATE` if there are envelopes
    slow: F32,  # (B, T+1, S): averages, then envelopes; the first row holds their values before the block
    rates: F32,  # (S, 2): while the value rises, and while it falls
    averages: int,  # how many of the S are averages
    fb: F32,  # (K+S, H)
    skip: F32,  # (K+S,)
    hidden: F32,  # (L-1, H, H), input-major: h_in @ W
    bias: F32,  # (L-1, H)
    out: F32,  # (H,)
    code: int,
    pre: F32,  # (B, T, L, H) or (B, 1, L, H) scratch: pre-activations, kept only if there is room for all
    post: F32,  # the same for activations
) -> F32:  # (B, T)
    """Run the model on its own outputs."""
    B, T, H = u.shape
    K, S = past.shape[1], rates.shape[0]
    L = hidden.shape[0] + 1
    keep = pre.shape[1] == T
    y = np.empty((B, T), np.float32)
    for b in prange(B):
        for n in range(T):
            row = n if keep else 0
            a = pre[b, row, 0]
            for i in range(H):
                a[i] = u[b, n, i]
            total = v[b, n]
            for k in range(K):
                m = n - 1 - k
                value = y[b, m] if m >= 0 else past[b, -m - 1]
                total += skip[k] * value
                weights = fb[k]
                for i in range(H):
                    a[i] += weights[i] * value
            for j in range(S):
                value = slow[b, n, j]
                total += skip[K + j] * value
                weights = fb[K + j]
                for i in range(H):
                    a[i] += weights[i] * value
            _activate(a, post[b, row, 0], code)
            for layer in range(1, L):
                a = pre[b, row, layer]
                before = post[b, row, layer - 1]
                for i in range(H):
                    a[i] = bias[layer - 1, i]
                for j in range(H):
                    value = before[j]
                    weights = hidden[layer - 1, j]
                    for i in range(H):
                        a[i] += weights[i] * value
                _activate(a, post[b, row, layer], code)
            last = post[b, row, L - 1]
            dot = np.float32(0)
            for i in range(H):
                dot += out[i] * last[i]
            newest = total + dot
            y[b, n] = newest
            loudness = np.float32(0)
            if averages < S:
                loudness = abs(y[b, n - ENVELOPES_LATE] if n >= ENVELOPES_LATE else past[b, ENVELOPES_LATE - 1 - n])
            for j in range(S):
                slow[b, n + 1, j] = _moved(slow[b, n, j], newest if j < averages else loudness, rates[j])
    return y


@njit(parallel=True, **_JIT)
def free_run_backward(
    gy: F32,  # (B, T): dL/dy from the loss alone
    y: F32,  # (B, T)
    past: F32,
    slow: F32,
    rates: F32,
    averages: int,
    fb: F32,
    skip: F32,
    hidden: F32,
    bias: F32,
    out: F32,
    code: int,
    pre: F32,
    post: F32,
    g_fb: F32,  # (B, K, H) and so on: sums per stream, added up by the caller
    g_skip: F32,  # (B, K)
    g_hidden: F32,  # (B, L-1, H, H)
    g_bias: F32,  # (B, L-1, H)
    g_out: F32,  # (B, H)
) -> tuple[F32, F32]:  # dL/du (B, T, H), dL/dv (B, T)
    """Send dL/dy back through a run of `free_run`."""
    B, T = y.shape
    H, K, S = fb.shape[1], past.shape[1], rates.shape[0]
    L = hidden.shape[0] + 1
    gu = np.empty((B, T, H), np.float32)
    gv = np.zeros((B, T), np.float32)
    for b in prange(B):
        g = np.empty(H, np.float32)
        lower = np.empty(H, np.float32)
        g_slow = np.zeros(S, np.float32)  # dL/d slow[n+1]
        for n in range(T - 1, -1, -1):
            for j in range(S):
                rate = rates[j, 0]
                if j < averages:
                    gv[b, n] += rate * g_slow[j]
                else:
                    heard = y[b, n - ENVELOPES_LATE] if n >= ENVELOPES_LATE else past[b, ENVELOPES_LATE - 1 - n]
                    rate = _rate(slow[b, n, j], abs(heard), rates[j])
                    if n >= ENVELOPES_LATE:
                        gv[b, n - ENVELOPES_LATE] += (rate if heard > 0 else -rate) * g_slow[j]
                g_slow[j] *= np.float32(1) - rate
            total = gv[b, n] + gy[b, n]  # gv holds what later samples have sent back so far
            gv[b, n] = total
            last = post[b, n, L - 1]
            for i in range(H):
                g_out[b, i] += total * last[i]
                g[i] = total * out[i]
            for layer in range(L - 1, 0, -1):
                _derivative(pre[b, n, layer], post[b, n, layer], g, code)
                before = post[b, n, layer - 1]
                for i in range(H):
                    g_bias[b, layer - 1, i] += g[i]
                for j in range(H):
                    weights = hidden[layer - 1, j]
                    sums = g_hidden[b, layer - 1, j]
                    value = before[j]
                    dot = np.float32(0)
                    for i in range(H):
                        dot += weights[i] * g[i]
                        sums[i] += g[i] * value
                    lower[j] = dot
                for i in range(H):
                    g[i] = lower[i]
            _derivative(pre[b, n, 0], post[b, n, 0], g, code)
            for i in range(H):
                gu[b, n, i] = g[i]
            for k in range(K):
                m = n - 1 - k
                value = y[b, m] if m >= 0 else past[b, -m - 1]
                g_skip[b, k] += total * value
                weights = fb[k]
                sums = g_fb[b, k]
                dot = skip[k] * total
                for i in range(H):
                    dot += weights[i] * g[i]
                    sums[i] += g[i] * value
                if m >= 0:
                    gv[b, m] += dot
            for j in range(S):
                value = slow[b, n, j]
                g_skip[b, K + j] += total * value
                weights = fb[K + j]
                sums = g_fb[b, K + j]
                dot = skip[K + j] * total
                for i in range(H):
                    dot += weights[i] * g[i]
                    sums[i] += g[i] * value
                g_slow[j] += dot
    return gu, gv


@njit(parallel=True, **_JIT)
def through_feedback(jacobian: F32, gains: F32, rates: F32, averages: int, y: F32, seen: F32) -> None:
    """Turn one-step derivatives into those of the free run, in place.

    A weight moves y[n] directly, and through all of the past that the model heard:
    dy[n] = jacobian[n] + sum_k gains[n, k] dp_k[n], with gains[n, k] the derivative of y[n] by the past's k-th value.

    Parameters
    ----------
    jacobian : ndarray [shape=(streams, samples, weights)]
    gains : ndarray [shape=(streams, samples, past outputs + slow values)]
    rates : ndarray [shape=(slow values, 2)]
        While a value rises, and while it falls.
    averages : int
        How many of the slow values are averages; the rest are envelopes.
    y : ndarray [shape=(streams, samples)]
        The free run.
    seen : ndarray [shape=(streams, samples, slow values)]
        The slow values of past outputs, as the model saw them at each sample.
    """
    B, T, P = jacobian.shape
    S = rates.shape[0]
    K = gains.shape[2] - S
    for b in prange(B):
        slow = np.zeros((S, P), np.float32)
        for n in range(T):
            row = jacobian[b, n]
            for k in range(min(K, n)):
                gain = gains[b, n, k]
                before = jacobian[b, n - 1 - k]
                for p in range(P):
                    row[p] += gain * before[p]
            for j in range(S):
                gain = gains[b, n, K + j]
                track = slow[j]
                for p in range(P):
                    row[p] += gain * track[p]
            for j in range(S):  # what they are at n + 1
                if j < averages:
                    _moved_row(slow[j], row, rates[j, 0], rates[j, 0])
                elif n >= ENVELOPES_LATE:
                    heard = y[b, n - ENVELOPES_LATE]
                    rate = _rate(seen[b, n, j], abs(heard), rates[j])
                    _moved_row(slow[j], jacobian[b, n - ENVELOPES_LATE], rate, rate if heard > 0 else -rate)


@njit(parallel=True, **_JIT)
def leaky(signal: F32, before: F32, rates: F32, averages: int) -> F32:
    """Leaky averages, then envelopes, of ``signal (B, T)``: (B, T+1, S), the first row being ``before (B, S)``."""
    B, T = signal.shape
    S = rates.shape[0]
    out = np.empty((B, T + 1, S), np.float32)
    for b in prange(B):
        for j in range(S):
            out[b, 0, j] = before[b, j]
        for n in range(T):
            value = signal[b, n]
            for j in range(S):
                out[b, n + 1, j] = _moved(out[b, n, j], value if j < averages else abs(value), rates[j])
    return out
