"""The errors a user may see. Every message says what was seen, what was expected and what to do, in one line."""


class FxcloneError(Exception):
    """Something failed that the user should hear about: shown as one line, exit code 1."""

    exit_code = 1


class UsageError(FxcloneError):
    """Wrong use: an unknown name, a value out of range, options that contradict each other. Exit code 2."""

    exit_code = 2


class AudioFileError(FxcloneError):
    """A sound file that is missing, unreadable, empty or holds values that are not sound."""


class CloneFileError(FxcloneError):
    """A file that is not a clone, is damaged, is from a newer version, or fails its self-test."""


class DeviceError(FxcloneError):
    """An audio device that is missing, busy, lost, or cannot run as asked."""


class EffectError(FxcloneError):
    """A reference effect that cannot be built or that gave an unusable result."""
