"""What is cloned, in groups: pedalboard's effects, fxclone's own, presets, amps as .nam files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import _common as common  # first: it sets thread counts

from fxclone.effects import effect
from fxclone.presets import available_presets

NAM = common.ROOT.parent / "shared" / "data" / "nam"
RINGING = frozenset({"reverb", "delay", "convolution"})
"""Effects that make a preset one for bench_tail.md."""
CHAIN = "highpass(cutoff_hz=200) > distortion(drive_db=20) > lowpass(cutoff_hz=3000)"


@dataclass(frozen=True)
class Case:
    """One reference.

    Attributes
    ----------
    name : str
        Within its group.
    effect : str
        As an expression.
    preset : str
        Its name, if it is one.
    aim_db : float or None
        What it should reach in its group's seconds.
    hard : str
        What makes it hard, in words.
    smooth : str
        The same without its steps, where it has steps: what a clone without steps could be at best.
    original_db : str
        ESR of the audio that the notebook wyager/audiofx publishes.
    """

    name: str
    effect: str
    preset: str = ""
    aim_db: float | None = None
    hard: str = ""
    smooth: str = ""
    original_db: str = ""

    @property
    def words(self) -> tuple[str, str]:
        """What the command is told of it."""
        return ("--preset", self.preset) if self.preset else ("--effect", self.effect)

    @property
    def shown(self) -> str:
        """The effect without a folder in it."""
        return f"nam:{Path(self.effect[4:]).name}" if self.effect.startswith("nam:") else self.effect


@dataclass(frozen=True)
class Group:
    """Cases that belong together.

    Attributes
    ----------
    title, about : str
        For the page.
    seconds : float
        Of training for each, if not told otherwise.
    cases : callable
        Makes them: only what is asked for is read from disk.
    own_sound : bool
        Whether `references_sound.LEARN` is trained on, instead of made sound.
    """

    title: str
    about: str
    seconds: float
    cases: Callable[[], tuple[Case, ...]]
    own_sound: bool = False


def _pedalboard() -> tuple[Case, ...]:
    steps = (
        "The steps are 2^-8 apart: a smooth curve, which is what these families are, leaves the rounding error over."
    )
    return (
        Case("Distortion", "distortion(drive_db=25)", aim_db=-40, hard="A curve without memory."),
        Case("Compressor", "compressor(threshold_db=-30, ratio=4, attack_ms=5, release_ms=100)", aim_db=-40,
             hard="Its detector has one time constant while the level rises and another while it falls."),
        Case("Limiter", "limiter(threshold_db=-20)", aim_db=-40,
             hard="Two compressors in a row, make-up gain, and a hard clip at full scale."),
        Case("LadderFilter", "ladder(mode=LPF24, cutoff_hz=800, resonance=0.5, drive=4)", aim_db=-40,
             hard="Four stages with curves inside the feedback loop: its resonance falls as the level rises."),
        Case("NoiseGate", "noise_gate(threshold_db=-40)", aim_db=-40,
             hard="It touches only the last of a note, which is nearly nothing of the whole: doing nothing is near."),
        Case("NoiseGate-20", "noise_gate(threshold_db=-20)", aim_db=-40,
             hard="Below the threshold the gain falls by 9 dB for every dB: small errors of the level are large errors "
             "of the gain."),
        Case("Bitcrush", "bitcrush(bit_depth=8)", aim_db=-40, smooth="passthrough", hard=steps),
        Case("GSMFullRateCompressor", "gsm",
             hard="A speech codec at 8 kHz that codes frames of 20 ms; where a frame begins depends on when the sound "
             "began, and what is in it on all of the frame."),
    )  # fmt: skip


def _builtin() -> tuple[Case, ...]:
    steps = "The steps are 2^-8 apart; a smooth curve leaves the rounding error over."
    return (
        Case("passthrough", "passthrough", original_db="-29.1"),
        Case("tanh", "tanh", original_db="-21.3"),
        Case("lowpass", "lowpass", original_db="-29.5 (-47.5 shifted)"),
        Case("highpass", "highpass"),
        Case("hardclip", "hardclip", hard="A corner in the curve, which a network of a few units rounds off."),
        Case("distortion", "distortion"),
        Case("chain", CHAIN, hard="The low-pass hides the curve's harmonics, and the curve hides the high-pass."),
        Case("ladder", "ladder", hard="Curves inside a feedback loop."),
        Case("bitcrush", "bitcrush", smooth="passthrough", hard=steps),
        Case("compressor", "compressor", hard="One time constant while the level rises, another while it falls."),
        Case("ringmod", "ringmod", original_db="loses the carrier",
             hard="It moves by itself: the carrier begins with the sound, and no network that runs on its own outputs "
             "holds a phase for long."),
    )  # fmt: skip


HARD_PRESETS = {
    "clean-compressor": "One time constant while the level rises, another while it falls.",
    "fuzz": "Two hard stages with filters between them: the second clips what the first has already squared.",
    "high-gain": "A gate, then three stages of gain: soft sound between notes becomes loud.",
    "lo-fi": "Steps of 2^-6, then a filter: a clone without steps leaves the rounding error over, as far as the filter "
    "lets it through.",
    "telephone": "The low-pass hides the curve's harmonics, and the curve hides the high-pass.",
    "tremolo": "It moves by itself.",
    "vibrato-chorus": "It moves by itself.",
}
SMOOTH_PRESETS = {"lo-fi": "highpass(cutoff_hz=120, order=2) > lowpass(cutoff_hz=4000, order=4)"}


def _presets() -> tuple[Case, ...]:
    """Those that are an effect, not a recipe, and neither echo nor room."""
    found = []
    for name, preset in available_presets().items():
        if preset.effect is None or preset.recipe:
            continue
        if RINGING & {stage.partition("(")[0].strip() for stage in effect(preset.effect).expression.split(">")}:
            continue
        hard, smooth = HARD_PRESETS.get(name, ""), SMOOTH_PRESETS.get(name, "")
        found.append(Case(name, preset.effect, preset=name, hard=hard, smooth=smooth))
    return tuple(found)


def _nam() -> tuple[Case, ...]:
    hard = {
        "A2": "A device with drive, as Neural Amp Modeler's newest kind of network has learned it.",
        "wavenet_a1_standard": "A high-gain amp as a WaveNet of 13,802 weights: 59 dB of gain for soft sound.",
        "wavenet": "A small network of a clean bass amp.",
        "lstm": "A small network of a clean bass amp.",
    }
    files = sorted(NAM.glob("*.nam"), key=lambda path: -path.stat().st_size)
    return tuple(Case(path.stem, f"nam:{path}", aim_db=-22, hard=hard.get(path.stem, "")) for path in files)


GROUPS = {
    "pedalboard": Group(
        "Effects of pedalboard",
        "At settings that do something. The aim is -40 dB for those without noise and without motion of their own.",
        300.0,
        _pedalboard,
    ),
    "builtin": Group(
        "fxclone's own effects, and some at their defaults",
        "The original is the notebook that this model comes from, wyager/audiofx: ESR of the audio that it publishes, "
        "of other sound at 44.1 kHz, with 394,753 weights.",
        45.0,
        _builtin,
    ),
    "presets": Group(
        "Presets",
        "With `--preset`. Echoes and rooms are in [bench_tail.md](bench_tail.md); presets that are recipes are left "
        "out.",
        45.0,
        _presets,
    ),
    "nam": Group(
        "Amps as .nam files",
        "As effects, `nam:FILE`, over real guitars alone (`--only-dry`): made sound at full scale is nothing an amp "
        "gets to hear. The aim is -22 dB.",
        900.0,
        _nam,
        own_sound=True,
    ),
}
