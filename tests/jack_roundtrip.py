"""The round trip of a bare PortAudio stream, without anything of fxclone: a program for the tests.

Plays a click every half second until one comes back, prints ``ready`` when it runs and the delay in samples at the end.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import sounddevice

RATE, BLOCK = 48_000, int(sys.argv[1])
PERIOD = RATE // 2
at, found, done = [0], [], threading.Event()


def callback(indata, outdata, frames, clock, status):
    n = at[0] + np.arange(frames)
    outdata[:] = np.where(n % PERIOD == PERIOD // 2, 0.5, 0.0)[:, None]
    hit = np.flatnonzero(np.abs(indata[:, 0]) > 0.25)
    if hit.size:
        found.append(int(n[hit[0]] % PERIOD - PERIOD // 2))
        if len(found) == 3:
            done.set()
    at[0] += frames


sys.setswitchinterval(1e-4)
with sounddevice.Stream(
    samplerate=RATE, blocksize=BLOCK, channels=(1, 2), dtype="float32", latency="low", callback=callback
):
    print("ready", flush=True)
    done.wait(20)
    time.sleep(0.1)
print(*found, flush=True)
