"""A drum kit from sines and noise: what matters to an effect are its transients and its noise tails."""

from __future__ import annotations

import numpy as np

from fxclone.signals._dsp import (
    Mono,
    add_at,
    bandpass,
    both,
    chance,
    decay,
    highpass,
    log_uniform,
    lowpass,
    normalised,
    shaped,
    times,
    uniform_db,
    white,
)


def kick(sample_rate: int, rng: np.random.Generator) -> Mono:
    """A sine that falls in pitch, with the beater's click; also toms, with a higher and slower fall."""
    n = int(rng.uniform(0.2, 0.6) * sample_rate)
    t = times(n, sample_rate)
    low_hz, fall_hz, fall_s = log_uniform(rng, 38, 120), log_uniform(rng, 60, 600), log_uniform(rng, 0.008, 0.05)
    phase = 2 * np.pi * (low_hz * t + fall_hz * fall_s * (1 - np.exp(-t / fall_s)))
    sound = np.sin(phase).astype(np.float32) * decay(n, sample_rate, n / sample_rate)
    click = white(int(0.01 * sample_rate), rng) * decay(int(0.01 * sample_rate), sample_rate, 0.008)
    add_at(sound, click * np.float32(uniform_db(rng, -30, -6)), 0)
    return sound


def snare(sample_rate: int, rng: np.random.Generator) -> Mono:
    """Two modes of the head under the noise of the wires."""
    n = int(rng.uniform(0.12, 0.4) * sample_rate)
    t = times(n, sample_rate)
    f_hz = rng.uniform(150, 260)
    head = (np.sin(2 * np.pi * f_hz * t) + 0.6 * np.sin(2 * np.pi * f_hz * 1.67 * t)).astype(np.float32)
    wires = shaped(
        white(n, rng), sample_rate, both(highpass(rng.uniform(500, 2000)), lowpass(rng.uniform(5000, 14000)))
    )
    tone = head * decay(n, sample_rate, rng.uniform(0.08, 0.2))
    return tone + normalised(wires) * decay(n, sample_rate, n / sample_rate) * np.float32(rng.uniform(0.5, 1.5))


def hat(sample_rate: int, rng: np.random.Generator) -> Mono:
    """Closed or open hi-hat or cymbal: high noise with a few metallic bands."""
    length_s = rng.uniform(0.03, 0.09) if chance(rng, 0.7) else rng.uniform(0.3, 0.9)
    n = int(length_s * sample_rate)
    noise = white(n, rng)
    top_hz = 0.42 * sample_rate
    ring = shaped(noise, sample_rate, bandpass(min(rng.uniform(3500, 9000), top_hz), 300.0))
    wash = shaped(noise, sample_rate, highpass(min(rng.uniform(5000, 9000), top_hz)))
    return (wash + ring) * decay(n, sample_rate, length_s)


def drums(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """A bar or two of a drum machine with velocities, ghost notes and fills."""
    out = np.zeros(samples, np.float32)
    kit = [normalised(make(sample_rate, rng)) for make in (kick, snare, hat, kick)]
    step = max(1, int(60.0 / log_uniform(rng, 70, 180) / 4 * sample_rate))
    density = (0.3, 0.2, 0.7, 0.08)
    pattern = rng.random((16, 4)) < density
    pattern[[0, 8], 0] = True
    pattern[[4, 12], 1] = True
    mix = [uniform_db(rng, -6, 0), uniform_db(rng, -8, 0), uniform_db(rng, -22, -6), uniform_db(rng, -8, 0)]
    offset = int(rng.choice([0, 4, 8, 12]))
    for place, start in enumerate(range(0, samples, step)):
        for piece in np.flatnonzero(pattern[(place + offset) % 16]):
            gain = mix[piece] * uniform_db(rng, -12 if chance(rng, 0.3) else -3, 0)
            swing = int(abs(rng.normal(0, 0.003)) * sample_rate)
            add_at(out, kit[piece] * np.float32(gain), start + swing)
    return out
