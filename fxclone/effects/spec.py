"""What a reference effect is: its settings, what is known of it, and the check of what it renders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fxclone.audio import Audio, valid_audio, valid_sample_rate
from fxclone.effects.setting import Setting, Value, format_value
from fxclone.errors import EffectError, FxcloneError, UsageError

__all__ = [
    "Effect",
    "EffectSpec",
    "Examined",
    "RenderFn",
    "Setting",
    "Settings",
    "Stage",
    "Value",
    "format_value",
]

RenderFn = Callable[[Audio, int], Audio]
"""dry [shape=(channels, samples)], sample_rate -> wet of the same shape, from a fresh state at every call."""


class Examined(Protocol):
    """What was measured of an effect."""

    def notes(self) -> list[str]:
        """Sentences for the user: only what one should know before cloning it."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """All figures, JSON-safe."""
        ...


Settings = Mapping[str, Any]


@dataclass(frozen=True)
class EffectSpec:
    """An effect that fxclone can use as a reference, before its settings are chosen.

    Everything it renders is causal: an effect that looks ahead gives its output late, and `latency` says by how
    much. Flags hold for all settings in their useful range; None means unknown.

    Parameters
    ----------
    name : str
        As typed: lower case, words joined by ``_``.
    summary : str
        One line.
    settings : tuple of Setting
        In the order in which positional values fill them.
    build : callable
        ``build(settings) -> RenderFn``. Heavy imports belong in it or in the function it returns.
    linear : bool or None
        Whether superposition holds.
    time_varying : bool or None
        Whether a delayed input gives anything but the equally delayed output (an LFO, frames, a changed rate).
    stereo : bool
        Whether channels differ or hear each other: stereo sound is then more than two mono renders.
    latency_ms : float, None, or callable(settings) -> float
        Delay of the output, where it does not depend on the sample rate.
    tail_s : float, None, or callable(settings) -> float or None
        How long it sounds on after its input ends, down to about -60 dB; None if unknown or endless.
    latency_at : callable(settings, sample_rate) -> int, or None
        The delay in samples; overrides ``latency_ms`` where the rate decides.
    deterministic : bool
        Whether two renders of the same sound are equal, bit by bit.
    source : str
        Where it comes from: "fxclone", "pedalboard", or the name of another package.
    max_channels : int or None
        The most channels it takes.
    sample_rates : tuple of int or None
        The only rates it takes, if there are any such.
    aliases : tuple of str
        Other names it answers to.
    check : callable(settings) or None
        Raises UsageError for settings that cannot work together or need a file that is not there.
    note : str
        What one should know before cloning it.
    address : str
        What stands in an expression instead of the name, for an effect that is found by where it is: a plugin.
    with_named : callable(named texts) or None
        Returns the spec for these settings as typed, where some of them (a preset file) change the defaults of others.
    examine_at : callable(settings, sample_rate) or None
        Measures what it does at these settings, where little can be known beforehand; takes seconds.
    """

    name: str
    summary: str
    settings: tuple[Setting, ...]
    build: Callable[[dict[str, Any]], RenderFn]
    linear: bool | None = None
    time_varying: bool | None = None
    stereo: bool = False
    latency_ms: float | Callable[[Settings], float] | None = 0.0
    tail_s: float | Callable[[Settings], float | None] | None = 0.0
    latency_at: Callable[[Settings, int], int] | None = None
    deterministic: bool = True
    source: str = "fxclone"
    max_channels: int | None = None
    sample_rates: tuple[int, ...] | None = None
    aliases: tuple[str, ...] = ()
    check: Callable[[Settings], None] | None = None
    note: str = ""
    address: str = ""
    with_named: Callable[[Mapping[str, str]], EffectSpec] | None = None
    examine_at: Callable[[Settings, int], Examined] | None = None

    def defaults(self) -> dict[str, Any]:
        """Every setting at its default."""
        return {s.name: s.default for s in self.settings}


@dataclass(frozen=True)
class Stage:
    """One spec with all its settings chosen: a link of a chain."""

    spec: EffectSpec
    settings: dict[str, Any]

    @property
    def expression(self) -> str:
        """Canonical text with every setting, so that it means the same when a default changes."""
        optional = {s.name for s in self.spec.settings if s.default == ""} if self.spec.address else set()
        given = {name: value for name, value in self.settings.items() if value != "" or name not in optional}
        inner = ", ".join(f"{name}={format_value(value)}" for name, value in given.items())
        where = self.spec.address or self.spec.name
        return f"{where}({inner})" if inner else where

    @property
    def tail_s(self) -> float | None:
        """Tail at these settings, in seconds; None if unknown or endless."""
        tail = self.spec.tail_s
        return tail(self.settings) if callable(tail) else tail

    def latency_samples(self, sample_rate: int) -> int | None:
        """Delay of the output at these settings, in samples; None if unknown."""
        if self.spec.latency_at is not None:
            return self.spec.latency_at(self.settings, sample_rate)
        ms = self.spec.latency_ms(self.settings) if callable(self.spec.latency_ms) else self.spec.latency_ms
        return None if ms is None else round(ms * sample_rate / 1000)

    def render(self, dry: Audio, sample_rate: int) -> Audio:
        """Render from a fresh state; see `Effect.render`."""
        self._check_input(dry, sample_rate)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
                wet = self.spec.build(dict(self.settings))(dry.copy(), sample_rate)
        except FxcloneError:
            raise
        except (ValueError, RuntimeError, TypeError, ArithmeticError, OSError, ImportError) as error:
            raise EffectError(f"{self.expression} failed on {_describe(dry, sample_rate)}: {error}") from error
        try:
            wet = valid_audio(wet, name=f"the output of {self.expression}", channels=dry.shape[0])
        except FxcloneError as error:
            raise EffectError(f"{error}; choose milder settings") from error
        if wet.shape != dry.shape:
            raise EffectError(
                f"{self.expression} gave {wet.shape[1]} samples for {dry.shape[1]}; expected the same number"
            )
        return wet

    def _check_input(self, dry: Audio, sample_rate: int) -> None:
        spec = self.spec
        if spec.max_channels is not None and dry.shape[0] > spec.max_channels:
            raise EffectError(
                f"{spec.name} takes up to {spec.max_channels} channels, this sound has {dry.shape[0]}; mix it down"
            )
        if spec.sample_rates is not None and sample_rate not in spec.sample_rates:
            rates = ", ".join(str(rate) for rate in spec.sample_rates)
            raise EffectError(f"{spec.name} cannot run at {sample_rate} Hz, only at {rates}; resample first")
        for setting in spec.settings:
            if setting.below_nyquist and self.settings[setting.name] >= sample_rate / 2:
                value = format_value(self.settings[setting.name])
                raise EffectError(
                    f"{spec.name}: {setting.name} is {value}, but at {sample_rate} Hz it must be under half of that, "
                    f"{format_value(sample_rate / 2)}; lower it or use a higher rate"
                )


@dataclass(frozen=True)
class Effect:
    """A reference effect ready to render: one spec with its settings, or a chain of them.

    Make one with `fxclone.effects.effect`.
    """

    stages: tuple[Stage, ...] = field(repr=False)
    expression: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError("an effect chain needs at least one effect, such as tanh(drive=5)")
        object.__setattr__(self, "expression", " > ".join(stage.expression for stage in self.stages))

    @property
    def name(self) -> str:
        """A short name that is safe in file names: "tanh", "highpass-distortion-lowpass"."""
        return "-".join(stage.spec.name for stage in self.stages)[:80].rstrip("-")

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting; in a chain as ``effect.setting``, or ``2.setting`` where an effect occurs twice."""
        if len(self.stages) == 1:
            return dict(self.stages[0].settings)
        names = [stage.spec.name for stage in self.stages]
        return {
            f"{stage.spec.name if names.count(stage.spec.name) == 1 else i}.{key}": value
            for i, stage in enumerate(self.stages, 1)
            for key, value in stage.settings.items()
        }

    @property
    def linear(self) -> bool | None:
        """Whether superposition holds; None if unknown."""
        return _all([stage.spec.linear for stage in self.stages])

    @property
    def time_varying(self) -> bool | None:
        """Whether it changes with time by itself; None if unknown."""
        return _any([stage.spec.time_varying for stage in self.stages])

    @property
    def stereo(self) -> bool:
        """Whether channels differ or hear each other."""
        return any(stage.spec.stereo for stage in self.stages)

    @property
    def deterministic(self) -> bool:
        """Whether two renders of the same sound are equal."""
        return all(stage.spec.deterministic for stage in self.stages)

    @property
    def tail_s(self) -> float | None:
        """How long it sounds on after its input ends, in seconds; None if unknown or endless."""
        tails = [stage.tail_s for stage in self.stages]
        return None if any(tail is None for tail in tails) else sum(tail or 0.0 for tail in tails)

    @property
    def max_channels(self) -> int | None:
        """The most channels it takes; None for any number."""
        limits = [stage.spec.max_channels for stage in self.stages if stage.spec.max_channels is not None]
        return min(limits) if limits else None

    def latency_samples(self, sample_rate: int) -> int:
        """Delay of the output against the input, in samples; a stage of unknown latency counts as 0."""
        rate = valid_sample_rate(sample_rate)
        return sum(stage.latency_samples(rate) or 0 for stage in self.stages)

    def examine(self, sample_rate: int) -> list[Examined]:
        """Measure the stages of which little is known beforehand: seconds for each plugin, nothing for all else.

        Raises
        ------
        EffectError
            If a plugin crashes, hangs or refuses the rate.
        """
        rate = valid_sample_rate(sample_rate)
        return [stage.spec.examine_at(stage.settings, rate) for stage in self.stages if stage.spec.examine_at]

    def notes(self, sample_rate: int) -> list[str]:
        """Sentences that one should read before cloning it, from `examine`."""
        return [note for examined in self.examine(sample_rate) for note in examined.notes()]

    def render(self, dry: Audio, sample_rate: int) -> Audio:
        """Return what the effect makes of ``dry``, from a fresh state every time.

        Parameters
        ----------
        dry : ndarray [shape=(channels, samples)]
            float32, full scale ±1; not changed.
        sample_rate : int
            In Hz.

        Returns
        -------
        ndarray [shape=(channels, samples)]
            As long as ``dry`` and causal: late by `latency_samples`, and without the tail (append silence for it).

        Raises
        ------
        FxcloneError
            If ``dry`` is not sound (see `valid_audio`).
        EffectError
            If the effect cannot take this sound, fails, or gives something that is not finite.
        """
        rate = valid_sample_rate(sample_rate)
        sound = valid_audio(dry, name="the input of the effect")
        for stage in self.stages:
            sound = stage.render(sound, rate)
        return sound


def _describe(dry: Audio, sample_rate: int) -> str:
    return f"sound of {dry.shape[0]} x {dry.shape[1]} samples at {sample_rate} Hz"


def _all(flags: list[bool | None]) -> bool | None:
    if False in flags:
        return False
    return None if None in flags else True


def _any(flags: list[bool | None]) -> bool | None:
    if True in flags:
        return True
    return None if None in flags else False
