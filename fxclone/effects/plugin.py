"""A plugin as a reference effect: its real parameters as settings, its sound from a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxclone.audio import Audio
from fxclone.effects.plugin_find import PluginAddress, find_plugin
from fxclone.effects.plugin_process import ask
from fxclone.effects.spec import EffectSpec, RenderFn, Setting, Settings
from fxclone.errors import UsageError

if TYPE_CHECKING:
    from fxclone.effects.plugin_examine import Examination

BLOCK_SAMPLES = 512
"""Every render runs in blocks of this size: some plugins sound different at others."""
PRESET = "preset"


@dataclass(frozen=True)
class Take:
    """One render: a sound, the size of the blocks that the plugin gets it in, and whether it may settle before."""

    dry: Audio
    sample_rate: int
    block_samples: int = BLOCK_SAMPLES
    settled: bool = True


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plugin that was looked at once.

    Attributes
    ----------
    address : PluginAddress
        Where it is.
    facts : mapping
        What `plugin_child` found: name, maker, channels, parameters and so on.
    preset : str
        The preset file that it starts from, or "".
    """

    address: PluginAddress
    facts: Mapping[str, Any]
    preset: str = ""
    _latency: dict[tuple[Any, ...], int] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """Its name."""
        return str(self.facts["name"] or self.address.title)

    def render_takes(self, settings: Settings, takes: Sequence[Take]) -> list[Audio]:
        """Render each take from a fresh state: wet sounds as long and as many-channelled as the dry ones.

        Raises
        ------
        EffectError
            If the plugin crashes, hangs, or refuses the sound or its rate.
        """
        job = self.job(settings)
        frames = [
            ({"sample_rate": t.sample_rate, "block_samples": t.block_samples, "settled": t.settled}, t.dry)
            for t in takes
        ]
        longest_s = max(t.dry.size / t.sample_rate for t in takes)
        answers = ask(self.title, job, frames, sound_s=longest_s)
        wets = []
        for take, (header, wet) in zip(takes, answers, strict=True):
            self._latency[self._key(settings, take.sample_rate)] = int(header["latency_samples"])
            wets.append(take.dry[:, :0] if wet is None else wet)
        return wets

    def job(self, settings: Settings) -> dict[str, Any]:
        """Return what `plugin_child` must know to load it with these settings."""
        found = {key: self.facts[key] for key in ("channels", "persists")}
        return {**job_for("render", self.address, self.preset), **found, "values": self.changed(settings)}

    def latency_samples(self, settings: Settings, sample_rate: int) -> int:
        """What the plugin says of its latency at these settings and this rate."""
        key = self._key(settings, sample_rate)
        if key not in self._latency:
            import numpy as np

            self.render_takes(settings, [Take(np.zeros((1, BLOCK_SAMPLES), np.float32), sample_rate)])
        return self._latency[key]

    def _key(self, settings: Settings, sample_rate: int) -> tuple[Any, ...]:
        return (sample_rate, *sorted(self.changed(settings).items(), key=str))

    def changed(self, settings: Settings) -> dict[str, Any]:
        """Only what differs from the plugin's own start: what it shows is rounded, what it has is not."""
        changed: dict[str, Any] = {}
        for name, fact in self.facts["parameters"].items():
            value = settings[_setting_name(name)]
            if value != fact["default"]:
                changed[name] = {"position": value} if fact["kind"] == "position" else value
        return changed

    def spec(self) -> EffectSpec:
        """Return it as an effect."""
        settings = tuple(_setting(name, fact) for name, fact in self.facts["parameters"].items())
        preset = Setting(PRESET, self.preset, help="File with a preset to start from (.vstpreset, or the raw state).")
        left_out = ", ".join(self.facts["left_out"])

        def examine_at(values: Settings, sample_rate: int) -> Examination:
            from fxclone.effects.plugin_examine import examine

            return examine(self, values, sample_rate)

        def build(values: dict[str, Any]) -> RenderFn:
            return lambda dry, rate: self.render_takes(values, [Take(dry, rate)])[0]

        def with_preset(named: Mapping[str, str]) -> EffectSpec:
            wanted = named.get(PRESET, "")
            return plugin_spec(self.address, preset=wanted) if wanted else self.spec()

        kind = {"vst3": "VST3 plugin", "au": "Audio Unit"}[self.address.scheme]
        maker = f" by {self.facts['maker']}" if self.facts["maker"] else ""
        return EffectSpec(
            name=_safe(self.title),
            summary=f"{kind}{maker}, version {self.facts['version'] or 'unknown'}: {_inputs(self.facts['channels'])}.",
            settings=(*settings, preset),
            build=build,
            stereo=self.facts["channels"] == 2,
            latency_ms=None,
            latency_at=self.latency_samples,
            tail_s=None,
            deterministic=bool(self.facts["deterministic"]),
            source="plugin",
            max_channels=2 if self.facts["channels"] == 2 else None,
            note=f"Not settings, but meters and what the host decides: {left_out}." if left_out else "",
            address=self.address.expression,
            with_named=with_preset,
            examine_at=examine_at,
        )


def find_plugin_spec(scheme: str, text: str) -> EffectSpec:
    """Look at the plugin that an address names; see `find_plugin`.

    Raises
    ------
    UsageError
        If there is no such plugin.
    EffectError
        If it crashes, hangs, or is no effect.
    """
    return plugin_spec(find_plugin(scheme, text))


def plugin_spec(address: PluginAddress, preset: str = "") -> EffectSpec:
    """Look at a plugin, with a preset loaded."""
    if preset:
        path = Path(preset).expanduser()
        if not path.is_file():
            raise UsageError(f"{address.title}: there is no preset file {preset}; expected a .vstpreset or a raw state")
        preset = str(path.resolve())
    stamps = tuple(Path(p).stat().st_mtime_ns for p in (address.path, preset) if p)
    return described(address, preset, stamps).spec()


@lru_cache(maxsize=64)
def described(address: PluginAddress, preset: str, stamps: tuple[int, ...]) -> Plugin:
    """Look once, as long as the files stay what they are."""
    facts = ask(address.title, job_for("describe", address, preset))[0][0]
    return Plugin(address, facts, preset)


def job_for(job: str, address: PluginAddress, preset: str) -> dict[str, Any]:
    place = {"scheme": address.scheme, "path": str(address.path), "name": address.name}
    return {"job": job, **place, "preset": preset, "values": {}, "persists": False}


def _setting(name: str, fact: Mapping[str, Any]) -> Setting:
    label, kind = str(fact["label"]), fact["kind"]
    name = _setting_name(name)
    if kind == "position":
        low, high = fact["ends"]
        return Setting(name, fact["default"], 0.0, 1.0, "", f'{label}: position, 0 is "{low}", 1 is "{high}".')
    if kind == "choice":
        return Setting(name, fact["default"], help=f"{label}.", choices=tuple(dict.fromkeys(fact["choices"])))
    if kind == "bool":
        return Setting(name, bool(fact["default"]), help=f"{label}.")
    number = int if kind == "int" else float
    return Setting(
        name, number(fact["default"]), float(fact["minimum"]), float(fact["maximum"]), fact["unit"], f"{label}."
    )


def _setting_name(name: str) -> str:
    return f"plugin_{name}" if name == PRESET else name


def _safe(title: str) -> str:
    """A name that may stand in an expression and in a file name."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in title).strip("_")
    return name if name[:1].isalpha() else f"plugin_{name}".rstrip("_")


def _inputs(channels: int) -> str:
    return "mono, each channel by itself" if channels == 1 else "stereo"


__all__ = ["BLOCK_SAMPLES", "Plugin", "Take", "find_plugin_spec", "plugin_spec"]
