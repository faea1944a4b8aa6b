"""Watches the level of an output: not a number, too loud, DC, and sound that goes on in silence.

What must be seen at once is looked for in every block. DC, which is slow, has a look a hundred times a second.
"""

from __future__ import annotations

import math

import numpy as np

from fxclone.audio import Audio
from fxclone.stability.history import History
from fxclone.stability.known import Known
from fxclone.stability.trips import Fault, told_db

LEVEL_LIMIT = 4.0
"""Loudest output taken as normal when nothing is known from training: +12 dBFS."""
LEVEL_MARGIN = 4.0
"""12 dB above the loudest output that training saw."""
TAIL_MARGIN = 2.0
"""6 dB more where a tail of seconds adds up what is held longer than any tone in training."""
LONG_TAIL_S = 4.0
SILENT_INPUT = 1e-4  # -80 dBFS
RINGING_OUTPUT = 1e-3  # -60 dBFS
REST_MARGIN = 2.0  # a hum that the clone always had may be twice as loud before it is a ringing
LARGEST_GAIN = 1e3  # 60 dB: a high-gain amp may make its input's hiss this much louder without ringing
SILENCE_GRACE_S = 0.5
RINGING_S = 0.5
RINGING_TAIL_SHARE = 0.1  # of a long tail: longer than the gap between two echoes, and a tail loses 6 dB in it
RINGING_DECAY = 0.84  # what has lost 1.5 dB from one such time to the next is a tail, not a ringing
DC_LIMIT = 0.05  # -26 dBFS
DC_GAIN = 40.0  # a long reverb may make its input's DC so much larger
DC_TIME_CONSTANT_S = 0.25
DC_S = 0.5
DC_LOOK_S = 0.01
MAKES_DC = 0.01
"""An effect whose wet sound in training had this mean makes DC out of playing, as a rectifier does."""


class LevelWatch:
    """Says what is wrong with the level of a block of output, if anything is.

    Parameters
    ----------
    known : Known
    sample_rate : float
        In Hz.
    heard_for : int
        Samples for which an input may go on being heard: latency and tail.
    tail : int
        The tail alone.
    channels_in, channels_out, max_block : int
        The histories of input and output have to hold ``size`` samples.
    """

    def __init__(
        self,
        known: Known,
        sample_rate: float,
        heard_for: int,
        tail: int,
        channels_in: int,
        channels_out: int,
        max_block: int,
    ) -> None:
        self._rate = sample_rate
        self._trained_dry = min(1.0, max(1e-3, known.dry_peak if known.dry_peak is not None else 1.0))
        wet_peak = known.wet_peak
        limit = LEVEL_LIMIT if wet_peak is None else max(1.0, LEVEL_MARGIN * wet_peak)
        tail_s = tail / sample_rate
        self._limit = limit * min(TAIL_MARGIN, max(1.0, TAIL_MARGIN * math.sqrt(tail_s / LONG_TAIL_S)))
        self._dc_limit = DC_LIMIT + 2.0 * known.wet_dc
        # An effect that makes DC makes as much as it is loud, while it is played.
        self._dc_of_dry = (wet_peak or 1.0) / self._trained_dry if known.wet_dc > MAKES_DC else 0.0
        self._ringing = max(RINGING_OUTPUT, REST_MARGIN * known.rest_peak)
        # The dry level is held for as long as it may still be heard in the output.
        self._dry_fall = -1.0 / (sample_rate + heard_for)
        self._quiet_after = heard_for + SILENCE_GRACE_S * sample_rate
        self._ringing_window = max(RINGING_S * sample_rate, RINGING_TAIL_SHARE * tail)
        self._magnitude = np.zeros((channels_out, max_block), dtype=np.float32)
        # Few and plain numbers: as arrays, each step of their arithmetic would cost as much as a look at a block.
        self._wet_mean = [0.0] * channels_out
        self._dry_mean = [0.0] * channels_in
        self._n, self._held = 0, 1.0
        self._dc_every = max(1, round(DC_LOOK_S * sample_rate))
        self.size = self._dc_every + max_block
        self._ones = np.ones(self.size, dtype=np.float32)
        self.dry_level = self._dry_dc = self._wet_power = self._hiss = self._rings = 0.0
        self._rang = math.inf
        self._silent = self._dc_for = self._listened = self._unread = 0

    def clear(self) -> None:
        """Forget everything."""
        self.forget()
        self._dry_mean = [0.0] * len(self._dry_mean)
        self.dry_level = self._dry_dc = 0.0

    def forget(self) -> None:
        """Forget what was measured of the output, because the processor starts afresh."""
        self._wet_mean = [0.0] * len(self._wet_mean)
        self._wet_power = 0.0
        self._silent = self._dc_for = self._unread = 0
        self._listen_anew(before=math.inf)

    def inspect(self, past: History, heard: History, dry_peak: float, wet: Audio) -> Fault | None:
        """Return what is wrong with ``wet (channels_out, n)``, with the numbers that show it, or None.

        Parameters
        ----------
        past, heard : History
            The input and the output so far, this block included.
        dry_peak : float
            Of the input in this block.
        wet : Audio [shape=(channels_out, n)]
            The newest block of output.
        """
        n = wet.shape[1]
        if n != self._n:
            self._n, self._held = n, math.exp(n * self._dry_fall)
        level = self.dry_level * self._held
        self.dry_level = dry_peak if dry_peak > level else level
        magnitude = self._magnitude if n == self._magnitude.shape[1] else self._magnitude[:, :n]
        np.abs(wet, out=magnitude)
        peak = magnitude.item(magnitude.argmax())  # NaN if there is any
        fault = None if peak <= self._limit else self.unbearable(wet, peak)
        self._unread += n
        if fault is None and self._unread >= self._dc_every:
            fault = self._dc(past, heard, self._unread)
            self._unread = 0
        if fault is None and (self._silent or dry_peak < SILENT_INPUT):
            fault = self._goes_on(dry_peak, peak, n)
        return fault

    def unbearable(self, wet: Audio, peak: float | None = None) -> Fault | None:
        """Only what needs no past: not a number, or too loud."""
        if peak is None:
            peak = float(np.abs(wet).max())
        if not math.isfinite(peak):
            return "not finite", {"bad_samples": float(wet.size - np.count_nonzero(np.isfinite(wet)))}
        limit = self._limit * max(1.0, self.dry_level / self._trained_dry)
        if peak > limit:
            return "runaway level", {"peak_db": told_db(peak), "limit_db": told_db(limit)}
        return None

    def _dc(self, past: History, heard: History, n: int) -> Fault | None:
        """Look at the last ``n`` samples."""
        dry, wet = past.past(n), heard.past(n)
        weight = -math.expm1(-n / (DC_TIME_CONSTANT_S * self._rate))
        self._wet_mean = self._follow(self._wet_mean, wet, weight)
        self._dry_mean = self._follow(self._dry_mean, dry, weight)
        self._wet_power += weight * (sum(float(np.vdot(row, row)) for row in wet) / wet.size - self._wet_power)
        dc = max(map(abs, self._wet_mean))
        dry_dc = max(map(abs, self._dry_mean))
        # Heard for as long as the tail: the mean of what fell silent may go on in it.
        self._dry_dc = max(dry_dc, self._dry_dc * math.exp(n * self._dry_fall))
        limit = self._dc_limit + DC_GAIN * self._dry_dc + self._dc_of_dry * self.dry_level
        # An asymmetric distortion has some DC while it is played: only output that is mostly DC is a fault.
        mostly_dc = dc * dc > 0.5 * self._wet_power
        self._dc_for = self._dc_for + n if mostly_dc and dc > limit else 0
        if self._dc_for > DC_S * self._rate:
            return "DC", {"mean": round(dc, 4), "mean_db": told_db(dc), "limit_db": told_db(limit)}
        return None

    def _follow(self, means: list[float], sound: Audio, weight: float) -> list[float]:
        sums = sound.dot(self._ones[: sound.shape[1]]).tolist()
        return [mean + weight * (total / sound.shape[1] - mean) for mean, total in zip(means, sums, strict=True)]

    def _goes_on(self, dry_peak: float, wet_peak: float, n: int) -> Fault | None:
        """After the tail, compare the peak of each window with the one before: sound that stays as loud is no tail."""
        self._silent = self._silent + n if dry_peak < SILENT_INPUT else 0
        if self._silent < self._quiet_after:
            if self._listened or self._rang < math.inf:
                self._listen_anew(before=math.inf)
            return None
        self._listened += n
        self._hiss = max(self._hiss, dry_peak)
        self._rings = max(self._rings, wet_peak)
        if self._listened < self._ringing_window:
            return None
        peak, loud = self._rings, self._rings >= max(self._ringing, LARGEST_GAIN * self._hiss)
        goes_on = loud and peak > RINGING_DECAY * self._rang
        self._listen_anew(before=peak if loud else math.inf)
        if not goes_on:
            return None
        return "output goes on in silence", {"peak_db": told_db(peak), "silent_s": round(self._silent / self._rate, 3)}

    def _listen_anew(self, *, before: float) -> None:
        self._listened = 0
        self._hiss = self._rings = 0.0
        self._rang = before
