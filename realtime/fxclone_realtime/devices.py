"""What a device is for the engine, which ones there are, and which may be used together.

Sound is ``(channels, samples)`` everywhere; PortAudio's ``(frames, channels)`` exists only in `portaudio`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from fxclone.errors import DeviceError, UsageError
from fxclone_realtime.engine import Engine

USUAL_RATES_HZ = (44_100, 48_000, 88_200, 96_000, 192_000)
NULL_DEVICE = "null"


class AudioDevice(Protocol):
    """Drives an engine: calls ``engine.process_into`` once for each block until it is stopped."""

    name: str
    sample_rate: int
    channels_in: int
    channels_out: int

    def start(self, engine: Engine) -> None:
        """Open and begin; raises DeviceError if that is impossible."""

    def stop(self) -> None:
        """End and close; does not hang and does not raise, whatever state the device is in."""

    def check(self) -> None:
        """Raise DeviceError if the device has been lost."""

    @property
    def latency_s(self) -> tuple[float, float]:
        """What the device itself says of its input and output latency."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device as PortAudio lists it."""

    index: int
    name: str
    host_api: str
    inputs: int
    outputs: int
    default_rate_hz: int
    low_latency_in_ms: float
    low_latency_out_ms: float
    is_default_input: bool
    is_default_output: bool
    input_rates_hz: tuple[int, ...] = ()
    output_rates_hz: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.host_api})"


def choose_device(devices: list[DeviceInfo], wanted: str | None, kind: str) -> DeviceInfo:
    """Find the one that is wanted by index or part of its name, or the default one.

    Parameters
    ----------
    devices : list of DeviceInfo
    wanted : str or None
        None takes the system's default.
    kind : {"input", "output"}

    Raises
    ------
    DeviceError
        If there is none at all.
    UsageError
        If no device or more than one fits.
    """
    able = [d for d in devices if (d.inputs if kind == "input" else d.outputs) > 0]
    hint = "see `fxclone devices`"
    if not able:
        raise DeviceError(
            f"no audio {kind} device on this machine; connect one (see `fxclone devices`), or use --device null"
        )
    if wanted is None:
        default = [d for d in able if (d.is_default_input if kind == "input" else d.is_default_output)]
        return (default or able)[0]
    option = f"--{kind}-device"
    if wanted.isdigit():
        for device in devices:
            if device.index == int(wanted):
                if device in able:
                    return device
                raise UsageError(f"device {wanted}, {device}, has no {kind}s; choose another {option}, {hint}")
        raise UsageError(f"there is no device {wanted}; expected one of {[d.index for d in able]}, {hint}")
    exact = [d for d in able if d.name.lower() == wanted.lower()]
    part = exact or [d for d in able if wanted.lower() in str(d).lower()]
    if not part:
        raise UsageError(f"no {kind} device is called {wanted!r}; there are {_names(able)}; {hint}")
    if len(part) > 1:
        raise UsageError(
            f"{wanted!r} fits {len(part)} {kind} devices: {_names(part)}; give {option} more of the name, or the index"
        )
    return part[0]


def _names(devices: list[DeviceInfo]) -> str:
    return ", ".join(f"{d.index} {d}" for d in devices[:8]) + (" ..." if len(devices) > 8 else "")


_MICROPHONE = re.compile(r"\bmic\b|microphone|built-in input|internal input|mikrofon|microfono|micro interne", re.I)
_SPEAKER = re.compile(r"\bspeakers?\b|built-in output|internal output|lautsprecher|altavoces|haut-parleur", re.I)
_NO_SPEAKER = re.compile(r"headphone|headset|earphone|airpods|line|spdif|hdmi|digital", re.I)
_BUILT_IN = re.compile(r"HDA Intel|sof-hda|HD-Audio|built-?in|internal|macbook", re.I)


def feedback_risk(input_name: str, output_name: str) -> str | None:
    """Say why these two may howl (a microphone that hears the loudspeaker), or return None.

    Only names are known, so it looks for those of built-in microphones and speakers, and for both being the machine's
    own sound chip, whose ends are a microphone and a speaker unless something is plugged in.
    """
    if _NO_SPEAKER.search(output_name):
        return None
    microphone, speaker = _MICROPHONE.search(input_name), _SPEAKER.search(output_name)
    own_in, own_out = _BUILT_IN.search(input_name), _BUILT_IN.search(output_name)
    if (microphone or own_in) and (speaker or own_out):
        return f"the input {input_name!r} is likely a microphone that hears the output {output_name!r}"
    return None
