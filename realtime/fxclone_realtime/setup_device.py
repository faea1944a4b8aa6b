"""From what the user asked to a device that is ready to start."""

from __future__ import annotations

from dataclasses import dataclass, field

from fxclone.audio import valid_sample_rate
from fxclone.errors import DeviceError, UsageError
from fxclone_realtime.devices import AudioDevice, DeviceInfo, choose_device, feedback_risk
from fxclone_realtime.null_device import NullDevice
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.sources import FileSource, read_source


@dataclass(frozen=True)
class OpenedDevice:
    """A device, the file that feeds it if any, and what the user should be told."""

    device: AudioDevice
    source: FileSource | None = None
    notes: list[str] = field(default_factory=list)


def open_device(options: PlayOptions, clone_rate: int) -> OpenedDevice:
    """Choose devices, rate and channels.

    The rate is the one asked for; else the clone's if the device takes it; else the device's own, and the clone runs
    resampled.

    Raises
    ------
    DeviceError, UsageError, AudioFileError
        For what is not there, contradicts itself, or would howl.
    """
    if options.null:
        rate = valid_sample_rate(options.sample_rate or clone_rate)
        source = _source(options, rate)
        channels = len(options.input_channels or (0,))
        device = NullDevice(rate, options.block, channels_in=channels, source=source)
        return OpenedDevice(device, source, _notes(source, clone_rate, rate))
    from fxclone_realtime.portaudio import PortAudioDevice, list_devices

    known = list_devices()
    output = choose_device(known, options.output_device, "output")
    chosen_input = None if options.input_file else choose_device(known, options.input_device, "input")
    picked = options.input_channels or (0,)
    if chosen_input is not None:
        if max(picked) >= chosen_input.inputs:
            raise UsageError(
                f"--input-channel {max(picked) + 1}, but {chosen_input} has {chosen_input.inputs}; "
                "expected one of those, counted from 1"
            )
        risk = feedback_risk(chosen_input.name, output.name)
        if risk and not options.allow_feedback:
            raise DeviceError(
                f"refused, because it could howl loudly: {risk}; plug in headphones or an interface and choose it "
                "(see `fxclone devices`), or add --allow-feedback"
            )
    rate = _stream_rate(options.sample_rate, clone_rate, chosen_input, output, max(picked) + 1)
    source = _source(options, rate)
    card = PortAudioDevice(
        chosen_input, output, sample_rate=rate, block=options.block, input_channels=picked, source=source
    )
    return OpenedDevice(card, source, _notes(source, clone_rate, rate))


def _source(options: PlayOptions, rate: int) -> FileSource | None:
    if options.input_file is None:
        return None
    source = read_source(options.input_file, rate, loop=options.loop)
    if options.input_channels is not None:
        if max(options.input_channels) >= source.channels:
            raise UsageError(
                f"--input-channel {max(options.input_channels) + 1}, but {options.input_file} has {source.channels}"
            )
        notes = source.notes
        source = FileSource(source.sound[list(options.input_channels)], loop=options.loop)
        source.notes = notes
    return source


def _notes(source: FileSource | None, clone_rate: int, rate: int) -> list[str]:
    notes = list(source.notes) if source else []
    if clone_rate != rate:
        notes.append(f"the clone runs at {clone_rate} Hz, the device at {rate} Hz: resampled")
    return notes


def _stream_rate(
    asked: int | None, clone_rate: int, chosen_input: DeviceInfo | None, output: DeviceInfo, inputs: int
) -> int:
    from fxclone_realtime.portaudio import accepts, usable_rates

    def takes(rate: int) -> bool:
        if not accepts(output.index, "output", rate, min(2, output.outputs)):
            return False
        return chosen_input is None or accepts(chosen_input.index, "input", rate, inputs)

    if asked is not None:
        rate = valid_sample_rate(asked)
        if not takes(rate):
            can = set(usable_rates(output.index, "output"))
            if chosen_input is not None:
                can &= set(usable_rates(chosen_input.index, "input", inputs))
            rates = ", ".join(str(each) for each in sorted(can)) or "none of the usual rates in common"
            names = f"{output}" if chosen_input in (None, output) else f"{chosen_input} and {output}"
            raise DeviceError(f"{names}: {rate} Hz is refused; usable: {rates}; choose another --sample-rate")
        return rate
    return clone_rate if takes(clone_rate) else output.default_rate_hz
