"""What the original effect itself does that would be a fault in a clone of another one."""

from __future__ import annotations

import numpy as np

from fxclone.audio import Audio
from fxclone.stability.history import History
from fxclone.stability.known import EXCUSABLE, Known
from fxclone.stability.level_watch import LevelWatch
from fxclone.stability.spectrum_watch import SpectrumWatch

STEP = 512


def usual_faults(dry: Audio, wet: Audio, sample_rate: int, *, tail_samples: int = 0) -> list[str]:
    """Watch a recording of the original as a monitor would watch its clone.

    Parameters
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        Aligned, of equal length. Ten seconds or more; less shows little.
    sample_rate : int
        In Hz.
    tail_samples : int
        How long the effect goes on in silence.

    Returns
    -------
    list of str
        The faults that it has, by their names in a `Trip`; empty for nearly every effect. Only those that a musician
        may want; export stores them in the certificate as ``usual``.
    """
    known = Known(
        dry_peak=float(np.abs(dry).max(initial=0.0)),
        wet_peak=float(np.abs(wet).max(initial=0.0)),
        wet_dc=abs(float(wet.mean(dtype=np.float64))) if wet.size else 0.0,
    )
    levels = LevelWatch(known, sample_rate, tail_samples, tail_samples, len(dry), len(wet), STEP)
    spectra = SpectrumWatch(known, sample_rate, 0, tail_samples)
    kept = max(levels.size, spectra.size + 2 * STEP)
    past, heard = History(len(dry), kept, STEP), History(len(wet), kept, STEP)
    found: set[str] = set()
    for start in range(0, min(dry.shape[1], wet.shape[1]), STEP):
        before, after = dry[:, start : start + STEP], wet[:, start : start + STEP]
        past.push(before)
        heard.push(after)
        dry_peak = float(np.abs(before).max())
        faults = (
            levels.inspect(past, heard, dry_peak, after),
            spectra.inspect(past, heard, levels.dry_level, after.shape[1]),
        )
        for fault in faults:
            if fault is not None:
                found.add(fault[0])
    return sorted(found & EXCUSABLE)
