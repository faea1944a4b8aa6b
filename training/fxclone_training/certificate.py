"""What can be said of a model's stability, measured at export and stored in the clone file.

- small-gain bound L = max over the sound seen of sum_k |dy[n]/dy[n-k]|. L < 1 means contraction: free-running error is
  at most one-step error / (1 - L). It is sufficient only: a perfectly stable fourth-order low-pass has L = 12.
- return time and largest Lyapunov exponent: two runs of the same sound, one from a disturbed state; how fast they meet.
- tail: how long the output goes on after a loud burst has ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fxclone.audio import Audio
from fxclone_training.ar import Ar
from fxclone_training.family import Model
from fxclone_training.gauss_newton import feedback_gains, rounding_scale, windows_of_run

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
STURDY = 5e-6
"""Such losses may change the output by this much: exports must agree with the model to 1e-5."""


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
    half = dry.shape[1] // 2
    _, state = model(torch.from_numpy(dry[:, :half])[None], model.fresh_state(1))
    rest = torch.from_numpy(dry[:, half:])[None]
    generator = torch.Generator().manual_seed(0)
    shake = DISTURBANCE * torch.randn(state.y.shape, generator=generator)
    shaken = replace(state, y=state.y + shake, slow_y=state.slow_y + DISTURBANCE)
    one, _ = model(rest, state)
    other, _ = model(rest, shaken)
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
def is_sturdy(model: Ar, dry: Audio) -> bool:
    """Whether rounding errors die away in the model's feedback instead of adding up.

    Two runs, one with noise as large as what float32 loses in each sample's sums. A feedback of poles close to 1 can be
    exact on paper and still amplify rounding a thousandfold; no two runtimes would agree on its sound.
    """
    x, fresh = torch.tensor(dry), model.fresh_state(1)
    u, v = model.input_part(torch.cat([fresh.x, x], 1), model.slow_values(x, fresh.slow_x))
    one, _ = model.run(u, v, fresh)
    noise, generator = torch.zeros_like(v), torch.Generator().manual_seed(0)
    for now, z in windows_of_run(model, x, one):
        random = torch.rand(len(z), generator=generator) * 2 - 1
        noise[0, now] = ROUNDING * rounding_scale(model, z) * random
    other, _ = model.run(u, v + noise, fresh)  # without feedback, this is the noise itself
    apart = float((one - other).abs().max())
    return apart <= STURDY * max(1.0, float(one.abs().max()))
