"""What goes wrong while recording: drop-outs that the device reports, and those that only the sound shows.

A sound card that loses samples fills in zeros, plays its last buffer again, or goes on as if nothing were missing; the
last shows as a step in the time of arrival. An effect may do any of these on purpose (a gate, a looper), so nothing is
certain until the same part has been played twice: what happens again at the same place is the effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mono = npt.NDArray[np.float32]

ZEROS_S = 0.0006
"""Exact zeros for so long amid sound: a converter never gives that."""
LOUD = 10 ** (-46 / 20)
"""Sound of at least this peak on both sides makes a gap out of zeros."""
EDGE = 64
SLACK = 16
"""Dry and wet are in step to about so many samples."""
BUFFERS = (32, 64, 128, 256, 512, 1024, 2048)
SAME_PLACE = 48
"""Samples within which two faults count as one and the same."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a part.

    Attributes
    ----------
    kind : str
        ``reported`` (by the device), ``silence``, ``repeat``, ``jump`` (of the latency) or ``lost`` (no marker).
    at : int
        Sample of the test signal.
    samples : int
        How long, or how far for a jump; 0 if unknown.
    """

    kind: str
    at: int
    samples: int

    @property
    def heard(self) -> bool:
        """Whether only the sound shows it, so that it may be the effect's doing."""
        return self.kind in ("silence", "repeat", "jump")

    def same_as(self, other: Fault) -> bool:
        """Whether this is the same thing at the same place."""
        return (
            self.kind == other.kind
            and abs(self.at - other.at) <= SAME_PLACE
            and abs(self.samples - other.samples) <= SAME_PLACE
        )


def faults_in(dry: Mono, wet: Mono, sample_rate: int, start: int = 0) -> list[Fault]:
    """Find gaps and repeated buffers in what came back.

    Parameters
    ----------
    dry, wet : ndarray [shape=(samples,)]
        What was sent and what returned, already in step to about a sample.
    sample_rate : int
        In Hz.
    start : int
        Position of the first sample in the test signal, added to the places found.
    """
    found = [*_gaps(dry, wet, sample_rate), *_repeats(dry, wet)]
    return [Fault(fault.kind, fault.at + start, fault.samples) for fault in sorted(found, key=lambda f: f.at)]


def repeated(faults: Iterable[Fault], before: Iterable[Fault]) -> bool:
    """Whether all these are heard ones that were there before too: then they belong to the effect."""
    before = list(before)
    return all(fault.heard and any(fault.same_as(other) for other in before) for fault in faults)


def _runs(flags: npt.NDArray[np.bool_], least: int) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least]


def _gaps(dry: Mono, wet: Mono, sample_rate: int) -> list[Fault]:
    out = []
    for a, b in _runs(wet == 0.0, max(16, round(ZEROS_S * sample_rate))):
        if a == 0 or b == wet.size:
            continue
        cut = max(_top(wet[a - 1 : a]), _top(wet[b : b + 1]))
        around = min(_top(wet[max(0, a - EDGE) : a]), _top(wet[b : b + EDGE]))
        sent = np.abs(dry[a + SLACK : max(b - SLACK, a + SLACK + 1)])
        if around > LOUD and cut > 0.05 * around and float(np.mean(sent > LOUD)) > 0.3:
            out.append(Fault("silence", a, b - a))
    return out


def _repeats(dry: Mono, wet: Mono) -> list[Fault]:
    """A buffer that equals the one before it to the bit, where what was sent does not."""
    out: list[Fault] = []
    for size in BUFFERS:
        if wet.size < 3 * size:
            continue
        same = (wet[size:] == wet[:-size]) & (wet[size:] != 0.0)
        for a, b in _runs(same, size):
            at, stop = a + size, b + size
            known = any(fault.at - 2048 <= at <= fault.at + 2048 for fault in out)
            if not known and _top(wet[at:stop]) > LOUD and np.ptp(wet[at:stop]) > 0.05 * LOUD:
                sent = dry[at:stop], dry[a:b]
                if float(np.mean(sent[0] == sent[1])) < 0.5:
                    out.append(Fault("repeat", at, stop - at))
    return out


def _top(sound: Mono) -> float:
    return float(np.abs(sound).max()) if sound.size else 0.0
