"""Small processors whose answer is known, for tests of everything that runs processors."""

import numpy as np


class Base:
    """Carries state from block to block, checks how it is used, and records the sizes of its blocks."""

    latency_samples = 0
    tail_samples = 0
    name = "test"

    def __init__(self, sample_rate=None):
        if sample_rate is not None:
            self.sample_rate = sample_rate
        self.blocks = []

    def prepare(self, sample_rate, max_block, channels):
        if hasattr(self, "sample_rate"):
            assert sample_rate == self.sample_rate
        self.rate, self.max_block, self.channels = sample_rate, max_block, channels
        self.channels_out = channels
        self.reset()

    def reset(self):
        pass

    def process(self, block):
        assert block.dtype == np.float32
        assert block.shape[0] == self.channels
        assert 0 < block.shape[1] <= self.max_block
        self.blocks.append(block.shape[1])
        out = self.work(block)
        assert out.shape[1] == block.shape[1]
        return out


class Gain(Base):
    def __init__(self, gain, sample_rate=None):
        super().__init__(sample_rate)
        self.gain = np.float32(gain)

    def work(self, block):
        return block * self.gain


class OnePole(Base):
    """y[n] = (1 - a) x[n] + a y[n-1], with a tail of ``tail_samples``."""

    def __init__(self, a, sample_rate=None):
        super().__init__(sample_rate)
        self.a = a
        self.tail_samples = int(np.ceil(np.log(1e-6) / np.log(a)))

    def reset(self):
        self.state = np.zeros((self.channels, 1))

    def work(self, block):
        from scipy.signal import lfilter

        out, self.state = lfilter([1 - self.a], [1, -self.a], block.astype(np.float64), zi=self.state)
        return out.astype(np.float32)


class Delay(Base):
    """A pure delay; ``declared`` of it is latency to be made up for, the rest belongs to the sound."""

    def __init__(self, samples, declared=0, sample_rate=None):
        super().__init__(sample_rate)
        self.samples = samples
        self.latency_samples = declared
        self.tail_samples = samples - declared

    def reset(self):
        self.line = np.zeros((self.channels, self.samples), np.float32)

    def work(self, block):
        both = np.concatenate([self.line, block], axis=1)
        self.line = both[:, block.shape[1] :]
        return both[:, : block.shape[1]]


class Widen(Base):
    """Mono in, stereo out."""

    def prepare(self, sample_rate, max_block, channels):
        super().prepare(sample_rate, max_block, channels)
        self.channels_out = 2

    def work(self, block):
        return np.concatenate([block[:1], -block[:1]])


class Breaks(Base):
    """Gives NaN from a sample on."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def reset(self):
        self.done = 0

    def work(self, block):
        out = block.copy()
        out[:, max(0, self.at - self.done) :] = np.nan
        self.done += block.shape[1]
        return out
