"""From the command line of ``fxclone train`` to what is settled before any long work starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxclone.audio import valid_sample_rate
from fxclone.effects import effect, parse_settings
from fxclone.errors import UsageError
from fxclone.paths import check_target
from fxclone.presets import load_preset
from fxclone.recorded import CHANNELS, Treatment
from fxclone.takes import find_takes
from fxclone_training.family import Model
from fxclone_training.recipe import Recipe
from fxclone_training.reference import RECORDED_S, EffectReference, RecordingReference, Reference, reference_from
from fxclone_training.runs import RunFolder

DEFAULT_SAMPLE_RATE = 48_000
"""Of clones of effects; a recording has its own."""
SOUND_SHARE, MOST_SOUND_S = 1 / 3, 300.0
"""With sound of one's own, an effect is rendered over so much of it for each second of training, and at most so many
seconds: who trains for long learns a minute by heart."""
SHAPE = ("family", "size", "memory", "tail_s", "m", "past_outputs", "layers", "width", "activation")


@dataclass(frozen=True)
class TrainRequest:
    """The command line, as given."""

    effect: str | None
    settings: tuple[str, ...]
    preset: str | None
    dry: tuple[Path, ...]
    only_dry: bool
    output: Path | None
    force: bool
    recipe: dict[str, Any]
    sample_rate: int | None
    device: str
    threads: int | None
    resume: str | None
    runs: Path
    as_json: bool
    quiet: bool
    wet: tuple[Path, ...] = ()
    lag_samples: float | None = None
    align: bool = True
    anyway: bool = False
    channels: str = "auto"


@dataclass(frozen=True)
class Plan:
    """What was settled before any long work starts.

    Attributes
    ----------
    reference : Reference
    recipe : Recipe
    sample_rate : int
        Of the clone.
    output : Path
        The clone file.
    channels : str
        One of `fxclone.recorded.CHANNELS`.
    own_target : bool
        Whether the user chose the error to stop at.
    start : Model or None
        A model to go on from.
    run : RunFolder or None
        The folder it came from.
    """

    reference: Reference
    recipe: Recipe
    sample_rate: int
    output: Path
    channels: str = "auto"
    own_target: bool = False
    start: Model | None = field(default=None, compare=False)
    run: RunFolder | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; enough to take the run up again."""
        return {
            **self.reference.stored(),
            "recipe": self.recipe.as_dict(),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "output": str(self.output),
        }


def make_plan(request: TrainRequest) -> Plan:
    """Check everything that can be checked at once, so that no long work ends in a usage error."""
    if request.channels not in CHANNELS:
        raise UsageError(f"--channels {request.channels}; expected one of {', '.join(CHANNELS)}")
    if request.resume is not None:
        return _resumed(request)
    preset = load_preset(request.preset) if request.preset is not None else None
    recipe = Recipe().with_settings(preset.recipe if preset else {})
    reference: Reference
    if request.wet:
        reference = _recording(request)
        if preset is None or "sound_s" not in preset.recipe:
            recipe = recipe.with_settings({"sound_s": RECORDED_S})
        own_rate = reference.sample_rate
    else:
        reference, own_rate = _effect(request, preset.effect if preset else None), DEFAULT_SAMPLE_RATE
    recipe = recipe.with_settings(request.recipe)
    if request.dry and not request.wet and "sound_s" not in {**(preset.recipe if preset else {}), **request.recipe}:
        longer_s = min(MOST_SOUND_S, SOUND_SHARE * recipe.seconds)
        recipe = recipe.with_settings({"sound_s": max(recipe.sound_s, longer_s)})
    output = _target(request.output or Path(f"{reference.name}.onnx"), force=request.force)
    rate = valid_sample_rate(request.sample_rate or own_rate)
    own_target = "target_esr_db" in {**(preset.recipe if preset else {}), **request.recipe}
    return Plan(reference, recipe, rate, output, request.channels, own_target)


def _effect(request: TrainRequest, of_preset: str | None) -> EffectReference:
    for given, option in (
        (request.lag_samples is not None, "--lag"),
        (not request.align, "--no-align"),
        (request.anyway, "--anyway"),
    ):
        if given:
            raise UsageError(f"{option} is for recordings; add --wet FILE_OR_FOLDER, or leave it out")
    expression = request.effect or of_preset
    if expression is None:
        also = f" (the preset {request.preset} has none)" if request.preset else ""
        if request.dry:
            raise UsageError(
                f"--dry alone says nothing of the effect{also}; add --wet with what came out of it, or --effect NAME"
            )
        raise UsageError(f"no reference effect given{also}; add --effect NAME, see: fxclone effects")
    reference = effect(expression, parse_settings(request.settings))
    if request.only_dry and not request.dry:
        raise UsageError("--only-dry needs --dry FILE_OR_FOLDER")
    return EffectReference(reference, tuple(str(path) for path in request.dry), request.only_dry)


def _recording(request: TrainRequest) -> RecordingReference:
    if request.effect:
        raise UsageError("--wet and --effect; a clone is made of one of them: leave the other out")
    if request.settings or request.only_dry:
        option = "--set" if request.settings else "--only-dry"
        raise UsageError(f"{option} belongs to --effect; leave it out with --wet")
    treatment = Treatment(request.align, request.lag_samples, request.anyway)
    takes, notes = find_takes(request.dry, request.wet)
    for take in takes:
        take.info  # noqa: B018 - an unreadable file is told at once
    return RecordingReference(tuple(takes), treatment, tuple(notes))


def _resumed(request: TrainRequest) -> Plan:
    if request.effect or request.preset or request.dry or request.wet or request.settings or request.sample_rate:
        raise UsageError("--resume takes effect, preset, sound and rate from the run; leave those options out")
    if request.lag_samples is not None or not request.align or request.anyway or request.channels != "auto":
        raise UsageError("--resume treats the sound as the run did; leave --lag, --no-align, --anyway, --channels out")
    for name in SHAPE:
        if name in request.recipe:
            raise UsageError(f"--resume takes the model's shape from the run; leave --{name.replace('_', '-')} out")
    run = RunFolder.open(str(request.resume), request.runs)
    config = run.config()
    try:
        recipe = Recipe().with_settings(config["recipe"]).with_settings(request.recipe)
        reference = reference_from(config)
        output = request.output or Path(config["output"])
        rate, channels = valid_sample_rate(config["sample_rate"]), str(config.get("channels", "auto"))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--resume {request.resume}: its config.json is incomplete ({error}); start anew") from error
    if output.exists() and not request.force:
        raise UsageError(f"{output} exists already (this run's own clone?); add --force to replace it, or -o FILE")
    _target(output, force=request.force)
    own_target = "target_esr_db" in request.recipe
    return Plan(reference, recipe, rate, output, channels, own_target, run.load_weights(), run)


def _target(path: Path, *, force: bool) -> Path:
    target = check_target(path, force=force)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"-o {target}: a clone is an ONNX file; give it a name that ends in .onnx")
    return target
