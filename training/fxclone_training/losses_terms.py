"""The terms of a loss. Each is about 1 for a silent prediction and 0 for a perfect one, so that weights mean something.

Exceptions are noted: ``dc`` is 1 when the offset is as strong as the sound. ``l1`` and ``mrstft`` are amplitudes, the
others powers: at an error of -30 dB they stand at 0.03, and ``esr`` at 0.001. So their weights have to be small if the
squares are to decide in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from fxclone.audio import Audio
from fxclone.errors import UsageError
from fxclone.metrics_spectrum import STFT_RESOLUTIONS
from fxclone_training.losses_filters import FILTER_TAPS, BlockFilter
from fxclone_training.losses_text import SAMPLE_BY_SAMPLE, TermText

DC_S = 0.02
"""Offset is the mean over this long and the block itself: 100 Hz is then 16 dB down or more.

Not longer, because training overshoots what it hears late: at 50 ms and a learning rate of 0.01, an offset that no
other term held swung for a hundred steps.
"""
STFT_FLOOR = 1e-6
"""Magnitudes count down to 60 dB under those of white noise as strong as the passage: deeper lies only hiss."""
STFT_LEAST_BLOCK = 1024
"""In shorter blocks, only the end of the longest window (1200 samples) touches what is being trained."""
_TINY = 1e-12


@dataclass(frozen=True)
class Passages:
    """What a term compares: a block of each stream, and what came before it, without gradient."""

    predicted: Tensor  # (batch, samples)
    target: Tensor  # (batch, samples)
    weight: Tensor  # (batch, 1): one over the level (RMS) that an error is measured against
    past_predicted: Tensor  # (batch, context)
    past_target: Tensor  # (batch, context)

    def error(self, context: int) -> Tensor:
        """Predicted minus target, with at most ``context`` samples before the block."""
        return _after(self.past_predicted, self.predicted, context) - self.target_after(context)

    def target_after(self, context: int) -> Tensor:
        """Target, with at most ``context`` samples before the block."""
        return _after(self.past_target, self.target, context)


def _after(past: Tensor, now: Tensor, context: int) -> Tensor:
    context = min(context, past.shape[1])
    return torch.cat((past[:, past.shape[1] - context :].detach(), now), 1) if context else now


class Term(Protocol):
    """A number, with a gradient for what was predicted."""

    context_samples: int
    least_block_samples: int

    def __call__(self, passages: Passages) -> Tensor:
        """A scalar."""
        ...


class SampleBySample:
    """``esr``, ``mse``, ``l1``, each also filtered: a mean over the error divided by a level.

    With e = predicted - target, h the filter, w the weight of the stream, G = sum (h*wet)^2 / sum wet^2 over the whole
    training sound, P its mean power:

    - esr: mean (w e)^2, the error-to-signal ratio of Wright et al. 2019 with a floor under the signal;
    - esr:h: mean (h*e)^2 / max(G / w^2, mean (h*target)^2): not less than such a passage usually has after the
      filter, nor less than this one has, so that the hiss in a pause does not count a hundredfold;
    - mse: mean e^2 / P; mse:h: mean (h*e)^2 / (G P);
    - l1: mean |w e| sqrt(pi/2), which is 1 for silence if the sound is Gaussian; l1:h against the same level as esr:h.
    """

    least_block_samples = 1

    def __init__(self, measure: str, filtered: BlockFilter | None, wet: Audio) -> None:
        self.measure, self.filter = measure, filtered
        self.context_samples = filtered.context_samples if filtered else 0
        self.mean_power = mean_power(wet)
        self.gain = 1.0
        if filtered:
            through = [signal.oaconvolve(channel.astype(np.float64), filtered.taps) for channel in wet]
            self.gain = float(np.sum(np.square(through))) / (self.mean_power * wet.size)

    def __call__(self, passages: Passages) -> Tensor:
        """Mean over streams and samples."""
        scaled = self._scaled(passages)
        if self.measure == "l1":
            return scaled.abs().mean() * math.sqrt(math.pi / 2)
        return scaled.square().mean()

    def _scaled(self, passages: Passages) -> Tensor:
        """The (filtered) error over the level it is measured against, (batch, samples)."""
        error = passages.error(self.context_samples)
        if self.filter:
            error = self.filter(error, passages.predicted.shape[1])
        if self.measure == "mse":
            return error / math.sqrt(self.gain * self.mean_power)
        if self.filter is None:
            return error * passages.weight
        own = self.filter(passages.target_after(self.context_samples), passages.target.shape[1])
        power = torch.maximum(self.gain / passages.weight.square(), own.square().mean(1, keepdim=True))
        return error * power.rsqrt()


class Offset:
    """``dc``: (w mean e)^2, the DC term of Wright et al. 2019, the mean over the block and 20 ms before it.

    A block is too short to tell an offset from a low note, hence the past. The gradient is that of the mean of this
    block alone: a sample stays in the mean for all the blocks of the next 20 ms, and this is what their gradients come
    to together as long as the offset is steady; counted in one block only, it would be lost beside other terms.
    """

    least_block_samples = 1

    def __init__(self, sample_rate: int) -> None:
        self.context_samples = round(DC_S * sample_rate)

    def __call__(self, passages: Passages) -> Tensor:
        """Mean over streams."""
        error = passages.error(self.context_samples)
        now = error[:, -passages.predicted.shape[1] :].mean(1, keepdim=True)
        offset = error.mean(1, keepdim=True).detach() + (now - now.detach())
        return (offset * passages.weight).square().mean()


class MultiResolutionStft:
    """``mrstft``: mean over three resolutions of half the spectral convergence and half the distance of log magnitudes.

    With magnitudes Y of the target and Z of what was predicted, in frames that end in the block (Yamamoto et al. 2020,
    the sizes of `fxclone.metrics.mr_stft`), each with a floor (`STFT_FLOOR`):

    - convergence: sqrt(sum (Y - Z)^2 / sum Y^2), the denominator from the weight of the stream, not from the block;
    - log magnitudes: mean |ln Y - ln Z|, divided by what it is for silence over the training sound.

    Blind to polarity, and nearly to lag.
    """

    context_samples = max(length for _, _, length in STFT_RESOLUTIONS)
    least_block_samples = STFT_LEAST_BLOCK

    def __init__(self, wet: Audio) -> None:
        self.log_silence = [1.0 for _ in STFT_RESOLUTIONS]
        passages = _silence(wet, 8192, 64)
        self.log_silence = [max(float(logs), 1e-3) for _, logs in self._distances(passages)]

    def __call__(self, passages: Passages) -> Tensor:
        """Mean over resolutions, frames and streams."""
        return torch.stack([(far + logs) / 2 for far, logs in self._distances(passages)]).mean()

    def _distances(self, passages: Passages) -> list[tuple[Tensor, Tensor]]:
        """Spectral convergence and log-magnitude distance of each resolution."""
        out = []
        predicted = _after(passages.past_predicted, passages.predicted, self.context_samples)
        target = _after(passages.past_target, passages.target, self.context_samples)
        for (size, hop, length), silence in zip(STFT_RESOLUTIONS, self.log_silence, strict=True):
            window = torch.hann_window(length, dtype=predicted.dtype, device=predicted.device)
            # Of white noise as strong as the passage, in each bin.
            white = (window.square().sum() / passages.weight.square())[:, :, None]  # (batch, 1, 1)
            frames = max(1, -(-passages.predicted.shape[1] // hop))
            needed = length + (frames - 1) * hop
            y, z = (
                _magnitudes(sound[:, -needed:], window, size, hop, white * STFT_FLOOR) for sound in (target, predicted)
            )
            far = ((y - z).square() / white).mean().add(_TINY).sqrt()
            out.append((far, (y.log() - z.log()).abs().mean() / silence))
        return out


def _magnitudes(sound: Tensor, window: Tensor, size: int, hop: int, floor: Tensor) -> Tensor:
    """(batch, frames, bins); a sound shorter than the window counts as preceded by silence."""
    short = len(window) - sound.shape[1]
    if short > 0:
        sound = torch.nn.functional.pad(sound, (short, 0))
    spectra = torch.fft.rfft(sound.unfold(1, len(window), hop) * window, size)
    power: Tensor = spectra.real.square() + spectra.imag.square() + floor
    return power.sqrt()


def mean_power(wet: Audio) -> float:
    """Of the whole sound; a silent one is refused, because nothing can be measured against it."""
    power = float(np.mean(np.square(wet, dtype=np.float64)))
    if not power > 1e-20:
        raise UsageError("the wet sound is silent; expected sound to train on: check which file is which")
    return power


def _silence(wet: Audio, samples: int, most: int) -> Passages:
    """Passages spread over the sound, all predicted as silence."""
    samples = min(samples, wet.shape[1])
    starts = np.unique(np.linspace(0, wet.shape[1] - samples, most).astype(np.int64))
    cut = np.concatenate([channel[starts[:, None] + np.arange(samples)] for channel in wet])
    target = torch.from_numpy(np.ascontiguousarray(cut, dtype=np.float32))
    none = target[:, :0]
    weight = torch.full((len(target), 1), mean_power(wet) ** -0.5)
    return Passages(torch.zeros_like(target), target, weight, none, none)


def make_term(text: TermText, sample_rate: int, wet: Audio) -> Term:
    """The term that a text names, scaled by the wet sound (channels, samples) it will be trained on."""
    if text.measure in SAMPLE_BY_SAMPLE:
        taps = FILTER_TAPS[text.filter](sample_rate) if text.filter else None
        return SampleBySample(text.measure, None if taps is None else BlockFilter(taps), wet)
    return Offset(sample_rate) if text.measure == "dc" else MultiResolutionStft(wet)
