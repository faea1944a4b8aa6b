"""Real sound cards through PortAudio. The only place that knows its ``(frames, channels)`` layout."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from fxclone.errors import DeviceError
from fxclone_realtime.devices import USUAL_RATES_HZ, DeviceInfo
from fxclone_realtime.engine import Engine
from fxclone_realtime.meters import Meters
from fxclone_realtime.sources import FileSource

STALL_S = 2.0
"""Without a callback for so long, the device counts as lost. A JACK server whose graph changes may pause a while."""
CLOSE_TIMEOUT_S = 2.0
"""PortAudio may wait for ever on a device that is gone (JACK does); then it is left behind."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence what ALSA, JACK and PortAudio themselves print while they look for devices."""
    if os.environ.get("FXCLONE_DEBUG"):
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def load_portaudio() -> Any:
    """Import sounddevice.

    Raises
    ------
    DeviceError
        If the PortAudio library is missing on this machine or does not start.
    """
    try:
        with quiet_stderr():
            import sounddevice
    except (OSError, ImportError) as error:
        how = "`apt install libportaudio2`" if sys.platform.startswith("linux") else "install PortAudio"
        raise DeviceError(
            f"PortAudio, which talks to the sound card, is not usable on this machine ({error}): {how}; "
            "--device null plays without a sound card"
        ) from None
    except Exception as error:
        raise DeviceError(f"PortAudio does not start on this machine ({error}); try --device null") from None
    return sounddevice


def list_devices(*, rates: bool = False) -> list[DeviceInfo]:
    """Every device, with the usual rates that each one takes if ``rates`` (which asks each driver, so it is slower)."""
    sd = load_portaudio()
    with quiet_stderr():
        apis = sd.query_hostapis()
        default_in, default_out = _default_indices(sd, apis)
        found = []
        for device in sd.query_devices():
            index, inputs, outputs = device["index"], device["max_input_channels"], device["max_output_channels"]
            found.append(
                DeviceInfo(
                    index=index,
                    name=str(device["name"]),
                    host_api=str(apis[device["hostapi"]]["name"]),
                    inputs=inputs,
                    outputs=outputs,
                    default_rate_hz=round(device["default_samplerate"]),
                    low_latency_in_ms=round(1e3 * device["default_low_input_latency"], 2) if inputs else 0.0,
                    low_latency_out_ms=round(1e3 * device["default_low_output_latency"], 2) if outputs else 0.0,
                    is_default_input=index == default_in,
                    is_default_output=index == default_out,
                    input_rates_hz=usable_rates(index, "input") if rates and inputs else (),
                    output_rates_hz=usable_rates(index, "output") if rates and outputs else (),
                )
            )
    return found


def _default_indices(sd: Any, apis: Any) -> tuple[int, int]:
    """The default devices; where PortAudio names none (its first host API is empty), the first host API's that has."""
    pair = [int(sd.default.device[0]), int(sd.default.device[1])]
    for side, key in enumerate(("default_input_device", "default_output_device")):
        known = [int(api[key]) for api in apis if int(api[key]) >= 0]
        if pair[side] < 0 and known:
            pair[side] = known[0]
    return pair[0], pair[1]


def usable_rates(index: int, kind: str, channels: int = 1) -> tuple[int, ...]:
    """The usual sample rates that a device accepts."""
    return tuple(rate for rate in USUAL_RATES_HZ if accepts(index, kind, rate, channels))


def accepts(index: int, kind: str, sample_rate: int, channels: int) -> bool:
    """Whether a device takes this rate and channel count."""
    sd = load_portaudio()
    check = sd.check_input_settings if kind == "input" else sd.check_output_settings
    with quiet_stderr():
        try:
            check(device=index, channels=channels, dtype="float32", samplerate=sample_rate)
        except (sd.PortAudioError, ValueError):
            return False
    return True


class PortAudioDevice:
    """A stream from one device to another, or to one only if a file takes the input's place.

    Parameters
    ----------
    input_device, output_device : DeviceInfo
        ``input_device`` is None if ``source`` feeds the engine.
    sample_rate, block : int
    input_channels : tuple of int
        Which of the input's channels are dry sound, counted from 0.
    channels_out : int
        How many output channels are opened, from the first on.
    """

    def __init__(
        self,
        input_device: DeviceInfo | None,
        output_device: DeviceInfo,
        *,
        sample_rate: int,
        block: int,
        input_channels: tuple[int, ...] = (0,),
        channels_out: int = 2,
        source: FileSource | None = None,
    ) -> None:
        self._input, self._output = input_device, output_device
        self.name = f"{input_device or 'file'} to {output_device}"
        self.sample_rate, self.block = sample_rate, block
        self._pick = list(input_channels)
        self.channels_in = source.channels if source else len(input_channels)
        self.channels_out = min(channels_out, output_device.outputs)
        self._source = source
        self._stream: Any = None
        self._lost = False
        self._engine: Engine | None = None
        self._seen_blocks = -1
        self._seen_at = 0.0

    def start(self, engine: Engine) -> None:
        """Open the stream and begin.

        Raises
        ------
        DeviceError
            If the driver refuses; the message says what the device does take.
        """
        sd = load_portaudio()
        self._engine = engine
        common = {"samplerate": self.sample_rate, "blocksize": self.block, "dtype": "float32", "latency": "low"}
        try:
            with quiet_stderr():
                if self._input is None:
                    self._stream = sd.OutputStream(
                        **common,
                        device=self._output.index,
                        channels=self.channels_out,
                        callback=self._output_callback(engine),
                    )
                else:
                    self._stream = sd.Stream(
                        **common,
                        device=(self._input.index, self._output.index),
                        channels=(max(self._pick) + 1, self.channels_out),
                        callback=self._duplex_callback(engine),
                    )
                self._stream.start()
        except (sd.PortAudioError, ValueError) as error:
            self.stop()
            raise DeviceError(self._refusal(error)) from None
        self._seen_at = time.perf_counter()

    def _duplex_callback(self, engine: Engine) -> Any:
        pick = self._pick
        first, count = pick[0], len(pick)
        neighbours = pick == list(range(first, first + count))

        def callback(indata: Any, outdata: Any, frames: int, clock: Any, status: Any) -> None:
            if status:
                count_flags(engine.meters, status)
            dry = indata[:, first : first + count] if neighbours else indata[:, pick]
            engine.process_into(dry.T, outdata.T)

        return callback

    def _output_callback(self, engine: Engine) -> Any:
        source = self._source
        assert source is not None
        dry = np.zeros((source.channels, max(self.block, engine.max_block)), dtype=np.float32)

        def callback(outdata: Any, frames: int, clock: Any, status: Any) -> None:
            if status:
                count_flags(engine.meters, status)
            out, width = outdata.T, dry.shape[1]
            for start in range(0, frames, width):
                part = dry[:, : min(width, frames - start)]
                source.fill(part)
                engine.process_into(part, out[:, start : start + part.shape[1]])

        return callback

    def _refusal(self, error: Exception) -> str:
        can = []
        for kind, device in (("input", self._input), ("output", self._output)):
            if device is not None:
                most = device.inputs if kind == "input" else device.outputs
                rates = ", ".join(str(rate) for rate in usable_rates(device.index, kind)) or "none of the usual"
                can.append(f"{kind} {device} takes {rates} Hz and {most} channels")
        if self._input is not None and self._input.host_api != self._output.host_api:
            can.append("choose input and output of the same host API")
        reason = " ".join(str(error).split())
        return f"the device refuses {self.sample_rate} Hz with blocks of {self.block} ({reason}); {'; '.join(can)}"

    def check(self) -> None:
        """Raise DeviceError if the stream has ended or no callback has come for two seconds."""
        if self._stream is None or self._engine is None:
            return
        now, blocks = time.perf_counter(), self._engine.meters.blocks
        if blocks != self._seen_blocks:
            self._seen_blocks, self._seen_at = blocks, now
        stalled = now - self._seen_at > STALL_S + 4 * self.block / self.sample_rate
        if stalled or not self._stream.active:
            self._lost = True
            what = f"gives no sound any more since {now - self._seen_at:.1f} s" if stalled else "has stopped"
            raise DeviceError(
                f"audio device lost: {self.name} {what}; connect it again (see `fxclone devices`) and start anew"
            )

    def stop(self) -> None:
        """End and close, in a thread of its own because PortAudio may hang on a device that is gone."""
        stream, self._stream = self._stream, None
        if stream is None:
            return

        def close() -> None:
            with suppress(Exception):
                if not self._lost:
                    stream.stop()
                stream.close()

        closer = threading.Thread(target=close, name="portaudio-close", daemon=True)
        with quiet_stderr():
            closer.start()
            closer.join(timeout=CLOSE_TIMEOUT_S if not self._lost else 0.3)
        if closer.is_alive():  # then PortAudio's own clean-up at exit would hang as well
            atexit.unregister(load_portaudio()._exit_handler)

    @property
    def latency_s(self) -> tuple[float, float]:
        """What the driver says, input and output; a claim, not a measurement."""
        if self._stream is None:
            return (0.0, 0.0)
        latency = self._stream.latency
        return (float(latency[0]), float(latency[1])) if isinstance(latency, tuple | list) else (0.0, float(latency))


def count_flags(meters: Meters, status: Any) -> None:
    """Count one drop-out for a callback that reports any; priming is no drop-out."""
    if status.output_underflow:
        meters.xrun("output underflow")
    elif status.input_overflow:
        meters.xrun("input overflow")
    elif status.output_overflow or status.input_underflow:
        meters.xrun("input underflow or output overflow")
