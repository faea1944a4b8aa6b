"""Takes of varied playing at all levels, and effects as processors: what a stability monitor must not trip on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import fftconvolve

from fxclone.effects import effect
from fxclone.signals import training_sound

RATE = 48_000
LEVELS_DBFS = (0, -6, -12, -20, -30, -45, -60)


class Rendered:
    """A processor that gives what an effect made of each take beforehand; `load` the take first."""

    def __init__(self, expression, rate=RATE):
        self.effect, self.rate = effect(expression), rate
        tail_s = self.effect.tail_s
        self.latency_samples = self.effect.latency_samples(rate)
        self.tail_samples = round((tail_s or 0.0) * rate)

    def load(self, dry):
        """Render a take; it ends in silence, so that nothing of it is left when the next begins."""
        self.dry, self.wet, self.at = dry, self.effect.render(dry, self.rate), 0
        self.channels_out = self.wet.shape[0]
        return dry

    def prepare(self, sample_rate, max_block, channels):
        assert (sample_rate, channels) == (self.rate, self.dry.shape[0])

    def reset(self):
        pass

    def process(self, block):
        out = self.wet[:, self.at : self.at + block.shape[1]]
        self.at += block.shape[1]
        if out.shape[1] < block.shape[1]:  # asked for more than there is: a monitor stepped in and re-warmed it
            out = np.zeros((self.channels_out, block.shape[1]), np.float32)
        return out


def levels_of(expression, rate=RATE):
    """What a training on this effect would have stored."""
    dry = training_sound(20.0, rate, seed=3)
    wet = effect(expression).render(dry, rate)
    levels = {"dry_peak": np.abs(dry).max(), "wet_peak": np.abs(wet).max(), "wet_dc": wet.mean(dtype=np.float64)}
    return {key: float(value) for key, value in levels.items()}


def takes(count, seconds, rate, tail_s, seed=0, recordings=()) -> Iterator[np.ndarray]:
    """(1, samples) each, with a pause as long as the tail at its end; the first and the last are the same."""
    for number in range(count):
        rng = np.random.default_rng((seed, number % (count - 1) if count > 1 else 0))
        sound = np.zeros(round(seconds * rate), np.float32)
        at = 0
        while at < len(sound):
            part = _part(rng, rate, recordings)
            level = 10 ** (rng.choice(LEVELS_DBFS) / 20)
            part = part * np.float32(level / max(1e-9, np.abs(part).max()))
            fits = min(len(part), len(sound) - at)
            sound[at : at + fits] = part[:fits]
            at += fits + round(rng.choice([0.0, 0.0, 0.1, 0.5, 2.5]) * rate)
        if rng.random() < 0.7:  # an interface is never silent
            sound += (10 ** (rng.uniform(-110, -80) / 20) * rng.standard_normal(len(sound))).astype(np.float32)
        silence = np.zeros(round((tail_s + 1.0) * rate), np.float32)
        yield np.concatenate([np.clip(sound, -1.0, 1.0), silence])[None, :]


def _part(rng, rate, recordings):
    kind = rng.choice(["training", "chords", "held", "noise", "hum", "octaves", "recording"])
    seconds = rng.uniform(2.0, 8.0)
    t = np.arange(round(seconds * rate)) / rate
    if kind == "recording" and recordings:
        take = recordings[rng.integers(len(recordings))]
        start = rng.integers(max(1, len(take) - len(t)))
        return take[start : start + len(t)]
    if kind == "chords":  # power chords that ring for seconds: their difference tones are in no string
        root = rng.uniform(70, 200)
        strings = sum(np.sin(2 * np.pi * root * r * k * t + k) / k for r in (1.0, 1.5, 2.0) for k in range(1, 7))
        return (strings * np.exp(-t * rng.uniform(0.3, 2.0))).astype(np.float32)
    if kind == "held":  # a tone that just stays, as of a keyboard or an e-bow
        return np.sin(2 * np.pi * rng.uniform(40, 6_000) * t).astype(np.float32)
    if kind == "noise":
        colour = rng.choice([1, 4, 40])
        return fftconvolve(rng.standard_normal(len(t)), np.ones(colour) / colour, mode="same").astype(np.float32)
    if kind == "hum":
        mains = 0.02 * sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3, 5))
        note = np.sin(2 * np.pi * 220 * t) * np.exp(-3 * (t % 1.3))
        return (mains + note).astype(np.float32)
    if kind == "octaves":  # the same pitch in other octaves, cleanly: a distortion has it in all of them
        notes = 110.0 * 2.0 ** rng.integers(0, 4, len(t) // (rate // 2) + 1)
        pitch = np.repeat(notes, rate // 2)[: len(t)]
        return np.sin(2 * np.pi * np.cumsum(pitch) / rate).astype(np.float32)
    return training_sound(seconds, rate, seed=int(rng.integers(1_000)))[0]


def drift_db(first, last):
    """How much louder one take came out than another."""
    power = [float(np.mean(np.square(sound, dtype=np.float64))) for sound in (first, last)]
    return 10.0 * np.log10(power[1] / power[0])
