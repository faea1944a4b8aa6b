"""Plucked strings: single notes, chords and bass.

Each note is a Karplus-Strong string (Karplus and Strong 1983, with the pick-position comb and fractional tuning of
Jaffe and Smith 1983). The loop is longer than the filter in it, so a whole period is computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fxclone.audio import rms
from fxclone.signals._dsp import (
    Doubles,
    Mono,
    add_at,
    both,
    chance,
    faded,
    highpass,
    log_uniform,
    lowpass,
    scaled,
    shaped,
    times,
    uniform_db,
    warped,
    white,
)

SCALES = ((0, 3, 5, 7, 10), (0, 2, 4, 7, 9), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11), (0, 3, 5, 6, 7, 10))
CHORDS = (
    (0, 7, 12),
    (0, 7, 12, 19),
    (0, 7, 12, 16, 19, 24),
    (0, 7, 12, 15, 19, 24),
    (0, 7, 10, 16, 19),
    (0, 7, 11, 16),
    (0, 7, 10, 15, 19),
    (0, 5, 12),
)
MAX_NOTE_S = 5.0


def midi_to_hz(note: float) -> float:
    """Frequency of a MIDI note number; 69 is A4, 440 Hz."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


@dataclass(frozen=True)
class Instrument:
    """What stays the same through a phrase: one guitar or bass, its pickup and the player's pick."""

    pick_hz: float
    pick_at: float
    pickup_at: float
    tone_hz: float
    tone_q: float
    damping: float
    sustain_s: float


def guitar(rng: np.random.Generator) -> Instrument:
    """Draw an electric guitar through its lead: the pickup's resonance lies at 2 to 6 kHz."""
    return Instrument(
        pick_hz=log_uniform(rng, 700, 5000),
        pick_at=float(rng.uniform(0.06, 0.35)),
        pickup_at=float(rng.uniform(0.06, 0.28)),
        tone_hz=log_uniform(rng, 1200, 5500),
        tone_q=float(rng.uniform(0.6, 2.2)),
        damping=log_uniform(rng, 0.004, 0.06),
        sustain_s=log_uniform(rng, 0.8, 6.0),
    )


def bass_guitar(rng: np.random.Generator) -> Instrument:
    """Draw a bass: darker, longer, sometimes slapped or picked."""
    return Instrument(
        pick_hz=log_uniform(rng, 300, 4000),
        pick_at=float(rng.uniform(0.08, 0.3)),
        pickup_at=float(rng.uniform(0.08, 0.25)),
        tone_hz=log_uniform(rng, 500, 4000),
        tone_q=float(rng.uniform(0.6, 1.4)),
        damping=log_uniform(rng, 0.003, 0.06),
        sustain_s=log_uniform(rng, 1.5, 8.0),
    )


def string(
    f0_hz: float, samples: int, sample_rate: int, instrument: Instrument, rng: np.random.Generator, *, t60_s: float
) -> Mono:
    """One plucked string without its pickup's tone; at most ``samples`` long, shorter where it has died."""
    period = sample_rate / f0_hz
    delay = int(period - 2.0)  # the loop's filter below delays by 1 + (1 to 2) samples
    if delay < 4:
        raise ValueError(f"{f0_hz:.0f} Hz is too high for a string at {sample_rate} Hz")
    d = period - 1.0 - delay
    tuning = np.array(  # third-order Lagrange, delay d in [1, 2): gain at most 1, so the loop is stable
        [
            -(d - 1) * (d - 2) * (d - 3) / 6,
            d * (d - 2) * (d - 3) / 2,
            -d * (d - 1) * (d - 3) / 2,
            d * (d - 1) * (d - 2) / 6,
        ]
    )
    # 1 - b w^2 a round trip: b grows with the square of the rate, so that a note sounds the same at any rate.
    b = min(0.25, instrument.damping * (sample_rate / 48_000) ** 2)
    loss = 10.0 ** (-3.0 * period / (t60_s * sample_rate))
    loop = (loss * np.convolve([b, 1.0 - 2.0 * b, b], tuning)).astype(np.float32)
    samples = min(samples, int(2.0 * t60_s * sample_rate) + delay)
    head = delay + loop.size
    y = np.zeros(head + samples + delay, np.float32)

    burst = white(int(period), rng)
    burst -= burst.mean()
    burst = shaped(burst, sample_rate, lowpass(instrument.pick_hz, 0.6))
    comb = np.zeros(2 * burst.size, np.float32)
    comb[: burst.size] = burst
    shift = max(1, round(instrument.pick_at * period))
    comb[shift : shift + burst.size] -= burst
    y[head : head + comb.size] += comb[: y.size - head]
    for start in range(head + delay, head + samples, delay):
        past = y[start - delay - loop.size + 1 : start]
        y[start : start + delay] += np.convolve(past, loop, "valid")
    out = y[head : head + samples]
    shift = max(1, round(instrument.pickup_at * period))
    heard = out.copy()
    heard[shift:] -= np.float32(0.9) * out[:-shift]
    return scaled(heard, 1.0 / (rms(heard[: 4 * int(period)]) + 1e-9))


def bent(samples: int, sample_rate: int, rng: np.random.Generator) -> Doubles:
    """Positions at which to read a straight note so that it is bent, slid or played with vibrato."""
    t = times(samples, sample_rate)
    style = rng.integers(3)
    if style == 0:  # vibrato that sets in
        rate_hz, depth = rng.uniform(3.5, 7.5), rng.uniform(0.1, 0.6)
        semitones = depth * np.sin(2 * np.pi * rate_hz * t) * np.clip(t / rng.uniform(0.1, 0.6), 0, 1)
    else:  # a bend or slide, up or down, some of them released again
        at, length, amount = rng.uniform(0.0, 0.3), rng.uniform(0.04, 0.4), rng.choice([-2, -1, 0.5, 1, 2, 3])
        semitones = amount * 0.5 * (1 - np.cos(np.pi * np.clip((t - at) / length, 0, 1)))
        if style == 2:
            back = at + length + rng.uniform(0.0, 0.3)
            semitones = semitones * 0.5 * (1 + np.cos(np.pi * np.clip((t - back) / length, 0, 1)))
    steps = 2.0 ** (semitones / 12.0)
    out: Doubles = np.cumsum(steps) - steps[0]
    return out


def playable(note: float, sample_rate: int) -> float:
    """Fold a note down by octaves until a string at this rate can play it."""
    while midi_to_hz(note) > sample_rate / 8:
        note -= 12
    return note


def pickup(sound: Mono, sample_rate: int, instrument: Instrument, rng: np.random.Generator) -> Mono:
    """The pickup's resonant low-pass and the lead's high-pass, applied to a whole phrase at once."""
    tone = both(lowpass(instrument.tone_hz, instrument.tone_q), highpass(rng.uniform(15, 60)))
    return shaped(sound, sample_rate, tone)


def plucked(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """A melody line on a guitar: scale notes, rests, bends, vibrato, dead notes, legato or staccato."""
    return _line(samples, sample_rate, rng, guitar(rng), low=40, span=36)


def bass(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """A bass line, sometimes doubled by a sine an octave below like a synthesiser's."""
    return _line(samples, sample_rate, rng, bass_guitar(rng), low=28 if chance(rng, 0.8) else 23, span=24)


def _line(
    samples: int, sample_rate: int, rng: np.random.Generator, instrument: Instrument, *, low: int, span: int
) -> Mono:
    out = np.zeros(samples, np.float32)
    scale = SCALES[rng.integers(len(SCALES))]
    key = low + int(rng.integers(12))
    degree = int(rng.integers(len(scale) * 2))
    step_s = 60.0 / log_uniform(rng, 60, 190) / 4
    legato = chance(rng, 0.4)
    sub = low < 40 and chance(rng, 0.25)
    start = 0
    while start < samples:
        length = max(32, int(step_s * rng.choice([1, 1, 2, 2, 2, 3, 4, 8]) * sample_rate))
        if start and chance(rng, 0.12):  # a rest
            start += length
            continue
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, len(scale) * max(1, span // 12) - 1))
        note = playable(key + 12 * (degree // len(scale)) + scale[degree % len(scale)], sample_rate)
        dead = chance(rng, 0.06)
        t60_s = rng.uniform(0.04, 0.12) if dead else instrument.sustain_s * 2.0 ** ((52 - note) / 24)
        room = min(samples - start, int(MAX_NOTE_S * sample_rate))
        heard = room if chance(rng, 0.25) else min(room, int(length * (1.0 if legato else rng.uniform(0.3, 0.98))))
        f0_hz = midi_to_hz(note) * 2.0 ** (rng.normal(0, 4) / 1200)
        sound = string(f0_hz, int(heard * 1.25) + 64, sample_rate, instrument, rng, t60_s=t60_s)
        if chance(rng, 0.4):
            sound = warped(sound, bent(min(heard, sound.size), sample_rate, rng))
        sound = sound[:heard]
        if sub:
            t = times(sound.size, sample_rate)
            sound = sound + np.sin(np.pi * f0_hz * t).astype(np.float32) * np.exp(-t / 0.8).astype(np.float32)
        faded(sound, sample_rate, out_s=rng.uniform(0.004, 0.05))
        add_at(out, sound * np.float32(uniform_db(rng, -16, 0)), start)
        start += length
    return pickup(out, sample_rate, instrument, rng)


def chords(samples: int, sample_rate: int, rng: np.random.Generator) -> Mono:
    """Strums, arpeggios and palm mutes on a guitar."""
    out = np.zeros(samples, np.float32)
    instrument = guitar(rng)
    step_s = 60.0 / log_uniform(rng, 60, 190) / 2
    shape = CHORDS[rng.integers(len(CHORDS))]
    root = 40 + int(rng.integers(13))
    arpeggio, muted_share = chance(rng, 0.2), rng.choice([0.0, 0.3, 0.8])
    start = 0
    while start < samples:
        if chance(rng, 0.35):
            root, shape = 40 + int(rng.integers(13)), CHORDS[rng.integers(len(CHORDS))]
        muted = chance(rng, muted_share)
        length = max(64, int(step_s * rng.choice([1, 1, 1, 2, 2, 4] if not muted else [0.5, 0.5, 1]) * sample_rate))
        room = min(samples - start, int(MAX_NOTE_S * sample_rate))
        heard = min(room, length) if muted or chance(rng, 0.6) else min(room, int(2.5 * length))
        spread_s = step_s / 2 if arpeggio else rng.uniform(0.003, 0.03)
        notes = shape[::-1] if chance(rng, 0.4) else shape
        level = uniform_db(rng, -10, 0)
        release_s = rng.uniform(0.005, 0.06)
        for place, interval in enumerate(notes[:3] if muted else notes):
            at = start + int(place * spread_s * rng.uniform(0.7, 1.3) * sample_rate)
            left = start + heard - at
            if left < 64:
                continue
            note = playable(root + interval, sample_rate)
            t60_s = rng.uniform(0.08, 0.3) if muted else instrument.sustain_s * 2.0 ** ((52 - note) / 24)
            f0_hz = midi_to_hz(note) * 2.0 ** (rng.normal(0, 4) / 1200)
            sound = string(f0_hz, left, sample_rate, instrument, rng, t60_s=t60_s)
            gain = np.float32(level * uniform_db(rng, -4, 0) / np.sqrt(len(notes)))
            add_at(out, faded(sound, sample_rate, out_s=release_s) * gain, at)
        start += length
    return pickup(out, sample_rate, instrument, rng)
