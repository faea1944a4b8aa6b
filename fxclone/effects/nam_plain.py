"""The simpler networks of .nam files: ConvNet, a stack of dilated convolutions of two taps, and Linear, a response."""

from __future__ import annotations

import numpy as np

from fxclone.effects.nam_parts import MAX_CHANNELS, Array, Section, State, Weights, activation
from fxclone.effects.nam_wavenet import MAX_DILATION
from fxclone.errors import EffectError

MAX_TAPS = 2**20
DIRECT_PRODUCTS = 2**18
"""Up to so many products of taps and samples, adding them up is quicker than transforms."""


class ConvNet:
    """Convolutions of two taps, each followed by a normalisation (folded in here) or a bias, and an activation.

    Raises
    ------
    EffectError
        For what does not fit together.
    """

    def __init__(self, config: Section, weights: Weights) -> None:
        _mono(config)
        self.channels_out = 1
        channels, dilations = config.whole("channels", MAX_CHANNELS), config.wholes("dilations", MAX_DILATION)
        normalised, groups = config.switch("batchnorm"), config.whole("groups", MAX_CHANNELS, 1)
        self._activate = activation(config.get("activation"), channels, config.where)
        convs, norms = [], []
        for number, dilation in enumerate(dilations):
            width = channels if number else 1
            convs.append(weights.convolution(channels, width, 2, dilation=dilation, bias=not normalised, groups=groups))
            if normalised:
                norms.append((weights.take(4, channels), weights.take(1)))
        self._head = weights.convolution(1, channels, bias=True)
        weights.finish()
        for number, ((mean, variance, gain, offset), epsilon) in enumerate(norms):
            spread = variance + epsilon
            if not (spread > 0).all():
                raise EffectError(f"{config.where}: a variance of layer {number} is not positive; the file is damaged")
            scale = gain / np.sqrt(spread)
            convs[number] = convs[number].scaled(scale, offset - scale * mean)
        self._convs = convs
        self.memory_samples: int | None = sum(dilations)
        self.linear: bool | None = None
        self.summary = f"ConvNet with {len(dilations)} layers of {channels} channels"

    def fresh_state(self) -> State:
        """Zeros."""
        return tuple(conv.fresh_past() for conv in self._convs)

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """Run the layers and the head."""
        after = []
        for conv, past in zip(self._convs, state, strict=True):
            x, past = conv.forward(x, past)
            x = self._activate(x)
            after.append(past)
        return self._head.now(x), tuple(after)


class Linear:
    """An impulse response, first sample first, and a constant.

    Raises
    ------
    EffectError
        If the number of weights is not that of the response.
    """

    def __init__(self, config: Section, weights: Weights) -> None:
        _mono(config)
        self.channels_out = 1
        samples = config.whole("receptive_field", MAX_TAPS)
        has_bias = config.switch("bias")
        self._response = weights.take(samples).astype(np.float64)
        self._bias = float(weights.take(1)[0]) if has_bias else 0.0
        weights.finish()
        self.memory_samples: int | None = samples - 1
        self.linear: bool | None = self._bias == 0.0
        self.summary = f"linear response of {samples} samples"

    def fresh_state(self) -> State:
        """Zeros."""
        return (np.zeros(self._response.size - 1),)

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """Convolve in double precision."""
        line = np.concatenate((state[0], x[0]))
        if self._response.size * x.shape[1] <= DIRECT_PRODUCTS:
            y = np.convolve(line, self._response, "valid")
        else:
            points = 1 << (line.size - 1).bit_length()  # what wraps around lands before the valid part
            spectrum = np.fft.rfft(line, points) * np.fft.rfft(self._response, points)
            y = np.fft.irfft(spectrum, points)[self._response.size - 1 : line.size]
        return (y + self._bias)[None].astype(np.float32), (line[x.shape[1] :].copy(),)


def _mono(config: Section) -> None:
    for key in ("in_channels", "out_channels"):
        if config.whole(key, MAX_CHANNELS, 1) != 1:
            config.fail(key, "1: only models with one input and one output can be an effect")
