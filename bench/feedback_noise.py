"""The original's discovery: without noise on the fed-back outputs in training, the net fails on its own outputs.

The same autoregressive net is trained teacher-forced in ten runs (ten seeds of weights, batches and noise), without
noise on the past outputs and with it, and then runs freely: its past outputs are its own. Every run is kept as it is
after the last step: no checkpoint is chosen by its free-running error, as `fxclone train` would do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import _common as common  # first: it sets thread counts
import numpy as np
import torch
from feedback_noise_plot import draw

from fxclone.audio import Audio
from fxclone.effects import effect
from fxclone.metrics import esr_db
from fxclone.pairs import Pair
from fxclone.signals import training_sound
from fxclone_training.ar import Ar
from fxclone_training.ar_config import ArConfig
from fxclone_training.certificate import small_gain
from fxclone_training.segments import Recording, SegmentSource
from fxclone_training.trainer import use_threads

SAMPLE_RATE = 44_100
KINDS = ("plucked", "chords", "bass", "drums", "voice")
SILENCE_S = 2.0
BATCH, SEGMENT = 8, 256

BLOWS_UP = 10.0
"""Peak, full scale = 1, beyond which (or at the first value that is not finite) a run has blown up."""
OSCILLATES_DBFS = -60.0
"""RMS about its mean of the last second of silence, above which a run oscillates."""
DRIFTS_DBFS = -20.0
"""A mean of 100 ms that is off by more than this, or"""
LEVEL_OFF_DB = 6.0
"""a level of 100 ms that is off by more than this (where the reference is above `AUDIBLE_DBFS`): a run drifts."""
AUDIBLE_DBFS = -30.0
VERDICTS = ("stable", "drifts", "oscillates", "blows up")


@dataclass(frozen=True)
class Run:
    """One trained net and what it did on its own."""

    sigma: float
    seed: int
    one_step_db: float
    free_db: float
    peak: float
    dc_off: float
    level_off_db: float
    hum_dbfs: float
    gain: float
    verdict: str
    out: Audio


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_feedback_noise.md and .png")
    ask.add_argument("--effect", default="tanh")
    ask.add_argument("--dry-lowpass-hz", type=float, default=1000.0, help="smoothness of the dry sound; 0 leaves it")
    ask.add_argument("--ahead", type=int, default=0, help="hide the newest inputs; 1 is the original's off-by-one")
    ask.add_argument("--sigma", type=float, default=0.1, help="noise on past outputs in the second ten")
    ask.add_argument("--runs", type=int, default=10)
    ask.add_argument("--steps", type=int, default=1600)
    ask.add_argument("--m", type=int, default=32)
    ask.add_argument("--width", type=int, default=64)
    ask.add_argument("--layers", type=int, default=2)
    ask.add_argument("--learning-rate", type=float, default=2e-3)
    ask.add_argument("--sound-seconds", type=float, default=30.0)
    ask.add_argument("--save", metavar="FILE.npz", help="keep the runs, to write page and picture again with --load")
    ask.add_argument("--load", metavar="FILE.npz", help="do not train: take the runs that --save kept")
    options = ask.parse_args()
    use_threads(1)
    here = common.machine("torch", "numba")
    held_back = make_pair(options, 10.0, options.seed + 1)
    if options.load:
        runs, called, said = load(options.load)
    else:
        began = time.perf_counter()
        runs, called = train_all(options, held_back), common.command()
        said = f"{here}. One thread, {(time.perf_counter() - began) / 60:.0f} minutes"
        if options.save:
            save(options.save, runs, called, said)
    common.publish(page(options, runs, called, said), "bench_feedback_noise.md", write=options.write)
    if options.write:
        target = common.DOCS / "bench_feedback_noise.png"
        smooth = f" of sound below {options.dry_lowpass_hz:g} Hz" if options.dry_lowpass_hz else ""
        title = f"{options.effect}{smooth}: nets trained teacher-forced, running on their own outputs"
        draw(runs, held_back, target, title=title)


def train_all(options, held_back: Pair) -> list[Run]:
    """Every seed without noise, then every seed with it."""
    training = make_pair(options, options.sound_seconds, options.seed)
    runs = []
    for sigma in (0.0, options.sigma):
        for seed in range(options.seed, options.seed + options.runs):
            runs.append(judge(train(options, training, sigma, seed), held_back, sigma, seed))
            print(" ".join(row(runs[-1])), flush=True)
    return runs


def save(path: str, runs: list[Run], called: str, said: str) -> None:
    """All runs in one file; a row for each."""
    figures = {field.name: np.array([getattr(run, field.name) for run in runs]) for field in fields(Run)}
    np.savez_compressed(path, allow_pickle=False, called=np.array(called), said=np.array(said), **figures)


def load(path: str) -> tuple[list[Run], str, str]:
    """What `save` kept."""
    with np.load(path, allow_pickle=False) as kept:
        columns = {field.name: kept[field.name] for field in fields(Run)}
        called, said = str(kept["called"]), str(kept["said"])
    rows = [{name: column[place] for name, column in columns.items()} for place in range(len(columns["seed"]))]
    runs = [Run(**{name: v if name == "out" else v.item() for name, v in values.items()}) for values in rows]
    return runs, called, said


def make_pair(options, seconds: float, seed: int) -> Pair:
    """Dry sound of what people play, made as smooth as asked, and the effect's output."""
    dry = training_sound(seconds, SAMPLE_RATE, seed=seed, kinds=KINDS)
    if options.dry_lowpass_hz:
        dry = effect(f"lowpass(cutoff_hz={options.dry_lowpass_hz}, order=6)").render(dry, SAMPLE_RATE)
    wet = effect(options.effect).render(dry, SAMPLE_RATE)
    if options.ahead:
        dry = np.pad(dry, ((0, 0), (options.ahead, 0)))[:, : wet.shape[1]]
    return Pair(dry, wet, SAMPLE_RATE)


def train(options, pair: Pair, sigma: float, seed: int) -> Ar:
    """Plain Adam on one-step squared error, rate falling by a cosine to 2 %."""
    generator = torch.Generator().manual_seed(seed)
    config = ArConfig(options.m, None, options.layers, options.width, "gelu", skip=False)
    model = Ar(config, generator=generator)
    recording = Recording(pair, config)
    source = SegmentSource(recording, relative_weight=False, relative_noise=False, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps, 0.02 * options.learning_rate)
    for _ in range(options.steps):
        part = source.draw(BATCH, SEGMENT, model.history_samples, sigma)
        predicted = model.teacher_forced(part.x[:, None], part.y_noisy[:, None])[:, 0]
        optimiser.zero_grad()
        (predicted - part.target).square().mean().backward()
        optimiser.step()
        rate.step()
    return model


def judge(model: Ar, pair: Pair, sigma: float, seed: int) -> Run:
    """One step ahead on the recording, then freely over the same sound and silence after it."""
    history, samples = model.history_samples, pair.dry.shape[1]
    with torch.no_grad():
        recording = (torch.from_numpy(sound)[None] for sound in (pair.dry, pair.wet))
        one_step = model.teacher_forced(*recording)[0].numpy()
    silence = np.zeros((1, int(SILENCE_S * SAMPLE_RATE)), np.float32)
    out = model.run_freely(np.concatenate([pair.dry, silence], axis=1))
    one_step_db = esr_db(pair.wet[:, history:], one_step)
    finite = np.isfinite(out).all()
    peak = float(np.abs(out).max()) if finite else np.inf
    if peak > BLOWS_UP:
        free_db = esr_db(pair.wet, out[:, :samples]) if finite else np.inf
        return Run(sigma, seed, one_step_db, free_db, peak, np.nan, np.nan, np.nan, np.nan, "blows up", out)
    dc_off, level_off = wandering(pair.wet[0], out[0, :samples])
    hum = out[0, -SAMPLE_RATE:]
    hum_dbfs = 20 * np.log10(float(hum.std()) + 1e-10)
    dc_off = max(dc_off, abs(float(hum.mean())))
    verdict = "stable"
    if hum_dbfs > OSCILLATES_DBFS:
        verdict = "oscillates"
    elif 20 * np.log10(dc_off) > DRIFTS_DBFS or level_off > LEVEL_OFF_DB:
        verdict = "drifts"
    with torch.no_grad():
        gain = small_gain(model, pair.dry[:, : 2 * SAMPLE_RATE])
    free_db = esr_db(pair.wet, out[:, :samples])
    return Run(sigma, seed, one_step_db, free_db, peak, dc_off, level_off, hum_dbfs, gain, verdict, out)


def wandering(wet: np.ndarray, out: np.ndarray) -> tuple[float, float]:
    """Largest error of the mean, and of the level in dB where there is something to hear, over windows of 100 ms."""
    length = SAMPLE_RATE // 10
    whole = len(wet) // length * length
    reference, estimate = (sound[:whole].reshape(-1, length).astype(np.float64) for sound in (wet, out))
    dc_off = np.abs(estimate.mean(1) - reference.mean(1)).max()
    power = np.square(reference).mean(1)
    loud = power > 10 ** (AUDIBLE_DBFS / 10)
    level = 10 * np.log10((np.square(estimate[loud]).mean(1) + 1e-12) / power[loud])
    return float(dc_off), float(np.abs(level).max())


def row(run: Run) -> list[str]:
    """Figures to text."""

    def text(value: float, form: str) -> str:
        return format(value, form) if np.isfinite(value) else "-"

    return [
        f"{run.sigma:g}",
        str(run.seed),
        f"{run.one_step_db:.1f}",
        text(run.free_db, ".1f"),
        text(run.peak, ".2f"),
        text(run.dc_off, ".3f"),
        text(run.level_off_db, ".1f"),
        text(run.hum_dbfs, ".0f"),
        text(run.gain, ".1f"),
        run.verdict,
    ]


def page(options, runs: list[Run], called: str, said: str) -> str:
    """The document."""
    counts, figures = [], []
    for sigma in (0.0, options.sigma):
        some = [run for run in runs if run.sigma == sigma]
        count = [sum(run.verdict == verdict for run in some) for verdict in VERDICTS]
        one, free = np.array([run.one_step_db for run in some]), np.array([run.free_db for run in some])
        spread = [f"{np.median(values):.1f} ({values.min():.1f} to {values.max():.1f})" for values in (one, free)]
        counts.append([f"{sigma:g}", *map(str, count), *spread])
        figures += [row(run) for run in some]
    smooth = (
        f"low-passed at {options.dry_lowpass_hz:g} Hz (Butterworth, order 6)" if options.dry_lowpass_hz else "as it is"
    )
    ahead = f" with the newest {options.ahead} hidden (the original's off-by-one)" if options.ahead else ""
    weights = Ar(ArConfig(options.m, None, options.layers, options.width, "gelu", skip=False)).parameter_count
    head = ["sigma", *VERDICTS, "one-step ESR dB", "free-running ESR dB"]
    columns = ["sigma", "seed", "one-step ESR dB", "free ESR dB", "peak", "mean off", "level off dB", "hum dBFS"]
    columns += ["sum of gains", "verdict"]
    return f"""# Noise on the fed-back outputs: with and without

{called}

Machine: {said}.

- Effect: `{options.effect}`, {SAMPLE_RATE} Hz. Dry sound: {", ".join(KINDS)} from `training_sound`,
  {smooth}; {options.sound_seconds:g} s (seed {options.seed}) to train on, 10 s held back (seed {options.seed + 1}).
- Net: the original's kind, smaller: m = {options.m} inputs, the newest included{ahead}, and
  {options.m - 1} past outputs, {options.layers} x {options.width} GELU, no linear skip, {weights:,} weights
  (original: 128 and 127, 6 x 256, 394,753).
- Training: teacher-forced, plain squared error, Adam {options.learning_rate:g} with a cosine to 2 %,
  {options.steps} steps of {BATCH} x {SEGMENT} samples. Gaussian noise of the given sigma (full scale = 1) on past
  outputs, redrawn at each step (the original drew it once). The last step counts; nothing is selected.
- Verdict, on the net's own outputs over the 10 s held back and {SILENCE_S:g} s of silence: *blows up* if not finite or
  above {BLOWS_UP:g}; else *oscillates* if the last second of silence has an RMS about its mean ("hum") above
  {OSCILLATES_DBFS:g} dBFS; else *drifts* if the mean of any 100 ms ("mean off", the last second of silence included)
  is wrong by more than {10 ** (DRIFTS_DBFS / 20):g}, or the level of any 100 ms whose reference is above
  {AUDIBLE_DBFS:g} dBFS by more than {LEVEL_OFF_DB:g} dB; else *stable*.
- One-step ESR is not a result: it stands here to show that it does not tell the two apart. Sum of gains: largest sum
  over k of |dy[n]/dy[n-k]| over 2 s; below 1 guarantees that errors die away.
- The default setting was looked for: the failure depends on how smooth the sound is, and is rare on sound with noise,
  clicks and sweeps. bench_feedback_noise_tried.md says what was tried.

{common.table(head, counts)}

Medians, and the range over the runs. (A run that is not finite has no ESR.)

![Free-running outputs and ESR by seed](bench_feedback_noise.png)

{common.table(columns, figures)}"""


if __name__ == "__main__":
    main()
