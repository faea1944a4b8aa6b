"""Keeping the processor awake while sound runs.

Between two blocks it has nothing to do and goes to sleep, and the deeper it sleeps the later it wakes up for the next
one. On Linux, whoever holds a certain file open says how many microseconds late that may be; 0 is no sleep at all.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LATENCY_FILE = Path("/dev/cpu_dma_latency")
"""Of the kernel (Documentation/power/pm_qos_interface): a request, a 32-bit number, lasts as long as it is open."""


@contextmanager
def processor_awake(file: Path = LATENCY_FILE) -> Iterator[bool]:
    """Keep the processor from sleeping inside this context; gives whether the system allows it. Never fails."""
    try:
        held = os.open(file, os.O_WRONLY)
    except OSError:  # another system, or not this user
        yield False
        return
    try:
        try:
            os.write(held, struct.pack("=i", 0))
            allowed = True
        except OSError:
            allowed = False
        yield allowed
    finally:
        os.close(held)
