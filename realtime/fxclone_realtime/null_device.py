"""A device without a sound card: paced by the clock like a real one, and as strict about deadlines."""

from __future__ import annotations

import threading
import time

import numpy as np

from fxclone_realtime.engine import Engine
from fxclone_realtime.sources import FileSource


class NullDevice:
    """Calls the engine once per block period from a thread of its own; the output is thrown away.

    Block k arrives at ``start + k * period`` and has to be finished one period later, as with a sound card that has two
    buffers. A block that is finished later is one drop-out, and the periods that it missed are skipped.

    Parameters
    ----------
    sample_rate, block : int
        The pace.
    channels_in, channels_out : int
        What it pretends to have. With a source, its channel count is ``channels_in``.
    source : FileSource or None
        What to feed; silence if None.
    """

    name = "null"

    def __init__(
        self,
        sample_rate: int,
        block: int,
        *,
        channels_in: int = 1,
        channels_out: int = 2,
        source: FileSource | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.block = block
        self.channels_in = source.channels if source else channels_in
        self.channels_out = channels_out
        self._source = source
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, engine: Engine) -> None:
        """Begin to call the engine."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(engine,), name="null-device", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the block that is being processed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def check(self) -> None:
        """A null device is never lost."""

    @property
    def latency_s(self) -> tuple[float, float]:
        """One block each way, as with two buffers."""
        return (self.block / self.sample_rate, self.block / self.sample_rate)

    def _run(self, engine: Engine) -> None:
        dry = np.zeros((self.channels_in, self.block), dtype=np.float32)
        out = np.zeros((self.channels_out, self.block), dtype=np.float32)
        period = self.block / self.sample_rate
        stopped, clock, sleep = self._stop.is_set, time.perf_counter, time.sleep
        start, k = clock(), 0
        while not stopped():
            wait = start + k * period - clock()
            if wait > 0:
                sleep(wait)
            if self._source is not None:
                self._source.fill(dry)
            engine.process_into(dry, out)
            k += 1
            late = clock() - (start + k * period)
            if late > 0:
                engine.meters.xrun("late block")
                k += int(late / period)
