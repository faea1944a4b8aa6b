"""fxclone's own effects: short formulas, exact in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fxclone.audio import Audio, db_to_gain
from fxclone.effects import cabinet
from fxclone.effects.spec import EffectSpec, RenderFn, Setting

_Samples = npt.NDArray[np.float64]


def _pointwise(formula: Callable[[_Samples], _Samples]) -> RenderFn:
    """Render by a formula on all samples at once, in double precision."""

    def render(dry: Audio, sample_rate: int) -> Audio:
        return formula(dry.astype(np.float64)).astype(np.float32)

    return render


def _passthrough(settings: Mapping[str, Any]) -> RenderFn:
    return _pointwise(lambda x: x)


def _gain(settings: Mapping[str, Any]) -> RenderFn:
    factor = db_to_gain(settings["gain_db"])
    return _pointwise(lambda x: factor * x)


def _invert(settings: Mapping[str, Any]) -> RenderFn:
    return _pointwise(lambda x: -x)


def _tanh(settings: Mapping[str, Any]) -> RenderFn:
    drive = settings["drive"]
    return _pointwise(lambda x: np.tanh(drive * x))


def _hardclip(settings: Mapping[str, Any]) -> RenderFn:
    limit, drive = db_to_gain(settings["threshold_db"]), db_to_gain(settings["drive_db"])
    return _pointwise(lambda x: np.clip(drive * x, -limit, limit))


def _butterworth(kind: Literal["lowpass", "highpass"]) -> Callable[[Mapping[str, Any]], RenderFn]:
    def build(settings: Mapping[str, Any]) -> RenderFn:
        def render(dry: Audio, sample_rate: int) -> Audio:
            from scipy.signal import butter, sosfilt  # takes a second to import

            sections = butter(
                int(settings["order"]), float(settings["cutoff_hz"]), btype=kind, fs=float(sample_rate), output="sos"
            )
            wet: Audio = np.asarray(sosfilt(sections, dry.astype(np.float64), axis=-1), dtype=np.float32)
            return wet

        return render

    return build


def _butterworth_tail_s(settings: Mapping[str, Any]) -> float:
    # The slowest pole pair has damping cutoff·sin(pi / 2·order), and e^-6.9 is -60 dB.
    return float(6.9 / (2 * np.pi * settings["cutoff_hz"] * np.sin(np.pi / (2 * settings["order"]))))


def _ringmod(settings: Mapping[str, Any]) -> RenderFn:
    frequency_hz, mix = settings["frequency_hz"], settings["mix"]

    def render(dry: Audio, sample_rate: int) -> Audio:
        cycles = np.arange(dry.shape[1]) * (frequency_hz / sample_rate)
        carrier = np.sin(2 * np.pi * (cycles % 1.0))
        wet: Audio = (dry * (1 - mix + mix * carrier)).astype(np.float32)
        return wet

    return render


def _dcblock(settings: Mapping[str, Any]) -> RenderFn:
    cutoff_hz = settings["cutoff_hz"]

    def render(dry: Audio, sample_rate: int) -> Audio:
        from scipy.signal import lfilter

        pole = float(np.exp(-2 * np.pi * cutoff_hz / sample_rate))
        scale = (1 + pole) / 2  # unit gain at half of the sample rate
        wet: Audio = np.asarray(lfilter([scale, -scale], [1.0, -pole], dry.astype(np.float64)), dtype=np.float32)
        return wet

    return render


def _cutoff(default: float) -> Setting:
    return Setting("cutoff_hz", default, 10.0, 150_000.0, "Hz", "Frequency where it is 3 dB down.", below_nyquist=True)


_ORDER = Setting("order", 4, 1, 12, "", "Steepness: 6 dB per octave for each.")

EFFECTS: tuple[EffectSpec, ...] = (
    EffectSpec(
        "passthrough",
        "Gives back what it gets; a clone of it must have lag 0.",
        (),
        _passthrough,
        linear=True,
        time_varying=False,
    ),
    EffectSpec(
        "gain",
        "Makes it louder or softer.",
        (Setting("gain_db", 6.0, -120.0, 120.0, "dB", "How much louder."),),
        _gain,
        linear=True,
        time_varying=False,
    ),
    EffectSpec("invert", "Turns the polarity.", (), _invert, linear=True, time_varying=False),
    EffectSpec(
        "tanh",
        "Soft distortion without memory: tanh(drive · x).",
        (Setting("drive", 5.0, 0.001, 1000.0, "", "Gain before the curve, as a factor."),),
        _tanh,
        linear=False,
        time_varying=False,
    ),
    EffectSpec(
        "hardclip",
        "Cuts off everything beyond a threshold.",
        (
            Setting("threshold_db", -6.0, -120.0, 60.0, "dB", "Level of the cut, in dB of full scale."),
            Setting("drive_db", 0.0, -60.0, 60.0, "dB", "Gain before the cut."),
        ),
        _hardclip,
        linear=False,
        time_varying=False,
    ),
    EffectSpec(
        "lowpass",
        "Butterworth low-pass filter.",
        (_cutoff(1000.0), _ORDER),
        _butterworth("lowpass"),
        linear=True,
        time_varying=False,
        tail_s=_butterworth_tail_s,
    ),
    EffectSpec(
        "highpass",
        "Butterworth high-pass filter.",
        (_cutoff(200.0), _ORDER),
        _butterworth("highpass"),
        linear=True,
        time_varying=False,
        tail_s=_butterworth_tail_s,
    ),
    EffectSpec(
        "dcblock",
        "Takes out what does not vibrate.",
        (Setting("cutoff_hz", 10.0, 0.1, 1000.0, "Hz", "Frequency where it is 3 dB down.", below_nyquist=True),),
        _dcblock,
        linear=True,
        time_varying=False,
        tail_s=lambda settings: 6.9 / (2 * np.pi * settings["cutoff_hz"]),
    ),
    EffectSpec(
        "ringmod",
        "Ring modulator: multiplies with a sine that starts at phase 0.",
        (
            Setting("frequency_hz", 1000.0, 0.01, 150_000.0, "Hz", "Frequency of the sine.", below_nyquist=True),
            Setting("mix", 1.0, 0.0, 1.0, "", "0 is dry, 1 is only the product; below 1 at a few Hz: tremolo."),
        ),
        _ringmod,
        linear=True,
        time_varying=True,
    ),
    EffectSpec(
        "cabinet",
        "Guitar loudspeaker in its box, before a microphone.",
        (
            Setting("size_inch", 12.0, 6.0, 15.0, "inch", "Loudspeaker: larger sounds deeper."),
            Setting("brightness", 0.5, 0.0, 1.0, "", "Microphone from the cone's edge (0) to its middle (1)."),
            Setting("distance_cm", 5.0, 1.0, 200.0, "cm", "Microphone distance: near is full, far is dull and roomy."),
        ),
        cabinet.build,
        linear=True,
        time_varying=False,
        tail_s=cabinet.LENGTH_S,
    ),
)
