"""One thing that can be heard: a processor, and beside it the dry sound, as late as the processor is."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Processor, channels_after
from fxclone.stability.history import History
from fxclone.stability.monitor import StabilityMonitor


class Voice:
    """A prepared processor with its own dry path, so that bypass and mix line up whatever its latency.

    Parameters
    ----------
    processor : Processor
        Is prepared here.
    name : str
        What the player calls it.
    sample_rate, max_block, channels_in, channels_out : int
        Of the engine. A mono result goes to every output, one of as many channels as there are outputs goes to them
        one by one, and of any other all outputs get the mean; the dry sound likewise.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        sample_rate: int,
        max_block: int,
        channels_in: int,
        channels_out: int,
        name: str = "",
    ) -> None:
        self.processor, self.name = processor, name
        processor.prepare(sample_rate, max_block, channels_in)
        self.wet_channels = channels_after(processor, channels_in)
        self.monitor = processor if isinstance(processor, StabilityMonitor) else None
        self._channels_out, self._late_by = channels_out, processor.latency_samples
        self._past = History(channels_in, self._late_by + max_block, max_block)
        self._out = np.zeros((channels_out, max_block), dtype=np.float32)
        self._dry = np.zeros((channels_out, max_block), dtype=np.float32)
        self._dry_share = np.zeros(max_block, dtype=np.float32)

    def process(self, dry: Audio, driven: Audio, mix: float | Audio) -> Audio:
        """One block.

        Parameters
        ----------
        dry, driven : Audio [shape=(channels_in, n)]
            What came in, and what the processor gets: the same with the input gain.
        mix : float or array [shape=(n,)]
            0 is dry, 1 is wet.

        Returns
        -------
        Audio [shape=(channels_out, n)]
            Or of one channel, if that is the same for all outputs. Not to be changed: it may be the processor's own
            buffer, or ``driven``. The next call may overwrite it.
        """
        if self._late_by:
            self._past.push(dry)
        wet = self.processor.process(driven)
        n = wet.shape[1]
        out = self._out[:, :n]
        if type(mix) is float and mix == 1.0:
            if wet.shape[0] == self._channels_out or wet.shape[0] == 1:
                return wet
            _spread(wet, out)
            return out
        _spread(wet, out)
        beside, share = self._dry[:, :n], self._dry_share[:n]
        _spread(self._past.past(n, self._late_by) if self._late_by else dry, beside)
        np.nan_to_num(beside, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.subtract(1.0, mix, out=share)
        beside *= share
        out *= mix
        out += beside
        return out

    def reset(self) -> None:
        """Start afresh; not while it is being played."""
        self.processor.reset()
        self._past.clear()


def _spread(sound: Audio, out: Audio) -> None:
    if sound.shape[0] == out.shape[0] or sound.shape[0] == 1:
        out[...] = sound
    else:
        np.mean(sound, axis=0, out=out[0])
        out[1:] = out[0]
