"""What can be said of a model's stability, measured at export and stored in the clone file.

- small-gain bound L = max over the sound seen of sum_k |dy[n]/dy[n-k]|. L < 1 means contraction: free-running error is
  at most one-step error / (1 - L). It is sufficient only: a perfectly stable fourth-order low-pass has L = 12.
- return time and largest Lyapunov exponent: two runs of the same sound, one from a disturbed state; how fast they meet.
- loop gain of echoes that feed back: below 1, each is softer than the one before it, at every frequency.
- tail: how long the output goes on after a loud burst has ended; rest: what it never stops saying.
- usual: what the original does itself that would be a fault in a clone of anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fxclone.audio import Audio
from fxclone.stability.original import usual_faults
from fxclone_export.write import REPLAY_TOLERANCE, difference
from fxclone_training.ar import Ar
from fxclone_training.family import Model
from fxclone_training.gauss_newton import feedback_gains, rounding_scale, windows_of_run
from fxclone_training.tail_delay import largest_gain

DISTURBANCE = 1e-3
MET = 0.01
"""Two runs have met when they differ by less than this share of the disturbance."""
AUDIBLE = 1e-4
"""-80 dBFS: an output below this has died away."""
_LONGEST_S = 5.0
NO_FEEDBACK: dict[str, Any] = {
    "small_gain": 0.0, "contracting": True, "lyapunov_per_sample": None, "return_ms": 0.0
}  # fmt: skip
ROUNDING = 2.0**-24
"""What float32 loses of a sum, relative to its terms."""
STURDY = 0.5 * REPLAY_TOLERANCE
"""Such losses may change the output by this much, measured as exports are."""
STATE_BLOCK = 256
"""Hidden state is disturbed after so many samples: often enough for what adds up, rarely enough to be quick."""


class Line(Protocol):
    """Echoes that feed back, such as `fxclone_training.tail_delay.DelayLine`."""

    @property
    def delay_samples(self) -> int:
        """From one echo to the next."""

    @property
    def loop(self) -> Audio:
        """What makes the next of each, (channels, channels, taps)."""


class Stateful(Model, Protocol):
    """A torch model that carries hidden state from block to block."""

    def __call__(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run (batch, 1, samples) on."""

    def fresh_state(self, batch: int) -> tuple[Tensor, ...]:
        """Silence before the first sample."""


def certified(model: Model, dry: Audio, wet: Audio, sample_rate: int) -> dict[str, Any]:
    """The whole certificate, whatever the family.

    Parameters
    ----------
    model : Model
    dry, wet : Audio [shape=(channels, samples)]
        Held-back sound, and what the original made of it.
    sample_rate : int
        In Hz.

    Returns
    -------
    dict
        What `certify` gives, the echoes' share in it, ``rest_peak`` (linear: the loudest that goes on in silence for
        ever, without its DC) and ``usual`` (see `fxclone.stability.original.usual_faults`). JSON-safe.
    """
    figures = with_lines(model.certify(dry, sample_rate), getattr(model, "lines", ()), sample_rate)
    tail = int(figures.get("tail_samples", 0))
    figures["rest_peak"] = rest_peak(model, sample_rate, tail)
    figures["usual"] = usual_faults(dry, wet, sample_rate, tail_samples=tail)
    return figures


def with_lines(figures: dict[str, Any], lines: Sequence[Line], sample_rate: int) -> dict[str, Any]:
    """Add echoes that feed back to the figures of what stands beside them.

    A line of D samples whose loop has the gain g at its loudest frequency loses ln(1 / g) in each round of D samples:
    that is its exponent, and 2-norms contract by g. All parts stand in parallel: the worst is the whole's.
    """
    gains = [(largest_gain(line.loop), line.delay_samples) for line in lines]
    gains = [(gain, delay) for gain, delay in gains if gain > 0]
    if not gains:
        return dict(figures)
    loop_gain = max(gain for gain, _ in gains)
    exponents = [math.log(gain) / delay for gain, delay in gains]
    returns = [
        1e3 * delay * math.ceil(math.log(MET) / math.log(gain)) / sample_rate if gain < 1 else None
        for gain, delay in gains
    ]
    if figures.get("small_gain") != 0:
        returns.append(figures.get("return_ms"))
        exponents += [figures["lyapunov_per_sample"]] if figures.get("lyapunov_per_sample") is not None else []
    known = [each for each in returns if each is not None]
    small_gain = figures.get("small_gain", 0.0)
    return figures | {
        "loop_gain": loop_gain,
        "small_gain": None if small_gain is None else max(small_gain, loop_gain),
        "contracting": bool(figures.get("contracting", True)) and loop_gain < 1,
        "lyapunov_per_sample": max(exponents),
        "return_ms": max(known) if len(known) == len(returns) else None,
    }


def rest_peak(model: Model, sample_rate: int, tail: int) -> float:
    """Loudest sample of what goes on after half a second of noise and the tail, without its DC; at most 1."""
    after, listen = tail + sample_rate // 10, sample_rate // 10
    sound = np.zeros((model.channels_in, sample_rate // 2 + after + listen), np.float32)
    sound[:, : sample_rate // 2] = 0.7 * np.random.default_rng(0).uniform(
        -1, 1, (model.channels_in, sample_rate // 2)
    ).astype(np.float32)
    rest = np.nan_to_num(model.run_freely(sound)[:, -listen:], nan=1.0, posinf=1.0, neginf=-1.0)
    return min(1.0, float(np.abs(rest - rest.mean(axis=1, keepdims=True)).max()))


@torch.no_grad()
def certify(model: Ar, dry: Audio, sample_rate: int) -> dict[str, Any]:
    """Stability figures on ``dry`` (1, samples).

    Returns
    -------
    dict
        ``small_gain``, ``contracting``, ``lyapunov_per_sample`` (None without feedback), ``return_ms`` (None if the two
        runs did not meet within the sound), ``tail_samples``.
    """
    tail = tail_samples(model, sample_rate)
    if model.config.taps_y == 0:
        return NO_FEEDBACK | {"tail_samples": tail}
    gain = small_gain(model, dry)
    exponent, met = _twins(model, dry)
    return {
        "small_gain": gain if np.isfinite(gain) else None,
        "contracting": gain < 1,
        "lyapunov_per_sample": exponent,
        "return_ms": None if met is None else 1e3 * met / sample_rate,
        "tail_samples": tail,
    }


@torch.no_grad()
def small_gain(model: Ar, dry: Audio) -> float:
    """Largest sum of absolute feedback gains while the model runs freely over ``dry``; inf if it blows up."""
    x = torch.from_numpy(dry)
    y = torch.from_numpy(model.run_freely(dry))
    worst = 0.0
    for _, z in windows_of_run(model, x, y):
        gains = float(feedback_gains(model, z).abs().sum(1).max())
        worst = max(worst, gains if np.isfinite(gains) else float("inf"))
    return worst


def tail_samples(model: Model, sample_rate: int, *, longest_s: float = _LONGEST_S) -> int:
    """How long the output differs audibly from where it settles, after half a second of loud noise."""
    channels = model.channels_in
    loud = 0.7 * np.random.default_rng(0).uniform(-1, 1, (channels, sample_rate // 2)).astype(np.float32)
    quiet = np.zeros((channels, int(longest_s * sample_rate)), np.float32)
    out = model.run_freely(np.concatenate([loud, quiet], axis=1))[:, loud.shape[1] :]
    out = np.nan_to_num(out, nan=1.0, posinf=1.0, neginf=-1.0)
    settled = np.median(out[:, -sample_rate // 10 :], axis=1, keepdims=True)
    sounding = np.flatnonzero((np.abs(out - settled) > AUDIBLE).any(axis=0))
    return int(sounding[-1]) + 1 if sounding.size else 0


def _twins(model: Ar, dry: Audio) -> tuple[float | None, int | None]:
    generator = torch.Generator().manual_seed(0)

    def shaken(state: Any) -> Any:
        shake = DISTURBANCE * torch.randn(state.y.shape, generator=generator)
        return replace(state, y=state.y + shake, slow_y=state.slow_y + DISTURBANCE)

    return _meeting(model, dry, shaken)


@torch.no_grad()
def certify_state(model: Stateful, dry: Audio, sample_rate: int) -> dict[str, Any]:
    """`certify` for a model that carries hidden state: no bound by gains, but how fast two runs of one sound meet."""
    generator = torch.Generator().manual_seed(0)

    def shaken(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(part + DISTURBANCE * torch.randn(part.shape, generator=generator) for part in state)

    exponent, met = _meeting(model, dry, shaken)
    return {
        "small_gain": None,
        "contracting": False,
        "lyapunov_per_sample": exponent,
        "return_ms": None if met is None else 1e3 * met / sample_rate,
        "tail_samples": tail_samples(model, sample_rate),
    }


def _meeting(model: Any, dry: Audio, shaken: Callable[[Any], Any]) -> tuple[float | None, int | None]:
    """Largest Lyapunov exponent per sample, and after how many samples two runs are together again."""
    half = dry.shape[1] // 2
    _, state = model(torch.from_numpy(dry[:, :half])[None], model.fresh_state(1))
    rest = torch.from_numpy(dry[:, half:])[None]
    one, _ = model(rest, state)
    other, _ = model(rest, shaken(state))
    apart = (one - other)[0, 0].abs().numpy()
    if not np.isfinite(apart).all():
        return None, None
    far = np.flatnonzero(apart > MET * DISTURBANCE)
    met = int(far[-1]) + 1 if far.size else 0
    # The exponent from where the distance is well above rounding.
    usable = np.flatnonzero(apart > 1e-6)
    if usable.size < 8:
        return None, met
    exponent = float(np.polyfit(usable, np.log(apart[usable]), 1)[0])
    return exponent, met if met < len(apart) else None


@torch.no_grad()
def survives_rounding(model: Stateful, dry: Audio) -> bool:
    """`is_sturdy` for a model that carries hidden state: both it and the input disturbed by what float32 loses."""
    generator, x = torch.Generator().manual_seed(0), torch.from_numpy(np.ascontiguousarray(dry))[None]

    def disturbed(part: Tensor) -> Tensor:
        return part * (1 + 4 * ROUNDING * (2 * torch.rand(part.shape, generator=generator) - 1))

    state, parts = model.fresh_state(1), []
    for start in range(0, x.shape[2], STATE_BLOCK):
        y, state = model(disturbed(x[:, :, start : start + STATE_BLOCK]), state)
        state = tuple(disturbed(part) for part in state)
        parts.append(y[0])
    out = model.run_freely(dry)
    if not np.isfinite(out).all():
        return False
    return difference(out, torch.cat(parts, 1).numpy()) <= STURDY * max(1.0, float(np.abs(out).max()))


@torch.no_grad()
def is_sturdy(model: Ar, dry: Audio) -> bool:
    """Whether rounding errors die away in the model's feedback instead of adding up.

    Two runs, one with noise as large as what float32 loses in each sample's sums. A feedback of poles close to 1 can be
    exact on paper and still amplify rounding a thousandfold; no two runtimes would agree on its sound.
    """
    x, fresh = torch.tensor(dry), model.fresh_state(1)
    u, v = model.input_part(torch.cat([fresh.x, x], 1), model.slow_values(x, fresh.slow_x))
    one, _ = model.run(u, v, fresh)
    if not bool(torch.isfinite(one).all()):
        return False
    noise, generator = torch.zeros_like(v), torch.Generator().manual_seed(0)
    for now, z in windows_of_run(model, x, one):
        random = torch.rand(len(z), generator=generator) * 2 - 1
        noise[0, now] = ROUNDING * rounding_scale(model, z) * random
    other, _ = model.run(u, v + noise, fresh)  # without feedback, this is the noise itself
    apart = difference(one.numpy(), other.numpy())
    return apart <= STURDY * max(1.0, float(one.abs().max()))
