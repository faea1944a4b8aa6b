"""The command ``fxclone latency``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer


def latency(
    device: Annotated[
        str | None, typer.Option("--device", help="Input and output in one: index or part of a name.")
    ] = None,
    input_device: Annotated[str | None, typer.Option("--input-device", help="Index or part of a name.")] = None,
    output_device: Annotated[str | None, typer.Option("--output-device", help="Index or part of a name.")] = None,
    input_channel: Annotated[
        str | None, typer.Option("--input-channel", help="Where the cable ends, counted from 1.  [default: 1]")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Clone to send the sound through as well.")
    ] = None,
    block: Annotated[int, typer.Option("--block", help="Samples per block, as for playing.")] = 128,
    sample_rate: Annotated[int | None, typer.Option("--sample-rate", help="In Hz.  [default: the clone's]")] = None,
    wait_s: Annotated[float, typer.Option("--wait-s", help="How long to wait until sound comes back.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure the real latency: connect an output with an input by a cable first."""
    from fxclone_realtime.commands import LARGEST_BLOCK, channel_numbers, device_names, in_range

    null, input_device, output_device = device_names(device, input_device, output_device)
    in_range("--block", block, 1, LARGEST_BLOCK)
    in_range("--wait-s", wait_s, 0.0, math.inf)
    from fxclone_realtime.latency import LatencyMeter, report, sentences
    from fxclone_realtime.options import PlayOptions
    from fxclone_realtime.rig import load_rig
    from fxclone_realtime.setup_device import open_device

    rig = None if model is None else load_rig(f'"{model}"')
    options = PlayOptions(
        input_device=input_device,
        output_device=output_device,
        null=null,
        input_channels=channel_numbers(input_channel, "--input-channel"),
        block=block,
        sample_rate=sample_rate,
        allow_feedback=True,  # nothing that comes in goes out again
    )
    opened = open_device(options, rig.clones[0].sample_rate if rig else 48_000).device
    meter = LatencyMeter(opened, block, rig.processor(opened.sample_rate) if rig else None)
    direct, through = meter.run(wait_s=wait_s, say=(lambda text: None) if as_json else _write)
    name = rig.name if rig else ""
    if as_json:
        _write(json.dumps(report(meter, direct, through, name)))
    else:
        _write("\n".join(sentences(meter, direct, through, name)))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
