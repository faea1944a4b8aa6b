"""Filters that a loss looks through, applied to one block with the samples before it.

Filters are linear, so filtering the error is filtering both sounds. A finite response needs a finite past, so block
after block gives exactly what filtering the whole sound gives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft
from torch import Tensor
from torch.nn import functional

from fxclone.metrics_spectrum import a_weighting

Doubles = npt.NDArray[np.float64]

PRE_EMPHASIS = 0.95
"""At `PRE_EMPHASIS_RATE_HZ`: 1 - 0.95/z, the first-order pre-emphasis of Wright et al. 2019."""
PRE_EMPHASIS_RATE_HZ = 48_000
A_WEIGHTING_S = 0.02
"""Length of the response: short, because it is paid for in every block; within 0.2 dB of the curve from 31.5 Hz up."""
_BLOCK = 256
_FLOOR = 1e-5
"""The response falls to 0 at 0 Hz; below this there is no logarithm to work with."""


def pre_emphasis_taps(sample_rate: int) -> Doubles:
    """Response [1, -c]; the corner is at 390 Hz whatever the rate."""
    return np.array([1.0, -(PRE_EMPHASIS ** (PRE_EMPHASIS_RATE_HZ / sample_rate))])


def a_weighting_taps(sample_rate: int) -> Doubles:
    """Causal response with the magnitude of the A-weighting curve (IEC 61672-1:2013), gain 1 at 1 kHz.

    Minimum phase by folding the cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing, 13.5): the curve
    holds up to half the sample rate, where a bilinear transform of the analogue filter falls away, and the energy comes
    first, so that little of it is cut off.
    """
    length = round(A_WEIGHTING_S * sample_rate)
    size = max(1 << 16, 1 << (16 * length).bit_length())
    magnitude = np.maximum(a_weighting(np.linspace(0.0, sample_rate / 2, size // 2 + 1)), _FLOOR)
    cepstrum = fft.irfft(np.log(magnitude), size)
    cepstrum[1 : size // 2] *= 2.0
    cepstrum[size // 2 + 1 :] = 0.0
    taps = fft.irfft(np.exp(fft.rfft(cepstrum)), size)[:length]
    fade = length // 4
    taps[length - fade :] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)
    out: Doubles = taps
    return out


class BlockFilter:
    """A finite response, applied to a block that follows on what came before.

    Long responses are applied as one matrix product for each 256 samples: for blocks this short it beats a Fourier
    transform, and its gradient is another product.

    Parameters
    ----------
    taps : ndarray [shape=(taps,)]
        The response.
    """

    def __init__(self, taps: Doubles) -> None:
        self.taps = taps
        self.context_samples = len(taps) - 1
        self._matrices: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, sound: Tensor, samples: int) -> Tensor:
        """Filter the last ``samples`` of ``sound`` (batch, any): (batch, samples). Missing past is silence."""
        if len(self.taps) <= 8:
            padded = functional.pad(sound, (max(0, self.context_samples + samples - sound.shape[1]), 0))
            last = padded.shape[1]
            parts = (padded[:, last - samples - k : last - k] * float(tap) for k, tap in enumerate(self.taps))
            return torch.stack(tuple(parts)).sum(0)
        block = min(samples, _BLOCK)
        blocks = -(-samples // block)
        needed = self.context_samples + blocks * block
        sound = functional.pad(sound, (max(0, needed - sound.shape[1]), 0))[:, -needed:]
        pieces = sound.unfold(1, self.context_samples + block, block)  # (batch, blocks, context + block)
        out = pieces @ self._matrix(block, sound)
        return out.flatten(1)[:, blocks * block - samples :]

    def _matrix(self, block: int, like: Tensor) -> Tensor:
        """(context + block, block): column n holds the response, reversed, ending at row context + n."""
        key = block, like.dtype, like.device
        if key not in self._matrices:
            rows, columns = np.arange(self.context_samples + block)[:, None], np.arange(block)
            delay = self.context_samples + columns - rows
            inside = (delay >= 0) & (delay <= self.context_samples)
            matrix = np.where(inside, self.taps[delay.clip(0, self.context_samples)], 0.0)
            self._matrices[key] = torch.from_numpy(matrix).to(like)
        return self._matrices[key]


FILTER_TAPS = {"pre": pre_emphasis_taps, "a": a_weighting_taps}
"""The response of each filter of `losses_text.FILTERS`, by sample rate."""
