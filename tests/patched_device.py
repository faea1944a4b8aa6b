"""A device whose output is patched through a pedal into its input, without a sound card, as fast as it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from fxclone.errors import DeviceError


class PatchedDevice:
    """An `AudioDevice` for what JACK cannot be made to do at will.

    Parameters
    ----------
    pedal : callable
        One block of output, shape (samples,), to one block of return. Comes back a block later.
    xrun_at, lost_at : int or None
        At which block the device reports a drop-out, or is lost.
    loopback : bool
        Whether a second input hears the output.
    """

    name = "patched"

    def __init__(
        self,
        pedal: Callable[[np.ndarray], np.ndarray],
        *,
        sample_rate: int = 48_000,
        block: int = 512,
        xruns_at: tuple[int, ...] = (),
        lost_at: int | None = None,
        loopback: bool = False,
    ) -> None:
        self.sample_rate, self.block = sample_rate, block
        self.channels_in, self.channels_out = 2 if loopback else 1, 1
        self.latency_s = (0.0, 1e9)
        self._pedal, self._xruns_at, self._lost_at = pedal, set(xruns_at), lost_at
        self._stop, self._lost = threading.Event(), False
        self._thread: threading.Thread | None = None

    def start(self, engine):
        self._thread = threading.Thread(target=self._run, args=(engine,), daemon=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(timeout=10)

    def check(self):
        if self._lost:
            raise DeviceError("audio device lost: patched has stopped")

    def _run(self, engine):
        back = np.zeros((self.channels_in, self.block), np.float32)
        out = np.zeros((1, self.block), np.float32)
        count = 0
        while not self._stop.is_set():
            if count == self._lost_at:
                self._lost = True
                return
            if count in self._xruns_at:
                engine.meters.xrun("input overflow")
            engine.process_into(back, out)
            back[0] = self._pedal(out[0])
            back[1:] = out
            count += 1
            if count % 32 == 0:
                time.sleep(0.0005)  # so that the main thread may look
