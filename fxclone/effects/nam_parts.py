"""What the networks in .nam files are made of: checked settings, weights in the order of the file, convolutions.

Sound inside a network is float32 ``(channels, samples)``. Nothing here changes a state in place: what has run once from
a fresh state may start any number of streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from fxclone.errors import EffectError

Array = npt.NDArray[np.float32]
State = tuple[Any, ...]
Activation = Callable[[Array], Array]

MAX_NUMBERS = 2**26
"""The most that a network may hold, in weights and past samples: 256 MiB."""
MAX_CHANNELS = 1024
MAX_LAYERS = 512


class Network(Protocol):
    """What every architecture gives.

    Attributes
    ----------
    channels_out : int
        1, except for a network that only conditions another one.
    memory_samples : int or None
        How far back its output depends on its input; None for ever.
    linear : bool or None
        Whether superposition holds; None if that is not known without measuring.
    summary : str
        For people: "WaveNet with 20 layers of 16 and 8 channels".
    """

    channels_out: int
    memory_samples: int | None
    linear: bool | None
    summary: str

    def fresh_state(self) -> State:
        """The state before any sound, and before the silence that players send through it first."""
        ...

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """``(1, n)`` to ``(channels_out, n)``, causally, for any n."""
        ...


class Section:
    """One ``{...}`` of the file: each value is checked where it is taken, and an error says where that is."""

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise EffectError(f"{where} is {_shown(value)}; expected {{...}}: it is damaged, or no .nam file")
        self._values = value

    def fail(self, key: str, expected: str) -> NoReturn:
        """Refuse the value of ``key``."""
        seen = f"{key} is {_shown(self._values[key])}" if key in self._values else f"{key} is missing"
        raise EffectError(f"{self.where}: {seen}; expected {expected}")

    def get(self, key: str) -> Any:
        """The value as it is; None if it is absent."""
        return self._values.get(key)

    def text(self, key: str) -> str:
        """A string."""
        value = self.get(key)
        return value if isinstance(value, str) else self.fail(key, "text")

    def switch(self, key: str, default: bool | None = None) -> bool:
        """True or false; required without a default."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        return value if isinstance(value, bool) else self.fail(key, "true or false")

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            self.fail(key, "a number")
        return float(value)

    def whole(self, key: str, most: int, default: int | None = None) -> int:
        """A whole number from 1 to ``most``; required without a default."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not _is_whole(value, most):
            self.fail(key, f"a whole number from 1 to {most}")
        return int(value)

    def wholes(self, key: str, most: int) -> list[int]:
        """A list of such numbers, 1 to MAX_LAYERS of them."""
        value = self.get(key)
        if not isinstance(value, list) or not value or not all(_is_whole(one, most) for one in value):
            self.fail(key, f"[...] with whole numbers from 1 to {most}")
        if len(value) > MAX_LAYERS:
            self.fail(key, f"at most {MAX_LAYERS} of them")
        return [int(one) for one in value]

    def each(self, key: str, count: int, default: Any = None) -> list[Any]:
        """One value for each of ``count`` layers: as many in a list, or one for all."""
        value = self._values.get(key, default)
        if not isinstance(value, list):
            return [value] * count
        if len(value) != count:
            self.fail(key, f"{count} values, one for each layer")
        return value

    def section(self, key: str) -> Section:
        """A section inside this one."""
        return Section(self.get(key), f"{self.where}: {key}")

    def sections(self, key: str, most: int) -> list[Section]:
        """A list of sections."""
        value = self.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            self.fail(key, f"[...] with 1 to {most} sections")
        return [Section(one, f"{self.where}: {key}[{i}]") for i, one in enumerate(value)]


class Weights:
    """The one long list of weights, dealt out in order.

    Past its end it deals zeros, so that `finish` can say how many there should be.
    """

    def __init__(self, values: Any, where: str) -> None:
        self._where = where
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise EffectError(f"{where}: weights is {_shown(values)}; expected [...] with numbers only")
        with np.errstate(over="ignore"):
            try:
                self._values: Array = np.asarray(values, dtype=np.float64).astype(np.float32)
            except OverflowError:  # a whole number of hundreds of digits
                self._values = np.full(1, np.inf, np.float32)
        if not np.isfinite(self._values).all():
            first = int(np.argmax(~np.isfinite(self._values)))
            raise EffectError(
                f"{where}: the weights hold NaN, infinity or what is too large, the first at place {first}; expected "
                "finite numbers: the training of this model has failed"
            )
        self._at = 0
        self._room = MAX_NUMBERS

    def reserve(self, numbers: int) -> None:
        """Refuse before memory is taken for more than a network may hold."""
        self._room -= numbers
        if self._room < 0:
            raise EffectError(
                f"{self._where} describes a network with more than {MAX_NUMBERS} numbers; that is not a model of an amp"
            )

    def take(self, *shape: int) -> Array:
        """The next ones, in rows."""
        count = math.prod(shape)
        self.reserve(count)
        part = self._values[self._at : self._at + count]
        self._at += count
        if part.size < count:
            part = np.zeros(count, np.float32)
        return part.reshape(shape)

    def convolution(
        self, channels_out: int, channels_in: int, taps: int = 1, *, dilation: int = 1, bias: bool, groups: int = 1
    ) -> Convolution:
        """The next convolution: its matrix (output, input, tap; oldest tap first) and then its bias."""
        if channels_out % groups or channels_in % groups:
            raise EffectError(
                f"{self._where}: {channels_in} channels in and {channels_out} out cannot be split in {groups} groups"
            )
        self.reserve(channels_out * channels_in * taps + channels_in * (taps - 1) * dilation)
        rows, columns = channels_out // groups, channels_in // groups
        dense = np.zeros((channels_out, channels_in, taps), np.float32)
        for group, block in enumerate(self.take(groups, rows, columns, taps)):
            dense[group * rows : (group + 1) * rows, group * columns : (group + 1) * columns] = block
        return Convolution(dense, self.take(channels_out) if bias else None, dilation)

    def finish(self) -> None:
        """Refuse a list that is longer or shorter than what was taken."""
        if self._at != self._values.size:
            raise EffectError(
                f"{self._where} has {self._values.size} weights, and its layers need {self._at}; the file is damaged: "
                "get it again"
            )


class Convolution:
    """A causal convolution with dilation: one matrix product over the taps of a whole block.

    Parameters
    ----------
    weight : ndarray [shape=(channels_out, channels_in, taps)]
        Oldest tap first.
    bias : ndarray [shape=(channels_out,)] or None
    dilation : int
        Samples from tap to tap.
    beside : ndarray [shape=(channels_out, others)] or None
        A second matrix, for sound that comes in beside the first and is not delayed.
    """

    def __init__(self, weight: Array, bias: Array | None, dilation: int = 1, beside: Array | None = None) -> None:
        self.channels_out, self.channels_in, self.taps = weight.shape
        self.dilation = dilation
        self.past_samples = (self.taps - 1) * dilation
        by_tap = weight.transpose(0, 2, 1).reshape(self.channels_out, self.taps * self.channels_in)
        self._matrix = np.ascontiguousarray(by_tap if beside is None else np.hstack([by_tap, beside]))
        self._bias = None if bias is None else np.ascontiguousarray(bias[:, None])
        self.weight, self._flat_bias = weight, bias

    def with_beside(self, beside: Array) -> Convolution:
        """The same, with a second matrix."""
        return Convolution(self.weight, self._flat_bias, self.dilation, beside)

    def scaled(self, gain: Array, offset: Array) -> Convolution:
        """The same, with its output times ``gain`` plus ``offset``, one of each for each output channel."""
        bias = offset if self._flat_bias is None else gain * self._flat_bias + offset
        return Convolution(gain[:, None, None] * self.weight, bias, self.dilation)

    def fresh_past(self) -> Array:
        """Silence before the first sample."""
        return np.zeros((self.channels_in, self.past_samples), np.float32)

    def now(self, x: Array) -> Array:
        """The output of a convolution of one tap, which has no past."""
        return self.forward(x, x)[0]

    def forward(self, x: Array, past: Array, beside: Array | None = None) -> tuple[Array, Array]:
        """``(channels_in, n)`` to ``(channels_out, n)``, and the past of the next block."""
        n = x.shape[1]
        rows = [x]
        if self.past_samples:
            line = np.concatenate((past, x), axis=1)
            rows = [line[:, tap * self.dilation : tap * self.dilation + n] for tap in range(self.taps)]
            past = line[:, n:].copy()
        if beside is not None:
            rows.append(beside)
        y: Array = self._matrix @ (rows[0] if len(rows) == 1 else np.concatenate(rows))
        if self._bias is not None:
            y += self._bias
        return y, past


def activation(value: Any, channels: int, where: str) -> Activation:
    """The function that a file names, as text or as ``{"type": ..., its numbers}``.

    Raises
    ------
    EffectError
        If there is no such function.
    """
    section = Section({"type": value} if isinstance(value, str) else value, f"{where}: activation")
    name = section.text("type")
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "LeakyReLU":
        return _leaky(np.float32(section.number("negative_slope", 0.01)))
    if name == "PReLU":
        slopes = section.get("negative_slopes")
        if slopes is None:
            return _leaky(np.float32(section.number("negative_slope", 0.01)))
        if not isinstance(slopes, list) or len(slopes) != channels:
            section.fail("negative_slopes", f"{channels} numbers, one for each channel")
        each = [Section({"slope": slope}, section.where).number("slope", 0.01) for slope in slopes]
        return _leaky(np.array(each, np.float32)[:, None])
    if name in ("LeakyHardtanh", "LeakyHardTanh"):
        low, high = section.number("min_val", -1.0), section.number("max_val", 1.0)
        return _leaky_hard_tanh(low, high, section.number("min_slope", 0.01), section.number("max_slope", 0.01))
    known = ", ".join([*_PLAIN, "LeakyReLU", "PReLU", "LeakyHardtanh"])
    return section.fail("type", f"one of {known}")


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, by tanh: never overflows."""
    y: Array = np.tanh(np.float32(0.5) * x)
    y += np.float32(1.0)
    y *= np.float32(0.5)
    return y


def _tanh(x: Array) -> Array:
    return np.tanh(x, out=x)


def _fast_tanh(x: Array) -> Array:
    """The rational approximation that players of the format use under this name."""
    size, square = np.abs(x), x * x
    top = x * (2.45550750702956 + 2.45550750702956 * size + (0.893229853513558 + 0.821226666969744 * size) * square)
    bottom = 2.44506634652299 + (2.44506634652299 + square) * np.abs(x + 0.814642734961073 * x * size)
    return np.asarray(top / bottom, np.float32)


def _hard_swish(x: Array) -> Array:
    share: Array = np.clip(x / np.float32(6.0) + np.float32(0.5), np.float32(0.0), np.float32(1.0))
    return x * share


def _softsign(x: Array) -> Array:
    size: Array = np.abs(x)
    return x / (size + np.float32(1.0))


def _leaky(slope: Any) -> Activation:
    return lambda x: np.where(x > 0, x, slope * x)


def _leaky_hard_tanh(low: float, high: float, low_slope: float, high_slope: float) -> Activation:
    def apply(x: Array) -> Array:
        inside = np.clip(x, low, high)
        y = inside + low_slope * np.minimum(x - low, 0.0) + high_slope * np.maximum(x - high, 0.0)
        return np.asarray(y, np.float32)

    return apply


_PLAIN: dict[str, Activation] = {
    "Tanh": _tanh,
    "Fasttanh": _fast_tanh,
    "Hardtanh": lambda x: np.clip(x, np.float32(-1.0), np.float32(1.0)),
    "ReLU": lambda x: np.maximum(x, np.float32(0.0)),
    "Sigmoid": sigmoid,
    "SiLU": lambda x: x * sigmoid(x),
    "Hardswish": _hard_swish,
    "Softsign": _softsign,
}


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _shown(value: Any) -> str:
    """A value from a file, short enough for one line."""
    if isinstance(value, dict | list):
        return f"{'{...}' if isinstance(value, dict) else '[...]'} of {len(value)}"
    if value is None:
        return "null"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
