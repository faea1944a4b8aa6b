"""The command ``fxclone capture``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxclone.errors import DeviceError, FxcloneError, UsageError

if TYPE_CHECKING:
    from fxclone_realtime.capture_options import CaptureOptions
    from fxclone_realtime.capture_result import CaptureResult

LARGEST_BLOCK = 8192


def capture(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to make: dry.wav, wet.wav, capture.json.")
    ] = Path("capture"),
    device: Annotated[
        str | None, typer.Option("--device", help="Input and output in one: index or part of a name.")
    ] = None,
    input_device: Annotated[str | None, typer.Option("--input-device", help="Index or part of a name.")] = None,
    output_device: Annotated[str | None, typer.Option("--output-device", help="Index or part of a name.")] = None,
    input_channel: Annotated[
        str, typer.Option("--input-channel", help="Where the pedal's output is plugged in, from 1; 1+2 for stereo.")
    ] = "1",
    output_channel: Annotated[
        str | None, typer.Option("--output-channel", help="Where the pedal's input is plugged in.  [default: 1+2]")
    ] = None,
    loopback_channel: Annotated[
        int | None,
        typer.Option("--loopback-channel", help="An input with a cable straight from an output: exact latency."),
    ] = None,
    block: Annotated[int, typer.Option("--block", help="Samples per block: larger is safer.")] = 512,
    sample_rate: Annotated[int | None, typer.Option("--sample-rate", help="In Hz.  [default: 48000]")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Length of the test signal.  [default: 75, or all of --dry]")
    ] = None,
    dry: Annotated[Path | None, typer.Option("--dry", help="Your own sound to send, instead of made music.")] = None,
    send_db: Annotated[
        float, typer.Option("--send-db", help="Peak of what is sent, in dBFS; turn down for a pedal that wants less.")
    ] = -3.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the made music.")] = 0,
    level_check: Annotated[
        bool, typer.Option("--level-check/--no-level-check", help="Play a loud stretch first, to set the level with.")
    ] = True,
    retakes: Annotated[int, typer.Option("--retakes", help="How often a part with drop-outs is played again.")] = 3,
    export_signal: Annotated[
        Path | None, typer.Option("--export-signal", help="Only write the test signal, to record it elsewhere.")
    ] = None,
    import_recording: Annotated[
        Path | None, typer.Option("--import-recording", help="A recording of the test signal, made elsewhere.")
    ] = None,
    signal: Annotated[
        Path | None, typer.Option("--signal", help="With --import-recording: the file that was played.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Record a pedal or amp: play a test signal through it, to train a clone on what comes back.

    Plug an output of your interface into the pedal, and the pedal into an input. Ctrl-C keeps what is whole.
    """
    from fxclone_realtime.capture_options import CaptureOptions
    from fxclone_realtime.commands import channel_numbers, device_names, in_range

    null, input_device, output_device = device_names(device, input_device, output_device)
    in_range("--block", block, 1, LARGEST_BLOCK)
    in_range("--send-db", send_db, -60.0, 0.0)
    in_range("--retakes", retakes, 0, 100)
    in_range("--seed", seed, 0, 2**31)
    if seconds is not None:
        in_range("--seconds", seconds, 4.0, 3600.0)
    if loopback_channel is not None:
        in_range("--loopback-channel", loopback_channel, 1, 999)
    if null:
        raise DeviceError("the null device has no cables, so nothing can come back; choose one of `fxclone devices`")
    if export_signal is not None and import_recording is not None:
        raise UsageError("--export-signal comes before recording and --import-recording after it; give one of them")
    if signal is not None and import_recording is None:
        raise UsageError("--signal says what was played in a recording; add --import-recording FILE")
    returns = channel_numbers(input_channel, "--input-channel") or (0,)
    options = CaptureOptions(
        output=output,
        input_device=input_device,
        output_device=output_device,
        input_channels=returns,
        output_channels=channel_numbers(output_channel, "--output-channel"),
        loopback_channel=None if loopback_channel is None else loopback_channel - 1,
        block=block,
        sample_rate=sample_rate,
        seconds=seconds,
        dry=dry,
        seed=seed,
        send_db=send_db,
        level_check=level_check,
        interactive=sys.stdin.isatty() and sys.stdout.isatty() and not as_json,
        retakes=retakes,
        force=force,
    )
    if export_signal is not None:
        _export(options, export_signal, as_json=as_json)
        return
    from fxclone_realtime.capture_result import check_folder

    check_folder(output, force=force)
    failure: FxcloneError | None = None
    if import_recording is not None:
        from fxclone_realtime.capture_import import import_recording as find_in

        result = find_in(options, import_recording, signal)
    else:
        result, failure = _record(options, quiet=as_json)
    _finish(result, options, as_json=as_json)
    if failure is not None:
        raise failure


def _record(options: CaptureOptions, *, quiet: bool) -> tuple[CaptureResult, FxcloneError | None]:
    from fxclone_realtime.capture import CaptureSession
    from fxclone_realtime.capture_device import open_capture_device
    from fxclone_realtime.capture_face import TerminalFace

    face = TerminalFace(quiet=quiet, interactive=options.interactive)
    session = CaptureSession(options, open_capture_device(options))
    face.say(
        f"{session.device.name}: {session.sample_rate} Hz, test signal of {session.signal.seconds:.0f} s, "
        f"peak {session.signal.peak_dbfs:.1f} dBFS".replace("-", "−")
    )
    try:
        result = session.run(face)
    finally:
        face.end()
    return result, session.failure


def _export(options: CaptureOptions, path: Path, *, as_json: bool) -> None:
    from fxclone_realtime.capture_import import export_signal

    made = export_signal(options, path, force=options.force)
    if as_json:
        known = {"signal": str(path), "sample_rate": made.sample_rate, "seconds": round(made.seconds, 3)}
        _write(json.dumps({**known, "peak_dbfs": round(made.peak_dbfs, 2), "markers": list(made.markers)}))
        return
    _write(
        f"wrote {path}: {made.seconds:.1f} s at {made.sample_rate} Hz. Play it through the pedal and record what comes "
        f"back, then:\n  fxclone capture --import-recording RECORDING --signal {path} -o NAME"
    )


def _finish(result: CaptureResult, options: CaptureOptions, *, as_json: bool) -> None:
    from fxclone_realtime.capture_face import summary, train_command
    from fxclone_realtime.capture_result import add_fact, write_capture

    write_capture(result, options.output, force=options.force)
    if not as_json:
        _write(summary(result.facts, options.output))
    verdict = _check(result)  # after writing: whatever happens here, the recording is safe
    if verdict is not None:
        add_fact(result, options.output, "check", verdict)
        if not as_json:
            _write(f"check: {verdict['verdict_text']}")
    if as_json:
        _write(json.dumps({**result.facts, "output": str(options.output), "train": train_command(options.output)}))
    else:
        _write(f"now train:\n  {train_command(options.output)}")


def _check(result: CaptureResult) -> dict[str, Any] | None:
    """What `fxclone check` says of the pair; None if it cannot say anything."""
    from fxclone.check import check_pair

    try:
        return check_pair(result.dry, result.wet, result.sample_rate).as_dict()
    except FxcloneError:
        return None


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
