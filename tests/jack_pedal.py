"""A simulated pedal: a formula with latency, gain, polarity, noise and drift; alone, or as a JACK client of its own.

As a program (``python jack_pedal.py --latency-ms 3.7 --gain-db -6 --invert``) it is a client called ``pedal`` with one
input, an output for the effect and a second output that passes the input on untouched, as a loopback cable would.
PortAudio lists it as a device, so that ``fxclone capture --device pedal`` is patched through it. It prints ``ready``
and runs until it is terminated.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

TAPS, FEWEST_TAPS = 320, 64
ROOM_S = 0.5


@dataclass(frozen=True)
class PedalSettings:
    """What the pedal does, in this order: drive, tanh, gain, polarity, latency with drift, noise, faults."""

    drive_db: float = 0.0
    gain_db: float = 0.0
    inverted: bool = False
    latency_samples: float = 0.0
    """0, or at least 32; from 160 on the delay between samples is good up to 23.5 kHz."""
    drift_ppm: float = 0.0
    noise_db: float = -200.0
    linear: bool = False
    drop_after_s: tuple[float, ...] = ()
    """Once each, so long after the first sound: the output is silent for ``drop_samples``."""
    drop_samples: int = 0
    skip_after_s: tuple[float, ...] = ()
    """Once each: ``skip_samples`` are lost, so that everything after comes earlier, for as long as it runs."""
    skip_samples: int = 0


@dataclass
class Pedal:
    """The effect as a stream; any block size gives the same sound."""

    settings: PedalSettings
    sample_rate: int
    heard: int = field(default=0, init=False)
    """Samples since the first one that was not silent."""

    def __post_init__(self) -> None:
        s = self.settings
        if 0 < s.latency_samples < FEWEST_TAPS // 2:
            raise ValueError(f"a latency of {s.latency_samples} samples; expected 0, or at least {FEWEST_TAPS // 2}")
        self._room = int(ROOM_S * self.sample_rate)
        self._past = np.zeros(self._room)
        self._delay = s.latency_samples
        self._rng = np.random.default_rng(5)
        self._drops = sorted(s.drop_after_s)
        self._skips = sorted(s.skip_after_s)
        self._silent = 0

    def formula(self, dry: np.ndarray) -> np.ndarray:
        """The effect without latency, noise and faults, sample by sample."""
        s = self.settings
        driven = dry.astype(np.float64) * 10 ** (s.drive_db / 20)
        wet = driven if s.linear else np.tanh(driven)
        return wet * 10 ** (s.gain_db / 20) * (-1.0 if s.inverted else 1.0)

    def process(self, dry: np.ndarray) -> np.ndarray:
        """One block, shape (samples,)."""
        n = dry.shape[0]
        if self.heard == 0:
            loud = np.flatnonzero(dry)
            self.heard = n - int(loud[0]) if loud.size else 0
        else:
            self.heard += n
        s = self.settings
        if self._skips and self.heard > self._skips[0] * self.sample_rate:
            self._skips.pop(0)
            self._delay -= s.skip_samples
        if self._drops and self.heard > self._drops[0] * self.sample_rate:
            self._drops.pop(0)
            self._silent = s.drop_samples
        self._past = np.concatenate([self._past[n:], self.formula(dry)])
        out = self._delayed(n)
        if s.noise_db > -150:
            out = out + 10 ** (s.noise_db / 20) * self._rng.standard_normal(n)
        if self._silent:
            out[: self._silent] = 0.0
            self._silent = max(0, self._silent - n)
        return out.astype(np.float32)

    def _delayed(self, n: int) -> np.ndarray:
        before = self._delay
        self._delay += n * self.settings.drift_ppm * 1e-6
        if before == 0 and self._delay == 0:
            return self._past[-n:].copy()
        late = self._read(n, before)
        if self._delay == before:
            return late
        mix = (np.arange(n) + 0.5) / n
        return (1 - mix) * late + mix * self._read(n, self._delay)

    def _read(self, n: int, delay: float) -> np.ndarray:
        whole = int(np.floor(delay))
        taps = TAPS if whole >= TAPS // 2 else FEWEST_TAPS
        stop = self._room - whole + taps // 2
        return np.convolve(self._past[stop - n - taps + 1 : stop], _kernel(delay - whole, taps), "valid")

    def render(self, dry: np.ndarray, block: int = 1024) -> np.ndarray:
        """A whole sound, shape (samples,), as a stream of blocks would get it."""
        return np.concatenate([self.process(dry[i : i + block]) for i in range(0, dry.shape[0], block)])


@lru_cache(maxsize=4)
def _kernel(fraction: float, taps: int) -> np.ndarray:
    """A Kaiser-windowed sinc, centred on its middle tap."""
    at = np.arange(taps) - taps // 2 - fraction
    window = np.i0(9.0 * np.sqrt(np.maximum(0.0, 1 - (2 * at / (taps + 2)) ** 2))) / np.i0(9.0)
    return np.sinc(at) * window


class JackClient:
    """The pedal as a client of the running JACK server (libjack through ctypes)."""

    NULL_OPTION, IS_INPUT, IS_OUTPUT = 1, 1, 2
    KIND = b"32 bit float mono audio"

    def __init__(self, settings: PedalSettings, name: str) -> None:
        lib = ctypes.CDLL(ctypes.util.find_library("jack") or "libjack.so.0")
        lib.jack_client_open.restype = lib.jack_port_register.restype = ctypes.c_void_p
        lib.jack_port_get_buffer.restype = ctypes.c_void_p
        lib.jack_port_get_buffer.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        words = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
        lib.jack_port_register.argtypes = [ctypes.c_void_p, *words]
        lib.jack_get_sample_rate.argtypes = lib.jack_activate.argtypes = [ctypes.c_void_p]
        self._client = lib.jack_client_open(name.encode(), self.NULL_OPTION, None)
        if not self._client:
            raise SystemExit("jack_pedal: no JACK server answers")
        self.pedal = Pedal(settings, lib.jack_get_sample_rate(self._client))
        self._in = lib.jack_port_register(self._client, b"in", self.KIND, self.IS_INPUT, 0)
        self._out = lib.jack_port_register(self._client, b"out", self.KIND, self.IS_OUTPUT, 0)
        self._through = lib.jack_port_register(self._client, b"through", self.KIND, self.IS_OUTPUT, 0)
        process_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)
        self._callback = process_type(self._process)
        lib.jack_set_process_callback.argtypes = [ctypes.c_void_p, process_type, ctypes.c_void_p]
        lib.jack_set_process_callback(self._client, self._callback, None)
        self._lib = lib
        if lib.jack_activate(self._client):
            raise SystemExit("jack_pedal: the JACK server refuses")

    def _buffer(self, port: int, n: int) -> np.ndarray:
        address = self._lib.jack_port_get_buffer(port, n)
        return np.ctypeslib.as_array((ctypes.c_float * n).from_address(address))

    def _process(self, n: int, _: object) -> int:
        dry = self._buffer(self._in, n).copy()
        self._buffer(self._through, n)[:] = dry
        self._buffer(self._out, n)[:] = self.pedal.process(dry)
        return 0


def main() -> None:
    """Run as a client until terminated."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--name", default="pedal")
    ask.add_argument("--sample-rate", type=int, default=48_000, help="that --latency-ms is turned into samples with")
    ask.add_argument("--latency-ms", type=float, default=0.0)
    ask.add_argument("--drive-db", type=float, default=0.0)
    ask.add_argument("--gain-db", type=float, default=0.0)
    ask.add_argument("--invert", action="store_true")
    ask.add_argument("--linear", action="store_true")
    ask.add_argument("--drift-ppm", type=float, default=0.0)
    ask.add_argument("--noise-db", type=float, default=-200.0)
    ask.add_argument("--drop-after-s", type=float, nargs="*", default=[])
    ask.add_argument("--drop-samples", type=int, default=0)
    ask.add_argument("--skip-after-s", type=float, nargs="*", default=[])
    ask.add_argument("--skip-samples", type=int, default=0)
    o = ask.parse_args()
    settings = PedalSettings(
        drive_db=o.drive_db,
        gain_db=o.gain_db,
        inverted=o.invert,
        latency_samples=o.latency_ms * o.sample_rate / 1000,
        drift_ppm=o.drift_ppm,
        noise_db=o.noise_db,
        linear=o.linear,
        drop_after_s=tuple(o.drop_after_s),
        drop_samples=o.drop_samples,
        skip_after_s=tuple(o.skip_after_s),
        skip_samples=o.skip_samples,
    )
    sys.setswitchinterval(0.0002)
    client = JackClient(settings, o.name)
    print("ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # JACK's own threads may not let Python end otherwise
    assert client
    threading.Event().wait()


if __name__ == "__main__":
    main()
