"""A plugin as a stream, in this very process: for playing, where each block has to be back in a millisecond.

A plugin that crashes takes the process with it. So only a process that holds nothing else may do this: the audio
process of `fxclone play`, whose end the user is told of. Everything else renders through `plugin_process`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fxclone.audio import Audio
from fxclone.effects import plugin_child
from fxclone.effects.expression import parse_chain
from fxclone.effects.plugin import PRESET, Plugin, described
from fxclone.effects.plugin_find import find_plugin
from fxclone.effects.spec import Stage
from fxclone.errors import EffectError

SHORTEST_BLOCK = 64
"""Of the silence at the beginning: from its shape pedalboard learns which axis is the channels, and keeps to that."""


class LivePlugin:
    """A `Processor`: one plugin, or one for each channel if it is mono. A stereo plugin makes mono sound stereo.

    Parameters
    ----------
    stage : Stage
        A plugin with its settings, as `fxclone.effects.effect` gives it.
    """

    slow_reset = True
    tail_s = 60.0
    """Nobody knows how long a plugin rings; silence after it is not taken for a fault for so long."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._plugin = _looked_at(stage)
        self.channels_out = self.latency_samples = self.tail_samples = 0

    @property
    def name(self) -> str:
        """Of the plugin."""
        return self._plugin.title

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Load it.

        Raises
        ------
        EffectError
            If it refuses the rate or its channels.
        """
        self._rate, self._block = float(sample_rate), max_block
        self._stereo = self._plugin.facts["channels"] == 2
        if self._stereo and channels > 2:
            raise EffectError(f"{self.name} takes up to 2 channels; it would get {channels}")
        self.channels_out = 2 if self._stereo else channels
        job = self._plugin.job(self.stage.settings)
        self._loaded = [plugin_child.load(job, job["values"]) for _ in range(1 if self._stereo else channels)]
        self._in = np.zeros((2 if self._stereo else 1, max_block), np.float32)
        self._out = np.zeros((self.channels_out, max_block), np.float32)
        self.reset()
        self.latency_samples = int(self._loaded[0].reported_latency_samples)
        self.tail_samples = round(self.tail_s * sample_rate)

    def reset(self) -> None:
        """Back to silence, with all settings arrived. Not quick: a plugin sets itself up anew."""
        size = max(SHORTEST_BLOCK, self._block)
        silence = np.zeros((2 if self._stereo else 1, size), np.float32)
        blocks = -(-plugin_child.LEAD_IN_SAMPLES // size)
        try:
            for loaded in self._loaded:
                for number in range(blocks):
                    loaded.process(silence, self._rate, buffer_size=size, reset=number == 0)
        except (ValueError, RuntimeError) as error:
            raise EffectError(f"{self.name} cannot be played at {self._rate:g} Hz: {error}") from error

    def process(self, block: Audio) -> Audio:
        """Run it with its state carried on; the output is as late as the plugin says."""
        n = block.shape[1]
        out = self._out[:, :n]
        if self._stereo:
            both = self._in[:, :n]
            both[...] = block
            _put(self._loaded[0].process(both, self._rate, buffer_size=self._block, reset=False), out)
            return out
        for channel, loaded in enumerate(self._loaded):
            mono = self._in[:, :n]
            mono[...] = block[channel]
            wet = loaded.process(mono, self._rate, buffer_size=self._block, reset=False)
            _put(wet, out[channel : channel + 1])
        return out


def _put(wet: Audio, out: Audio) -> None:
    """Copy to the end: what a plugin holds back once is silence."""
    came = min(wet.shape[1], out.shape[1])
    out[:, : out.shape[1] - came] = 0.0
    out[:, out.shape[1] - came :] = wet[:, wet.shape[1] - came :]


def _looked_at(stage: Stage) -> Plugin:
    (link,) = parse_chain(stage.spec.address)
    address, preset = find_plugin(link.scheme, link.name), str(stage.settings.get(PRESET, ""))
    stamps = tuple(Path(path).stat().st_mtime_ns for path in (address.path, preset) if path)
    return described(address, preset, stamps)


__all__ = ["LivePlugin"]
