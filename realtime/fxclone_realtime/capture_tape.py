"""The tape machine of a capture: plays a sound to the device and records what comes back, sample for sample.

It is a `Processor`, so `Engine` and every device drive it as they drive a clone. The audio callback only copies between
buffers that were made before; whatever has to be found out about the sound is found out afterwards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fxclone.audio import Audio
from fxclone_realtime.meters import Meters

MAX_XRUNS = 1_000


class Pass:
    """One run of the tape.

    Parameters
    ----------
    sound : Audio [shape=(1, samples)]
        What to play.
    channels : int
        How many to record.
    tail : int
        How many samples to go on recording after the end; 0 with ``loop``.
    loop : bool
        Play and record round and round until stopped.

    Attributes
    ----------
    taken : Audio [shape=(channels, samples + tail)]
        What came back; sample k was recorded while sample k was played.
    at : int
        How many samples are recorded.
    """

    def __init__(self, sound: Audio, channels: int, *, tail: int = 0, loop: bool = False) -> None:
        self.sound, self.loop = sound, loop
        self.length = sound.shape[1] + tail
        self.taken: Audio = np.zeros((channels, self.length), np.float32)
        self.taken.fill(0.0)  # touches every page now, not in the callback
        self.at = 0
        self.peak = 0.0
        """Loudest sample of the return since `take_peak`."""
        self._xruns = np.zeros(MAX_XRUNS, np.int64)
        self._xrun_count = 0

    @property
    def done(self) -> bool:
        """Whether all is recorded."""
        return not self.loop and self.at >= self.length

    @property
    def xruns(self) -> list[int]:
        """At which sample of the pass the device reported a drop-out."""
        return [int(at) for at in self._xruns[: min(self._xrun_count, MAX_XRUNS)]]

    def note_xrun(self) -> None:
        """Remember that the device reported a drop-out just now."""
        if self._xrun_count < MAX_XRUNS:
            self._xruns[self._xrun_count] = self.at
        self._xrun_count += 1

    def take_peak(self) -> float:
        """The loudest sample since the last call."""
        top, self.peak = self.peak, 0.0
        return top


class Tape:
    """Plays and records the current `Pass`; silence without one.

    Parameters
    ----------
    channels_out : int
        Of the device.
    play_on : tuple of int
        Which of those the sound goes to, counted from 0.
    returns : int
        How many of the recorded channels are the return, from the first on; the meter looks at those.
    """

    latency_samples = 0
    tail_samples = 0

    def __init__(self, channels_out: int, play_on: tuple[int, ...], returns: int) -> None:
        self.channels_out = channels_out
        self.meters: Meters | None = None
        """Of the engine; where the device counts drop-outs."""
        self._play_on, self._returns = play_on, returns
        self._pass: Pass | None = None
        self._seen = 0
        self._out: Audio = np.zeros((channels_out, 1), np.float32)
        self._magnitude: npt.NDArray[np.float32] = np.zeros((returns, 1), np.float32)

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Make the buffers."""
        self._out = np.zeros((self.channels_out, max_block), np.float32)
        self._magnitude = np.zeros((self._returns, max_block), np.float32)

    def reset(self) -> None:
        """Stop."""
        self._pass = None

    def roll(self, run: Pass | None) -> None:
        """Begin a pass with the next block, in place of the one that runs; None stops."""
        self._pass = run

    def process(self, block: Audio) -> Audio:
        """Record a block and return the one to play."""
        n = block.shape[1]
        out = self._out[:, :n]
        out.fill(0.0)
        run = self._pass
        xruns = self.meters.xruns if self.meters is not None else 0
        if run is None or run.done:
            self._seen = xruns
            return out
        if xruns != self._seen:
            self._seen = xruns
            run.note_xrun()
        magnitude = self._magnitude[:, :n]
        np.abs(block[: self._returns], out=magnitude)
        run.peak = max(run.peak, float(magnitude.max()))
        done, at = 0, run.at
        while done < n and at < run.length:
            part = min(n - done, run.length - at)
            run.taken[:, at : at + part] = block[:, done : done + part]
            sent = min(part, run.sound.shape[1] - at)
            if sent > 0:
                for channel in self._play_on:
                    out[channel, done : done + sent] = run.sound[0, at : at + sent]
            done, at = done + part, at + part
            if run.loop and at >= run.length:
                at = 0
        run.at = at
        return out
