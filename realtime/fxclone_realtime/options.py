"""What a playing session is asked to be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PlayOptions:
    """What `fxclone play` was asked to do. Devices are an index or a part of a name, None for the default."""

    models: tuple[Path, ...] = ()
    chain: str | None = None
    """Clones and effects as text, in the place of ``models``."""
    next_chains: tuple[str, ...] = ()
    """Others to turn to while playing."""
    against: str | None = None
    """What the chain is compared with at one key: a chain, or "original"."""
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
    record_dry: Path | None = None
    force: bool = False
    in_gain_db: float = 0.0
    out_gain_db: float = 0.0
    mix: float = 1.0
    ceiling_db: float = 0.0
    input_dbu: float | None = None
    """Level in dBu that the interface's input turns into full scale."""
    allow_feedback: bool = False
    anyway: bool = False
    reconnect_s: float = math.inf
    """How long to wait for a device that is lost; 0 gives up at once."""

    @property
    def chain_text(self) -> str:
        """What is played first."""
        return self.chain if self.chain is not None else " > ".join(f'"{path}"' for path in self.models)

    @property
    def model_names(self) -> list[str]:
        """As asked, for the report."""
        return [self.chain] if self.chain is not None else [str(path) for path in self.models]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return {key: _plain(value) for key, value in asdict(self).items()}


_PATHS = ("input_file", "record", "record_dry")


def options_from(sent: dict[str, Any]) -> PlayOptions:
    """What `PlayOptions.as_dict` gave."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in sent.items()}
    values["models"] = tuple(Path(path) for path in values["models"])
    for key in _PATHS:
        values[key] = None if values[key] is None else Path(values[key])
    return PlayOptions(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
