"""A value that is changed while sound runs through it: it glides to its new place, so that nobody hears a step."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio

RAMP_S = 0.010
"""A step in gain is a click; within 10 ms it is none, and still feels at once."""


class Ramp:
    """A gain or a share that moves in a straight line to wherever `aim` points, in a fixed time.

    `aim` may be called from any thread; everything else belongs to the audio callback. Nothing grows. While ``moving``
    is False, all that `take` would give is ``value``, and need not be asked for it.

    Parameters
    ----------
    value : float
        Where it stands at first.
    samples : int
        How long each way takes.
    max_block : int
        The longest piece that is taken at once.
    """

    def __init__(self, value: float, samples: int, max_block: int) -> None:
        self.value = self._goal = self._target = float(value)
        self.moving = False
        self._samples, self._left, self._step = max(1, samples), 0, 0.0
        self._count = np.arange(1, max_block + 1, dtype=np.float32)
        self._curve = np.zeros(max_block, dtype=np.float32)

    @property
    def target(self) -> float:
        """Where it stands or is going."""
        return self._target

    @property
    def resting(self) -> bool:
        """Whether it has arrived."""
        return self._left == 0 and self._goal == self._target

    def aim(self, target: float) -> None:
        """Go there, from the next block on."""
        self._target = float(target)
        self.moving = True

    def jump(self, value: float) -> None:
        """Be there at once."""
        self.value = self._goal = self._target = float(value)
        self._left = 0
        self.moving = False

    def take(self, n: int) -> float | Audio:
        """The next n values: a number if they are all the same, else an array (n,) that the next call reuses."""
        self.moving = False  # first: an `aim` that comes meanwhile makes it move again
        target = self._target
        if self._goal != target:
            self._goal = target
            self._left = self._samples
            self._step = (self._goal - self.value) / self._samples
        if not self._left:
            return self.value
        moving = min(n, self._left)
        curve = self._curve[:n]
        np.multiply(self._count[:moving], self._step, out=curve[:moving])
        curve[:moving] += self.value
        curve[moving:] = self._goal
        self._left -= moving
        self.value = self.value + moving * self._step if self._left else self._goal
        if self._left:
            self.moving = True
        return curve
