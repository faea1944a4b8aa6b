"""Making the Python interpreter behave while sound is running in it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWITCH_INTERVAL_S = 0.0001
"""How long another thread may keep the interpreter from the audio callback. Python's 5 ms are several blocks."""


@contextmanager
def audio_priority() -> Iterator[None]:
    """Garbage collection off, everything so far frozen, short switch interval; all put back afterwards.

    The calling thread gets a real-time priority too, where allowed, though the lowest: were it ordinary, any other
    program could stop it while it holds the interpreter, and the audio with it. Threads that it starts do not inherit.
    """
    interval, collecting, scheduling = sys.getswitchinterval(), gc.isenabled(), _raise_beside_audio()
    gc.disable()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        if scheduling is not None:
            os.sched_setscheduler(0, *scheduling)
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if collecting:
            gc.enable()


def _raise_beside_audio() -> tuple[int, os.sched_param] | None:
    """Return what the calling thread had before, or None if nothing was changed."""
    if not hasattr(os, "sched_setscheduler"):
        return None
    had = os.sched_getscheduler(0), os.sched_getparam(0)
    if had[0] != os.SCHED_OTHER:
        return None
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return None
    return had


REALTIME_PRIORITY = 70
"""Of 99: above everything ordinary, below the kernel's own threads and a JACK server."""
_NICENESS = -15
_X86_MXCSR_AT, _X86_FLUSH = 28, 0x8040  # flush to zero and denormals are zero
_ARM_FLUSH = 1 << 24


def raise_priority() -> str:
    """Give the calling thread what the system allows it, and its denormals up; return what came of it.

    To be called once from the audio thread: with the priority of ordinary programs, any of them may hold up the sound.
    """
    denormals = "" if denormals_off() else ", denormals not flushed"
    if not hasattr(os, "sched_setscheduler"):
        return f"the audio driver's own priority{denormals}"
    try:
        if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
            return f"real-time priority, by the audio driver{denormals}"
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))
        return f"real-time priority{denormals}"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        return f"raised priority (nice {_NICENESS}), not real-time{denormals}"
    except OSError:
        return f"no raised priority: this user may not (see limits.conf, rtprio){denormals}"


def denormals_off() -> bool:
    """Let the processor take denormal numbers for zero in the calling thread; False where we do not know how.

    What dies away in a filter ends in numbers below 1e-38, which some processors handle a hundred times slower.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes
    import platform

    libm = ctypes.CDLL(None)
    state = (ctypes.c_uint32 * 16)()
    try:
        if libm.fegetenv(ctypes.byref(state)):
            return False
        if platform.machine() in ("x86_64", "AMD64"):
            state[_X86_MXCSR_AT // 4] |= _X86_FLUSH
        elif platform.machine() in ("aarch64", "arm64"):
            state[0] |= _ARM_FLUSH
        else:
            return False
        return bool(libm.fesetenv(ctypes.byref(state)) == 0)
    except AttributeError:
        return False


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


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that stopping is the normal end of playing and not an error."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, lambda *_: event.set())
    try:
        yield event
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
