"""Training sound: what people play, in every level, made from a seed.

An effect shows what it does only where it is driven, so the sound covers playing (strings, chords, bass, drums, voice)
and measuring (noise, sweeps, clicks, tones, silence), each in a ladder of levels from -60 dBFS to full scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fxclone.audio import Audio, db_to_gain, valid_sample_rate
from fxclone.errors import UsageError
from fxclone.signals._dsp import Mono, chance, faded, log_uniform, normalised, uniform_db
from fxclone.signals.drums import drums
from fxclone.signals.probes import clicks, noise, silence, sweep, tones
from fxclone.signals.strings import bass, chords, plucked
from fxclone.signals.voice import voice

__all__ = ["KINDS", "LADDER_DBFS", "phrase", "training_sound"]

_MAKERS: dict[str, tuple[Callable[[int, int, np.random.Generator], Mono], float]] = {
    # kind: (maker, share of the time)
    "plucked": (plucked, 3.0),
    "chords": (chords, 3.0),
    "bass": (bass, 2.0),
    "drums": (drums, 1.5),
    "voice": (voice, 1.5),
    "noise": (noise, 1.5),
    "sweep": (sweep, 1.0),
    "clicks": (clicks, 0.5),
    "tones": (tones, 1.0),
    "silence": (silence, 0.4),
}

KINDS: tuple[str, ...] = tuple(_MAKERS)
"""The kinds of sound, playing first."""

LADDER_DBFS: tuple[tuple[float, float], ...] = (
    (3.0, 12.0),
    (-30.0, -18.0),
    (-6.0, 0.0),
    (-60.0, -45.0),
    (-12.0, -6.0),
    (-45.0, -30.0),
    (0.0, 0.0),
    (-18.0, -9.0),
    (-3.0, 0.0),
)
"""Ranges of a phrase's peak. More than half are above -12 dBFS, because effects differ most where they are driven;
neighbours alternate, so that even a few phrases reach both ends. The first is recorded too hot: squared off at full
scale, so that the wave between the samples goes beyond it."""

LADDER_STEP = 4
"""Rungs from one phrase of a kind to its next; shares no factor with the ladder's length, so all rungs are met."""

MIN_PHRASE_S, MEAN_PHRASE_S = 0.05, 1.2
PHRASES_PER_KIND = 3


def phrase(kind: str, seconds: float, sample_rate: int, rng: np.random.Generator) -> Audio:
    """One phrase of one kind.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seconds : float
        Length, above 0.
    sample_rate : int
        Rate in Hz.
    rng : numpy.random.Generator
        Decides everything else.

    Returns
    -------
    numpy.ndarray [shape=(1, samples)]
        Peak at exactly 0 dBFS, except for silence.

    Raises
    ------
    UsageError
        For an unknown kind or a length that is not above 0.
    """
    rate = valid_sample_rate(sample_rate)
    return _take(_known(kind), _samples(seconds, rate), rate, rng)[None, :]


def training_sound(
    seconds: float, sample_rate: int, *, seed: int, channels: int = 1, kinds: Sequence[str] | None = None
) -> Audio:
    """Sound to drive an effect with: phrases of every kind at every level, in a random order.

    The same arguments give the same samples; two seeds share no take, so one can train and the other judge.

    Parameters
    ----------
    seconds : float
        Length, above 0; from about 10 s on, all kinds and all levels occur.
    sample_rate : int
        Rate in Hz.
    seed : int
        0 or more.
    channels : int
        With more than one, phrases are the same in all, panned, different in each, or of opposite sign.
    kinds : sequence of str, or None
        Which of `KINDS` to use; all by default.

    Returns
    -------
    numpy.ndarray [shape=(channels, samples)]
        Within ±1, with full scale reached.

    Raises
    ------
    UsageError
        For an unknown kind, no kind, no channel, a negative seed or a length that is not above 0.
    """
    rate = valid_sample_rate(sample_rate)
    total = _samples(seconds, rate)
    if channels < 1:
        raise UsageError(f"{channels} channels; expected 1 or more")
    if seed < 0:
        raise UsageError(f"seed {seed}; expected 0 or more")
    names = [_known(kind) for kind in (KINDS if kinds is None else kinds)]
    if not names:
        raise UsageError(f"no kind of training sound chosen; expected some of {', '.join(KINDS)}")
    source = np.random.SeedSequence(seed)
    plan_seed, take_seed = source.spawn(2)
    plan = _plan(names, total, rate, np.random.default_rng(plan_seed))
    out = np.zeros((channels, total), np.float32)
    start = 0
    for (kind, level, samples), own in zip(plan, take_seed.spawn(len(plan)), strict=True):
        rng = np.random.default_rng(own)
        out[:, start : start + samples] = _placed(kind, names, level, samples, rate, channels, rng)
        start += samples
    return out


def _known(kind: str) -> str:
    if kind not in _MAKERS:
        raise UsageError(f"unknown kind of training sound {kind!r}; expected one of {', '.join(KINDS)}")
    return kind


def _samples(seconds: float, rate: int) -> int:
    samples = round(seconds * rate) if np.isfinite(seconds) else 0
    if samples < 1:
        raise UsageError(f"{seconds} s of training sound; expected a length above 0")
    return samples


def _take(kind: str, samples: int, rate: int, rng: np.random.Generator) -> Mono:
    sound = _MAKERS[kind][0](samples, rate, rng)
    return sound if kind == "silence" else normalised(sound)


def _plan(
    names: list[str], total: int, rate: int, rng: np.random.Generator
) -> list[tuple[str, tuple[float, float], int]]:
    """Kind, level range and length of each phrase, so that kinds and levels are spread evenly, not by luck.

    Each kind walks through the ladder on its own; each starts one rung further than the one before, so that after one
    round the kinds together have used all rungs, and after ``len(LADDER_DBFS)`` rounds each kind has.
    """
    wanted = max(PHRASES_PER_KIND * len(names), round(total / rate / MEAN_PHRASE_S))
    rounds = max(1, min(-(-wanted // len(names)), total // (len(names) * int(MIN_PHRASE_S * rate) + 1)))
    slots = []
    offset = int(rng.integers(len(LADDER_DBFS)))
    order = rng.permutation(len(names))
    for turn in range(rounds):
        this_round = [
            (names[k], LADDER_DBFS[(offset + place + LADDER_STEP * turn) % len(LADDER_DBFS)])
            for place, k in enumerate(order)
        ]
        slots += [this_round[k] for k in rng.permutation(len(this_round))]
    weights = np.array([_MAKERS[kind][1] * log_uniform(rng, 0.4, 2.5) for kind, _ in slots])
    weights = weights / weights.sum() + 0.25 / len(slots)
    edges = np.round(np.cumsum(weights) / weights.sum() * total).astype(int)
    lengths = np.diff(np.concatenate([[0], edges]))
    return [(kind, level, int(n)) for (kind, level), n in zip(slots, lengths, strict=True) if n > 0]


def _placed(
    kind: str,
    names: list[str],
    level_dbfs: tuple[float, float],
    samples: int,
    rate: int,
    channels: int,
    rng: np.random.Generator,
) -> Audio:
    """One phrase at its level, in all channels, faded so that it neither starts nor ends with an unmeant click."""
    wide = channels > 1 and chance(rng, 0.25)
    takes = np.stack([_mixed(kind, names, samples, rate, rng) for _ in range(channels if wide else 1)])
    sound: Audio = takes if wide else np.repeat(takes, channels, axis=0)
    if channels > 1 and chance(rng, 0.5):
        gains = 10.0 ** rng.uniform(-1.5, 0.0, (channels, 1)) * rng.choice([1, 1, 1, -1], (channels, 1))
        sound = sound * gains.astype(np.float32)
    if kind == "silence":
        return sound
    top = float(np.abs(sound).max())
    if top < 1e-9:
        return sound
    sound = np.clip(sound * np.float32(uniform_db(rng, *level_dbfs) / top), -1.0, 1.0)
    for channel in sound:
        faded(channel, rate, in_s=0.0005, out_s=log_uniform(rng, 0.002, 0.05))
    return sound


def _mixed(kind: str, names: list[str], samples: int, rate: int, rng: np.random.Generator) -> Mono:
    """A take; one in four with another kind under it, some with the volume knob turned, some over hiss."""
    sound = _take(kind, samples, rate, rng)
    if kind == "silence":
        return sound
    if chance(rng, 0.25):
        other = names[rng.integers(len(names))]
        sound = sound + np.float32(uniform_db(rng, -14, 0)) * _take(other, samples, rate, rng)
    if chance(rng, 0.15):
        slope = np.linspace(0.0, -rng.uniform(20, 50), samples, dtype=np.float32)
        sound = sound * 10.0 ** ((slope if chance(rng, 0.6) else slope[::-1]) / np.float32(20))
    if chance(rng, 0.25):
        hiss = rng.standard_normal(samples, dtype=np.float32)
        sound = sound + hiss * np.float32(db_to_gain(rng.uniform(-80, -55)))
    return sound
