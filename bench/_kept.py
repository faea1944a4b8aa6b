"""Results of long benches: a file of JSON each, so that hours can be had in parts and nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from fxclone.paths import atomic_output


class Kept(Protocol):
    """A dataclass of plain values that is kept in a file."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    digest: Any
    """Of all that it depends on."""


K = TypeVar("K", bound=Kept)


def save(result: Kept, path: Path) -> None:
    """Write it, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, force=True) as part:
        part.write_text(json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read(kind: type[K], path: Path) -> K:
    """What `save` wrote."""
    return kind(**json.loads(path.read_text()))


def results(kind: type[K], folder: Path) -> Iterator[K]:
    """Everything that is there, by name: WHAT.WHICH.SECONDSs.seedSEED.json."""
    for path in sorted(folder.glob("*.*.*s.seed*.json")):
        yield read(kind, path)


def is_there(kind: type[K], path: Path, digest: str) -> bool:
    """Whether this has been done, with the very same things."""
    return path.exists() and bool(read(kind, path).digest == digest)
