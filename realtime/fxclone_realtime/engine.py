"""The live engine: from dry input to safe output, one block at a time, without knowing which device drives it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Processor, channels_after
from fxclone_realtime.ceiling import SoftCeiling
from fxclone_realtime.delay import DelayLine
from fxclone_realtime.meters import Meters, TimeHistogram
from fxclone_realtime.recorder import Recorder


@dataclass(frozen=True)
class SoundPath:
    """What happens to the sound around the processor. Gains are linear."""

    in_gain: float = 1.0
    out_gain: float = 1.0
    mix: float = 1.0
    """1 is wet only, 0 is dry only; the dry sound is delayed to line up with the wet."""
    ceiling: float = 1.0


class Engine:
    """Runs a processor inside an audio callback and counts what the face shows.

    All buffers are made here. `process_into` does not log, print, lock or grow; if the processor raises, it plays
    silence and keeps the exception in ``failure`` for whoever drives the session.

    Parameters
    ----------
    processor : Processor
        Usually a `StabilityMonitor` around a chain. It is prepared here.
    sample_rate, max_block : int
        Larger blocks are cut; smaller and varying ones are fine.
    channels_in, channels_out : int
        What the device gives and takes. The processor gets ``channels_in`` and may give another number: a mono result
        goes to every output, one of as many channels as there are outputs goes to them one by one, and of any other
        all outputs get the mean.
    recorder : Recorder or None
        Gets everything that was heard.
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
    ) -> None:
        self.processor = processor
        self.sample_rate, self.max_block = sample_rate, max_block
        self.channels_in, self.channels_out = channels_in, channels_out
        self.path = path or SoundPath()
        self.recorder = recorder
        self.failure: Exception | None = None
        processor.prepare(sample_rate, max_block, channels_in)
        self.wet_channels = channels_after(processor, channels_in)
        self.budget_s = max_block / sample_rate
        self.meters = Meters(TimeHistogram(self.budget_s), wet_peaks=[0.0] * channels_out)
        self._dry = np.zeros((channels_in, max_block), dtype=np.float32)
        self._magnitude = np.zeros((channels_in, max_block), dtype=np.float32)
        self._wet = np.zeros((self.wet_channels, max_block), dtype=np.float32)
        self._out = np.zeros((channels_out, max_block), dtype=np.float32)
        self._delay = DelayLine(channels_in, max_block, processor.latency_samples)
        self._ceiling = SoftCeiling(channels_out, max_block, self.path.ceiling)

    @property
    def latency_samples(self) -> int:
        """What the processor adds; the engine itself adds none."""
        return self.processor.latency_samples

    def process_into(self, dry: Audio, out: Audio) -> None:
        """Process ``dry`` (channels_in, n) into ``out`` (channels_out, n); any n, any memory order."""
        began = time.perf_counter()
        n = out.shape[1]
        try:
            with np.errstate(all="ignore"):  # NaN is the monitor's business, not a warning's
                for start in range(0, n, self.max_block):
                    stop = min(n, start + self.max_block)
                    self._process_chunk(dry[:, start:stop], out[:, start:stop])
        except Exception as error:
            self.failure = self.failure or error
            out.fill(0.0)
        meters = self.meters
        meters.samples += n
        meters.blocks += 1
        ended = time.perf_counter()
        if meters.first_block_s is None:
            meters.first_block_s = ended
        meters.last_callback_s = ended - began
        meters.times.add(ended - began)

    def _process_chunk(self, dry: Audio, out: Audio) -> None:
        n = out.shape[1]
        path, meters = self.path, self.meters
        block = self._dry[:, :n]
        np.multiply(dry, path.in_gain, out=block)
        magnitude = self._magnitude[:, :n]
        np.abs(block, out=magnitude)
        meters.dry_peak = max(meters.dry_peak, float(magnitude.max()))
        wet = self.processor.process(block)
        if path.mix < 1.0:
            wet = self._mixed(wet, self._delay.process(block))
        heard = self._out[:, :n]
        if wet.shape[0] == heard.shape[0] or wet.shape[0] == 1:
            np.multiply(wet, path.out_gain, out=heard)
        else:
            np.mean(wet, axis=0, out=heard[0])
            np.multiply(heard[:1], path.out_gain, out=heard)
        peaks = self._ceiling.apply(heard)
        for channel, peak in enumerate(peaks.tolist()):
            meters.wet_peaks[channel] = max(meters.wet_peaks[channel], peak)
        if not peaks.max() <= path.ceiling:
            meters.clipped_blocks += 1
        if self.recorder is not None:
            self.recorder.push(heard)
        out[...] = heard

    def _mixed(self, wet: Audio, dry: Audio) -> Audio:
        mix = self.path.mix
        result = self._wet[:, : wet.shape[1]]
        np.multiply(wet, mix, out=result)
        if dry.shape[0] != result.shape[0] and dry.shape[0] != 1:
            dry = dry.mean(axis=0, keepdims=True)
        np.nan_to_num(dry, copy=False, nan=0.0, posinf=0.0, neginf=0.0)  # the engine's own buffer
        np.multiply(dry, 1.0 - mix, out=dry)
        result += dry
        return result
