"""What a capture is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_SECONDS = 75.0
DEFAULT_RATE_HZ = 48_000
DEFAULT_RETAKES = 3


@dataclass(frozen=True)
class CaptureOptions:
    """What `fxclone capture` was asked to do. Devices are an index or a part of a name, None for the default.

    Channels are counted from 0. ``output_channels`` all get the same test signal.
    """

    output: Path
    input_device: str | None = None
    output_device: str | None = None
    null: bool = False
    input_channels: tuple[int, ...] = (0,)
    output_channels: tuple[int, ...] | None = None
    """None is the first two, or the only one."""
    loopback_channel: int | None = None
    block: int = 512
    """Larger than for playing: latency does not matter here, drop-outs do."""
    sample_rate: int | None = None
    seconds: float | None = None
    dry: Path | None = None
    seed: int = 0
    send_db: float = -3.0
    level_check: bool = True
    interactive: bool = False
    retakes: int = DEFAULT_RETAKES
    force: bool = False
