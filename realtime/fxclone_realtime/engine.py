"""The live engine: from dry input to safe output, one block at a time, without knowing which device drives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Processor
from fxclone_realtime.ceiling import SoftCeiling
from fxclone_realtime.meters import Meters
from fxclone_realtime.ramp import RAMP_S, Ramp
from fxclone_realtime.recorder import Recorder
from fxclone_realtime.voice import Voice

FADE_S = 0.020
"""From one voice to another: long enough not to click, short enough to compare two sounds."""


@dataclass(frozen=True)
class SoundPath:
    """What happens to the sound around the processor. Gains are linear."""

    in_gain: float = 1.0
    """Of what the processor gets; the dry sound beside it is what came in."""
    out_gain: float = 1.0
    mix: float = 1.0
    """1 is wet only, 0 is dry only; the dry sound is delayed to line up with the wet."""
    ceiling: float = 1.0


class Engine:
    """Runs voices inside an audio callback and counts what the face shows.

    One `Voice` is heard. `play` turns to another one by a crossfade, gains, mix and bypass glide; these may be called
    from any thread. All buffers are made before. `process_into` does not log, print, lock or grow; if a processor
    raises, it plays silence and keeps the exception in ``failure`` for whoever drives the session.

    Parameters
    ----------
    processor : Processor
        The first voice: usually a `StabilityMonitor` around a chain. It is prepared here.
    sample_rate, max_block : int
        Larger blocks are cut; smaller and varying ones are fine.
    channels_in, channels_out : int
        What the device gives and takes. The processor gets ``channels_in`` and may give another number: see `Voice`.
    recorder, dry_recorder : Recorder or None
        Get everything that was heard, and everything that came in.
    meters : Meters or None
        Where to count; its own if None.
    on_first_block : callable or None
        Called once, in the audio thread, before the first block.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        sample_rate: int,
        max_block: int,
        channels_in: int,
        channels_out: int,
        path: SoundPath | None = None,
        recorder: Recorder | None = None,
        dry_recorder: Recorder | None = None,
        meters: Meters | None = None,
        on_first_block: Callable[[], None] | None = None,
    ) -> None:
        self.sample_rate, self.max_block = sample_rate, max_block
        self.channels_in, self.channels_out = channels_in, channels_out
        self.path = path or SoundPath()
        self.recorder, self.dry_recorder = recorder, dry_recorder
        self.failure: Exception | None = None
        self.budget_s = max_block / sample_rate
        self.meters = meters or Meters(self.budget_s, channels_out)
        self.meters.touch()
        self._on_first_block = on_first_block
        self._now = self._wanted = self.voice(processor)
        self._next: Voice | None = None
        self._warm: tuple[Voice, ...] = ()
        glide = round(RAMP_S * sample_rate)
        self._in_gain = Ramp(self.path.in_gain, glide, max_block)
        self._out_gain = Ramp(self.path.out_gain, glide, max_block)
        self._mix, self._mix_asked, self._bypass = Ramp(self.path.mix, glide, max_block), self.path.mix, False
        self._fade = Ramp(0.0, round(FADE_S * sample_rate), max_block)
        self._raw = np.zeros((channels_in, max_block), dtype=np.float32)
        self._driven = np.zeros((channels_in, max_block), dtype=np.float32)
        self._magnitude = np.zeros((channels_in, max_block), dtype=np.float32)
        self._heard = np.zeros((channels_out, max_block), dtype=np.float32)
        # NaN is the monitor's business, not a warning's. Made once: `np.errstate` would have to make it in each block.
        self._quietly = copy_context()
        self._quietly.run(np.seterr, all="ignore")
        self._ceiling = SoftCeiling(channels_out, max_block, self.path.ceiling)

    # Any thread

    def voice(self, processor: Processor, name: str = "") -> Voice:
        """Prepare another voice for this engine; slow, so never in the callback."""
        return Voice(
            processor,
            sample_rate=self.sample_rate,
            max_block=self.max_block,
            channels_in=self.channels_in,
            channels_out=self.channels_out,
            name=name,
        )

    def play(self, voice: Voice) -> None:
        """Turn to another voice with a crossfade, from the next block on; one that was silent starts afresh."""
        if voice not in (self._now, self._next, self._wanted, *self._warm):
            voice.reset()
        self._wanted = voice

    def keep_warm(self, *voices: Voice) -> None:
        """Run these always, heard or not, so that turning to them is at once and in the middle of their sound."""
        self._warm = voices

    @property
    def playing(self) -> Voice:
        """The voice that is heard, or being turned to."""
        return self._wanted

    @property
    def processor(self) -> Processor:
        """What the voice that is heard runs."""
        return self._wanted.processor

    @property
    def wet_channels(self) -> int:
        """How many channels that gives."""
        return self._wanted.wet_channels

    @property
    def latency_samples(self) -> int:
        """What the processor adds; the engine itself adds none."""
        return self.processor.latency_samples

    @property
    def in_gain(self) -> float:
        """Linear; setting it glides there."""
        return self._in_gain.target

    @in_gain.setter
    def in_gain(self, value: float) -> None:
        self._in_gain.aim(value)

    @property
    def out_gain(self) -> float:
        """Linear; setting it glides there."""
        return self._out_gain.target

    @out_gain.setter
    def out_gain(self, value: float) -> None:
        self._out_gain.aim(value)

    @property
    def mix(self) -> float:
        """0 dry to 1 wet; setting it glides there."""
        return self._mix_asked

    @mix.setter
    def mix(self, value: float) -> None:
        self._mix_asked = value
        self._mix.aim(0.0 if self._bypass else value)

    @property
    def bypass(self) -> bool:
        """Whether the dry sound alone is heard, as late as the wet; setting it glides there."""
        return self._bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._bypass = on
        self._mix.aim(0.0 if on else self._mix_asked)

    def settle(self) -> None:
        """Be at once where everything glides to; only before the device starts."""
        for ramp in (self._in_gain, self._out_gain, self._mix):
            ramp.jump(ramp.target)
        self._now, self._next = self._wanted, None

    def fade_out(self) -> None:
        """Become silent without a click, before the device is stopped."""
        self._out_gain.aim(0.0)

    # The audio callback

    def process_into(self, dry: Audio, out: Audio) -> None:
        """Process ``dry`` (channels_in, n) into ``out`` (channels_out, n); any n, any memory order."""
        began = time.perf_counter()
        n = out.shape[1]
        meters = self.meters
        if not meters.block_begins() and self._on_first_block is not None:
            self._on_first_block()
        try:
            if n <= self.max_block:
                self._quietly.run(self._process_chunk, dry, out)
            else:
                for start in range(0, n, self.max_block):
                    stop = min(n, start + self.max_block)
                    self._quietly.run(self._process_chunk, dry[:, start:stop], out[:, start:stop])
        except Exception as error:
            self.failure = self.failure or error
            out.fill(0.0)
        meters.block_done(n, began, time.perf_counter())

    def _process_chunk(self, dry: Audio, out: Audio) -> None:
        n, in_gain, mix, out_gain = out.shape[1], self._in_gain, self._mix, self._out_gain
        raw = self._raw if n == self.max_block else self._raw[:, :n]
        raw[...] = dry
        if self.dry_recorder is not None:
            self.dry_recorder.push(raw)
        driven = raw
        if in_gain.moving or in_gain.value != 1.0:
            driven = self._driven[:, :n]
            np.multiply(raw, in_gain.take(n), out=driven)
        now, share = self._now, mix.take(n) if mix.moving else mix.value
        if self._wanted is now and not self._warm:
            heard = now.process(raw, driven, share)
        else:
            heard = self._voices(raw, driven, share)
        dry_peak = self._peak(driven) if now.monitor is None else now.monitor.dry_peak
        if out_gain.moving or out_gain.value != 1.0:
            louder = self._heard[: heard.shape[0], :n]
            np.multiply(heard, out_gain.take(n), out=louder)
            heard = louder
        self.meters.levels(dry_peak, self._ceiling.apply(heard, out), self.path.ceiling)
        if self.recorder is not None:
            self.recorder.push(out)

    def _peak(self, driven: Audio) -> float:
        magnitude = self._magnitude[:, : driven.shape[1]]
        np.abs(driven, out=magnitude)
        return float(magnitude.item(magnitude.argmax()))  # NaN if there is any

    def _voices(self, raw: Audio, driven: Audio, mix: float | Audio) -> Audio:
        """What is heard while another voice is turned to, or runs beside."""
        now, n = self._now, raw.shape[1]
        if self._next is None and self._wanted is not now:
            self._next = self._wanted
            self._fade.jump(0.0)
            self._fade.aim(1.0)
        following = self._next
        heard = now.process(raw, driven, mix)
        if following is not None:
            other, between = following.process(raw, driven, mix), self._heard[:, :n]
            np.subtract(other, heard, out=between)
            between *= self._fade.take(n)
            between += heard
            heard = between
            if self._fade.resting:
                self._now, self._next = following, None
        for voice in self._warm:
            if voice is not now and voice is not following:
                voice.process(raw, driven, mix)
        return heard
