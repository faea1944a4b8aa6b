"""Resetting what is slow to reset, while sound runs: in a thread of its own, so that the audio callback never waits."""

from __future__ import annotations

import queue
import threading
import weakref

from fxclone.processor import Processor
from fxclone.stability.known import parts_of

LARGEST_STATE_BYTES = 65_536
"""Writing more, as of a hall whose spectra are megabytes, takes longer than a block may."""


def is_slow_to_reset(processor: Processor) -> bool:
    """Whether anything in it takes longer than a block: it says so in ``slow_reset``, or remembers very much."""
    return any(
        getattr(part, "slow_reset", False) or getattr(part, "state_bytes", 0) > LARGEST_STATE_BYTES
        for part in parts_of(processor)
    )


class Resetter:
    """Resets a processor when asked to. While ``pending``, nobody else may touch it.

    Parameters
    ----------
    processor : Processor
    """

    def __init__(self, processor: Processor) -> None:
        self._work = _Work(processor)
        threading.Thread(target=self._work.run, name="reset", daemon=True).start()
        weakref.finalize(self, self._work.asked.put, False)

    def ask(self) -> None:
        """Begin, from the audio callback: neither waits nor locks."""
        self._work.wanted += 1
        self._work.asked.put(True)

    @property
    def pending(self) -> bool:
        """Whether it is not done yet.

        Raises
        ------
        Exception
            Whatever the processor raised when it was reset.
        """
        if self._work.failure is not None:
            raise self._work.failure
        return self._work.done != self._work.wanted

    def reset_now(self) -> None:
        """Reset and wait for it, from any thread but the callback's, while the processor is not played."""
        self._work.reset()


class _Work:
    """What the thread knows: not the `Resetter`, so that it ends when that is gone."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._busy = threading.Lock()
        self.asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.wanted = self.done = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        while self.asked.get():
            try:
                if self.done != self.wanted:  # else `reset_now` has done it meanwhile
                    self.reset()
            except Exception as error:
                self.failure = error

    def reset(self) -> None:
        with self._busy:
            wanted = self.wanted
            self._processor.reset()
            self.done = wanted
