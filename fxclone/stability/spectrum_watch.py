"""Watches the spectrum of an output, twenty times a second: energy near Nyquist, and tones that nobody played.

A feedback that oscillates makes a tone that does not care about the input. Playing never does: what it sounds like
changes with what is played. So a tone is a fault only if it stays the same, in pitch and loudness, while the input
turns into something else, and only if the input does not have it. The same for what lies just below Nyquist, where the
fastest oscillation of all is: sign change at every sample.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fxclone.stability.history import History
from fxclone.stability.known import Known
from fxclone.stability.trips import Fault, told_db

LOOK_S = 0.05
WINDOW_S = 0.0427
"""2048 samples at 44.1 and 48 kHz."""
LOWEST_BIN = 3
"""What lies below is DC and what the window makes of it."""
WIDTH = 2
"""Bins on each side that belong to a tone (Hann window)."""
QUIET = 1e-3
"""-60 dBFS: tones below are left alone."""
NEAR_NYQUIST = 0.85
NYQUIST_SHARE = 0.7
"""Of the output's power; no distortion, and no noise, has so much there."""
NYQUIST_LOOKS = 3
NYQUIST_STEADY_LOOKS = 8
OTHER_LEVEL = 2.5
"""The input has changed when it is 8 dB louder or softer than it was."""
NYQUIST_LOUDER = 4.0
"""Times what the effect could make of the loudest recent input."""
TONE_SHARE, LEAST_SHARE = 0.2, 0.02
"""Of the output's power: to be noticed, and to be still heard beside what is played."""
SPREAD = 1.26
"""What does not care about the input stays within 2 dB."""
TONE_S = 2.0
MOST_MASKED, MASKED_SHARE = 2, 0.5
OTHER_INPUT_LOOKS = 10
ALIKE = 0.4
"""Two spectra whose cosine is less than this are of different playing."""
EXPLAINED = 0.05
"""A tone is explained if the input has it with this part of the share that it has in the output."""
LISTEN, GLANCE, COMPARE, JUDGE = range(4)
LARGEST_GAIN = 1e3
"""A tone louder than this many times the input does not come from it."""

Power = npt.NDArray[np.float32]


class _Range:
    """How many looks in a row, and the lowest and the highest of them."""

    def __init__(self) -> None:
        self.looks, self.low, self.high = 0, math.inf, 0.0

    def take(self, level: float) -> None:
        self.looks += 1
        self.low, self.high = min(self.low, level), max(self.high, level)

    def holds(self, level: float) -> bool:
        """Whether this level is about as loud as all of them."""
        return not self.looks or self.high / SPREAD < level < self.low * SPREAD

    def end(self) -> None:
        self.looks, self.low, self.high = 0, math.inf, 0.0


class SpectrumWatch:
    """Finds near-Nyquist oscillations and limit cycles.

    Parameters
    ----------
    known : Known
    sample_rate : float
        In Hz.
    latency, tail : int
        In samples: how late the output is, and for how long it may go on. The output's history has to hold ``size``,
        the input's two blocks and the latency more.
    """

    def __init__(self, known: Known, sample_rate: float, latency: int, tail: int) -> None:
        size = self.size = 2 ** round(math.log2(WINDOW_S * sample_rate))
        self._every = LOOK_S * sample_rate
        self._latency = latency
        heard_looks = math.ceil(
            (latency + tail) / sample_rate / LOOK_S
        )  # a tail may be steady, but not for its whole length
        self._tone_looks = math.ceil(TONE_S / LOOK_S) + heard_looks
        self._top_looks = NYQUIST_STEADY_LOOKS + heard_looks
        self._gain = known.gain
        self._quiet = max(QUIET, 2.0 * known.rest_peak)
        self._bin_hz = sample_rate / size
        self._top = round(NEAR_NYQUIST * size / 2)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        self._window = hann.astype(np.float32)
        self._scale = 2.0 / (size * float(np.square(hann).sum()))  # the sum of all bins is then the mean square
        self._piece = np.zeros(size, dtype=np.float32)
        self._spectrum = np.zeros(size // 2 + 1, dtype=np.complex64)
        np.fft.rfft(self._piece, out=self._spectrum)  # the first of a length is planned: longer than a block lasts
        self._wet, self._dry, self._first = (np.zeros(size // 2 + 1, dtype=np.float32) for _ in range(3))
        self._spare = np.zeros(size // 2 + 1, dtype=np.float32)
        self._first_norm = self._top_first = self._top_power = self._tone_power = self._tone_share = 0.0
        self._is_top = self._is_tone = False
        self._since = self._ago = self._stage = 0
        self._place = self._others = self._masked = self._top_others = 0
        self._top_tone, self._tone = _Range(), _Range()

    def forget(self) -> None:
        """Start looking anew, because the processor starts afresh."""
        self._since = self._ago = 0
        self._stage = LISTEN
        self._end_top()
        self._end_tone()

    def inspect(self, past: History, heard: History, dry_level: float, n: int) -> Fault | None:
        """Take a block of output, and now and then look.

        Parameters
        ----------
        past, heard : History
            The input and the output so far; cleared by whoever calls `forget`.
        dry_level : float
            Loudest recent input, as long as it may still be heard.
        n : int
            How much of it is new.
        """
        self._since += n
        self._ago += n
        # A look takes four blocks: no block has to do more than one transform, or look at more than one.
        if self._stage == LISTEN and self._since >= self._every:
            self._since = self._ago = 0
            self._transform(heard)
            self._stage = GLANCE
        elif self._stage == GLANCE:
            self._power(self._wet)
            self._stage = COMPARE if self._glance() else LISTEN
        elif self._stage == COMPARE:
            self._transform(past, ago=self._ago + self._latency)  # the same moment
            self._stage = JUDGE
        elif self._stage == JUDGE:
            self._power(self._dry)
            self._stage = LISTEN
            return self._judge(dry_level)
        return None

    def _transform(self, sound: History, ago: int = 0) -> None:
        """Take the spectrum, channels together."""
        piece = sound.past(self.size, ago)
        if len(piece) == 1:
            np.multiply(piece[0], self._window, out=self._piece)
        else:
            np.add.reduce(piece, axis=0, out=self._piece)
            self._piece *= self._window
        np.fft.rfft(self._piece, out=self._spectrum)

    def _power(self, out: Power) -> None:
        """Power in each bin of that spectrum, into ``out``."""
        np.multiply(self._spectrum.real, self._spectrum.real, out=out)
        np.multiply(self._spectrum.imag, self._spectrum.imag, out=self._spare)
        out += self._spare
        out *= self._scale

    def _glance(self) -> bool:
        """Look at the output; return whether the input must be looked at too."""
        power = self._wet
        total = float(power[LOWEST_BIN:].sum())
        if not total > self._quiet**2:
            self._end_top()
            self._end_tone()
            return False
        self._top_power = float(power[self._top :].sum())
        near_nyquist = self._top_power > NYQUIST_SHARE * total
        if not self._tone.looks:
            self._place = int(power[LOWEST_BIN:].argmax()) + LOWEST_BIN
        self._tone_power = float(power[self._place - WIDTH : self._place + WIDTH + 1].sum())
        self._tone_share = self._tone_power / total
        if not near_nyquist:
            self._end_top()
        self._is_top = near_nyquist
        self._is_tone = self._tone.looks > 0 or self._tone_share > TONE_SHARE
        return self._is_top or self._is_tone

    def _judge(self, dry_level: float) -> Fault | None:
        power = self._dry
        total = float(power.sum())
        level = math.sqrt(total)
        return (self._judge_top(total, level, dry_level) if self._is_top else None) or (
            self._judge_tone(total, level) if self._is_tone else None
        )

    def _judge_top(self, dry_power: float, level: float, dry_level: float) -> Fault | None:
        if float(self._dry[self._top :].sum()) > 0.1 * dry_power > 0.0:
            self._end_top()  # the input has it too
            return None
        loud = math.sqrt(self._top_power)
        if not self._top_tone.holds(loud):
            self._end_top()
        if not self._top_tone.looks:
            self._top_first = level
        self._top_tone.take(loud)
        self._top_others += not self._top_first / OTHER_LEVEL < level < self._top_first * OTHER_LEVEL
        unexplained = loud > NYQUIST_LOUDER * self._gain * dry_level
        steady = self._top_tone.looks >= self._top_looks and self._top_others >= NYQUIST_LOOKS
        if not (steady or (unexplained and self._top_tone.looks >= NYQUIST_LOOKS)):
            return None
        return "oscillation near Nyquist", {
            "level_db": told_db(loud),
            "input_db": told_db(level),
            "above_hz": round(self._top * self._bin_hz),
        }

    def _judge_tone(self, dry_power: float, level: float) -> Fault | None:
        place = self._place
        in_dry = float(self._dry[place - WIDTH : place + WIDTH + 1].sum())
        loud = math.sqrt(self._tone_power)
        too_loud = loud > LARGEST_GAIN * level
        explained = not too_loud and in_dry > EXPLAINED * self._tone_share * dry_power
        if explained or self._tone_share < LEAST_SHARE or not self._tone.holds(loud):
            self._masked += 1  # a note may lie on it for a moment
            if self._masked > MOST_MASKED + MASKED_SHARE * self._tone.looks or not self._tone.looks:
                self._end_tone()
            return None
        if not self._tone.looks:
            self._first[...] = self._dry
            self._first_norm = float(np.vdot(self._first, self._first))
        self._tone.take(loud)
        norm = float(np.vdot(self._dry, self._dry)) * self._first_norm
        alike = norm > 0.0 and float(np.vdot(self._dry, self._first)) > ALIKE * math.sqrt(norm)
        self._others += too_loud or not alike
        if self._tone.looks < self._tone_looks or self._others < OTHER_INPUT_LOOKS:
            return None
        return "limit cycle", {
            "tone_hz": round(place * self._bin_hz, 1),
            "level_db": told_db(loud),
            "input_db": told_db(level),
            "steady_s": round(self._tone.looks * LOOK_S, 2),
        }

    def _end_top(self) -> None:
        self._top_tone.end()
        self._top_others = 0

    def _end_tone(self) -> None:
        self._tone.end()
        self._others = self._masked = self._place = 0
