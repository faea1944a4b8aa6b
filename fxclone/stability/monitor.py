"""The stability monitor: decides what to do when a processor misbehaves, and does it without a bang.

What is wrong is found by `level_watch`, `spectrum_watch` and `twin_watch`; here is what follows from it. While all is
well the wet sound passes on untouched, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fxclone.audio import Audio
from fxclone.processor import Processor, channels_after
from fxclone.stability.checkpoint import Checkpoint, with_checkpoints
from fxclone.stability.history import History
from fxclone.stability.known import known_of, parts_of
from fxclone.stability.level_watch import LevelWatch
from fxclone.stability.spectrum_watch import SpectrumWatch
from fxclone.stability.trips import Fault, MonitorStatus, Trip, told_db
from fxclone.stability.twin_watch import Twin, with_twins

INPUT_LIMIT = 4.0
"""+12 dBFS. No converter gives more; what lies beyond is a fault upstream and is clamped."""
LONGEST_STEP = 1024
"""Longer blocks are taken in steps: a trip must not cost more sound than it has to."""
RELEASE_S = 0.005
FADE_IN_S = 0.010
REWARM_SPEED = 4
"""How many times its usual work the processor does while it catches up: a tenth of a second in a thirtieth."""
CATCH_UP_S = 0.034
"""The longest that it may take: at less speed it hears less of the past."""
COLD_WAIT_S = 0.02
TRIPS_TO_BYPASS = 3
TRIP_WINDOW_S = 10.0
COOLDOWN_S = 5.0
LONGEST_COOLDOWN_S = 60.0
PROBE_S = 1.0

LARGEST_RESET_BYTES = 65_536
"""Of a state: writing more, as of a hall whose spectra are megabytes, takes longer than a block may."""

PLAYING, WARMING, BYPASSED, PROBING = "playing", "warming", "bypassed", "probing"


class StabilityMonitor:
    """A `Processor` around another that lets nothing runaway through.

    It trips on output that is NaN or infinite; that is far above what training saw; that is mostly DC while the input
    has none; that goes on in silence, longer than the tail that the processor states, and without dying away; that
    oscillates near Nyquist; that holds a tone which the input does not have, whatever is played (a limit cycle); and on
    a clone with feedback that no longer forgets what happened to it.

    What follows, in this order:

    1. Soft reset: the last sample heard fades out in 5 ms and the dry sound in, the processor starts afresh, hears the
       last tenth of a second of input (less, if it is known to forget sooner) at four times the speed, and is faded in.
    2. At a second trip within ten seconds, the same without that input, which may have been the cause.
    3. At a third, the dry sound plays on. Five seconds later the processor is tried again unheard, and comes back if it
       behaves for one second; each relapse doubles the wait, up to a minute.

    Parameters
    ----------
    inner : Processor
        What is watched.
    levels : mapping or None
        ``dry_peak`` and ``wet_peak``, the loudest that training saw, and ``wet_dc`` (linear, full scale = 1); None to
        look for them in the clones inside. Without them the limit is +12 dBFS. Input louder than in training raises it
        by as much: hot playing is no alarm; so does a tail of seconds, by up to 6 dB.
    rewarm_speed : int
        At least 1, which does without re-warming. A machine that has no time to spare needs less than the usual 4.
    ask_for_reset : callable or None
        For playing live, where `process` may not wait: called from it, with no arguments, when an inner processor has
        to be reset that is slow to do so (a plugin, a hall of megabytes). The dry sound plays until another thread has
        called `serve`. None, for a render, resets on the spot.
    """

    def __init__(
        self,
        inner: Processor,
        levels: Mapping[str, float] | None = None,
        *,
        rewarm_speed: int = REWARM_SPEED,
        ask_for_reset: Callable[[], None] | None = None,
    ) -> None:
        tested, self._twins = with_twins(inner)
        self.inner = with_checkpoints(tested)
        self._inside: tuple[Twin | Checkpoint, ...] = tuple(
            part for part in parts_of(self.inner) if isinstance(part, Twin | Checkpoint)
        )
        self.known = known_of(inner, levels)
        self.status = MonitorStatus()
        self.channels_out = 0
        self._speed, self._ask_for_reset = max(1, rewarm_speed), ask_for_reset
        self._reset_owed = self._is_slow = False

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Prepare the inner processor and everything that is needed to step in."""
        step = self._step = min(max_block, LONGEST_STEP)
        self.inner.prepare(sample_rate, step, channels)
        self._is_slow = any(_is_slow_to_reset(part) for part in parts_of(self.inner))
        outs = self.channels_out = channels_after(self.inner, channels)
        rate = self._rate = float(sample_rate)
        latency, tail = self.inner.latency_samples, self.inner.tail_samples
        release, fade = max(1, round(RELEASE_S * rate)), max(1, round(FADE_IN_S * rate))
        self._release_curve = (0.5 + 0.5 * np.cos(np.pi * np.arange(release) / release)).astype(np.float32)
        self._fade_curve = (0.5 - 0.5 * np.cos(np.pi * np.arange(fade) / fade)).astype(np.float32)
        self._levels = LevelWatch(self.known, rate, latency + tail, tail, channels, outs, step)
        self._spectra = SpectrumWatch(self.known, rate, latency, tail)
        longest = max(round(self.known.rewarm_s * rate), self._levels.size, self._spectra.size + latency)
        self._past = History(channels, longest + 2 * step, step)
        self._heard = History(outs, max(self._levels.size, self._spectra.size), step)
        self.rewarm_speed = self._speed
        self._clean = np.zeros((channels, step), dtype=np.float32)
        self._magnitude = np.zeros((channels, step), dtype=np.float32)
        self._dry = np.zeros((outs, step), dtype=np.float32)
        self._out = np.zeros((outs, step), dtype=np.float32)
        self._whole = np.zeros((outs, max_block), dtype=np.float32)
        self._last = np.zeros((outs, 1), dtype=np.float32)
        self._release_from = np.zeros((outs, 1), dtype=np.float32)
        self._clear()

    def reset(self) -> None:
        """Start afresh, also out of bypass. The status keeps what happened before."""
        self.inner.reset()
        self._reset_owed = False
        self._clear()

    def serve(self) -> None:
        """Reset what has been asked for, if anything has: in a thread that may wait, for some plugins the main one."""
        if self._reset_owed:
            self.inner.reset()
            self._reset_owed = False

    @property
    def rewarm_speed(self) -> int:
        """How many times its usual work the processor may do in a block; may be set while nothing is wrong."""
        return self._speed

    @rewarm_speed.setter
    def rewarm_speed(self, speed: int) -> None:
        self._speed = max(1, speed)
        self._rewarm = round(min(self.known.rewarm_s, (self._speed - 1) * CATCH_UP_S) * self._rate)

    def _clear(self) -> None:
        self._past.clear()
        self._heard.clear()
        self._state = PLAYING
        self._mending = False
        self.dry_peak = 0.0
        self.status.bypassed = False
        self._last.fill(0.0)
        self._release_from.fill(0.0)
        self._released = len(self._release_curve)
        self._dry_faded = self._wet_faded = len(self._fade_curve)
        self._recent_trips = [-math.inf] * TRIPS_TO_BYPASS
        self._cooldown_s = COOLDOWN_S
        self._wait = 0.0
        self._backlog = 0
        self._input_bad = False
        self._levels.clear()
        self._spectra.forget()

    @property
    def latency_samples(self) -> int:
        """The inner latency; watching adds none."""
        return self.inner.latency_samples

    @property
    def tail_samples(self) -> int:
        """The inner tail."""
        return self.inner.tail_samples

    def process(self, block: Audio) -> Audio:
        """Process ``(channels, n)``; the result is finite whatever the input or the inner processor does."""
        n = block.shape[1]
        if 0 < n <= self._step:
            return self._process(block, n)
        out, loudest = self._whole[:, :n], 0.0
        for start in range(0, n, self._step):
            part = block[:, start : start + self._step]
            out[:, start : start + self._step] = self._process(part, part.shape[1])
            if loudest == loudest and not self.dry_peak <= loudest:  # NaN stays
                loudest = self.dry_peak
        self.dry_peak = loudest
        return out

    def _process(self, block: Audio, n: int) -> Audio:
        magnitude = self._magnitude if n == self._step else self._magnitude[:, :n]
        np.abs(block, out=magnitude)
        self.dry_peak = dry_peak = magnitude.item(magnitude.argmax())  # NaN if there is any
        if not dry_peak <= INPUT_LIMIT:
            block, dry_peak = self._clamp(block, dry_peak)
        elif self._input_bad:
            self._input_bad = False
        self._past.push(block)
        wet: Audio | None = None
        fault: Fault | None = None
        if self._state == BYPASSED:
            self._wait -= n
            if self._wait <= 0 and not self._reset_owed:
                self._state, self._wait = PROBING, PROBE_S * self._rate
        elif self._state == WARMING:
            wet, fault = self._warm(block)
        else:
            wet = self.inner.process(block)
        if fault is None and wet is not None:
            self._heard.push(wet)
            fault = self._inspect(dry_peak, wet, n)
        if fault is not None:
            self._trip(fault, n)
            wet = None
        elif self._state == PROBING:
            self._probe(n)
            wet = None
        elif wet is not None:
            self._state = PLAYING
        self.status.samples += n
        return wet if wet is not None and not self._mending else self._mended(wet, n)

    def _clamp(self, block: Audio, peak: float) -> tuple[Audio, float]:
        """Clamp an input that no converter could give; NaN becomes silence."""
        clean = self._clean[:, : block.shape[1]]
        clean[...] = block
        np.nan_to_num(clean, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.clip(clean, -INPUT_LIMIT, INPUT_LIMIT, out=clean)
        if not self._input_bad:  # once for each time it begins, not for each block
            numbers = {"peak_db": told_db(peak), "limit_db": told_db(INPUT_LIMIT)}
            self._record(("input out of range", numbers), "clamped it")
        self._input_bad = True
        return clean, float(np.abs(clean).max())

    def _inspect(self, dry_peak: float, wet: Audio, n: int) -> Fault | None:
        fault = self._levels.inspect(self._past, self._heard, dry_peak, wet)
        if fault is None:
            fault = self._spectra.inspect(self._past, self._heard, self._levels.dry_level, n)
        for part in self._inside:
            fault = fault or part.fault
        return None if fault is None or fault[0] in self.known.usual else fault

    def _warm(self, block: Audio) -> tuple[Audio | None, Fault | None]:
        """Run what was played lately through the fresh processor, some of it in every block; at its end, the block."""
        n = block.shape[1]
        if self._wait > 0 or self._reset_owed:
            self._wait -= n
            return None, None
        # The backlog ends where this block begins.
        for _ in range(self._speed):
            size = min(n, self._backlog)
            if size == 0:
                return self.inner.process(block), None
            heard = self.inner.process(self._past.past(size, self._backlog - size + n))
            fault = self._levels.unbearable(heard)
            if fault is not None:
                return None, fault
            self._backlog -= size
        self._backlog += n
        return None, None

    def _trip(self, fault: Fault, n: int) -> None:
        """Answer a fault of the newest block, which has n samples."""
        if self._state == PLAYING:
            self._release_from[...] = self._last if self._mending else self._heard.past(1, n)
            self._released = self._dry_faded = 0
        self._mending = True
        if self._ask_for_reset is None or not self._is_slow:
            self.inner.reset()
        elif not self._reset_owed:
            self._reset_owed = True
            self._ask_for_reset()
        self._levels.forget()
        self._spectra.forget()
        self._heard.clear()
        if self._state == PROBING:
            self._cooldown_s = min(2 * self._cooldown_s, LONGEST_COOLDOWN_S)
            self._state, self._wait = BYPASSED, self._cooldown_s * self._rate
            self._record(fault, f"stays bypassed to dry, next try in {self._cooldown_s:g} s")
            return
        self._wet_faded = 0
        now_s = self.status.samples / self._rate
        self._recent_trips.pop(0)
        self._recent_trips.append(now_s)
        in_window = sum(now_s - at <= TRIP_WINDOW_S for at in self._recent_trips)
        if in_window >= TRIPS_TO_BYPASS:
            self._state, self._wait = BYPASSED, self._cooldown_s * self._rate
            self._recent_trips = [-math.inf] * TRIPS_TO_BYPASS
            self.status.bypassed = True
            self._record(fault, f"bypassed to dry, next try in {self._cooldown_s:g} s")
            return
        self._state, self._backlog, self._wait = WARMING, self._rewarm, 0.0
        if in_window > 1 or not self._rewarm:
            self._backlog, self._wait = 0, COLD_WAIT_S * self._rate
        what, numbers = fault
        self._record((what, {**numbers, "rewarm_ms": round(1e3 * self._backlog / self._rate, 1)}), "soft reset")

    def _probe(self, n: int) -> None:
        self._wait -= n
        if self._wait > 0:
            return
        self._state = PLAYING
        self._cooldown_s = COOLDOWN_S
        self._wet_faded = 0
        self.status.bypassed = False
        self.status.recoveries += 1

    def _record(self, fault: Fault, action: str) -> None:
        what, numbers = fault
        self.status.add(Trip(round(self.status.samples / self._rate, 4), what, numbers, action))

    def _mended(self, wet: Audio | None, n: int) -> Audio:
        """Give the dry sound, or the wet one, or what lies between."""
        out, fade, release = self._out[:, :n], len(self._fade_curve), len(self._release_curve)
        if wet is not None and self._wet_faded >= fade:
            out[...] = wet
        else:
            dry = self._past.past(n, self.inner.latency_samples)
            if dry.shape[0] == out.shape[0] or dry.shape[0] == 1:
                out[...] = dry
            else:
                np.mean(dry, axis=0, out=out[0])
                out[1:] = out[0]
            if self._dry_faded < fade:
                part = self._fade_curve[self._dry_faded : self._dry_faded + n]
                out[:, : len(part)] *= part
                self._dry_faded += len(part)
            if wet is not None:
                part = self._fade_curve[self._wet_faded : self._wet_faded + n]
                faded, apart = out[:, : len(part)], self._dry[:, : len(part)]
                np.subtract(wet[:, : len(part)], faded, out=apart)
                apart *= part
                faded += apart
                out[:, len(part) :] = wet[:, len(part) :]
                self._wet_faded += len(part)
        if self._released < release:
            part = self._release_curve[self._released : self._released + n]
            out[:, : len(part)] += self._release_from * part
            self._released += len(part)
        self._last[...] = out[:, -1:]
        self._mending = wet is None or self._wet_faded < fade or self._released < release
        return out


def _is_slow_to_reset(part: Processor) -> bool:
    """It says so in ``slow_reset``, or remembers very much."""
    return getattr(part, "slow_reset", False) or getattr(part, "state_bytes", 0) > LARGEST_RESET_BYTES
