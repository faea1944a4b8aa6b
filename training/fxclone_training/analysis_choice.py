"""From what was measured to what to train, and why: a kind of effect, a family, a size, a paragraph.

The whole choice is in two places: `kind_of` says what an effect is like, `FAMILY_FOR` and `SIZES` what to make of it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fxclone_training.analysis import CURVE_DB, SOME_COPY_DB, Analysis
from fxclone_training.analysis_models import MEMORY_S
from fxclone_training.analysis_time import EXACT_DB
from fxclone_training.tail_drive import Start
from fxclone_training.tail_length import SHORT_S

FAMILY_FOR = {
    "filter": "ar",
    "response": "tail",
    "room": "tail",
    "stereo": "tail",
    "curve": "ar",
    "curve and response": "tail",
    "pedal": "ar",
    "pedal and cabinet": "tail",
    "dynamics": "ar",
    "unknown": "ar",
    "moving": "ar",
}
"""For each kind the family that does it best."""
GATE_FAMILY = "recurrent"
"""For dynamics that turn down what is soft (gates, expanders): what hears its own past by a steep gain that falls with
it begins to howl, and the cells of an LSTM are gates themselves."""
SIZES = {"filter": "nano", "curve": "nano", "moving": "small"}
"""Where it is not ``standard``."""
HARD_DB = -6.0
"""Where no simple model gets under this, it takes a ``large`` model."""
NOISY_DB = -25.0
"""With noise over this, a ``small`` model hears all that can be heard."""
FILTER_DB = -50.0
"""From here on a recursive filter of a few samples is what a linear effect is."""
WORTH_DB = 6.0
"""A response has a thousand weights: it must be this much better than a curve alone."""
DRIVEN_WORTH_DB = 3.0
DRIVEN_DB = -24.0
"""Filters around a curve that explain this much at first sight are all there is to it: long responses then do better
than feedback: there may be a cabinet behind the curve. (A Tube Screamer stands at -22 dB, and wants the feedback.)"""
BOTH_DB = -12.0
"""A gain that follows the level has much to do with an effect where it leaves no more than this."""
MOVING_DB = 10.0
"""What moves by so much less than what nothing simple explains is not a moving effect."""
STILL_WORTH_DB = 2.0
"""What moves is a response, unless something else leaves so much less: more is soon learnt by heart."""
STEADY_DB = -100.0
"""What differs by less from one render to the next is rounding."""


@dataclass(frozen=True)
class Choice:
    """What to train.

    Attributes
    ----------
    kind : str
        What it is like: a key of `FAMILY_FOR`.
    family, size : str
        As in a recipe; size is ``nano``, ``small``, ``standard`` or ``large``.
    fits : bool
        Whether that can become a copy, and not only something like it.
    expected_db : float or None
        The error to expect where it does not fit, in dB.
    words : str
        All of it in a paragraph.
    driven : Start or None
        The filter and drive that explain a pedal best at first sight.
    """

    kind: str
    family: str
    size: str
    fits: bool
    expected_db: float | None
    words: str
    driven: Start | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def choose(found: Analysis) -> Choice:
    """Choose a family and a size for what was measured."""
    kind = kind_of(found)
    gates = kind == "dynamics" and found.gain is not None and found.gain.slope > 0
    family = GATE_FAMILY if gates else FAMILY_FOR[kind]
    if kind == "moving" and not found.linear.drive and found.linear.response_db <= found.best_db + STILL_WORTH_DB:
        family = "tail"
    size = SIZES.get(kind, "standard")
    noisy = found.time is not None and found.time.floor_exact and found.time.floor_db > NOISY_DB
    if kind == "unknown" and found.best_db > HARD_DB:
        size = "large"
    if noisy and size != "nano":
        size = "small"
    expected_db = _expected_db(found) if kind == "moving" else None
    said = [_like(found, kind), *_measured(found), *_honest(found, kind)]
    words = " ".join([*said, _chosen(found, kind, family, size, expected_db)])
    return Choice(kind, family, size, kind != "moving", expected_db, words, _driven(found))


def _driven(found: Analysis) -> Start | None:
    curves = found.curves
    if curves is None or curves.driven_db is None or curves.cutoff_hz is None or curves.drive is None:
        return None
    return Start(curves.cutoff_hz, curves.drive, curves.driven_db)


def kind_of(found: Analysis) -> str:
    """What an effect is like: a key of `FAMILY_FOR`."""
    if found.best_db > SOME_COPY_DB and _moves_much(found):
        return "moving"
    if found.linear.rings:
        return "room"
    if not found.mono:
        return "stereo"
    if found.follows_level:
        return "dynamics"
    if found.linear.whole:
        return "filter" if _filter_db(found) <= FILTER_DB or found.linear.memory_s <= MEMORY_S[0] else "response"
    curves = found.curves
    if curves is None:
        return "unknown"
    if curves.curve_db <= CURVE_DB and curves.curve_then_response_db > curves.curve_db - WORTH_DB:
        return "curve"
    if curves.curve_then_response_db <= min(CURVE_DB, curves.curve_db - WORTH_DB):
        return "curve and response"
    if curves.driven_db is not None and curves.driven_db <= min(SOME_COPY_DB, curves.curve_db - DRIVEN_WORTH_DB):
        return "pedal and cabinet" if curves.driven_db <= DRIVEN_DB else "pedal"
    return "unknown"


def _moves_much(found: Analysis) -> bool:
    """Whether movement may be what nothing simple explains, and not a little beside it."""
    time = found.time
    return time is not None and time.moves and (time.still_db is None or time.still_db > found.best_db - MOVING_DB)


def _filter_db(found: Analysis) -> float:
    return math.inf if found.linear.filter_db is None else found.linear.filter_db


def _expected_db(found: Analysis) -> float:
    return found.best_db if found.time is None or found.time.still_db is None else found.time.still_db


def _like(found: Analysis, kind: str) -> str:
    """What a guitarist would call it."""
    if kind == "moving":
        rate = found.time.rate_hz if found.time else None
        often = f", {rate:.2g} times a second" if rate else ""
        if found.time and found.time.wander_samples:
            return (
                "This wanders in time, like tape with its wow and flutter: its delay strays by "
                f"{found.time.wander_samples:.1f} samples."
            )
        return f"This moves by itself{often}, like a phaser, flanger, chorus, vibrato or tremolo."
    if kind == "room":
        before = ", with distortion before it" if found.linear.drive else ""
        return (
            f"This sounds like a room, a reverb or echoes{before}: it rings for some {found.linear.tail_s:.1f} s. A "
            f"response of that length leaves {found.linear.long_db:.0f} dB of it unexplained, one of "
            f"{1e3 * SHORT_S:.0f} ms {found.linear.short_db:.0f} dB."
        )
    if kind == "stereo":
        return f"This has {found.channels_in} channels in and {found.channels_out} out, and no long tail."
    if kind == "filter" and found.linear.memory_s <= MEMORY_S[0]:
        return "This changes next to nothing but the level: it is linear and does not remember."
    if kind == "filter":
        return "This sounds like a filter or a tone control: it is linear, and a few past samples are all it needs."
    if kind == "response":
        return "This sounds like a cabinet or an equaliser: it is linear, with a response of its own."
    if kind == "curve":
        return "This sounds like a plain distortion: a curve that bends loud sound, no filter, no memory."
    if kind == "curve and response":
        return "This sounds like a distortion with a filter or a cabinet behind it."
    if kind in ("pedal", "pedal and cabinet") and found.curves:
        cutoff = f"a high-pass of {found.curves.cutoff_hz:.0f} Hz" if found.curves.cutoff_hz else "no filter"
        return (
            f"This sounds like an overdrive or distortion pedal: a curve behind {cutoff}, another filter after it, and "
            "a clean path beside a curve."
        )
    if kind == "dynamics" and found.gain:
        return _dynamics(found)
    if found.gain and found.gain.following_db <= min(BOTH_DB, found.best_db + DRIVEN_WORTH_DB):
        return (
            "This is both: its gain follows the level as in a compressor, and it bends loud sound as a distortion "
            "does, like a limiter that clips or an amp that gives in."
        )
    return (
        "This is not linear, and nothing simple comes close: a heavy distortion, an amp, a fuzz, or several effects in "
        "a row."
    )


def _dynamics(found: Analysis) -> str:
    gain = found.gain
    if gain is None:
        return ""
    if gain.slope > 0:
        return (
            "This sounds like a noise gate or an expander: its gain follows the level, and soft sound is turned down."
        )
    return (
        "This sounds like a compressor or a limiter, not like a distortion: its gain follows the level, over "
        f"{gain.range_db:.0f} dB, and turns down what is loud, within about {gain.attack_ms:.0f} ms, to let go in "
        f"about {gain.release_ms:.0f} ms."
    )


def _measured(found: Analysis) -> list[str]:
    """The figures behind it."""
    said = []
    if found.curves and found.gain:
        parts = [
            f"a filter {found.linear.response_db:.0f} dB",
            f"a curve {found.curves.curve_db:.0f} dB",
            f"a curve and a response {found.curves.curve_then_response_db:.0f} dB",
        ]
        if found.curves.driven_db is not None:
            parts.append(f"filters around a curve {found.curves.driven_db:.0f} dB")
        parts.append(f"a gain that follows the level {found.gain.following_db:.0f} dB")
        said.append(f"Imitated by simple means, this much of its sound is left unexplained: {', '.join(parts)}.")
    elif not found.linear.rings:
        said.append(f"A filter alone leaves {min(found.linear.response_db, _filter_db(found)):.0f} dB unexplained.")
    if not found.linear.rings:
        memory = found.linear.memory_s
        said.append(
            "It remembers nothing to speak of."
            if memory <= MEMORY_S[0] and not found.follows_level
            else f"Its filters remember {'less than 1' if memory < 1e-3 else f'about {1e3 * memory:.0f}'} ms."
        )
    if found.side_db is not None:
        said.append(f"Left and right differ: their difference is at {found.side_db:.0f} dB of their sum.")
    return said + _steady(found)


def _steady(found: Analysis) -> list[str]:
    time = found.time
    if time is None:
        return []
    said = []
    if time.moves and time.still_db is not None:
        source = "The same passage at another moment comes out different" if time.rendered else "That alone is an error"
        said.append(f"{source}, at {time.still_db:.0f} dB.")
    elif time.moves:
        said.append("It changes over time.")
    else:
        said.append("It does not change over time.")
    if not time.floor_exact:
        said.append("Its noise cannot be told from its sound here: the recording has no silence and nothing twice.")
    elif time.floor_db <= max(STEADY_DB, EXACT_DB):
        said.append("It has no noise.")
    else:
        said.append(f"Its noise is at {time.floor_db:.0f} dB, and no clone gets below that.")
    return said


def _honest(found: Analysis, kind: str) -> list[str]:
    """What is not known, and what a clone will not do."""
    said = []
    if found.cut_short:
        said.append("There was no time to measure more (--seconds).")
    if found.stays_dry and kind not in ("moving", "dynamics"):
        said.append(
            "To be honest: nothing simple comes closer than the dry sound itself, at the right level, which leaves "
            f"{found.dry_db:.0f} dB. If what is left is noise, or the steps of a bit crusher, no clone will have it."
        )
    gain = found.gain
    if kind == "dynamics" and gain is not None and gain.gates:
        said.append(
            "What it silences is hardly a part of the error: a clone may let more of it through than the original."
        )
    return said


def _chosen(found: Analysis, kind: str, family: str, size: str, expected_db: float | None) -> str:
    why = {
        "filter": "because filters are what it does exactly",
        "response": "because it measures a response in one go",
        "room": "because only long responses ring that long",
        "stereo": "because it is the one for more than one channel",
        "curve": "because with one input sample it is a curve, and nothing is cheaper to play",
        "curve and response": "because it fits a curve and a response in turns",
        "dynamics": "because it can remember how loud it was",
        "unknown": "because it learns curve and memory together",
        "moving": "because the mean of what moves is a response" if family == "tail" else "because it is cheap",
        "pedal and cabinet": "because filters around a curve are all there is to it, and a cabinet's response fits too",
        "pedal": "because it remembers at many time scales, as the filters of a pedal do",
    }[kind]
    said = f"Chosen: family {family}, size {size}, {why}."
    if kind == "dynamics":
        said += " Family dynamics is tried before: where a gain that follows the level is all there is, it is exact."
    if kind == "moving" and expected_db is not None:
        said += (
            " To be honest, nothing here fits: a clone cannot know where the movement is, so it will be a still of it, "
            f"a mean without the movement; expect an error of about {expected_db:.0f} dB, far from a copy."
        )
    elif found.time is not None and found.time.moves:
        said += " What moves in it will not be in the clone."
    elif kind == "unknown" and found.best_db > HARD_DB:
        said += " It will take long to train; how close it comes cannot be told beforehand."
    return said
