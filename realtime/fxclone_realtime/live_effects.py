"""Reference effects as `Processor`s: the same sound as a render, block by block, with the state carried on.

fxclone's own effects that are formulas run as they are; its filters, its ring modulator and its cabinet have their
streaming form here; pedalboard's run in pedalboard, and so do plugins. What works on whole sounds only (an MP3 codec,
a pitch shifter) is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fxclone.audio import Audio
from fxclone.effects.spec import Settings, Stage
from fxclone.errors import UsageError
from fxclone.processor import Processor

FORMULAS = ("passthrough", "gain", "invert", "tanh", "hardclip")
ENDLESS_TAIL_S = 60.0
"""Taken for a tail that nobody knows, such as that of an echo with full feedback."""
NOT_LIVE = ("gsm", "mp3", "pitch_shift", "resample")
"""Of pedalboard: they work in frames of their own or need the whole sound."""


def live_effect(stage: Stage) -> Processor:
    """Return an effect with its settings as something that can be played.

    Raises
    ------
    UsageError
        If it only renders whole sounds.
    """
    spec = stage.spec
    if spec.source == "fxclone" and spec.name in FORMULAS:
        return Formula(stage)
    if spec.source == "fxclone" and spec.name in _OWN:
        return _OWN[spec.name](stage)
    if spec.source == "pedalboard" and spec.name not in NOT_LIVE:
        return Pedalboard(stage)
    if spec.source == "plugin":
        from fxclone.effects.plugin_live import LivePlugin

        return LivePlugin(stage)
    raise UsageError(f"{spec.name} cannot be played live: it works on whole sounds only; play a clone of it instead")


class _Live:
    """What all have in common: the tail and the latency that the effect states."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.channels_out = 0
        self.latency_samples = 0
        self.tail_samples = 0

    @property
    def name(self) -> str:
        """Of the effect."""
        return self.stage.spec.name

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Check what the effect takes, make what it needs."""
        spec = self.stage.spec
        if spec.max_channels is not None and channels > spec.max_channels:
            raise UsageError(f"{spec.name} takes up to {spec.max_channels} channels; it would get {channels}")
        for setting in spec.settings:
            if setting.below_nyquist and self.stage.settings[setting.name] >= sample_rate / 2:
                raise UsageError(
                    f"{spec.name}: {setting.name} must be under half of the sample rate, {sample_rate / 2:g}; lower it"
                )
        self.channels_out = channels
        tail_s = self.stage.tail_s
        self.tail_samples = round((ENDLESS_TAIL_S if tail_s is None else tail_s) * sample_rate)
        self.latency_samples = self.stage.latency_samples(sample_rate) or 0
        self.make(self.stage.settings, sample_rate, max_block, channels)
        self.reset()

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Make what is needed for this stream."""

    def reset(self) -> None:
        """Back to silence."""


class Formula(_Live):
    """An effect without memory."""

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Build the formula."""
        self._render, self._rate = self.stage.spec.build(dict(settings)), sample_rate

    def process(self, block: Audio) -> Audio:
        """Apply it."""
        return self._render(block, self._rate)


class Filter(_Live):
    """Second-order sections."""

    def __init__(self, stage: Stage, design: Callable[[Settings, int], npt.NDArray[np.float64]]) -> None:
        super().__init__(stage)
        self._design = design

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Design it."""
        from scipy.signal import sosfilt  # takes a second to import

        self._run, self._sections = sosfilt, self._design(settings, sample_rate)
        self._state = np.zeros((self._sections.shape[0], channels, 2))

    def reset(self) -> None:
        """Back to silence."""
        self._state = np.zeros_like(self._state)

    def process(self, block: Audio) -> Audio:
        """Filter in double precision."""
        wet, self._state = self._run(self._sections, block.astype(np.float64), axis=-1, zi=self._state)
        return np.asarray(wet, dtype=np.float32)


class RingModulator(_Live):
    """A carrier whose phase goes on."""

    def reset(self) -> None:
        """Phase 0."""
        self._at = 0

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Note the frequency."""
        self._cycles, self._mix = settings["frequency_hz"] / sample_rate, settings["mix"]

    def process(self, block: Audio) -> Audio:
        """Multiply."""
        n = self._at + np.arange(block.shape[1])
        self._at += block.shape[1]
        carrier = np.sin(2 * np.pi * ((n * self._cycles) % 1.0))
        wet: Audio = (block * (1 - self._mix + self._mix * carrier)).astype(np.float32)
        return wet


class Cabinet(_Live):
    """A short response, convolved directly: some thousand taps, no latency."""

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Make the response."""
        from fxclone.effects.cabinet import impulse_response

        self._taps = impulse_response(settings, sample_rate).astype(np.float32)
        self._past = np.zeros((channels, self._taps.size - 1 + max_block), np.float32)
        self._out = np.zeros((channels, max_block), np.float32)

    def reset(self) -> None:
        """Forget what was held."""
        self._past.fill(0.0)

    def process(self, block: Audio) -> Audio:
        """Convolve."""
        n, held = block.shape[1], self._taps.size - 1
        self._past[:, held : held + n] = block
        out = self._out[:, :n]
        for channel in range(block.shape[0]):
            out[channel] = np.convolve(self._past[channel, : held + n], self._taps, "valid")
        self._past[:, :held] = self._past[:, n : n + held].copy()
        return out


class Pedalboard(_Live):
    """One of pedalboard's. What looks ahead gives its sound late: by that, silence comes first."""

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Load it: one for the whole sound if it is a stereo effect, else one for each channel."""
        self._rate, self._block = float(sample_rate), max_block
        groups = [slice(0, channels)] if self.stage.spec.stereo else [slice(c, c + 1) for c in range(channels)]
        self._plugins = [(group, _pedalboard_plugin(self.stage)) for group in groups]
        self._late = [
            _Late(group.stop - group.start, self.latency_samples, max_block) if self.latency_samples else None
            for group, _ in self._plugins
        ]
        self._out = np.zeros((channels, max_block), np.float32)

    def reset(self) -> None:
        """Clear its buffers."""
        for late, (_, plugin) in zip(self._late, self._plugins, strict=True):
            plugin.reset()
            if late is not None:
                late.reset()

    def process(self, block: Audio) -> Audio:
        """Run it with its state carried on."""
        n = block.shape[1]
        out = self._out[:, :n]
        if n == 0:
            return out
        for (group, plugin), late in zip(self._plugins, self._late, strict=True):
            dry = np.ascontiguousarray(block[group])
            if 1 < dry.shape[0] >= n:  # pedalboard would take channels for samples, and one channel is sound enough
                out[group] = dry
                continue
            wet = plugin.process(dry, self._rate, buffer_size=self._block, reset=False)
            out[group] = wet if late is None else late.take(wet, n)
        return out


class _Late:
    """Gives n samples for whatever came, after ``latency`` samples of silence."""

    def __init__(self, channels: int, latency: int, max_block: int) -> None:
        self._line = np.zeros((channels, 2 * (latency + max_block)), np.float32)
        self._latency, self._held = latency, latency

    def reset(self) -> None:
        self._line.fill(0.0)
        self._held = self._latency

    def take(self, came: Audio, n: int) -> Audio:
        room = self._line.shape[1] - self._held
        fits = came[:, :room]
        self._line[:, self._held : self._held + fits.shape[1]] = fits
        held = max(n, self._held + fits.shape[1])
        out = self._line[:, :n].copy()
        self._line[:, : held - n] = self._line[:, n:held].copy()
        self._line[:, held - n :] = 0.0
        self._held = held - n
        return out


def _pedalboard_plugin(stage: Stage) -> Any:
    import pedalboard

    spec, settings = stage.spec, dict(stage.settings)
    if spec.name == "convolution":
        from fxclone.files import read_sound

        response, rate = read_sound(settings["impulse_response"])
        taps = np.zeros((response.shape[0], max(response.shape[1], 4)), np.float32)
        taps[:, : response.shape[1]] = response
        return pedalboard.Convolution(taps, settings["mix"], float(rate))
    if "mode" in settings:
        settings["mode"] = getattr(pedalboard.LadderFilter.Mode, settings["mode"])
    kind = {"lowpass1": "LowpassFilter", "highpass1": "HighpassFilter"}.get(spec.name) or spec.aliases[0]
    return getattr(pedalboard, kind)(**settings)


def _butterworth(kind: Literal["lowpass", "highpass"]) -> Callable[[Settings, int], npt.NDArray[np.float64]]:
    def design(settings: Settings, sample_rate: int) -> npt.NDArray[np.float64]:
        from scipy.signal import butter

        order, cutoff = int(settings["order"]), float(settings["cutoff_hz"])
        return np.asarray(butter(order, cutoff, btype=kind, fs=float(sample_rate), output="sos"))

    return design


def _dcblock(settings: Settings, sample_rate: int) -> npt.NDArray[np.float64]:
    pole = float(np.exp(-2 * np.pi * settings["cutoff_hz"] / sample_rate))
    scale = (1 + pole) / 2
    return np.array([[scale, -scale, 0.0, 1.0, -pole, 0.0]])


_OWN: dict[str, Callable[[Stage], Processor]] = {
    "lowpass": lambda stage: Filter(stage, _butterworth("lowpass")),
    "highpass": lambda stage: Filter(stage, _butterworth("highpass")),
    "dcblock": lambda stage: Filter(stage, _dcblock),
    "ringmod": RingModulator,
    "cabinet": Cabinet,
}
