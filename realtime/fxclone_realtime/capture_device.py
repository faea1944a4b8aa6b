"""From what a capture asks for to a device that plays and records."""

from __future__ import annotations

from dataclasses import dataclass

from fxclone.errors import UsageError
from fxclone_realtime.capture_options import DEFAULT_RATE_HZ, CaptureOptions
from fxclone_realtime.devices import AudioDevice, choose_device, feedback_risk
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.setup_device import open_device

LARGEST_CLAIM_S = 10.0
"""Some drivers claim a latency of hours; that is left out."""


@dataclass(frozen=True)
class CaptureDevice:
    """A device that is ready to start, and which of its outputs get the test signal.

    Its inputs are the return's channels and, after them, the loopback channel if there is one.
    """

    device: AudioDevice
    play_on: tuple[int, ...]
    notes: tuple[str, ...] = ()


def open_capture_device(options: CaptureOptions) -> CaptureDevice:
    """Choose devices, rate and channels.

    The rate is the one asked for; else 48 kHz if the device takes it; else the device's own.

    Raises
    ------
    DeviceError, UsageError
        For what is not there or contradicts itself.
    """
    loopback: tuple[int, ...] = () if options.loopback_channel is None else (options.loopback_channel,)
    if set(loopback) & set(options.input_channels):
        raise UsageError(
            f"input {loopback[0] + 1} cannot be return and loopback at once; give --loopback-channel another one"
        )
    asked = PlayOptions(
        models=(),
        input_device=options.input_device,
        output_device=options.output_device,
        null=options.null,
        input_channels=(*options.input_channels, *loopback),
        block=options.block,
        sample_rate=options.sample_rate,
        allow_feedback=True,  # nothing that comes in goes out again
    )
    outputs, notes = 2, []
    if not options.null:
        from fxclone_realtime.portaudio import list_devices

        known = list_devices()
        output = choose_device(known, options.output_device, "output")
        outputs = output.outputs
        source = choose_device(known, options.input_device, "input")
        if loopback and loopback[0] >= source.inputs:
            raise UsageError(
                f"--loopback-channel {loopback[0] + 1}, but {source} has {source.inputs}; expected one of those"
            )
        risk = feedback_risk(source.name, output.name)
        if risk:
            notes.append(f"{risk}: that would capture the room, not a pedal; choose your interface with --device")
    play_on = options.output_channels or tuple(range(min(2, outputs)))
    if max(play_on) >= outputs:
        raise UsageError(f"--output-channel {max(play_on) + 1}, but the device has {outputs}; expected one of those")
    device = open_device(asked, DEFAULT_RATE_HZ).device
    device.channels_out = max(play_on) + 1
    return CaptureDevice(device, play_on, tuple(notes))


def claimed_latency_ms(device: AudioDevice) -> dict[str, float | None]:
    """What the driver says of itself, ``input`` and ``output``; None where it talks nonsense."""
    return {
        side: round(1e3 * seconds, 3) if 0 <= seconds < LARGEST_CLAIM_S else None
        for side, seconds in zip(("input", "output"), device.latency_s, strict=True)
    }
