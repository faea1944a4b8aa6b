"""fxclone: playable neural copies of audio effects."""

from fxclone.errors import (
    AudioFileError,
    CloneFileError,
    DeviceError,
    EffectError,
    FxcloneError,
    UsageError,
)

__all__ = [
    "AudioFileError",
    "CloneFileError",
    "DeviceError",
    "EffectError",
    "FxcloneError",
    "UsageError",
]
