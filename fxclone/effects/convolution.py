"""pedalboard's convolution, with an impulse response from any sound file that soundfile reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio
from fxclone.effects.pedalboard_call import process
from fxclone.effects.spec import RenderFn, Settings
from fxclone.errors import AudioFileError, UsageError


def build(settings: dict[str, Any]) -> RenderFn:
    """Convolve with the sound file ``settings["impulse_response"]``."""

    def render(dry: Audio, sample_rate: int) -> Audio:
        import pedalboard
        import soundfile

        path = settings["impulse_response"]
        try:
            response, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioFileError(f"cannot read the impulse response {path}: {error}; expected a sound file") from error
        if not response.size or not np.isfinite(response).all() or response.shape[1] > 2:
            raise AudioFileError(
                f"the impulse response {path} has (channels, samples) = {response.shape[::-1]}; "
                "expected 1 or 2 channels of finite sound"
            )
        taps = np.zeros((response.shape[1], max(response.shape[0], 4)), np.float32)
        taps[:, : response.shape[0]] = response.T
        plugin = pedalboard.Convolution(taps, settings["mix"], float(rate))
        return process(plugin, dry, sample_rate)

    return render


def check(settings: Settings) -> None:
    """Raise UsageError unless the file is there."""
    path = settings["impulse_response"]
    if not path:
        raise UsageError('convolution needs a sound file: convolution(impulse_response="cabinet.wav")')
    if not Path(path).is_file():
        raise UsageError(f"convolution: there is no file {path}; expected a sound file with an impulse response")


def tail_s(settings: Settings) -> float | None:
    """Length of the impulse response."""
    import soundfile

    try:
        return float(soundfile.info(settings["impulse_response"]).duration)
    except (soundfile.LibsndfileError, OSError):
        return None
