"""A clone that is watched and otherwise is what it was: for whatever asks a processor for its rate or its name."""

from __future__ import annotations

from fxclone.clone import Clone
from fxclone.clone_meta import CloneMeta
from fxclone.stability.monitor import StabilityMonitor


class WatchedClone(StabilityMonitor):
    """A `StabilityMonitor` around one clone, which `fxclone.render.render_file` takes in its place."""

    def __init__(self, clone: Clone) -> None:
        super().__init__(clone)
        self._clone = clone

    @property
    def name(self) -> str:
        """What it is a copy of."""
        return self._clone.name

    @property
    def meta(self) -> CloneMeta:
        """The clone's."""
        return self._clone.meta

    @property
    def sample_rate(self) -> int:
        """The only rate it runs at, in Hz."""
        return self._clone.sample_rate

    @property
    def channels_in(self) -> int:
        """Channels that the model itself takes."""
        return self._clone.channels_in
