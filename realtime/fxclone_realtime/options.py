"""What a playing session is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PlayOptions:
    """What `fxclone play` was asked to do. Devices are an index or a part of a name, None for the default."""

    models: tuple[Path, ...]
    input_device: str | None = None
    output_device: str | None = None
    null: bool = False
    input_channels: tuple[int, ...] | None = None
    """Counted from 0; None is the first one, or all of an input file."""
    block: int = 128
    sample_rate: int | None = None
    duration_s: float | None = None
    input_file: Path | None = None
    loop: bool = False
    record: Path | None = None
    force: bool = False
    in_gain_db: float = 0.0
    out_gain_db: float = 0.0
    mix: float = 1.0
    ceiling_db: float = 0.0
    allow_feedback: bool = False
    anyway: bool = False
