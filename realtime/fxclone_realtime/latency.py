"""How long sound really takes: out of the interface, through a cable, and in again; and through a clone as well.

A driver states a latency, but knows nothing of converters, USB buffers or of what a graph server adds. So a short sweep
is played, found in what comes back, and the samples between are counted: many times over, because some drivers change
from one time to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio
from fxclone.errors import DeviceError, FxcloneError
from fxclone.processor import Chain, Processor
from fxclone_realtime.capture_markers import find_marker
from fxclone_realtime.capture_tape import Pass, Tape
from fxclone_realtime.devices import AudioDevice
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.interpreter import audio_priority, raise_priority, stop_on_signals

LONGEST_S = 0.75
"""No round trip is longer; as much silence follows each marker."""
MARKERS = 5
TICK_S = 0.05
NO_CEILING = 8.0
STEADY_SAMPLES = 0.5


@dataclass(frozen=True)
class RoundTrip:
    """What was measured.

    Attributes
    ----------
    samples : tuple of float
        Each round trip that was found, in samples of the stream.
    sent : int
        How many markers were played.
    polarity : int
        -1 if the sound comes back inverted.
    peak : float
        Of what came back, full scale = 1.
    xruns : int
        Drop-outs meanwhile; a marker that met one is off.
    """

    samples: tuple[float, ...]
    sent: int
    polarity: int
    peak: float
    xruns: int

    @property
    def median(self) -> float:
        """In samples; NaN if nothing came back."""
        return float(np.median(self.samples)) if self.samples else float("nan")

    @property
    def spread(self) -> float:
        """From the shortest to the longest, in samples."""
        return max(self.samples) - min(self.samples) if self.samples else 0.0


class Loop:
    """Plays from a tape, through a processor or past it, and records what comes back."""

    def __init__(self, tape: Tape, through: Processor) -> None:
        self.tape, self.through, self.engaged = tape, through, False
        self.tail_samples = 0
        self.channels_out = 1

    @property
    def latency_samples(self) -> int:
        """Of what it goes through."""
        return self.through.latency_samples

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Prepare both."""
        self.tape.prepare(sample_rate, max_block, channels)
        self.through.prepare(sample_rate, max_block, 1)

    def reset(self) -> None:
        """Reset both."""
        self.tape.reset()
        self.through.reset()

    def process(self, block: Audio) -> Audio:
        """Record a block, return the one to play."""
        out = self.tape.process(block)
        wet = self.through.process(out)  # always, so that its state is the same on both ways
        return wet if self.engaged else out


class LatencyMeter:
    """Measures on a device that has its output connected with its input.

    Parameters
    ----------
    device : AudioDevice
    block : int
    through : Processor or None
        What to measure as well: a clone.
    """

    def __init__(self, device: AudioDevice, block: int, through: Processor | None = None) -> None:
        self.device = device
        tape = Tape(1, (0,), device.channels_in)
        self._loop = Loop(tape, through or Chain(()))
        self.priority = ""
        self.engine = Engine(
            self._loop,
            sample_rate=device.sample_rate,
            max_block=block,
            channels_in=device.channels_in,
            channels_out=device.channels_out,
            path=SoundPath(ceiling=NO_CEILING),
            on_first_block=self._first_block,
        )
        self.claimed_s = (0.0, 0.0)
        self.has_through = through is not None

    def _first_block(self) -> None:
        self.priority = raise_priority()

    def run(self, *, wait_s: float, say: Callable[[str], None]) -> tuple[RoundTrip, RoundTrip | None]:
        """Measure the device, and then with the processor in the way if there is one.

        Parameters
        ----------
        wait_s : float
            How long to wait for the first marker to come back, while somebody finds the cable.
        say : callable
            Told what to do meanwhile.

        Raises
        ------
        DeviceError
            If nothing comes back.
        FxcloneError
            If it is stopped, or the processor fails.
        """
        with stop_on_signals() as stop, audio_priority():
            try:
                self.device.start(self.engine)
                self.claimed_s = self.device.latency_s
                self._stopped = stop.is_set
                self._settle(wait_s, say)
                direct = self._measure(MARKERS)
                if not self.has_through:
                    return direct, None
                self._loop.engaged = True
                return direct, self._measure(MARKERS)
            finally:
                self._loop.tape.roll(None)
                self.device.stop()

    def _settle(self, wait_s: float, say: Callable[[str], None]) -> None:
        began, told = time.perf_counter(), False
        while not self._measure(1).samples:
            if time.perf_counter() - began >= wait_s:
                raise DeviceError(
                    f"nothing comes back on {self.device.name}: connect an output with the input by a cable, turn both "
                    "up, and see --input-channel; a built-in microphone before the loudspeaker is too unsure"
                )
            if not told:
                told = True
                say("nothing comes back yet: connect the output with the input by a cable")

    def _measure(self, count: int) -> RoundTrip:
        from fxclone.signals.capture_signal import sweep_marker

        rate = self.engine.sample_rate
        marker = sweep_marker(rate)
        gap, longest = marker.size + round(LONGEST_S * rate), round(LONGEST_S * rate)
        sound = np.zeros((1, count * gap), np.float32)
        for number in range(count):
            sound[0, number * gap : number * gap + marker.size] = marker
        run = Pass(sound, self.device.channels_in)
        xruns = self.engine.meters.xruns
        self._loop.tape.roll(run)
        while not run.done:
            time.sleep(TICK_S)
            if self._stopped():
                raise FxcloneError("stopped; nothing was measured")
            self.device.check()
            if self.engine.failure is not None:
                raise FxcloneError(f"measuring failed: {' '.join(str(self.engine.failure).split())}")
        loudest = int(np.argmax(np.abs(run.taken).max(axis=1)))
        taken = run.taken[loudest]
        fixes = [find_marker(taken, n * gap, n * gap + longest, rate) for n in range(count)]
        found = [(n, fix) for n, fix in enumerate(fixes) if fix is not None and fix.found]
        return RoundTrip(
            samples=tuple(fix.position - n * gap for n, fix in found),
            sent=count,
            polarity=found[0][1].polarity if found else 1,
            peak=float(np.abs(taken).max()),
            xruns=self.engine.meters.xruns - xruns,
        )


def report(meter: LatencyMeter, direct: RoundTrip, through: RoundTrip | None, name: str) -> dict[str, object]:
    """All figures, as plain values."""
    rate = meter.engine.sample_rate
    claimed = [seconds if 0.0 <= seconds < 10.0 else None for seconds in meter.claimed_s]
    told = [None if each is None else round(1e3 * each, 3) for each in claimed]
    known = [each for each in told if each is not None]
    out: dict[str, object] = {
        "device": meter.device.name,
        "sample_rate": rate,
        "block": meter.engine.max_block,
        "round_trip_samples": round(direct.median, 2),
        "round_trip_ms": round(1e3 * direct.median / rate, 3),
        "claimed_ms": {"input": told[0], "output": told[1], "total": round(sum(known), 3) if len(known) == 2 else None},
        "spread_samples": round(direct.spread, 2),
        "found": len(direct.samples),
        "sent": direct.sent,
        "inverted": direct.polarity < 0,
        "peak": round(direct.peak, 4),
        "xruns": direct.xruns + (through.xruns if through else 0),
        "priority": meter.priority,
    }
    if through is not None:
        out["through"] = {
            "name": name,
            "round_trip_samples": round(through.median, 2),
            "added_samples": round(through.median - direct.median, 2),
            "declared_samples": meter.engine.latency_samples,
        }
    return out


def sentences(meter: LatencyMeter, direct: RoundTrip, through: RoundTrip | None, name: str) -> list[str]:
    """The same for people."""
    rate, ms = meter.engine.sample_rate, 1e3 / meter.engine.sample_rate
    lines = [
        f"{meter.device.name}: {rate} Hz, blocks of {meter.engine.max_block}",
        f"round trip measured: {direct.median * ms:.2f} ms ({direct.median:.1f} samples)",
    ]
    claimed = sum(meter.claimed_s)
    if 0.0 < claimed < 10.0:
        more = direct.median * ms - 1e3 * claimed
        verdict = "as the driver says" if abs(more) < 0.1 else f"{abs(more):.2f} ms {'more' if more > 0 else 'less'}"
        lines.append(f"the driver claims:   {1e3 * claimed:.2f} ms; measured is {verdict}")
    if direct.spread > STEADY_SAMPLES:
        lines.append(f"not steady: from one time to the next it differs by {direct.spread:.1f} samples")
    if direct.polarity < 0:
        lines.append("the sound comes back inverted")
    if direct.xruns:
        lines.append(f"{direct.xruns} drop-outs meanwhile: a larger --block is steadier")
    if through is not None:
        added, declared = through.median - direct.median, meter.engine.latency_samples
        whole = f"through {name}: {through.median * ms:.2f} ms, {added:.1f} samples more"
        agrees = abs(added - declared) < 1.0
        lines.append(
            f"{whole}; it declares {declared}, and the engine adds none"
            if agrees
            else f"{whole}, although it declares {declared}"
        )
    return lines
