"""Long linear responses out of a pair: regularised least squares, without access to the effect.

    minimise  sum_n w[n] (wet[n] - sum_k h[k] dry[n-k])^2  +  sum_k ridge[k] h[k]^2

With 3.5 s of response this is a system of 170,000 unknowns per channel pair, but its matrix is nearly Toeplitz: a
product with it costs a few FFTs of twice the response's length, whatever the length of the sound. Conjugate gradients
with a circulant preconditioner, the inverse power spectrum of the dry sound, need some tens of such products (Chan and
Ng, Conjugate gradient methods for Toeplitz systems, SIAM Review 38, 1996).

The ridge is what Bayes' rule makes of two things that a first solution shows: the power of what no response explains
(the noise), and how the response decays. Where the dry sound has no energy, the ridge alone decides: nothing explodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import fft

from fxclone.audio import TINY_POWER, Audio, power_to_db
from fxclone.errors import UsageError

Doubles = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.complexfloating]

ITERATIONS = 60
FIRST_ITERATIONS = 25
"""Of the first of two passes, which only has to show the noise and the decay."""
TOLERANCE = 1e-7
"""Conjugate gradients stop when the preconditioned slope is this much smaller than at the start."""
TARGET_DB = -100.0
"""Or when the response explains all but this much of the wet sound: exact enough for a clone."""
STALLED_DB, STALLED_ITERATIONS = 0.02, 4
"""Or when so many iterations have gained no more than this each: what is left is noise, or no linear effect."""
FIRST_RIDGE = 1e-10
"""Of the first pass, relative to the power of the dry sound."""
SMOOTH_SAMPLES = 512
"""The decay is measured in windows of this length."""
PRIOR_ROOM = 10.0
"""Taps may be this much stronger, in power, than the measured decay before the ridge holds them back."""
BLOCK = 1 << 19


@dataclass(frozen=True)
class FirFit:
    """A fitted response.

    Attributes
    ----------
    responses : ndarray [shape=(channels out, channels in, taps)]
        float32; tap 0 weighs the newest input.
    residual_db : float
        Power of what it leaves of the wet sound it was fitted to, relative to that sound, in dB.
    iterations : int
        Of conjugate gradients, both passes together.
    """

    responses: Audio
    residual_db: float
    iterations: int


def identify(
    dry: Audio,
    wet: Audio,
    taps: int,
    *,
    weight: npt.NDArray[np.floating] | None = None,
    iterations: int = ITERATIONS,
    target_db: float = TARGET_DB,
    should_stop: Callable[[], bool] = lambda: False,
    listen: Callable[[int, float], None] | None = None,
) -> FirFit:
    """Fit a response of ``taps`` samples per channel pair.

    Parameters
    ----------
    dry : ndarray [shape=(channels in, samples)]
        Before it comes silence (use ``weight`` to leave out what still rings from before).
    wet : ndarray [shape=(channels out, samples)]
    taps : int
        1 or more.
    weight : ndarray [shape=(samples,)] or None
        0 or more: how much each sample's squared error counts. Costs more: products then take FFTs of the whole sound.
    iterations : int
        At most so many of conjugate gradients in the final pass.
    target_db : float
        A residual that is good enough to stop at.
    should_stop : callable
        Asked before each iteration; True ends it there.
    listen : callable or None
        Gets the count of iterations done and the residual in dB so far.

    Raises
    ------
    UsageError
        If the lengths differ, or ``taps`` is not from 1 to the length of the sound.
    """
    if dry.shape[1] != wet.shape[1] or (weight is not None and weight.shape != (dry.shape[1],)):
        raise UsageError(f"dry has {dry.shape[1]} samples, wet {wet.shape[1]}; expected equal lengths (weight too)")
    if not 1 <= taps <= dry.shape[1]:
        raise UsageError(f"a response of {taps} samples; expected 1 to {dry.shape[1]}, the length of the sound")
    problem: _Normal = _Toeplitz(dry, taps) if weight is None else _Weighted(dry, taps, weight)
    aim = problem.aim(wet)  # (out, in, taps)
    heard = wet if weight is None else wet * np.sqrt(weight)
    energy = np.square(heard, dtype=np.float64).sum(axis=1)  # (out,)
    rows = dry.shape[1] if weight is None else int(np.count_nonzero(weight))
    done = 0

    def solve(start: Doubles, ridge: Doubles, most: int) -> Doubles:
        nonlocal done
        held, count = _conjugate_gradients(
            problem, aim, start, ridge, energy, most, target_db, should_stop, listen, done
        )
        done += count
        return held

    flat = np.full(aim.shape, FIRST_RIDGE * problem.power + 1e-30)
    response = solve(np.zeros_like(aim), flat, min(FIRST_ITERATIONS, iterations))
    left = _left(problem, aim, response, energy)
    if power_to_db(float(left.sum()) / max(float(energy.sum()), TINY_POWER)) <= target_db:
        iterations = 0
    noise_power = left / max(rows - taps * dry.shape[0], rows // 10, 1)
    ridge = _ridge(response, noise_power, problem.power, flat)
    response = solve(response, ridge, iterations) if iterations else response
    left = _left(problem, aim, response, energy)
    residual_db = power_to_db(float(left.sum()) / max(float(energy.sum()), TINY_POWER))
    return FirFit(response.astype(np.float32), residual_db, done)


def convolve(dry: Audio, responses: Audio) -> Audio:
    """What the responses (channels out, channels in, taps) make of a sound, cut to its length."""
    n, taps = dry.shape[1], responses.shape[2]
    size = fft.next_fast_len(n + taps - 1, real=True)
    spectra = fft.rfft(dry, size)
    out = np.empty((responses.shape[0], n), np.float32)
    for channel, response in zip(out, responses, strict=True):
        channel[:] = fft.irfft(np.einsum("if,if->f", fft.rfft(response, size), spectra), size)[:n]
    return out


class _Normal(Protocol):
    """The normal equations: matrix times response, right-hand side, and an approximate inverse."""

    power: float

    def aim(self, wet: Audio) -> Doubles:
        """Right-hand side, (out, in, taps)."""
        ...

    def times(self, response: Doubles) -> Doubles:
        """Matrix times responses (out, in, taps)."""
        ...

    def divided(self, slope: Doubles, extra: float) -> Doubles:
        """Roughly the inverse of (matrix + extra) times (out, in, taps); symmetric and positive."""
        ...


class _Toeplitz:
    """All samples weigh the same: Toeplitz, less what would ring on after the recording's end."""

    def __init__(self, dry: Audio, taps: int) -> None:
        self.dry, self.taps = dry, taps
        self.size = fft.next_fast_len(2 * taps, real=True)
        lags = _correlate(dry, dry, taps)  # [t, i, k] = sum_n x_t[n] x_i[n-k]
        self.power = float(np.mean([lags[i, i, 0] for i in range(len(dry))]))
        self.spectra = _circulant(lags, self.size)
        self.inverse = _Inverse(lags, self.size)
        last = dry[:, max(0, dry.shape[1] - taps + 1) :].astype(np.float64)
        last = np.pad(last, ((0, 0), (taps - 1 - last.shape[1], 0)))
        self.last = fft.rfft(last, self.size) if last.any() else None

    def aim(self, wet: Audio) -> Doubles:
        return _correlate(self.dry, wet, self.taps)

    def times(self, response: Doubles) -> Doubles:
        spectra = fft.rfft(response, self.size)
        product = np.einsum("ijf,ojf->oif", self.spectra, spectra)
        if self.last is not None:
            beyond = fft.irfft(np.einsum("jf,ojf->of", self.last, spectra), self.size)
            beyond[:, : self.taps - 1] = 0
            beyond[:, 2 * self.taps - 2 :] = 0
            product -= np.conj(self.last)[None] * fft.rfft(beyond)[:, None]
        out: Doubles = fft.irfft(product, self.size)[..., : self.taps]
        return out

    def divided(self, slope: Doubles, extra: float) -> Doubles:
        return self.inverse(slope, extra)


class _Weighted:
    """Samples weigh differently: products go through the whole sound, block by block."""

    def __init__(self, dry: Audio, taps: int, weight: npt.NDArray[np.floating]) -> None:
        self.dry, self.taps, self.weight = dry, taps, np.maximum(weight, 0).astype(np.float64)
        heard = (dry * np.sqrt(self.weight)).astype(np.float32)
        lags = _correlate(heard, heard, taps)  # nearly the matrix where the weight changes slowly
        self.power = float(np.mean([lags[i, i, 0] for i in range(len(dry))]))
        self.inverse = _Inverse(lags, fft.next_fast_len(2 * taps, real=True))

    def aim(self, wet: Audio) -> Doubles:
        return _correlate(self.dry, wet * self.weight, self.taps)

    def times(self, response: Doubles) -> Doubles:
        n, taps = self.dry.shape[1], self.taps
        out = np.zeros(response.shape)
        block = min(max(BLOCK, taps), n)
        size = fft.next_fast_len(block + taps - 1, real=True)
        spectra = fft.rfft(response, size)
        for start in range(0, n, block):
            now = slice(start, min(n, start + block))
            heard = fft.rfft(_with_history(self.dry, now, taps - 1), size)
            made = fft.irfft(np.einsum("jf,ojf->of", heard, spectra), size)[:, taps - 1 : taps - 1 + now.stop - start]
            slope = fft.rfft(made * self.weight[now], size)
            out += fft.irfft(np.conj(slope)[:, None] * heard, size)[..., taps - 1 :: -1]
        return out

    def divided(self, slope: Doubles, extra: float) -> Doubles:
        return self.inverse(slope, extra)


class _Inverse:
    """Inverse of the dry sound's power spectrum, smoothed by a window over the lags so that it is positive."""

    def __init__(self, lags: Doubles, size: int) -> None:
        taps = lags.shape[2]
        self.size, self.taps = size, taps
        window = 1 - np.arange(taps) / taps  # the spectrum of a triangle is positive (Fejer)
        self.spectra = np.moveaxis(_circulant(lags * window, size), -1, 0)  # (f, in, in)
        self.floor = 1e-12 * float(np.abs(np.trace(self.spectra, axis1=1, axis2=2)).mean()) + 1e-30

    def __call__(self, slope: Doubles, extra: float) -> Doubles:
        spectra: Spectra = fft.rfft(slope, self.size)
        channels = self.spectra.shape[1]
        if channels == 1:
            spectra /= np.maximum(self.spectra[:, 0, 0].real, 0) + extra + self.floor
        else:
            lifted = self.spectra + (extra + self.floor) * np.eye(channels)
            columns = spectra.transpose(2, 1, 0)  # (f, in, out)
            spectra = np.linalg.solve(lifted, columns).transpose(2, 1, 0)
        out: Doubles = fft.irfft(spectra, self.size)[..., : self.taps]
        return out


def _conjugate_gradients(
    problem: _Normal,
    aim: Doubles,
    start: Doubles,
    ridge: Doubles,
    energy: Doubles,
    most: int,
    target_db: float,
    should_stop: Callable[[], bool],
    listen: Callable[[int, float], None] | None,
    before: int,
) -> tuple[Doubles, int]:
    """Solve (matrix + ridge) response = aim, each output channel on its own; the response and the iterations used."""
    level = float(np.median(ridge))
    calm = np.sqrt(problem.power / (problem.power + ridge))  # where the ridge rules, its inverse is the answer

    def prepared(slope: Doubles) -> Doubles:
        return calm * problem.divided(calm * slope, min(level, problem.power))

    def dot(a: Doubles, b: Doubles) -> Doubles:
        out: Doubles = np.einsum("oik,oik->o", a, b)
        return out

    x = start.copy()
    r = aim - problem.times(x) - ridge * x if x.any() else aim.copy()
    z = prepared(r)
    p, rz = z.copy(), dot(r, z)
    waited, last_db = 0, np.inf
    goal = TOLERANCE**2 * dot(aim, prepared(aim))
    for count in range(most):
        if should_stop() or (rz <= goal).all():
            return x, count
        ap = problem.times(p) + ridge * p
        bend = dot(p, ap)
        step = np.where((bend > 0) & (rz > goal), rz / np.where(bend > 0, bend, 1), 0)[:, None, None]
        x += step * p
        r -= step * ap
        z = prepared(r)
        rz, old = dot(r, z), rz
        p = z + np.where(old > 0, rz / np.where(old > 0, old, 1), 0)[:, None, None] * p
        # What is left, from the quadratic's own terms, without going through the sound: energy + x.(A x - 2 aim).
        left = energy - dot(x, aim) - dot(x, r) - dot(x * ridge, x)
        left_db = power_to_db(max(float(left.sum()), 0.0) / max(float(energy.sum()), TINY_POWER))
        if listen is not None:
            listen(before + count + 1, left_db)
        waited = waited + 1 if left_db > last_db - STALLED_DB else 0
        last_db = left_db
        if left_db <= target_db or waited >= STALLED_ITERATIONS:
            return x, count + 1
    return x, most


def _left(problem: _Normal, aim: Doubles, response: Doubles, energy: Doubles) -> Doubles:
    """Energy that the response leaves unexplained, (out,)."""
    fits = np.einsum("oik,oik->o", response, problem.times(response) - 2 * aim)
    # A difference of large numbers: what is under their rounding error is not known.
    rest: Doubles = np.maximum(energy + fits, 1e-14 * energy)
    return rest


def _ridge(response: Doubles, noise_power: Doubles, dry_energy: float, least: Doubles) -> Doubles:
    """Noise power over the power expected of each tap, which follows the response's own decay."""
    taps = response.shape[2]
    window = min(SMOOTH_SAMPLES, taps)
    count = -(-taps // window)
    power = np.pad(np.square(response), ((0, 0), (0, 0), (0, count * window - taps)))
    level = power.reshape(*response.shape[:2], count, window).mean(axis=-1)
    error = noise_power[:, None, None] / (dry_energy + 1e-30)  # of each tap, if the dry sound is white; else more
    level = np.maximum(level - 1.5 * error, 0.01 * error)
    level = np.maximum.accumulate(level[..., ::-1], axis=-1)[..., ::-1]  # never rises: echoes still to come need room
    expected = PRIOR_ROOM * np.repeat(level, window, axis=-1)[..., :taps]
    top = expected[..., :1]
    shaped: Doubles = noise_power[:, None, None] / np.maximum(expected, 1e-12 * top + 1e-30)
    return np.maximum(shaped, 0.01 * least)


def _correlate(dry: Audio, targets: npt.NDArray[np.floating], taps: int) -> Doubles:
    """Lagged products, (targets, in, taps): [t, i, k] = sum_n targets[t, n] dry[i, n - k]."""
    n = dry.shape[1]
    block = max(BLOCK, taps)
    size = fft.next_fast_len(min(block, n) + taps - 1, real=True)
    total = np.zeros((len(targets), len(dry), size // 2 + 1), np.complex128)
    for start in range(0, n, block):
        now = slice(start, min(n, start + block))
        heard = fft.rfft(_with_history(dry, now, taps - 1), size)
        aims = fft.rfft(targets[:, now].astype(np.float64), size)
        total += np.conj(aims)[:, None] * heard
    out: Doubles = fft.irfft(total, size)[..., taps - 1 :: -1]
    return np.ascontiguousarray(out)


def _with_history(dry: Audio, now: slice, history: int) -> Doubles:
    """A passage in double precision, led in by the samples before it (silence before the beginning)."""
    first = now.start - history
    part = dry[:, max(0, first) : now.stop].astype(np.float64)
    return np.pad(part, ((0, 0), (max(0, -first), 0)))


def _circulant(lags: Doubles, size: int) -> npt.NDArray[np.complex128]:
    """Spectra [i, j] that multiply response j's into product i's: lags 0 to taps-1 forth, and back for [j, i]."""
    taps = lags.shape[2]
    ring = np.zeros((*lags.shape[:2], size))
    # product_i[k] = sum_l sum_n x_i[n-k] x_j[n-l] h_j[l]: lag k - l of x_i behind x_j = lags[j, i, k-l]
    ring[..., :taps] = lags.swapaxes(0, 1)
    ring[..., size - taps + 1 :] = lags[..., :0:-1]
    return fft.rfft(ring)
