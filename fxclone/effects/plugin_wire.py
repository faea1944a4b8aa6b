"""What fxclone and the process that holds a plugin say to each other: a line of JSON, then sound as plain float32."""

from __future__ import annotations

import json
from typing import IO, Any

import numpy as np

from fxclone.audio import Audio

Frame = tuple[dict[str, Any], Audio | None]


def write_frame(stream: IO[bytes], header: dict[str, Any], sound: Audio | None = None) -> None:
    """Send a header, and sound [shape=(channels, samples)] with it."""
    line = header if sound is None else {**header, "shape": list(sound.shape)}
    stream.write(json.dumps(line).encode() + b"\n")
    if sound is not None:
        stream.write(np.ascontiguousarray(sound, dtype="<f4").tobytes())
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Return the next header and its sound; None where the stream ends, also in the middle of a frame."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    shape = header.pop("shape", None)
    if shape is None:
        return header, None
    size = 4 * int(np.prod(shape))
    data = stream.read(size)
    if len(data) < size:
        return None
    return header, np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
