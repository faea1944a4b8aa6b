"""Hand-written processors: benign ones, and ones with each fault that the stability monitor has to catch."""

from __future__ import annotations

import numpy as np


class Sound:
    """Base: state in ``prepare`` and ``reset``, a sample counter, one channel count."""

    latency_samples = 0
    tail_samples = 0

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        self.rate, self.max_block, self.channels = sample_rate, max_block, channels
        self.total = 0  # since prepare: a fault can come at a time, whatever was reset
        self.resets = 0
        self.reset()

    def reset(self) -> None:
        self.resets += 1
        self.y = np.zeros(self.channels)

    def process(self, block):
        assert 0 < block.shape[1] <= self.max_block
        assert np.isfinite(block).all()
        self.total += block.shape[1]
        return self.run(block)

    def run(self, block):
        return block


class Gain(Sound):
    def __init__(self, gain=1.0):
        self.gain = gain

    def run(self, block):
        return (block * np.float32(self.gain)).astype(np.float32)


class Drive(Sound):
    """A high-gain amp, with the DC that an asymmetric distortion gives."""

    def __init__(self, gain=100.0, bias=0.2):
        self.gain, self.bias = gain, bias

    def run(self, block):
        return (np.tanh(self.gain * block + self.bias) - np.tanh(self.bias)).astype(np.float32)


class Feedback(Sound):
    """y[n] = x[n] + g y[n-1]: a low-pass for g < 1, a runaway for g > 1, a memory for ever at g = 1."""

    def __init__(self, feedback):
        self.feedback = feedback

    def run(self, block):
        out = np.empty(block.shape)
        y = self.y
        for n in range(block.shape[1]):
            y = np.minimum(1e30, block[:, n] + self.feedback * y)
            out[:, n] = y
        self.y = y
        return out.astype(np.float32)


class Breaks(Sound):
    """Passes sound through, and gives ``value`` at one sample of every ``every``, from ``start`` on to ``stop``."""

    def __init__(self, start, value=np.nan, stop=10**12, every=1):
        self.start, self.stop, self.value, self.every = start, stop, value, every

    def run(self, block):
        n = np.arange(self.total - block.shape[1], self.total)
        hit = (n >= self.start) & (n < self.stop) & ((n - self.start) % self.every == 0)
        return np.where(hit, np.float32(self.value), block).astype(np.float32)


class Offset(Sound):
    """Adds DC."""

    def __init__(self, dc):
        self.dc = np.float32(dc)

    def run(self, block):
        return block + self.dc


class Rings(Sound):
    """Once it has heard something, a 440 Hz tone that falls by ``fall`` a sample; 1 is for ever."""

    def __init__(self, fall=1.0, level=0.2):
        self.fall, self.level = fall, level

    def reset(self) -> None:
        self.resets += 1
        self.since = -1

    def run(self, block):
        if self.since < 0 and np.abs(block).max() > 0.01:
            self.since = 0
        if self.since < 0:
            return block
        n = self.since + np.arange(block.shape[1])
        self.since += block.shape[1]
        return (block + self.level * self.fall**n * np.sin(2 * np.pi * 440 * n / self.rate)).astype(np.float32)


class Raises(Sound):
    def run(self, block):
        raise RuntimeError("the model broke")


def run(processor, sound, sizes=(64,)):
    """All of a sound through a prepared processor, in blocks of these sizes in turn."""
    parts, at, turn = [], 0, 0
    while at < sound.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(np.array(processor.process(sound[:, at : at + size])))
        at, turn = at + size, turn + 1
    return np.concatenate(parts, axis=1)


def playing(rng, rate, seconds, level=0.3):
    """Plucked notes with gaps, something like an instrument: (1, samples)."""
    n = round(rate * seconds)
    out = np.zeros(n)
    for start in range(0, n, rate // 3):
        t = np.arange(min(rate, n - start)) / rate
        f = rng.uniform(80, 600)
        tone = sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, 6))
        out[start : start + len(t)] += tone * np.exp(-t * rng.uniform(4, 12))
    return (level * out / np.abs(out).max()).astype(np.float32)[None, :]
