"""The stability monitor: watches what goes into and comes out of a processor, and steps in when it misbehaves.

It knows nothing of devices or of time other than counted samples, so it works the same offline. While all is well it
passes the wet sound on untouched, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fxclone.audio import Audio, gain_to_db
from fxclone.processor import Processor, channels_after
from fxclone_realtime.delay import DelayLine
from fxclone_realtime.trips import MonitorStatus, Trip

INPUT_LIMIT = 4.0
"""+12 dBFS. No converter gives more; what lies beyond is a fault upstream and is clamped."""
LEVEL_LIMIT = 4.0
"""Loudest output taken as normal when nothing is known from training: +12 dBFS."""
LEVEL_MARGIN = 4.0
"""12 dB above the loudest output that training saw."""
TAIL_MARGIN = 2.0
"""6 dB more where a tail of seconds adds up what is held longer than any tone in training."""
LONG_TAIL_S = 4.0
SILENT_INPUT = 1e-4  # -80 dBFS
RINGING_OUTPUT = 1e-3  # -60 dBFS
LARGEST_GAIN = 1e3  # 60 dB: a high-gain amp may make its input's hiss this much louder without ringing
SILENCE_GRACE_S = 0.5
RINGING_S = 0.5
RINGING_TAIL_SHARE = 0.1  # of a long tail: longer than the gap between two echoes, and a tail loses 6 dB in it
RINGING_DECAY = 0.84  # what has lost 1.5 dB from one such time to the next is a tail, not a ringing
DC_LIMIT = 0.05  # -26 dBFS
DC_GAIN = 40.0  # a long reverb may make its input's DC so much larger
DC_TIME_CONSTANT_S = 0.25
DC_S = 0.5
RELEASE_S = 0.005
FADE_IN_S = 0.010
TRIPS_TO_BYPASS = 3
TRIP_WINDOW_S = 10.0
COOLDOWN_S = 5.0
LONGEST_COOLDOWN_S = 60.0
PROBE_S = 1.0

PLAYING, BYPASSED, PROBING = "playing", "bypassed", "probing"


class StabilityMonitor:
    """A `Processor` around another that lets nothing runaway through.

    It trips on output that is NaN or infinite, that is far above what training saw, that is mostly DC while the input
    has none, or that goes on in silence: longer than the tail that the processor states, and without dying away. The
    answer to a trip is a soft reset: the processor starts afresh, the last
    sample heard fades out in 5 ms and the new sound fades in over 10 ms. After three trips within ten seconds the dry
    sound plays instead. Five seconds later the processor is tried again unheard, and comes back if it behaves for one
    second; each relapse doubles the wait.

    Parameters
    ----------
    inner : Processor
        What is watched.
    levels : mapping or None
        ``dry_peak`` and ``wet_peak``, the loudest that training saw, and ``wet_dc`` (linear, full scale = 1). Without
        them the limit is +12 dBFS. Input louder than in training raises it by as much: hot playing is no alarm; so does
        a tail of seconds, by up to 6 dB.
    """

    def __init__(self, inner: Processor, levels: Mapping[str, float] | None = None) -> None:
        self.inner = inner
        known = dict(levels or {})
        self._trained_dry = min(1.0, max(1e-3, float(known.get("dry_peak", 1.0))))
        wet = float(known.get("wet_peak", LEVEL_LIMIT / LEVEL_MARGIN))
        self._known_limit = max(1.0, LEVEL_MARGIN * wet) if math.isfinite(wet) else LEVEL_LIMIT
        trained_dc = float(known.get("wet_dc", 0.0))
        self._dc_limit = DC_LIMIT + (2.0 * abs(trained_dc) if math.isfinite(trained_dc) else 0.0)
        self.status = MonitorStatus()
        self.channels_out = 0
        self._hiss = self._rings = 0.0

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Prepare the inner processor and everything that is needed to step in."""
        self.inner.prepare(sample_rate, max_block, channels)
        self.channels_out = channels_after(self.inner, channels)
        rate = self._rate = float(sample_rate)
        self._delay = DelayLine(channels, max_block, self.inner.latency_samples)
        self._in = np.zeros((channels, max_block), dtype=np.float32)
        self._magnitude = np.zeros((max(channels, self.channels_out), max_block), dtype=np.float32)
        self._out = np.zeros((self.channels_out, max_block), dtype=np.float32)
        release, fade = max(1, round(RELEASE_S * rate)), max(1, round(FADE_IN_S * rate))
        self._release_curve = (0.5 + 0.5 * np.cos(np.pi * np.arange(release) / release)).astype(np.float32)
        self._fade_curve = (0.5 - 0.5 * np.cos(np.pi * np.arange(fade) / fade)).astype(np.float32)
        heard_for = self.inner.latency_samples + self.inner.tail_samples
        tail_s = self.inner.tail_samples / rate
        self._level_limit = self._known_limit * min(
            TAIL_MARGIN, max(1.0, TAIL_MARGIN * math.sqrt(tail_s / LONG_TAIL_S))
        )
        # The dry level is held for as long as it may still be heard in the output.
        self._dry_fall = math.exp(-1.0 / (rate + heard_for))
        self._quiet_after = heard_for + SILENCE_GRACE_S * rate
        self._ringing_window = max(RINGING_S * rate, RINGING_TAIL_SHARE * self.inner.tail_samples)
        self._clear()

    def reset(self) -> None:
        """Start afresh, also out of bypass. The status keeps what happened before."""
        self.inner.reset()
        self._clear()

    def _clear(self) -> None:
        self._delay.reset()
        self._state = PLAYING
        self.status.bypassed = False
        self._last = np.zeros((self.channels_out, 1), dtype=np.float32)
        self._released = len(self._release_curve)
        self._faded = len(self._fade_curve)
        self._release_from = np.zeros((self.channels_out, 1), dtype=np.float32)
        self._recent_trips = [-math.inf] * TRIPS_TO_BYPASS
        self._cooldown_s = COOLDOWN_S
        self._wait = 0.0
        self._input_bad = False
        self._forget()

    def _forget(self) -> None:
        """Forget what was measured of the output, because the processor starts afresh."""
        self._wet_mean = np.zeros(self.channels_out)
        self._dry_mean = np.zeros(self._in.shape[0])
        self._dry_dc = 0.0
        self._wet_power = 0.0
        self._dry_level = 0.0
        self._silent = 0
        self._dc_for = 0
        self._listen_anew(before=math.inf)

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
        block, dry_peak = self._gate(block)
        dry = self._delay.process(block)
        source: Audio | None = dry
        if self._state == BYPASSED:
            self._wait -= n
            if self._wait <= 0:
                self._state, self._wait = PROBING, PROBE_S * self._rate
        else:
            wet = self.inner.process(block)
            fault = self._inspect(block, wet, dry_peak)
            if fault is not None:
                source = self._trip(fault, dry)
            elif self._state == PLAYING:
                source = wet
            else:
                self._probe(n)
        self.status.samples += n
        return self._emit(source, n)

    def _gate(self, block: Audio) -> tuple[Audio, float]:
        """Clamp an input that no converter could give; NaN becomes silence."""
        n = block.shape[1]
        magnitude = self._magnitude[: block.shape[0], :n]
        np.abs(block, out=magnitude)
        peak = float(magnitude.max())
        bad = not peak <= INPUT_LIMIT
        if bad:
            clean = self._in[:, :n]
            clean[...] = block
            np.nan_to_num(clean, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.clip(clean, -INPUT_LIMIT, INPUT_LIMIT, out=clean)
            if not self._input_bad:  # once for each time it begins, not for each block
                self._record("input out of range", {"peak_db": _db(peak), "limit_db": _db(INPUT_LIMIT)}, "clamped it")
            block, peak = clean, float(np.abs(clean).max())
        self._input_bad = bad
        return block, peak

    def _inspect(self, dry: Audio, wet: Audio, dry_peak: float) -> tuple[str, dict[str, float]] | None:
        """Return what is wrong with this block of output, with the numbers that show it, or None."""
        n = wet.shape[1]
        self._dry_level = max(dry_peak, self._dry_level * self._dry_fall**n)
        magnitude = self._magnitude[: wet.shape[0], :n]
        np.abs(wet, out=magnitude)
        peak = float(magnitude.max())
        if not math.isfinite(peak):
            return "not finite", {"bad_samples": float(wet.size - np.count_nonzero(np.isfinite(wet)))}
        limit = self._level_limit * max(1.0, self._dry_level / self._trained_dry)
        if peak > limit:
            return "runaway level", {"peak_db": _db(peak), "limit_db": _db(limit)}
        return self._dc(dry, wet, n) or self._ringing(dry_peak, peak, n)

    def _dc(self, dry: Audio, wet: Audio, n: int) -> tuple[str, dict[str, float]] | None:
        weight = -math.expm1(-n / (DC_TIME_CONSTANT_S * self._rate))
        self._wet_mean += weight * (wet.mean(axis=1) - self._wet_mean)
        self._dry_mean += weight * (dry.mean(axis=1) - self._dry_mean)
        self._wet_power += weight * (float(np.vdot(wet, wet)) / wet.size - self._wet_power)
        dc = float(np.abs(self._wet_mean).max())
        # Heard for as long as the tail: the mean of what fell silent may go on in it.
        self._dry_dc = max(float(np.abs(self._dry_mean).max()), self._dry_dc * self._dry_fall**n)
        # An asymmetric distortion has some DC while it is played: only output that is mostly DC is a fault.
        mostly_dc = dc * dc > 0.5 * self._wet_power
        self._dc_for = self._dc_for + n if mostly_dc and dc > self._dc_limit + DC_GAIN * self._dry_dc else 0
        if self._dc_for > DC_S * self._rate:
            return "DC", {"mean": round(dc, 4), "mean_db": _db(dc), "limit_db": _db(self._dc_limit)}
        return None

    def _ringing(self, dry_peak: float, wet_peak: float, n: int) -> tuple[str, dict[str, float]] | None:
        """After the tail, compare the peak of each window with the one before: sound that stays as loud is no tail."""
        self._silent = self._silent + n if dry_peak < SILENT_INPUT else 0
        if self._silent < self._quiet_after:
            self._listen_anew(before=math.inf)
            return None
        self._listened += n
        self._hiss = max(self._hiss, dry_peak)
        self._rings = max(self._rings, wet_peak)
        if self._listened < self._ringing_window:
            return None
        peak, loud = self._rings, self._rings >= max(RINGING_OUTPUT, LARGEST_GAIN * self._hiss)
        goes_on = loud and peak > RINGING_DECAY * self._rang
        self._listen_anew(before=peak if loud else math.inf)
        if not goes_on:
            return None
        return "output goes on in silence", {"peak_db": _db(peak), "silent_s": round(self._silent / self._rate, 3)}

    def _listen_anew(self, *, before: float) -> None:
        self._listened = 0
        self._hiss = self._rings = 0.0
        self._rang = before

    def _trip(self, fault: tuple[str, dict[str, float]], dry: Audio) -> Audio | None:
        """Answer a fault; return what to play in this block, None for silence under the release."""
        self.inner.reset()
        self._forget()
        if self._state == PROBING:
            self._cooldown_s = min(2 * self._cooldown_s, LONGEST_COOLDOWN_S)
            self._state, self._wait = BYPASSED, self._cooldown_s * self._rate
            self._record(*fault, f"stays bypassed to dry, next try in {self._cooldown_s:g} s")
            return dry
        now_s = self.status.samples / self._rate
        self._recent_trips.pop(0)
        self._recent_trips.append(now_s)
        self._release_from[...] = self._last
        self._released = 0
        self._faded = 0
        if now_s - self._recent_trips[0] > TRIP_WINDOW_S:
            self._record(*fault, "soft reset")
            return None
        self._state, self._wait = BYPASSED, self._cooldown_s * self._rate
        self._recent_trips = [-math.inf] * TRIPS_TO_BYPASS
        self.status.bypassed = True
        self._record(*fault, f"bypassed to dry, next try in {self._cooldown_s:g} s")
        return dry

    def _probe(self, n: int) -> None:
        self._wait -= n
        if self._wait > 0:
            return
        self._state = PLAYING
        self._cooldown_s = COOLDOWN_S
        self.status.bypassed = False
        self.status.recoveries += 1
        self._release_from[...] = self._last
        self._released = 0
        self._faded = 0

    def _record(self, what: str, numbers: dict[str, float], action: str) -> None:
        self.status.add(Trip(round(self.status.samples / self._rate, 4), what, numbers, action))

    def _emit(self, source: Audio | None, n: int) -> Audio:
        out = self._out[:, :n]
        if source is None:
            out.fill(0.0)
        elif source.shape[0] == out.shape[0] or source.shape[0] == 1:
            out[...] = source
        else:
            out[...] = source.mean(axis=0)
        if self._faded < len(self._fade_curve) and source is not None:
            part = self._fade_curve[self._faded : self._faded + n]
            out[:, : len(part)] *= part
            self._faded += len(part)
        if self._released < len(self._release_curve):
            part = self._release_curve[self._released : self._released + n]
            out[:, : len(part)] += self._release_from * part
            self._released += len(part)
        self._last[...] = out[:, -1:]
        return out


def _db(gain: float) -> float:
    """Level rounded for a message; large stand-ins for what JSON cannot hold."""
    if not math.isfinite(gain):
        return 999.0
    return round(max(gain_to_db(gain), -200.0), 1)
