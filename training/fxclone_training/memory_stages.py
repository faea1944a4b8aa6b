"""Training of an ``ar`` model with memory at many time scales: a start near the answer, then second-order free runs.

The model hears a few samples of x and y, and leaky averages of both from two samples to a tenth of a second (and, for
what follows the level, of |x| and |y|, quick to rise and slow to fall). Averages a factor of two apart are hardly
alike, where the samples of a long window are nearly copies of each other: so the least-squares problems below are well
posed.

1. Start (`memory_start`). A plain gain is judged at once, so that there is something to keep however early the end.
   Then units that hear the right thing: behind the filter that won a race, or the level. The linear rest by least
   squares.
2. Some steps one sample ahead, with noise on the past: the model learns to hear itself.
3. Free-running to the end: `online_newton` on the model's own outputs, the state carried along streams; steps get
   shorter. The running average of the weights is judged beside the weights, and mostly better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.descent import cosine, follow
from fxclone_training.gauss_newton import FreeRun, GaussNewton, OneStep
from fxclone_training.memory_start import fit_last, started
from fxclone_training.online_newton import OnlineNewton
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.session import Session
from fxclone_training.streams import Streams
from fxclone_training.tail_drive import Start

RECENT, TAPS = 3, 3
"""Inputs and past outputs that are heard as they are."""
AVERAGES_S = (2 / 48_000, 0.09)
ENVELOPES_S = (0.001, 1.3)
"""Envelopes fall in this time, and rise sooner (`ar_config.ATTACK`)."""
SIGMA = 0.1
"""Noise on the past, relative to the passage, of the start and of the steps one sample ahead."""
ONE_STEPS = 6
TRUST = 10.0
"""Where the level counts nobody knows what units should hear, and the first steps on random ones made switches of half
of them: a step has a price for what it moves (`trust`). Units behind a known filter start near the answer, and the
price only holds them back."""
STREAMS, BLOCK_SAMPLES, STRIDE = 16, 4_096, 8
FRESH_EVERY_S = 4.0
"""A recording of what follows the level is begun anew so often, from silence: recordings begin in the middle of a song,
and a model learns to find the level soon. An effect that renders begins from silence anyway."""
PASSES = 12
"""So often a recording of what follows the level is heard at most. Trained without one of four clips, a model of an
LA-2A was as good on it after 9 and 12 passes as after 50: what more brings is learnt by heart."""
NOISE, LEVEL_NOISE, FIRST_LOSS = 0.05, 0.2, 0.01
"""On the past outputs that the model hears while it runs freely, relative to its error: feedback that amplifies this
costs error before it howls. The second is for models with envelopes, which howl on sound that they do not know. The
third is what the error is before anything is known, relative to the power of the sound."""
LAST_RATE = 0.03
"""The steps' length falls from 1 to this, along a cosine."""
AVERAGED_STEPS = 20
LOOK_SHARE = 0.06
"""Looks at the model may take this share of the time. A budget in steps has one every `LOOK_STEPS`: repeatable."""
LOOK_STEPS = 10
HOWLS_APART, QUIETER = 10, 0.8
"""Two howls within so many steps, and the best model so far is gone back to; with so much of its feedback where that
one howls as well: without feedback nothing can."""


@dataclass(frozen=True)
class Memory:
    """How much a model remembers and how wide it is.

    Attributes
    ----------
    width : int
        Hidden units.
    averages, envelopes : int
        Time constants of each kind: averages of inputs, some of which are of past outputs too (`of_past_outputs`).
    """

    width: int
    averages: int
    envelopes: int = 0

    def config(self, sample_rate: int, activation: str) -> ArConfig:
        """The shape at a sample rate."""
        averages = _spread(AVERAGES_S, self.averages, sample_rate)
        return ArConfig(
            m=RECENT,
            past_outputs=TAPS,
            width=self.width,
            activation=activation,
            averages=averages,
            past_averages=of_past_outputs(averages),
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
    fit: Callable[[Ar, SegmentSource, float], object] | None = None,
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
        Sets at the start what the output is linear in; None for `memory_start.fit_last`.
    """
    trust = 0.0 if isinstance(start, Start) or not config.envelopes else TRUST
    recording = Recording(session.training, config)
    source = SegmentSource(recording, relative_weight=True, relative_noise=True, generator=session.generator)
    if isinstance(start, Ar):
        model = start
    else:
        session.stage = "start"
        model = started(session.training, config, source, start)
        session.judge(model, loss_db=math.nan, sigma=SIGMA)
        (fit or fit_last)(model, source, SIGMA)
        session.at_work, steps = model, GaussNewton(model, trust=trust)
        for _ in range(ONE_STEPS):
            session.spend()
            steps.step(OneStep(model, source, SIGMA))
        session.judge(model, loss_db=math.nan, sigma=SIGMA)
    return _run_freely(session, recording, model, trust)


def _run_freely(session: Session, recording: Recording, model: Ar, trust: float) -> str:
    session.stage = "free-running"
    recorded = session.training.lead_samples > 0
    anywhere = bool(model.config.envelopes) and recorded
    relative = recorded and session.recipe.weighs_passages  # made sound has levels that weigh nothing in the end
    streams = Streams(
        recording,
        batch=STREAMS,
        block=min(BLOCK_SAMPLES, session.training.samples),
        relative_weight=relative,
        generator=session.generator,
        sample_rate=session.training.sample_rate,
        stream_s=FRESH_EVERY_S if anywhere else math.inf,
        from_silence=anywhere,
    )
    of_wet = float(recording.mean_y)
    power = 1.0 if relative else of_wet  # what a loss is relative to
    noise = (LEVEL_NOISE if model.config.envelopes else NOISE) * math.sqrt(of_wet)
    newton, average = OnlineNewton(model, power=power, trust=trust), model.copy()
    howled, gone_back_to, feedback = -math.inf, None, 1.0
    session.at_work = average
    began, looked, look_s, loss = 0.0, session.seconds, 0.0, math.nan
    by_steps = session.recipe.max_steps is not None
    most = 1_000_000
    if recorded and not model.config.hears_taps:  # dynamics
        most = math.ceil(PASSES * session.training.samples / (streams.batch * streams.block))
    for step in range(1, most + 1):
        session.spend()
        began = session.progress if step == 1 else began  # by steps from here on, if the budget is
        rate = cosine(max(session.spent_since(began), step / most), LAST_RATE)
        sigma = noise * math.sqrt(loss / power if math.isfinite(loss) else FIRST_LOSS)
        done = newton.step(FreeRun(model, streams, stride=STRIDE, sigma=sigma), rate)
        if not math.isfinite(done.before):
            if step - howled > HOWLS_APART:
                howled = step
                continue
            best = _best_so_far(session, average)
            feedback = feedback * QUIETER if best is gone_back_to else 1.0
            gone_back_to, howled = best, -math.inf
            for each in (model, average):
                each.load_state_dict(best.state_dict())
                each.turn_feedback_down(feedback)
            newton = OnlineNewton(model, power=power, trust=trust)
            continue
        loss = done.before if math.isnan(loss) else loss + 0.1 * (done.before - loss)
        follow(average, model, 1 / min(AVERAGED_STEPS, step + 1))
        if step % LOOK_STEPS == 0 and (by_steps or look_s <= LOOK_SHARE * (session.seconds - looked)):
            looked = session.seconds
            loss_db = 10 * math.log10(max(loss / power, 1e-20))
            session.judge(average, loss_db=loss_db, sigma=0.0)
            session.judge(model, loss_db=loss_db, sigma=0.0)
            look_s = session.seconds - looked
    session.last_look()
    return f"{PASSES} passes over the recording are done; more would be learnt by heart"


def _best_so_far(session: Session, like: Ar) -> Ar:
    """The best that was judged of this shape; ``like`` itself if none was any good."""
    return next((kept for _, kept in session.kept if isinstance(kept, Ar) and kept.config == like.config), like)


def of_past_outputs(averages: tuple[float, ...]) -> tuple[float, ...]:
    """Which averages of past outputs are heard: the slower half, and of the faster every second from the third on.

    Those of inputs cost nearly nothing to play, these are what the recursion carries.
    """
    half = len(averages) // 2
    return tuple(averages[n] for n in range(len(averages)) if n >= half or n in range(2, half - 1, 2))


def _spread(span_s: tuple[float, float], count: int, sample_rate: int) -> tuple[float, ...]:
    """Log-spaced time constants in samples; no two alike at low rates."""
    shortest, longest = (sample_rate * seconds for seconds in span_s)
    return tuple(float(samples) for samples in np.geomspace(max(1.5, shortest), longest, count))
