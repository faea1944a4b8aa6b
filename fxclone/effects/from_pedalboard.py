"""Every built-in effect of pedalboard as a reference, with what we measured of each (pedalboard 0.9.26).

pedalboard lines up what its look-ahead effects give with their input, so that a render knows the future. A live
effect cannot, and a causal clone could never learn it: here such an output comes late by the look-ahead instead, and
``latency_at`` says by how much. ``tests/test_effects_measured.py`` measures the flags anew.

Left out: ``Gain`` and ``Invert`` (fxclone's own ``gain`` and ``invert`` give the same), ``IIRFilter`` (abstract)
and the containers ``Chain``, ``Mix`` and ``Pedalboard``. Settings are called as in pedalboard. Where its
default does nothing (a ratio of 1, a gain of 0 dB), ours does something, and the help says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from fxclone.audio import Audio
from fxclone.effects import convolution, lookahead
from fxclone.effects.pedalboard_call import process
from fxclone.effects.spec import EffectSpec, RenderFn, Setting, Settings


def _arguments(settings: Mapping[str, Any], pedalboard: Any) -> dict[str, Any]:
    """Turn words into pedalboard's enumerations."""
    arguments = dict(settings)
    if "quality" in arguments:
        arguments["quality"] = getattr(pedalboard.Resample.Quality, arguments["quality"])
    if "mode" in arguments:
        arguments["mode"] = getattr(pedalboard.LadderFilter.Mode, arguments["mode"])
    return arguments


def _build(plugin_class: str, delay: Callable[[Settings, int], int] | None) -> Callable[[dict[str, Any]], RenderFn]:
    def build(settings: dict[str, Any]) -> RenderFn:
        def render(dry: Audio, sample_rate: int) -> Audio:
            import pedalboard

            plugin = getattr(pedalboard, plugin_class)(**_arguments(settings, pedalboard))
            return process(plugin, dry, sample_rate, delay(settings, sample_rate) if delay else 0)

        return render

    return build


def _echoes(feedback: float) -> float | None:
    """How many passes of a feedback loop it takes to fall by 60 dB; None if it never does."""
    loop = abs(feedback)
    if loop >= 1:
        return None
    return 1.0 if loop == 0 else 1.0 + math.log(1e-3) / math.log(loop)


def _delay_tail_s(settings: Settings) -> float | None:
    echoes = _echoes(settings["feedback"])
    return None if echoes is None else echoes * float(settings["delay_seconds"])


def _chorus_tail_s(settings: Settings) -> float | None:
    echoes = _echoes(settings["feedback"])
    longest_s = (settings["centre_delay_ms"] + 10 * settings["depth"]) / 1000
    return None if echoes is None else float(echoes * longest_s)


def _phaser_tail_s(settings: Settings) -> float | None:
    if abs(settings["feedback"]) >= 1:
        return None
    # The sweep is linear in the logarithm of the frequency, from 20 Hz to 20 kHz, and half a depth wide each way.
    centre = math.log(settings["centre_frequency_hz"] / 20) / math.log(1000)
    lowest_hz = 20 * 1000 ** max(centre - settings["depth"] / 2, 0.0)
    return float(6.0 / lowest_hz / (1 - abs(settings["feedback"])))


def _reverb_tail_s(settings: Settings) -> float:
    if settings["freeze_mode"] >= 0.5 or settings["wet_level"] == 0:
        return 0.0  # frozen from the start, nothing ever enters the tank
    # Freeverb's longest comb filter is 1640 samples at 44.1 kHz, with this feedback.
    return 0.05 + 3 * 1640 / 44100 / -math.log10(0.7 + 0.28 * settings["room_size"])


def _ladder_tail_s(settings: Settings) -> float | None:
    if settings["resonance"] > 0.99:
        return None  # it sings
    return float(5.0 / settings["cutoff_hz"] / (1 - settings["resonance"]))


def _biquad_tail_s(settings: Settings) -> float:
    boost = 10 ** (abs(settings["gain_db"]) / 40)
    return float(2.2 * max(settings["q"] * boost, math.sqrt(boost) / settings["q"]) / settings["cutoff_frequency_hz"])


def _first_order_tail_s(settings: Settings) -> float:
    return float(6.9 / (2 * math.pi * settings["cutoff_frequency_hz"]))


def _knob(name: str, default: float, low: float, high: float, unit: str, text: str, **more: Any) -> Setting:
    return Setting(name, float(default), float(low), float(high), unit, text, **more)


def _mix(default: float) -> Setting:
    return _knob("mix", default, 0, 1, "", "0 is dry, 1 is wet.")


def _cutoff(default: float, name: str = "cutoff_frequency_hz") -> Setting:
    return _knob(name, default, 1, 150_000, "Hz", "Where it begins to work.", below_nyquist=True)


def _quality(default: str) -> Setting:
    return Setting("quality", default, help="Kind of resampling.", choices=tuple(lookahead.HALF_WIDTH_SAMPLES))


_RATE_HZ = _knob("rate_hz", 1, 0, 99, "Hz", "Speed of the LFO.")  # 100 itself is refused by some
_FEEDBACK = _knob("feedback", 0, -1, 1, "", "How much of the output goes in again.")
_DEPTH = _knob("depth", 0.25, 0, 1, "", "How far the LFO swings.")
_SHELF = (
    _cutoff(440),
    _knob("gain_db", 6, -60, 60, "dB", "Boost or cut (pedalboard's own default, 0, does nothing)."),
    _knob("q", 0.7071, 0.01, 100, "", "Steepness: higher is narrower."),
)
_DYNAMICS_TIMES = (
    _knob("attack_ms", 1, 0, 10_000, "ms", "Time to react to louder sound."),
    _knob("release_ms", 100, 0, 100_000, "ms", "Time to let go."),
)


def _spec(
    plugin_class: str,
    name: str,
    summary: str,
    *settings: Setting,
    linear: bool,
    time_varying: bool = False,
    delay: Callable[[Settings, int], int] | None = None,
    **more: Any,
) -> EffectSpec:
    return EffectSpec(
        name=name,
        summary=summary,
        settings=settings,
        build=more.pop("build", None) or _build(plugin_class, delay),
        linear=linear,
        time_varying=time_varying,
        latency_ms=None if delay else 0.0,
        latency_at=delay,
        source="pedalboard",
        aliases=() if plugin_class in ("LowpassFilter", "HighpassFilter") else (plugin_class,),
        **more,
    )


EFFECTS: tuple[EffectSpec, ...] = (
    _spec(
        "Reverb",
        "reverb",
        "Freeverb: a room, in stereo.",
        _knob("room_size", 0.5, 0, 1, "", "Length of the reverberation."),
        _knob("damping", 0.5, 0, 1, "", "How much faster the treble dies."),
        _knob("wet_level", 0.33, 0, 1, "", "Level of the room."),
        _knob("dry_level", 0.4, 0, 1, "", "Level of the dry sound."),
        _knob("width", 1, 0, 1, "", "Stereo width of the room."),
        _knob("freeze_mode", 0, 0, 1, "", "From 0.5 on the tank is closed: nothing enters, nothing dies."),
        linear=True,
        stereo=True,
        max_channels=2,
        tail_s=_reverb_tail_s,
    ),
    _spec(
        "Delay",
        "delay",
        "Echo.",
        _knob("delay_seconds", 0.5, 0.0002, 30, "s", "Time to the first echo, rounded down to a whole sample."),
        _knob("feedback", 0, 0, 1, "", "How much of each echo comes back."),
        _mix(0.5),
        linear=True,
        tail_s=_delay_tail_s,
    ),
    _spec(
        "Chorus",
        "chorus",
        "Chorus, flanger or vibrato: a delay that an LFO moves.",
        _RATE_HZ,
        _DEPTH,
        _knob("centre_delay_ms", 7, 1, 100, "ms", "Mean delay: 7 to 8 for chorus, less for a flanger."),
        _FEEDBACK,
        _mix(0.5),
        linear=True,
        time_varying=True,
        tail_s=_chorus_tail_s,
    ),
    _spec(
        "Phaser",
        "phaser",
        "Six all-pass stages that an LFO moves.",
        _RATE_HZ,
        _knob("depth", 0.5, 0, 1, "", "How far the LFO swings."),
        _knob("centre_frequency_hz", 1300, 20, 20_000, "Hz", "Middle of the sweep.", below_nyquist=True),
        _knob("feedback", 0, -0.99, 0.99, "", "How much of the output goes in again."),
        _mix(0.5),
        linear=True,
        time_varying=True,
        tail_s=_phaser_tail_s,
    ),
    _spec(
        "Compressor",
        "compressor",
        "Makes loud sound softer.",
        _knob("threshold_db", -20, -120, 60, "dB", "Level from which it works (pedalboard's own default: 0)."),
        _knob("ratio", 4, 1, 1000, "", "dB in for one dB out (pedalboard's own default, 1, does nothing)."),
        *_DYNAMICS_TIMES,
        linear=False,
    ),
    _spec(
        "Limiter",
        "limiter",
        "Loudness maximiser: two compressors, make-up gain, a hard clip at full scale.",
        _knob("threshold_db", -10, -120, 60, "dB", "Level from which it works."),
        _knob("release_ms", 100, 0, 100_000, "ms", "Time to let go."),
        linear=False,
        note="It makes sound under the threshold louder, and its make-up gain cannot be turned off.",
    ),
    _spec(
        "BrickwallLimiter",
        "brickwall_limiter",
        "Limiter that looks ahead and never passes its ceiling.",
        _knob("ceiling_db", -1, -120, 60, "dB", "Level that it never passes."),
        _knob("release_ms", 100, 0.001, 100_000, "ms", "Time to let go."),
        _knob("lookahead_ms", 5, 0.001, 100, "ms", "How far it looks ahead, and so how late it is."),
        Setting("true_peak", False, help="Also catch peaks between samples (about 1 ms more latency)."),
        linear=False,
        stereo=True,
        delay=lookahead.brickwall_samples,
        note="The loudest channel sets the gain of all.",
    ),
    _spec(
        "Distortion",
        "distortion",
        "Soft distortion without memory: tanh of the amplified sound.",
        _knob("drive_db", 25, -90, 90, "dB", "Gain before the curve."),
        linear=False,
    ),
    _spec(
        "Clipping",
        "clipping",
        "Cuts off everything beyond a threshold.",
        _knob("threshold_db", -6, -90, 60, "dB", "Level of the cut, in dB of full scale."),
        linear=False,
    ),
    _spec(
        "Bitcrush",
        "bitcrush",
        "Fewer bits.",
        _knob(
            "bit_depth", 8, 0, 32, "bit", "Steps of the amplitude are 2 to the power of minus this; fractions count."
        ),
        linear=False,
    ),
    _spec(
        "LadderFilter",
        "ladder",
        "Moog-like ladder filter with drive.",
        Setting(
            "mode",
            "LPF12",
            help="Low, high or band, 12 or 24 dB per octave.",
            choices=("LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24"),
        ),
        _knob("cutoff_hz", 200, 1, 150_000, "Hz", "Where it begins to work.", below_nyquist=True),
        _knob("resonance", 0, 0, 1, "", "Peak at the cut-off; at 1 it sings."),
        _knob("drive", 1, 1, 1000, "", "Gain before the curve, as a factor."),
        linear=False,
        tail_s=_ladder_tail_s,
    ),
    _spec("LowShelfFilter", "low_shelf", "Bass control.", *_SHELF, linear=True, tail_s=_biquad_tail_s),
    _spec("HighShelfFilter", "high_shelf", "Treble control.", *_SHELF, linear=True, tail_s=_biquad_tail_s),
    _spec("PeakFilter", "peak", "Boosts or cuts a band.", *_SHELF, linear=True, tail_s=_biquad_tail_s),
    _spec(
        "LowpassFilter",
        "lowpass1",
        "First-order low-pass filter (6 dB per octave).",
        _cutoff(50),
        linear=True,
        tail_s=_first_order_tail_s,
    ),
    _spec(
        "HighpassFilter",
        "highpass1",
        "First-order high-pass filter (6 dB per octave).",
        _cutoff(50),
        linear=True,
        tail_s=_first_order_tail_s,
    ),
    _spec(
        "NoiseGate",
        "noise_gate",
        "Makes soft sound softer.",
        _knob("threshold_db", -40, -120, 60, "dB", "Level under which it works (pedalboard's own default: -100)."),
        _knob("ratio", 10, 1, 1000, "", "dB out for one dB in, under the threshold."),
        *_DYNAMICS_TIMES,
        linear=False,
    ),
    _spec(
        "Convolution",
        "convolution",
        "Cabinet or room from an impulse response.",
        Setting("impulse_response", "", help="Sound file, 1 or 2 channels, any rate; brought to a standard level."),
        _mix(1),
        linear=True,
        stereo=True,
        max_channels=2,
        tail_s=convolution.tail_s,
        build=convolution.build,
        check=convolution.check,
        note="An impulse response of any level gives the same loudness: it is normalised.",
    ),
    _spec(
        "GSMFullRateCompressor",
        "gsm",
        "An old mobile phone: GSM full rate at 8 kHz, mono.",
        _quality("WindowedSinc8"),
        linear=False,
        time_varying=True,
        stereo=True,
        delay=lookahead.gsm_samples,
        tail_s=None,
        note="All channels become one. Silence comes out as hiss at about -66 dB of full scale.",
    ),
    _spec(
        "MP3Compressor",
        "mp3",
        "What MP3 does to sound (LAME, variable bit rate).",
        _knob("vbr_quality", 2, 0, 9.99, "", "0 is best, 9.99 is worst."),
        linear=False,
        time_varying=True,
        stereo=True,
        max_channels=2,
        sample_rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        delay=lookahead.mp3_samples,
        tail_s=0.1,
    ),
    _spec(
        "PitchShift",
        "pitch_shift",
        "Changes the pitch, not the speed (Rubber Band).",
        _knob("semitones", 7, -24, 24, "st", "Up or down (pedalboard's own default, 0, does nothing)."),
        linear=False,
        time_varying=True,
        stereo=True,
        delay=lookahead.pitch_shift_samples,
        tail_s=0.1,
        note="Beyond two octaves, which pedalboard allows, it is no longer clean.",
    ),
    _spec(
        "Resample",
        "resample",
        "Down to another sample rate and back: dull, or full of aliases.",
        _knob("target_sample_rate", 8000, 500, 384_000, "Hz", "The rate in between."),
        _quality("WindowedSinc32"),
        linear=True,
        time_varying=True,
        delay=lookahead.resample_samples,
        tail_s=lookahead.resample_tail_s,
        note="Time-varying only by its aliases: it repeats with the beat of the two rates.",
    ),
)
