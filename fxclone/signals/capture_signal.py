"""The test signal of a capture: sound to drive a pedal with, cut into parts by short sweeps that tell where it is.

A marker (a sweep of 100 ms) stands before the first part, between parts and after the last one. So the way through the
gear is measured again every few seconds, a part that went wrong can be played again by itself, and the signal is found
in any recording, also in one that is trimmed, resampled or from a machine with another clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fxclone.audio import Audio, db_to_gain, gain_to_db, peak, valid_audio, valid_sample_rate
from fxclone.errors import UsageError
from fxclone.signals._dsp import Doubles, Mono, faded, scaled, shaped
from fxclone.signals.probes import top_hz

MARKER_S = 0.1
MARKER_DBFS = -20.0
"""Loud enough to stand out of hiss, low enough that most gear passes it nearly clean."""
MARKER_BOTTOM_HZ = 40.0
BEFORE_MARKER_S, AFTER_MARKER_S = 0.06, 0.05
"""Silence around each marker: the tail of what was before, and the marker's own."""
FADE_S = 0.002
LEAD_S, TAIL_S = 0.6, 0.1
"""Silence at the ends. The noise floor is measured in the first."""
SHORTEST_S, LONGEST_S = 4.0, 3_600.0
PART_S = 8.0
"""About how long a part is: what has to be played again after a drop-out."""
LADDER_SHARE, LADDER_MAX_S = 0.12, 8.0
LADDER_DB = tuple(range(-54, 1, 6))
REPLICATE_SHARE, REPLICATE_MAX_S = 0.1, 6.0
PASSED, STOPPED = 0.42, 0.46
"""Of the rate: the edge of what is sent."""
UNEVEN = (1.0, 1.13, 0.91, 1.07, 0.85, 1.17)
"""Parts differ in length, so that the distance of two markers says which two they are."""
TRUE_PEAK_CEILING_DBFS = 0.0


@dataclass(frozen=True)
class Part:
    """A part of the test signal: from the first sample of its marker to the first sample of the next one.

    Attributes
    ----------
    kind : str
        ``ladder``, ``music``, ``own`` or ``replicate``.
    start, stop : int
        In samples. The last part also holds the last marker.
    """

    kind: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class CaptureSignal:
    """A test signal and where everything is in it.

    Attributes
    ----------
    sound : ndarray [shape=(1, samples)]
        As it is sent: its level is final.
    sample_rate : int
        In Hz.
    markers : tuple of int
        First sample of each marker, one more than there are parts.
    parts : tuple of Part
    """

    sound: Audio
    sample_rate: int
    markers: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self.sound.shape[1] / self.sample_rate)

    @property
    def lead(self) -> int:
        """Samples of silence before the first marker."""
        return self.markers[0]

    @property
    def peak_dbfs(self) -> float:
        """Loudest sample."""
        return float(gain_to_db(peak(self.sound)))

    @property
    def replicate(self) -> tuple[int, int, int] | None:
        """Where a passage is heard the first time, where again, and its length in samples; None without one."""
        again = [part for part in self.parts if part.kind == "replicate"]
        first = [part for part in self.parts if part.kind in ("music", "own")]
        if not again or not first:
            return None
        skip = marker_span(self.sample_rate)
        length = again[0].stop - again[0].start - skip - round((BEFORE_MARKER_S + FADE_S) * self.sample_rate) - 1
        if again[0] is self.parts[-1]:
            length -= skip
        return first[0].start + skip, again[0].start + skip, length


def marker_span(sample_rate: int) -> int:
    """Samples of a marker and the silence after it."""
    return round(MARKER_S * sample_rate) + round(AFTER_MARKER_S * sample_rate)


def sweep_marker(sample_rate: int) -> Mono:
    """One marker: an exponential sine sweep from 40 Hz to 20 kHz (or 0.45 of the rate) in 100 ms, peak -20 dBFS.

    An exponential sweep, because the harmonics that a distortion adds then come out of the deconvolution ahead of the
    true arrival, each as a peak of its own, and not smeared over it (Farina 2000).
    """
    samples = round(MARKER_S * sample_rate)
    ratio = np.log(top_hz(sample_rate) / MARKER_BOTTOM_HZ)
    u = np.arange(samples) / samples
    phase = 2 * np.pi * MARKER_BOTTOM_HZ * MARKER_S / ratio * (np.exp(u * ratio) - 1.0)
    sweep: Mono = np.sin(phase).astype(np.float32)
    return scaled(faded(sweep, sample_rate, in_s=0.004, out_s=0.0015), db_to_gain(MARKER_DBFS))


def capture_signal(
    seconds: float, sample_rate: int, *, seed: int = 0, send_db: float = -3.0, own: Audio | None = None
) -> CaptureSignal:
    """Make a test signal: level ladder, music-like parts, and the start of the first of them once more.

    The same arguments give the same samples.

    Parameters
    ----------
    seconds : float
        Length of all, 4 s to an hour.
    sample_rate : int
        In Hz.
    seed : int
        Of the made sound, 0 or more.
    send_db : float
        Peak of the whole in dBFS, -60 to 0. It becomes lower where the wave between the samples would pass full scale,
        because that is where converters clip. Markers keep their own level, or less if ``send_db`` is under it.
    own : Audio [shape=(1, samples)] or None
        Sound to play instead of the made music; what does not fit into ``seconds`` is left out.

    Raises
    ------
    UsageError
        If a value is out of range, or the own sound is silent.
    """
    rate = valid_sample_rate(sample_rate)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise UsageError(f"a test signal of {seconds:g} s; expected {SHORTEST_S:g} to {LONGEST_S:g} s: set --seconds")
    if not -60.0 <= send_db <= 0.0:
        raise UsageError(f"a send level of {send_db:g} dBFS; expected -60 to 0: set --send-db")
    pieces = _pieces(seconds, rate, seed, own)
    gain = _safe_gain(np.concatenate([sound for _, sound in pieces]), rate, send_db)
    marker = sweep_marker(rate)
    marker = scaled(marker, min(1.0, db_to_gain(send_db - MARKER_DBFS)))
    before, after = round(BEFORE_MARKER_S * rate), round(AFTER_MARKER_S * rate)
    chunks: list[Mono] = [np.zeros(round(LEAD_S * rate), np.float32)]
    at, markers = chunks[0].size, []
    for _, sound in pieces:
        markers.append(at)
        chunks += [marker, np.zeros(after, np.float32), scaled(sound, gain), np.zeros(before, np.float32)]
        at += marker.size + after + sound.size + before
    markers.append(at)
    chunks += [marker, np.zeros(after + round(TAIL_S * rate), np.float32)]
    return CaptureSignal(
        np.concatenate(chunks)[None, :], rate, tuple(markers), parts_between(markers, [k for k, _ in pieces], rate)
    )


def parts_between(markers: Sequence[int], kinds: Sequence[str], sample_rate: int) -> tuple[Part, ...]:
    """The parts that markers delimit; the last one holds the last marker too."""
    ends = [*markers[1:-1], markers[-1] + marker_span(sample_rate)]
    return tuple(Part(kind, a, b) for kind, a, b in zip(kinds, markers[:-1], ends, strict=True))


def _pieces(seconds: float, rate: int, seed: int, own: Audio | None) -> list[tuple[str, Mono]]:
    """Kind and sound of each part, at full level."""
    from fxclone.signals import training_sound

    overhead = MARKER_S + BEFORE_MARKER_S + AFTER_MARKER_S
    room = seconds - LEAD_S - TAIL_S - overhead
    if own is not None:
        room = min(room, own.shape[1] / rate / (1 - LADDER_SHARE - REPLICATE_SHARE))
    count = max(2, round(room * (1 - LADDER_SHARE - REPLICATE_SHARE) / PART_S))
    room -= overhead * (count + 2) if own is None else 0.0
    ladder_s = min(LADDER_MAX_S, LADDER_SHARE * room)
    replicate_s = min(REPLICATE_MAX_S, REPLICATE_SHARE * room)
    if own is None:
        kind, music = "music", _limited(training_sound(room - ladder_s - replicate_s, rate, seed=seed)[0], rate)
    else:
        kind, music = "own", valid_audio(own, channels=1)[0]
        wanted = round((seconds - LEAD_S - TAIL_S - overhead * (count + 3) - ladder_s - replicate_s) * rate)
        music = music[: max(wanted, rate)]
        if peak(music) < 1e-4:
            raise UsageError("the sound to send is silent (peak under -80 dBFS); choose louder sound")
        music = scaled(music, 1.0 / peak(music))
    cuts = _cuts(music, count, rate)
    parts = [(kind, _soft(music[a:b], rate)) for a, b in zip([0, *cuts], [*cuts, music.size], strict=True)]
    again = faded(parts[0][1][: round(replicate_s * rate)].copy(), rate, out_s=FADE_S)
    return [("ladder", _ladder(ladder_s, rate, seed)), *parts, ("replicate", again)]


def _cuts(music: Mono, count: int, rate: int) -> list[int]:
    """Where to cut: near uneven shares of the whole, at the quietest moment around each."""
    shares = np.cumsum([UNEVEN[k % len(UNEVEN)] for k in range(count)])
    hop = max(1, rate // 100)
    power = np.add.reduceat(np.square(music, dtype=np.float64), np.arange(0, music.size, hop))
    out: list[int] = []
    for share in shares[:-1]:
        centre = share / shares[-1] * power.size
        reach = 0.03 * power.size / count
        low, high = int(centre - reach), int(centre + reach) + 1
        out.append((low + int(np.argmin(power[low:high]))) * hop)
    return out


def _limited(sound: Mono, rate: int) -> Mono:
    """Without what no converter lets through: above 0.46 of the rate wet would differ from dry for want of it."""

    def response(f: Doubles) -> Doubles:
        out: Doubles = 0.5 + 0.5 * np.cos(np.pi * np.clip((f / rate - PASSED) / (STOPPED - PASSED), 0.0, 1.0))
        return out

    limited = shaped(sound, rate, response)
    return scaled(limited, 1.0 / max(1.0, peak(limited)))


def _soft(sound: Mono, rate: int) -> Mono:
    return faded(sound.copy(), rate, in_s=FADE_S, out_s=FADE_S)


def _ladder(seconds: float, rate: int, seed: int) -> Mono:
    """The same chord at every level from -54 dBFS to full scale, in steps of 6 dB, from soft to loud."""
    from fxclone.signals import phrase

    edges = np.round(np.linspace(0, seconds * rate, len(LADDER_DB) + 1)).astype(int)
    longest = float(np.diff(edges).max()) / rate
    chord = _limited(phrase("chords", longest, rate, np.random.default_rng(seed + 1))[0], rate)
    rungs = [
        _soft(scaled(chord[: b - a], db_to_gain(db)), rate)
        for db, a, b in zip(LADDER_DB, edges[:-1], edges[1:], strict=True)
    ]
    return np.concatenate(rungs)


def _safe_gain(sound: Mono, rate: int, send_db: float) -> float:
    """The gain that brings the sample peak to ``send_db`` and keeps the wave between samples under full scale."""
    from fxclone.files import resample

    top = peak(sound)
    between = peak(resample(np.ascontiguousarray(sound[None, :]), rate, 4 * rate))
    return min(db_to_gain(send_db) / top, db_to_gain(TRUE_PEAK_CEILING_DBFS) / max(top, between))
