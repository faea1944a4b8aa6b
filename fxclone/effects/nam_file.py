"""Reading a .nam file (Neural Amp Modeler): JSON of version, architecture, config, weights and what they say of it.

Versions 0.5.0 to 0.7. A file is data: its size, its numbers and how they fit together are checked before it runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from fxclone.effects.nam_lstm import Lstm
from fxclone.effects.nam_parts import Array, Network, Section, State, Weights
from fxclone.effects.nam_plain import ConvNet, Linear
from fxclone.effects.nam_wavenet import WaveNet
from fxclone.errors import EffectError, UsageError

MAX_FILE_BYTES = 32 * 2**20
DEFAULT_RATE_HZ = 48_000
"""Files of the early days do not say their sample rate; it was always this."""
OLDEST, NEWEST = (0, 5), (0, 7)
SETTLE_S = 0.5
"""So much silence goes through a model of endless memory before its first sample, as players of the format do."""
CHUNK_SAMPLES = 1024
"""What a block of a large WaveNet fits the cache with: twice as quick as blocks of a second."""
_MAX_DEPTH = 4
_ARCHITECTURES = ("WaveNet", "LSTM", "ConvNet", "Linear", "SlimmableContainer")


@dataclass(frozen=True, eq=False)
class NamModel:
    """A model, ready to run.

    Attributes
    ----------
    title : str
        Its name: what the file says, or the file's own.
    version : str
        Of the format.
    sample_rate : int
        In Hz.
    metadata : dict
        As in the file, unchecked: loudness, gear and so on.
    settled : tuple
        The state to start from: silence has gone through it.
    """

    title: str
    version: str
    sample_rate: int
    metadata: dict[str, Any]
    network: Network
    settled: State

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """``(1, n)`` to ``(1, n)``, from a state to the next; begin with `settled`."""
        return self.network.forward(x, state)

    def render(self, dry: Array) -> Array:
        """The model's output for ``dry`` (samples,) at its sample rate, from a fresh state."""
        wet, state = np.empty_like(dry), self.settled
        for start in range(0, dry.size, CHUNK_SAMPLES):
            chunk = slice(start, start + CHUNK_SAMPLES)
            (wet[chunk],), state = self.forward(dry[None, chunk], state)
        return wet


def read_nam(path: str | Path) -> NamModel:
    """Read a .nam file.

    Raises
    ------
    UsageError
        If there is no such file.
    EffectError
        If it is not a .nam file, is damaged, is newer than what is known here, or holds a model that cannot be an
        effect with one input and one output.
    """
    path = Path(path)
    data = _loaded(path)
    top = Section(data, path.name)
    network, rate, settled = _network(top, 0)
    if network.channels_out != 1:
        raise EffectError(f"{path.name} has {network.channels_out} outputs; expected 1: it cannot be an effect here")
    said = top.get("metadata")
    metadata = said if isinstance(said, dict) else {}
    name = metadata.get("name")
    title = name if isinstance(name, str) and name.strip() and name.isprintable() else path.stem
    return NamModel(title.strip()[:80], top.text("version"), rate or DEFAULT_RATE_HZ, metadata, network, settled)


def _loaded(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise EffectError(f"{path} has {size} bytes; a .nam file has at most {MAX_FILE_BYTES}")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; expected a Neural Amp Modeler file (.nam)") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; expected a .nam file") from None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        why = "too many brackets" if isinstance(error, RecursionError) else str(error)
        raise EffectError(
            f"{path} is not a Neural Amp Modeler file, or was cut short ({why}); get the file again"
        ) from None


def _network(top: Section, depth: int) -> tuple[Network, int | None, State]:
    """A model, its sample rate if it says one, and its state after silence."""
    if depth > _MAX_DEPTH:
        raise EffectError(f"{top.where}: models within models, {depth} deep; expected at most {_MAX_DEPTH}")
    _check_version(top)
    name, rate = top.text("architecture"), _rate(top)
    config = Section(top.get("config"), f"{top.where}: config")
    if name == "SlimmableContainer":  # the same amp in several sizes: the last is the full one
        full = config.sections("submodels", 64)[-1].section("model")
        network, own_rate, settled = _network(full, depth + 1)
        return network, rate or own_rate, settled
    if name not in _ARCHITECTURES:
        raise EffectError(
            f"{top.where} holds the architecture {ascii(name)[:40]}; known here are {', '.join(_ARCHITECTURES)}"
        )
    weights = Weights(top.get("weights"), top.where)
    network = _build(name, config, weights, rate, depth)
    silence = round(SETTLE_S * (rate or DEFAULT_RATE_HZ)) if network.memory_samples is None else network.memory_samples
    state = network.fresh_state()
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, silence, CHUNK_SAMPLES):
            y, state = network.forward(np.zeros((1, min(CHUNK_SAMPLES, silence - start)), np.float32), state)
            if not np.isfinite(y).all():
                raise EffectError(f"{top.where}: silence makes this model blow up; its training has failed")
    return network, rate, state


def _build(name: str, config: Section, weights: Weights, rate: int | None, depth: int) -> Network:
    if name == "WaveNet":
        condition = None
        if config.get("condition_dsp") is not None:
            inner = config.section("condition_dsp")
            condition, own_rate, _ = _network(inner, depth + 1)
            if own_rate != rate:
                inner.fail("sample_rate", f"that of the model it conditions, {rate}")
        return WaveNet(config, weights, condition)
    plain: dict[str, Callable[[Section, Weights], Network]] = {"LSTM": Lstm, "ConvNet": ConvNet, "Linear": Linear}
    return plain[name](config, weights)


def _check_version(top: Section) -> None:
    version = top.text("version")
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})\S{0,20}", version)
    if match is None:
        top.fail("version", "three numbers such as 0.5.4")
    seen = (int(match[1]), int(match[2]))
    if not OLDEST <= seen <= NEWEST:
        wanted = "this is newer: update fxclone" if seen > NEWEST else "this is older: export it again"
        raise EffectError(f"{top.where} has format version {version}; known here are 0.5 to 0.7, {wanted}")


def _rate(top: Section) -> int | None:
    if top.get("sample_rate") is None:
        return None
    rate = top.number("sample_rate", 0.0)
    if rate == -1:  # some programs write this for unknown
        return None
    if rate != int(rate) or not MIN_SAMPLE_RATE_HZ <= rate <= MAX_SAMPLE_RATE_HZ:
        top.fail("sample_rate", f"a whole number from {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}")
    return int(rate)
