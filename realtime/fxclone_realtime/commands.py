"""The commands ``fxclone play`` and ``fxclone devices``; ``fxclone capture`` has a file of its own."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from fxclone.errors import UsageError
from fxclone_realtime.capture_command import capture
from fxclone_realtime.latency_command import latency

LARGEST_BLOCK = 8192


def register(app: typer.Typer) -> None:
    """Mount the commands of the live part."""
    app.command("play")(play)
    app.command("devices")(devices)
    app.command("capture")(capture)
    app.command("latency")(latency)


def play(
    model: Annotated[
        list[Path] | None, typer.Option("--model", "-m", help="Clone to play; several run in series.")
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option("--chain", help='Clones and effects in series: "drive.onnx > reverb(room_size=0.3)".'),
    ] = None,
    next_chain: Annotated[
        list[str] | None, typer.Option("--next", help="Another clone or chain, for the key n; several in turn.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Effect to compare with, for the key a; 'original': what the clone copies."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", help="Input and output in one: index, part of a name, or 'null' (needs no sound card)."
        ),
    ] = None,
    input_device: Annotated[str | None, typer.Option("--input-device", help="Index or part of a name.")] = None,
    output_device: Annotated[str | None, typer.Option("--output-device", help="Index or part of a name.")] = None,
    input_channel: Annotated[
        str | None,
        typer.Option("--input-channel", help="Counted from 1, played to both ears; 1+2 for stereo.  [default: 1]"),
    ] = None,
    block: Annotated[int, typer.Option("--block", help="Samples per block: smaller is quicker and harder.")] = 128,
    sample_rate: Annotated[int | None, typer.Option("--sample-rate", help="In Hz.  [default: the clone's]")] = None,
    duration: Annotated[float | None, typer.Option("--duration", help="Stop after so many seconds.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input-file", help="Play a sound file instead of an input.")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start the file again at its end.")] = False,
    record: Annotated[Path | None, typer.Option("--record", "-o", help="Write what is heard to a sound file.")] = None,
    record_dry: Annotated[
        Path | None, typer.Option("--record-dry", help="Write what comes in to a sound file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the recording if it exists.")] = False,
    in_gain_db: Annotated[float, typer.Option("--in-gain-db", help="Gain before the clone.")] = 0.0,
    out_gain_db: Annotated[float, typer.Option("--out-gain-db", help="Gain after the clone.")] = 0.0,
    mix: Annotated[float, typer.Option("--mix", help="0 dry to 1 wet.")] = 1.0,
    ceiling_db: Annotated[
        float, typer.Option("--ceiling-db", help="Nothing louder than this gets out, in dBFS.")
    ] = 0.0,
    input_dbu: Annotated[
        float | None,
        typer.Option("--input-dbu", help="Your interface's full scale in dBu: the clone gets the level it knows."),
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", help="Read commands, one a line, from this pipe; - is standard input.")
    ] = None,
    reconnect_s: Annotated[
        float | None,
        typer.Option("--reconnect-s", help="How long to wait for a lost device.  [default: until you stop]"),
    ] = None,
    allow_feedback: Annotated[
        bool, typer.Option("--allow-feedback", help="Play a microphone into a speaker although it may howl.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Play even if this machine is too slow for it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end and nothing else.")] = False,
) -> None:
    """Play a clone live. Keys: b bypass, a original, n next, m M mix, - + volume, [ ] drive, q quit."""
    null, input_device, output_device = device_names(device, input_device, output_device)
    in_range("--block", block, 1, LARGEST_BLOCK)
    in_range("--mix", mix, 0.0, 1.0)
    in_range("--in-gain-db", in_gain_db, -60.0, 60.0)
    in_range("--out-gain-db", out_gain_db, -60.0, 60.0)
    in_range("--ceiling-db", ceiling_db, -60.0, 6.0)
    if duration is not None:
        in_range("--duration", duration, 0.01, math.inf)
    if loop and input_file is None:
        raise UsageError("--loop repeats an input file, and there is none; add --input-file FILE")
    if input_file is not None and input_device is not None:
        raise UsageError("--input-file takes the place of an input; leave out --input-device, or the file")
    if (model is None) == (chain is None):
        raise UsageError("give either --model CLONE (several run in series) or --chain; see `fxclone play --help`")
    if input_dbu is not None:
        in_range("--input-dbu", input_dbu, -60.0, 60.0)
    if reconnect_s is not None:
        in_range("--reconnect-s", reconnect_s, 0.0, math.inf)
    if record is not None and record == record_dry:
        raise UsageError(f"--record and --record-dry both name {record}; give each its own")
    from fxclone_realtime.face import Face, summary
    from fxclone_realtime.interpreter import process_start, stop_on_signals
    from fxclone_realtime.keys import commands
    from fxclone_realtime.live import LivePlayer
    from fxclone_realtime.options import PlayOptions

    options = PlayOptions(
        models=tuple(model or ()),
        chain=chain,
        next_chains=tuple(next_chain or ()),
        against=against,
        input_device=input_device,
        output_device=output_device,
        null=null,
        input_channels=channel_numbers(input_channel, "--input-channel"),
        block=block,
        sample_rate=sample_rate,
        duration_s=duration,
        input_file=input_file,
        loop=loop,
        record=record,
        record_dry=record_dry,
        force=force,
        in_gain_db=in_gain_db,
        out_gain_db=out_gain_db,
        mix=mix,
        ceiling_db=ceiling_db,
        input_dbu=input_dbu,
        allow_feedback=allow_feedback,
        anyway=anyway,
        reconnect_s=math.inf if reconnect_s is None else reconnect_s,
    )
    face = None if as_json else Face()
    with stop_on_signals() as stop, commands(keyboard=not as_json, control=control) as lines:
        player = LivePlayer(options, face=face, lines=lines, stopped=stop.is_set, began_s=process_start())
        try:
            report, error = player.run()
        finally:
            if face is not None:
                face.end()
    if as_json and report is not None:
        _write(json.dumps(report))
    elif report is not None and report["blocks"]:
        _write(summary(report))
    if error is not None:
        raise error


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, empty if there is no device.")] = False,
) -> None:
    """List audio devices: channels, host API, latency, and which sample rates work."""
    from fxclone_realtime.portaudio import list_devices

    found = list_devices(rates=True)
    if as_json:
        _write(json.dumps([device.as_dict() for device in found]))
        return
    from fxclone_realtime.face import device_table

    _write(device_table(found))


def device_names(both: str | None, one: str | None, other: str | None) -> tuple[bool, str | None, str | None]:
    """Whether it is the null device, and the names of input and output."""
    if both is not None and (one is not None or other is not None):
        raise UsageError("--device names input and output together; give either it or the two single options")
    named = {name.lower() for name in (both, one, other) if name is not None}
    if "null" in named:
        if len(named) > 1:
            raise UsageError("the null device cannot be combined with another one; use --device null alone")
        return True, None, None
    return False, one or both, other or both


def channel_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Channels counted from 0, from a text such as 1 or 1+2."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,2}(\+[1-9]\d{0,2})?", text):
        raise UsageError(f"{option} {text!r}; expected a number from 1, or two such as 1+2 for stereo")
    return tuple(int(part) - 1 for part in text.split("+"))


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Raise UsageError if an option's value is out of range."""
    if not low <= value <= high:
        raise UsageError(f"{name} {value:g} is out of range; expected {low:g} to {high:g}")


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
