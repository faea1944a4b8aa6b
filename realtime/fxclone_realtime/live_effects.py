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
from fxclone_realtime.delay import DelayLine

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
    if spec.source == "nam":
        from fxclone.effects.nam_live import live_nam

        return live_nam(stage)
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

    slow_reset = True
    """An echo of half a minute has megabytes to clear."""

    def make(self, settings: Settings, sample_rate: int, max_block: int, channels: int) -> None:
        """Load it: one for the whole sound if it is a stereo effect, else one for each channel."""
        groups = [slice(0, channels)] if self.stage.spec.stereo else [slice(c, c + 1) for c in range(channels)]
        late = self.latency_samples
        self._parts = [
            (group, _Part(self.stage, group.stop - group.start, float(sample_rate), max_block, late))
            for group in groups
        ]
        self.latency_samples = self._parts[0][1].latency_samples
        self._out = np.zeros((channels, max_block), np.float32)

    def reset(self) -> None:
        """Clear its buffers."""
        for _, part in self._parts:
            part.reset()

    def process(self, block: Audio) -> Audio:
        """Run it with its state carried on."""
        out = self._out[:, : block.shape[1]]
        if block.shape[1]:
            for group, part in self._parts:
                out[group] = part.process(block[group])
        return out


class _Part:
    """One of pedalboard's plugins, as a stream of blocks of any size.

    pedalboard guesses from the shape of the first block which axis is the channels, and starts afresh when a block is
    longer than all before. So each start is silence of the longest block. What has a clock of its own, such as an LFO,
    would be ahead after that: it is mono here, and its longer blocks are cut to the length of the first one.
    """

    def __init__(self, stage: Stage, channels: int, rate: float, max_block: int, latency: int) -> None:
        self._plugin, self._rate = _pedalboard_plugin(stage), rate
        self._has_clock = bool(stage.spec.time_varying)
        self._silence = np.zeros((channels, max(max_block, 2 * channels + 2)), np.float32)
        self._longest = max_block
        self.latency_samples, own = latency, 0
        if latency:
            ahead = np.zeros((channels, latency + self._silence.shape[1]), np.float32)
            own = latency + self._silence.shape[1] - self._plugin.process(ahead, rate, reset=False).shape[1]
        # Those that look ahead take the two channels of a single sample for two samples: they get it with the next one.
        self._pairs = latency > 0 and channels > 1
        self.latency_samples = max(latency, own + self._pairs)
        self._late = DelayLine(channels, max_block, self.latency_samples - own - self._pairs)
        self._first = np.zeros((channels, max_block + 1), np.float32)
        self._wet = np.zeros((channels, max_block + 2), np.float32)

    def reset(self) -> None:
        if self._has_clock:
            self._plugin.reset()
            self._longest = 0
        else:
            self._run(self._silence, reset=True)
        self._late.reset()
        self._kept = self._ready = 0
        if self._pairs:
            self._wet.fill(0.0)
            self._ready = 1

    def process(self, block: Audio) -> Audio:
        if self._pairs:
            return self._late.process(self._in_pairs(block))
        if not self._has_clock:
            return self._late.process(self._run(block))
        n = block.shape[1]
        self._longest = self._longest or n
        if n <= self._longest:
            return self._run(block)
        out = self._wet[:, :n]
        for start in range(0, n, self._longest):
            out[:, start : start + self._longest] = self._run(block[:, start : start + self._longest])
        return out

    def _run(self, block: Audio, *, reset: bool = False) -> Audio:
        wet: Audio = self._plugin.process(
            np.ascontiguousarray(block), self._rate, buffer_size=self._silence.shape[1], reset=reset
        )
        return wet

    def _in_pairs(self, block: Audio) -> Audio:
        """One sample late, so that there are always two to process, or none."""
        n = block.shape[1]
        self._first[:, self._kept : self._kept + n] = block
        there = self._kept + n
        if there > 1:
            self._wet[:, self._ready : self._ready + there] = self._run(self._first[:, :there])
            self._ready, there = self._ready + there, 0
        self._kept = there
        out = self._wet[:, :n].copy()
        self._ready -= n
        self._wet[:, : self._ready] = self._wet[:, n : n + self._ready].copy()
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
