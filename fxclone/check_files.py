"""Reading a take to check it: two files, one rate, and what reading them brought up."""

from __future__ import annotations

import warnings

from fxclone.check import CheckReport, Source, check_pair
from fxclone.files import SoundInfo, read_sound, resample
from fxclone.takes import Take

LONGEST_S = 300.0
"""What is measured of a long recording: its beginning, as far as memory and patience reach."""


def check_take(take: Take) -> CheckReport:
    """Read a dry and a wet file and check them, at the wet file's rate.

    The dry file is resampled if its rate is another: what was recorded stays as it is, and lags count the wet file's
    samples. See `fxclone.check.check_pair`.

    Raises
    ------
    AudioFileError
        If a file cannot be read.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dry, dry_rate = read_sound(take.dry, seconds=LONGEST_S)
        wet, rate = read_sound(take.wet, seconds=LONGEST_S)
    notes = [str(warning.message) for warning in caught]
    if dry_rate != rate:
        dry = resample(dry, dry_rate, rate)
        notes.append(f"dry is at {dry_rate} Hz and wet at {rate} Hz: both are measured at {rate} Hz")
    if take.seconds > LONGEST_S:
        notes.append(f"only the first {LONGEST_S:.0f} s of {take.seconds:.0f} s are measured")
    return check_pair(dry, wet, rate, name=take.name, sources=[_source(info) for info in take.info], notes=notes)


def _source(info: SoundInfo) -> Source:
    return Source(info.path.name, info.sample_rate, info.channels, info.samples, info.subtype)
