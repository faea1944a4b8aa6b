"""Options that several commands have: what is cloned, and its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

REFERENCE, SOUND, BUDGET, MODEL, OUTPUT = "Reference", "Sound", "Budget", "Model", "Output"
"""Groups of the help."""

Effect = Annotated[
    str | None,
    typer.Option(
        "--effect",
        "-e",
        help='An effect, a .nam file (nam:amp.nam), or a chain: "highpass(cutoff_hz=200) > tanh".',
        rich_help_panel=REFERENCE,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the effect.", rich_help_panel=REFERENCE),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="A preset's name or TOML file: effect, recipe, or both.",
        rich_help_panel=REFERENCE,
    ),
]
Wet = Annotated[
    list[Path] | None,
    typer.Option(
        "--wet",
        help="Instead of an effect: what your own device made of --dry. A file for each, or folders.",
        rich_help_panel=REFERENCE,
    ),
]
Dry = Annotated[
    list[Path] | None,
    typer.Option(
        "--dry",
        help="Files or folders. With --wet: what went into the device. With --effect: your own sound, as well.",
        rich_help_panel=SOUND,
    ),
]
OnlyDry = Annotated[
    bool,
    typer.Option("--only-dry", help="Use --dry alone, without made sound.", rich_help_panel=SOUND),
]
SampleRate = Annotated[
    int | None,
    typer.Option(
        "--sample-rate",
        help="Rate of the clone, in Hz.  [default: that of --wet, or 48000]",
        rich_help_panel=SOUND,
    ),
]
Channels = Annotated[
    str,
    typer.Option("--channels", help="auto, mono, mono-stereo (one in, two out) or stereo.", rich_help_panel=SOUND),
]
Lag = Annotated[
    float | None,
    typer.Option(
        "--lag",
        metavar="SAMPLES",
        help="How late --wet is, at the clone's rate, if you know better.  [default: measured]",
        rich_help_panel=SOUND,
    ),
]
Align = Annotated[
    bool,
    typer.Option("--align/--no-align", help="Move --wet to where --dry is, or not.", rich_help_panel=SOUND),
]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Go on with a recording that looks unusable.", rich_help_panel=SOUND),
]
