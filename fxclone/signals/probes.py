"""Measuring signals: noise, sweeps, clicks, tones and silence. They reach what playing leaves out."""

from __future__ import annotations

import numpy as np

from fxclone.signals._dsp import (
    Doubles,
    Mono,
    Spectrum,
    add_at,
    both,
    chance,
    decay,
    drift,
    highpass,
    log_uniform,
    lowpass,
    normalised,
    scaled,
    shaped,
    staircase,
    times,
    uniform_db,
    white,
)


def top_hz(sample_rate: int) -> float:
    """The highest frequency used: 20 kHz, or 0.45 of the rate."""
    return min(20_000.0, 0.45 * sample_rate)


def noise(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """White, tilted or band-limited noise, plain, in a shuffled ladder of levels, gated, or swelling."""
    sound: Mono = white(samples, rng)
    colour = rng.integers(4)
    if colour == 1:
        order = rng.choice([0.5, 0.5, 1.0])

        def tilted(f: Doubles) -> Spectrum:
            out: Spectrum = (f > 0) * np.maximum(f, 20.0) ** -order + 0j
            return out

        sound = shaped(sound, sample_rate, tilted)
    elif colour == 2:
        low_hz = log_uniform(rng, 20, 0.2 * sample_rate)
        high_hz = min(low_hz * log_uniform(rng, 1.5, 30), top_hz(sample_rate))
        sound = shaped(sound, sample_rate, both(highpass(low_hz), lowpass(high_hz)))
    sound = normalised(sound)
    style = rng.integers(4)
    if style == 1:
        sound *= staircase(samples, rng, int(rng.integers(3, 8)), -48.0)
    elif style == 2:
        steps = int(samples / sample_rate * rng.uniform(2, 16)) + 2
        gate = np.repeat(rng.random(steps) < 0.6, samples // steps + 1)[:samples]
        gate[: samples // steps] = True
        sound *= gate
    elif style == 3:
        swell = 10.0 ** (1.25 * (drift(samples, rng, 4) - 1))
        sound *= swell
    return sound


def sweep(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """An exponential sine sweep from 20 Hz to `top_hz`, up or down, from a random phase; level steady or sliding."""
    ratio = np.log(top_hz(sample_rate) / 20.0)
    u = np.arange(samples) / max(1, samples - 1)
    if chance(rng, 0.35):
        u = u[::-1]
    phase = 2 * np.pi * (20.0 * samples / sample_rate / ratio * np.exp(u * ratio) + rng.random())
    sound: Mono = np.sin(phase).astype(np.float32)
    if chance(rng, 0.3):
        sound *= 10.0 ** scaled(drift(samples, rng, 3) - 1, rng.uniform(0.3, 1.0))
    return sound


def clicks(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """Impulses, held steps, short bursts of sine and square pulses of either sign, with silence between."""
    out = np.zeros(samples, np.float32)
    start = int(rng.integers(0, max(1, min(samples // 4, int(0.02 * sample_rate)))))
    gap_s = log_uniform(rng, 0.01, 0.2)
    first = True
    while start < samples:
        gain = (1.0 if first else uniform_db(rng, -30, 0)) * rng.choice([-1, 1])
        first = False
        held = int(log_uniform(rng, 0.0005, 0.08) * sample_rate) + 1
        style = rng.integers(4)
        if style == 0:
            event = np.ones(int(rng.integers(1, 3)), np.float32)
        elif style == 1:
            event = np.ones(held, np.float32)
        elif style == 2:
            f_hz = log_uniform(rng, 50, top_hz(sample_rate))
            event = np.sin(2 * np.pi * f_hz * times(held, sample_rate) + 1.57).astype(np.float32)
            event *= decay(held, sample_rate, held / sample_rate)
        else:
            half = max(1, held // 8)
            event = np.where((np.arange(held) // half) % 2 == 0, 1, -1).astype(np.float32)
        add_at(out, event * np.float32(gain), start)
        start += event.size + int(gap_s * rng.exponential() * sample_rate) + 1
    return np.clip(out, -1, 1)


def tones(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """One or two sines at a time, from 1 Hz up, held, swelling, in level steps or beating.

    Some lie at a quarter of the rate: such a sine, 45 degrees off, has samples 3 dB below its true peak.
    """
    out = np.empty(samples, np.float32)
    start = 0
    while start < samples:
        n = min(samples - start, int(log_uniform(rng, 0.08, 0.8) * sample_rate) + 1)
        t = times(n, sample_rate)
        style = rng.integers(8)
        f_hz = log_uniform(rng, 30, top_hz(sample_rate))
        if style == 0:
            f_hz = log_uniform(rng, 1, 40)
        if style == 1:
            sound = np.sin(0.5 * np.pi * np.arange(n) + 0.25 * np.pi)
        else:
            sound = np.sin(2 * np.pi * (f_hz * t + rng.random()))
        if style in (2, 3):
            other_hz = min(f_hz * log_uniform(rng, 1.01, 8), top_hz(sample_rate))
            sound = sound + uniform_db(rng, -18, 0) * np.sin(2 * np.pi * (other_hz * t + rng.random()))
        piece = normalised(sound.astype(np.float32))
        if style == 4:
            piece = piece * staircase(n, rng, int(rng.integers(2, 6)), -42.0)
        elif chance(rng, 0.4):
            piece = piece * 10.0 ** (drift(n, rng, 3) - 1)
        out[start : start + n] = piece
        start += n
    return out


def silence(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """Digital silence, or an open input's hiss and hum under -80 dBFS."""
    out = np.zeros(samples, np.float32)
    if chance(rng, 0.5):
        hum_hz = float(rng.choice([50, 60]))
        t = times(samples, sample_rate)
        for k in (1, 2, 3, 5):
            hum = np.sin(2 * np.pi * (hum_hz * k * t + rng.random())).astype(np.float32)
            out += scaled(hum, uniform_db(rng, -120, -92))
        out += white(samples, rng) * np.float32(uniform_db(rng, -120, -95))
    return out
