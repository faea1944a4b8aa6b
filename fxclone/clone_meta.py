"""What a clone file says about itself: the JSON under the key ``fxclone`` of its metadata (export/CLONE_FORMAT.md)."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fxclone.audio import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ, Audio
from fxclone.errors import CloneFileError

METADATA_KEY = "fxclone"
FORMAT_VERSION = 1
MAX_CHANNELS = 8
MAX_SELF_TEST_SAMPLES = 16_384
MAX_SECONDS = 120
MAX_KNOBS = 32
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Knob:
    """One control of a parametric clone."""

    name: str
    minimum: float
    maximum: float
    default: float
    unit: str = ""


@dataclass(frozen=True)
class SelfTest:
    """A short input and the output that the model gave for it, from a fresh state."""

    input: Audio
    output: Audio
    tolerance: float = 1e-4


@dataclass(frozen=True)
class CloneMeta:
    """Everything a clone file states about itself.

    Attributes
    ----------
    name : str
        What it is a copy of, in a few words; also the default stem of files made with it.
    family : str
        Model family, such as ``ar``.
    sample_rate : int
        The only rate it may run at, in Hz.
    channels_in, channels_out : int
    latency_samples : int
        How late its output is.
    receptive_field_samples : int
        How many past inputs it sees directly.
    prewarm_samples : int
        Silence to run before the first sample; the state after it is the fresh state.
    tail_samples : int
        How long its output may go on in silence.
    levels : dict
        What training saw, linear full scale: ``dry_peak``, ``wet_peak``, ``wet_rms``, ``wet_dc``.
    parameters : int
        Number of trained weights.
    training, metrics, certificate : dict
        Provenance, free-running figures on held-back sound, stability figures.
    calibration_dbu : dict or None
        ``input`` and ``output``: dBu of a 1 kHz sine whose digital peak is 0 dBFS.
    """

    name: str
    family: str
    sample_rate: int
    self_test: SelfTest
    channels_in: int = 1
    channels_out: int = 1
    latency_samples: int = 0
    receptive_field_samples: int = 1
    prewarm_samples: int = 0
    tail_samples: int = 0
    parameters: int = 0
    knobs: tuple[Knob, ...] = ()
    levels: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    certificate: dict[str, Any] = field(default_factory=dict)
    calibration_dbu: dict[str, float] | None = None
    format_version: int = FORMAT_VERSION

    def as_dict(self) -> dict[str, Any]:
        """Everything but the self-test, JSON-safe (what `fxclone info --json` prints)."""
        out = asdict(self)
        del out["self_test"]
        out["knobs"] = [asdict(knob) for knob in self.knobs]
        return out

    def to_json(self) -> str:
        """The text that goes into the file."""
        out = self.as_dict()
        out["self_test"] = {
            "input": _encode(self.self_test.input),
            "output": _encode(self.self_test.output),
            "tolerance": self.self_test.tolerance,
        }
        return json.dumps(out, sort_keys=True, allow_nan=False)


def parse_meta(text: str, *, name: str) -> CloneMeta:
    """Read the metadata of a clone file; every value is checked, none is trusted.

    Raises
    ------
    CloneFileError
        If it is newer than this program, incomplete or out of bounds.
    """
    try:
        raw = json.loads(text, parse_constant=_no_constant)
        if not isinstance(raw, dict):
            raise TypeError("not an object")
        version = raw.get("format_version")
        if isinstance(version, bool) or not isinstance(version, int):
            raise ValueError(f"format_version is {_short(version)}")
        if version > FORMAT_VERSION:
            raise CloneFileError(
                f"{name} has clone format {_short(version)}; this fxclone reads up to {FORMAT_VERSION}: update fxclone"
            )
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version is {_short(version)}")
        test = raw.pop("self_test")
        channels_in = _whole(raw, "channels_in", 1, MAX_CHANNELS)
        channels_out = _whole(raw, "channels_out", 1, MAX_CHANNELS)
        sample_rate = _whole(raw, "sample_rate", MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ)
        longest = MAX_SECONDS * sample_rate
        calibration = raw.get("calibration_dbu")
        return CloneMeta(
            name=_words(raw["name"], "name")[:200],
            family=_words(raw["family"], "family")[:50],
            sample_rate=sample_rate,
            channels_in=channels_in,
            channels_out=channels_out,
            latency_samples=_whole(raw, "latency_samples", 0, longest),
            receptive_field_samples=_whole(raw, "receptive_field_samples", 1, longest),
            prewarm_samples=_whole(raw, "prewarm_samples", 0, longest),
            tail_samples=_whole(raw, "tail_samples", 0, longest),
            parameters=_whole(raw, "parameters", 0, 2**31),
            knobs=_knobs(raw.get("knobs", [])),
            levels=_numbers(raw.get("levels", {}), "levels"),
            training=_object(raw.get("training", {}), "training"),
            metrics=_object(raw.get("metrics", {}), "metrics"),
            certificate=_object(raw.get("certificate", {}), "certificate"),
            calibration_dbu=None if calibration is None else _numbers(calibration, "calibration_dbu"),
            self_test=SelfTest(
                input=_decode(test["input"], channels_in),
                output=_decode(test["output"], channels_out),
                tolerance=min(_number(test["tolerance"], "tolerance"), 1e-2),
            ),
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CloneFileError(
            f"{name} has damaged clone metadata ({type(error).__name__}: {error}); export it again"
        ) from None


def _whole(raw: dict[str, Any], key: str, low: int, high: int) -> int:
    value = raw[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is {_short(value)}, expected a whole number from {low} to {high}")
    return value


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError(f"{key} is {_short(value)}, expected a finite number")
    return float(value)


def _words(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_short(value)}, expected text")
    return value


def _object(value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {_short(value)}, expected an object")
    return value


def _numbers(value: object, key: str) -> dict[str, float]:
    return {name: _number(number, f"{name[:40]} in {key}") for name, number in _object(value, key).items()}


def _knobs(listed: object) -> tuple[Knob, ...]:
    if not isinstance(listed, list) or len(listed) > MAX_KNOBS:
        raise ValueError(f"knobs is not a list of at most {MAX_KNOBS}")
    knobs = []
    for item in listed:
        rest = dict(_object(item, "a knob"))
        name, unit = _words(rest.pop("name"), "the name of a knob"), _words(rest.pop("unit", ""), "the unit of a knob")
        low, high, start = (_number(rest.pop(key), f"{key} of a knob") for key in ("minimum", "maximum", "default"))
        if rest:
            raise ValueError(f"a knob has the unknown field {_short(next(iter(rest)))}")
        if not low <= start <= high:
            raise ValueError(f"knob {_short(name)} has no valid range")
        knobs.append(Knob(name[:200], low, high, start, unit[:50]))
    return tuple(knobs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + " ..."


def _encode(audio: Audio) -> str:
    return base64.b64encode(np.ascontiguousarray(audio, dtype="<f4").tobytes()).decode("ascii")


def _decode(text: str, channels: int) -> Audio:
    if len(text) > MAX_SELF_TEST_SAMPLES * channels * 6:
        raise ValueError("the self-test is too long")
    flat = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    out: Audio = flat.reshape(channels, -1).astype(np.float32)
    if not 1 <= out.shape[1] <= MAX_SELF_TEST_SAMPLES or not np.isfinite(out).all():
        raise ValueError("the self-test is empty, too long or not finite")
    return out
