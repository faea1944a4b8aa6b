"""Voice-like sound: a glottal pulse train through moving formants, with consonants. Also stands for winds and brass."""

from __future__ import annotations

import numpy as np

from fxclone.signals._dsp import (
    Doubles,
    Mono,
    Response,
    Spectrum,
    add_at,
    bandpass,
    chance,
    drift,
    faded,
    log_uniform,
    normalised,
    scaled,
    shaped,
    times,
    uniform_db,
    white,
)

VOWELS_HZ = (
    (730, 1090, 2440, 3400),
    (270, 2290, 3010, 3700),
    (300, 870, 2240, 3300),
    (530, 1840, 2480, 3500),
    (570, 840, 2410, 3300),
    (660, 1720, 2410, 3500),
    (490, 1350, 1690, 3300),
)
"""Formants of seven English vowels (Peterson and Barney 1952), a fourth added."""


def formants(vowel: tuple[int, ...], size: float) -> Response:
    """A vowel's resonances in parallel; ``size`` above 1 is a smaller head."""

    def response(f: Doubles) -> Spectrum:
        out: Spectrum = np.full(f.shape, 0.005 + 0j)
        for place, centre_hz in enumerate(vowel):
            out += (-1) ** place * 0.5**place * bandpass(centre_hz * size, 60.0 + 40.0 * place)(f)
        return out

    return response


def glottis(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """Pulses of flow (Rosenberg 1971), differentiated, with drifting pitch, vibrato, jitter and breath."""
    t = times(samples, sample_rate)
    centre_hz = log_uniform(rng, 80, 420)
    octaves = 0.25 * drift(samples, rng, int(3 * samples / sample_rate) + 2)
    octaves += rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(4, 7) * t).astype(np.float32)
    phase = (np.cumsum(centre_hz / sample_rate * 2.0**octaves) + rng.random()) % 1.0
    opening, closing = rng.uniform(0.3, 0.5), rng.uniform(0.08, 0.2)
    flow = np.where(
        phase < opening,
        0.5 - 0.5 * np.cos(np.pi * phase / opening),
        np.where(phase < opening + closing, np.cos(0.5 * np.pi * (phase - opening) / closing), 0.0),
    ).astype(np.float32)
    source = scaled(np.diff(flow, prepend=np.float32(0)), sample_rate / centre_hz / 8)
    return source + scaled(white(samples, rng), uniform_db(rng, -56, -26)) * (flow + np.float32(0.2))


def voice(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """Syllables: vowels that glide into each other, level that rises and falls, hisses and stops between."""
    source = glottis(samples, sample_rate, rng)
    size = rng.uniform(0.9, 1.25)
    picks = rng.permutation(len(VOWELS_HZ))[:3]
    mouths = np.stack([shaped(source, sample_rate, formants(VOWELS_HZ[k], size)) for k in picks])
    syllables = int(samples / sample_rate / rng.uniform(0.15, 0.5)) + 2
    weights = np.stack([np.clip(drift(samples, rng, syllables), 0, 1) for _ in picks]) + np.float32(0.02)
    sung: Mono = (mouths * weights).sum(axis=0) / weights.sum(axis=0)
    if chance(rng, 0.7):
        sung *= np.clip(drift(samples, rng, 2 * syllables) + np.float32(0.6), 0, 1)
    sung = normalised(sung)
    for _ in range(int(rng.integers(0, syllables))):
        n = int(rng.uniform(0.01, 0.15) * sample_rate)
        centre_hz = min(log_uniform(rng, 1500, 9000), 0.4 * sample_rate)
        hiss = normalised(shaped(white(n, rng), sample_rate, bandpass(centre_hz, centre_hz / 2)))
        faded(hiss, sample_rate, in_s=0.001 if chance(rng, 0.4) else 0.03, out_s=0.01)
        add_at(sung, hiss * np.float32(uniform_db(rng, -30, -6)), int(rng.integers(0, samples)))
    return sung
