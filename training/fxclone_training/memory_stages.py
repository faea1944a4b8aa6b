"""Training of an ``ar`` model with memory at many time scales: a start near the answer, then second-order free runs.

The model hears a few samples of x and y, and leaky averages of both from two samples to a tenth of a second (and, for
what follows the level, of |x| and |y|, quick to rise and slow to fall). Averages a factor of two apart are hardly
alike, where the samples of a long window are nearly copies of each other: so the least-squares problems below are well
posed.

1. Start. A plain gain is judged at once, so that there is something to keep however early the end. Then, behind a
   filter (`tail_drive.race` found one): units that hear what that filter lets through, at several drives. Else random
   units. The linear rest by least squares.
2. Some steps one sample ahead, with noise on the past: the model learns to hear itself.
3. Free-running to the end: `online_newton` on the model's own outputs, the state carried along streams; steps get
   shorter. The running average of the weights is judged beside the weights, and mostly better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.descent import cosine, follow
from fxclone_training.gauss_newton import FreeRun, GaussNewton, OneStep, design, last_layer
from fxclone_training.online_newton import OnlineNewton
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.session import Session
from fxclone_training.streams import Streams
from fxclone_training.tail_drive import Start, highpass

RECENT, TAPS = 3, 3
"""Inputs and past outputs that are heard as they are."""
AVERAGES_S = (2 / 48_000, 0.09)
ENVELOPES_S = (0.001, 1.3)
"""Envelopes fall in this time, and rise sooner (`ar_config.ATTACK`)."""
SIGMA = 0.1
"""Noise on the past, relative to the passage, of the start and of the steps one sample ahead."""
SPREAD = (0.2, 3.0)
"""Drives of the first units, around the one that won the race."""
START_PASSAGES, START_SAMPLES, START_S = 128, 512, 10
START_RIDGE = 1e-5
ONE_STEPS = 6
STREAMS, BLOCK_SAMPLES, STRIDE = 16, 4_096, 8
FRESH_EVERY_S = 4.0
"""A recording of what follows the level is begun anew so often, from silence: recordings begin in the middle of a song,
and a model learns to find the level soon. An effect that renders begins from silence anyway."""
NOISE, FIRST_LOSS = 0.05, 0.01
"""On the past outputs that the model hears while it runs freely, relative to its error: feedback that amplifies this
costs error before it howls. What the error is before anything is known, relative to the power of the wet sound."""
LAST_RATE = 0.03
"""The steps' length falls from 1 to this, along a cosine."""
AVERAGED_STEPS = 20
LOOK_SHARE = 0.06
"""Looks at the model may take this share of the time. A budget in steps has one every `LOOK_STEPS`: repeatable."""
LOOK_STEPS = 10
HOWLS = 2
"""So many blocks in a row that say nothing, and the best model so far is gone back to."""


@dataclass(frozen=True)
class Memory:
    """How much a model remembers and how wide it is.

    Attributes
    ----------
    width : int
        Hidden units.
    averages, envelopes : int
        Time constants of each kind.
    """

    width: int
    averages: int
    envelopes: int = 0

    def config(self, sample_rate: int, activation: str) -> ArConfig:
        """The shape at a sample rate."""
        return ArConfig(
            m=RECENT,
            past_outputs=TAPS,
            width=self.width,
            activation=activation,
            averages=_spread(AVERAGES_S, self.averages, sample_rate),
            envelopes=_spread(ENVELOPES_S, self.envelopes, sample_rate),
        )


PEDAL = {"nano": Memory(6, 8), "small": Memory(10, 12), "standard": Memory(16, 14), "large": Memory(24, 14)}
DYNAMICS = {
    "nano": Memory(6, 4, 5), "small": Memory(10, 4, 6), "standard": Memory(16, 6, 6), "large": Memory(24, 6, 8)
}  # fmt: skip
"""What follows the level needs envelopes."""


def train(
    session: Session,
    config: ArConfig,
    start: Start | Ar | None,
    *,
    fit: Callable[[Ar, SegmentSource], object] | None = None,
) -> str:
    """Run the stages until the budget is spent.

    Parameters
    ----------
    session : Session
    config : ArConfig
        One hidden layer.
    start : Start, Ar or None
        The filter and drive that won a race; a model to go on from; or nothing known.
    fit : callable or None
        Sets at the start what the output is linear in; None for `fit_last`.
    """
    recording = Recording(session.training, config)
    source = SegmentSource(recording, relative_weight=True, relative_noise=True, generator=session.generator)
    if isinstance(start, Ar):
        model = start
    else:
        session.stage = "start"
        model = _started(session, config, source, start)
        (fit or fit_last)(model, source)
        session.at_work, steps = model, GaussNewton(model)
        for _ in range(ONE_STEPS):
            session.spend()
            steps.step(OneStep(model, source, SIGMA))
        session.judge(model, loss_db=math.nan, sigma=SIGMA)
    _run_freely(session, recording, model)
    return "nothing improves any more"


def _run_freely(session: Session, recording: Recording, model: Ar) -> None:
    session.stage = "free-running"
    anywhere = bool(model.config.envelopes) and session.training.lead_samples > 0
    streams = Streams(
        recording,
        batch=STREAMS,
        block=min(BLOCK_SAMPLES, session.training.samples),
        relative_weight=False,
        generator=session.generator,
        sample_rate=session.training.sample_rate,
        stream_s=FRESH_EVERY_S if anywhere else math.inf,
        from_silence=anywhere,
    )
    power = float(recording.mean_y)
    newton, average = OnlineNewton(model, power=power), model.copy()
    session.at_work = average
    began, looked, look_s, loss, howls = 0.0, session.seconds, 0.0, math.nan, 0
    by_steps = session.recipe.max_steps is not None
    for step in range(1, 1_000_000):
        session.spend()
        began = session.progress if step == 1 else began  # by steps from here on, if the budget is
        rate = cosine(session.spent_since(began), LAST_RATE)
        sigma = NOISE * math.sqrt(loss if math.isfinite(loss) else FIRST_LOSS * power)
        done = newton.step(FreeRun(model, streams, stride=STRIDE, sigma=sigma), rate)
        if not math.isfinite(done.before):
            howls += 1
            if howls % HOWLS == 0:
                best = _best_so_far(session, average)
                model.load_state_dict(best.state_dict())
                average.load_state_dict(best.state_dict())
            continue
        howls = 0
        loss = done.before if math.isnan(loss) else loss + 0.1 * (done.before - loss)
        follow(average, model, 1 / min(AVERAGED_STEPS, step + 1))
        if step % LOOK_STEPS == 0 and (by_steps or look_s <= LOOK_SHARE * (session.seconds - looked)):
            looked = session.seconds
            loss_db = 10 * math.log10(max(loss / power, 1e-20))
            session.judge(average, loss_db=loss_db, sigma=0.0)
            session.judge(model, loss_db=loss_db, sigma=0.0)
            look_s = session.seconds - looked


def _best_so_far(session: Session, like: Ar) -> Ar:
    """The best that was judged of this shape; ``like`` itself if none was any good."""
    return next((kept for _, kept in session.kept if isinstance(kept, Ar) and kept.config == like.config), like)


@torch.no_grad()
def _started(session: Session, config: ArConfig, source: SegmentSource, start: Start | None) -> Ar:
    """Units that hear the right thing but say nothing yet, beside a plain gain."""
    model = Ar(config, generator=session.generator)
    model.w_y.zero_()
    if start is not None:
        slopes, biases = _behind_a_filter(session, model, start)
        model.w_x.copy_(slopes)
        model.b_in.copy_(biases)
    x, y = source.recording.x, source.recording.y
    model.out.zero_()
    model.skip_x[0] = (x @ y) / x.square().sum().clamp(min=1e-20)
    session.judge(model, loss_db=math.nan, sigma=SIGMA)
    return model


@torch.no_grad()
def fit_last(model: Ar, source: SegmentSource) -> None:
    """Set all that the output is linear in by least squares one sample ahead, with a ridge."""
    config = model.config
    segments = source.draw(START_PASSAGES, START_SAMPLES, model.history_samples, SIGMA)
    z, target, weight = design(model, segments)
    rows = torch.cat([last_layer(model, z), z, torch.ones(len(z), 1)], 1) * weight[:, None]
    normal = (rows.T @ rows).double()
    normal += torch.diag(START_RIDGE * normal.diag() + 1e-9 * normal.diag().mean())
    found = torch.linalg.solve(normal, (rows.T @ (target * weight)).double()).float()
    out, skip_x, skip_y, bias = found.split([config.width, config.seen_x, config.seen_y, 1])
    for parameter, value in ((model.out, out), (model.skip_x, skip_x), (model.skip_y, skip_y), (model.b_out, bias)):
        parameter.copy_(value)


def _behind_a_filter(session: Session, model: Ar, start: Start) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and biases of units that hear a high-pass of the input, at drives around that of the race."""
    pair, config = session.training, model.config
    rate = pair.sample_rate
    sound = np.ascontiguousarray(pair.dry[:, : min(pair.samples, START_S * rate)])
    heard = torch.from_numpy(highpass(sound, start.cutoff_hz, rate)[0]).double()
    x = torch.from_numpy(sound)
    led = pad(x, (config.reach - 1, 0))
    recent = led[0, config.reach - config.m :].unfold(0, config.m, 1).flip(-1)
    further = model.further_input(led, model.slow_values(x, torch.zeros(1, config.slow)))
    seen = torch.cat([recent, further[0]], 1).double()
    normal = seen.T @ seen
    normal += START_RIDGE * normal.diag().mean() * torch.eye(len(normal), dtype=torch.float64)
    filters = torch.linalg.solve(normal, seen.T @ heard)
    level = max(float(heard.square().mean().sqrt()), 1e-9)
    drives = start.drive / level * torch.from_numpy(np.geomspace(*SPREAD, config.width))
    return torch.outer(drives, filters).float(), 0.3 * torch.randn(config.width, generator=session.generator)


def _spread(span_s: tuple[float, float], count: int, sample_rate: int) -> tuple[float, ...]:
    """Log-spaced time constants in samples; no two alike at low rates."""
    shortest, longest = (sample_rate * seconds for seconds in span_s)
    return tuple(float(samples) for samples in np.geomspace(max(1.5, shortest), longest, count))
