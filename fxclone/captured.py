"""What ``fxclone capture`` left beside the sound: the lag by its markers, which no measurement on music reaches.

The file may come from anyone, so it is read within limits, and what it says must fit the sound beside it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from fxclone.takes import Take

NAME = "capture.json"
FORMAT = "fxclone-capture/1"
SOUNDS = ("dry.wav", "wet.wav")
MOST_BYTES = 1 << 20
LONGEST_LAG_S = 1.0
LENGTH_S = 0.01
"""The wet file must be as long as the capture was, to within this."""
STEADY_PPM = 0.1
"""With clocks that differ by more, the lag is not one number."""


def captured_lag(take: Take, rate: int) -> float | None:
    """How late the wet file of a capture is, in samples at ``rate``.

    Parameters
    ----------
    take : Take
        Its files must have the names that a capture gives them, in one folder.
    rate : int
        In Hz.

    Returns
    -------
    float or None
        None if this is no capture, if its markers did not come back, or if its latency moved.
    """
    if (take.dry.name, take.wet.name) != SOUNDS or take.dry.parent.resolve() != take.wet.parent.resolve():
        return None
    try:
        with (take.wet.parent / NAME).open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        facts = json.loads(raw) if len(raw) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return None
    header = take.info[1]
    latency = facts.get("latency")
    length = _number(facts.get("seconds"))
    if (
        not isinstance(latency, dict)
        or facts.get("sample_rate") != header.sample_rate
        or length is None
        or abs(length - header.seconds) > LENGTH_S
    ):
        return None
    left, drift = _number(latency.get("left_samples")), _number(latency.get("drift_ppm"))
    if latency.get("source") != "markers" or latency.get("wandering") is not False or left is None or drift is None:
        return None
    if abs(left) > LONGEST_LAG_S * header.sample_rate or abs(drift) > STEADY_PPM:
        return None
    return left * rate / header.sample_rate


def _number(value: Any) -> float | None:
    """A finite number, and nothing else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value) if math.isfinite(value) else None
