"""Making the Python interpreter behave while sound is running in it."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWITCH_INTERVAL_S = 0.0002
"""How long another thread may keep the interpreter from the audio callback. Python's 5 ms are several blocks."""


@contextmanager
def audio_priority() -> Iterator[None]:
    """Garbage collection off, everything so far frozen, short switch interval; all put back afterwards."""
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.disable()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if collecting:
            gc.enable()


_IMPORTED_AT = time.perf_counter()


def process_start() -> float:
    """When this process began, on the clock of ``time.perf_counter()``, to 10 ms.

    From ``/proc`` on Linux; elsewhere from the process's CPU time, which is a little late, but never later than when
    this module was imported.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # since boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
        return time.perf_counter() - age
    except (OSError, AttributeError, ValueError, IndexError):
        return min(_IMPORTED_AT, time.perf_counter() - time.process_time())
