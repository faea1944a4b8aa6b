"""The WaveNet of .nam files: arrays of dilated convolutions that all add to one head.

For each layer, with x from the layer before, c the condition (the input, or what another network makes of it):

    z = conv(x) + mix(c),    a = activation(z), or gated: activation(z_1) * secondary(z_2)
    head += a,    x += W a + b

The second array starts from the head of the first. What the last head gives, times head_scale, is the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fxclone.effects.nam_parts import (
    MAX_CHANNELS,
    MAX_LAYERS,
    Activation,
    Array,
    Convolution,
    Network,
    Section,
    State,
    Weights,
    activation,
)
from fxclone.errors import EffectError

MAX_DILATION = 2**20
MAX_TAPS = 4096
_FILM = (
    *("conv_pre_film", "conv_post_film", "input_mixin_pre_film", "input_mixin_post_film"),
    *("activation_pre_film", "activation_post_film", "layer1x1_post_film", "head1x1_post_film"),
)


class WaveNet:
    """See the module.

    Parameters
    ----------
    config : Section
        As in the file.
    weights : Weights
        All of them are taken.
    condition : Network or None
        What the input goes through before it conditions the layers.

    Raises
    ------
    EffectError
        For what does not fit together, and for what few models use: FiLM, several inputs.
    """

    def __init__(self, config: Section, weights: Weights, condition: Network | None) -> None:
        if config.whole("in_channels", MAX_CHANNELS, 1) != 1:
            config.fail("in_channels", "1: only models with one input can be an effect")
        self._condition = condition
        given = condition.channels_out if condition else 1
        self._arrays: list[_LayerArray] = []
        for section in config.sections("layers", 64):
            self._arrays.append(_LayerArray(section, weights, given, self._arrays[-1] if self._arrays else None))
        self._head = _post_head(config, weights, self._arrays[-1].head_size)
        self._scale = np.float32(weights.take(1)[0])
        weights.finish()
        last = self._head[-1][1] if self._head else None
        self.channels_out = last.channels_out if last else self._arrays[-1].head_size
        own = sum(array.past_samples for array in self._arrays) + sum(conv.past_samples for _, conv in self._head)
        before = condition.memory_samples if condition else 0
        self.memory_samples: int | None = None if before is None else before + own
        self.linear: bool | None = None
        channels = " and ".join(str(array.channels) for array in self._arrays)
        self.summary = f"WaveNet with {sum(len(a.layers) for a in self._arrays)} layers of {channels} channels"

    def fresh_state(self) -> State:
        """Zeros."""
        conditions = self._condition.fresh_state() if self._condition else ()
        head = tuple(conv.fresh_past() for _, conv in self._head)
        return (conditions, tuple(array.fresh_state() for array in self._arrays), head)

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """Run all arrays, then the head."""
        conditions, arrays, heads = state
        c = x
        if self._condition:
            c, conditions = self._condition.forward(x, conditions)
        head = None
        new_arrays, new_heads = [], []
        for array, before in zip(self._arrays, arrays, strict=True):
            x, head, after = array.forward(x, c, head, before)
            new_arrays.append(after)
        y = np.zeros_like(x) if head is None else np.asarray(self._scale * head)
        for (act, conv), past in zip(self._head, heads, strict=True):
            y, past = conv.forward(act(y), past)
            new_heads.append(past)
        return y, (conditions, tuple(new_arrays), tuple(new_heads))


@dataclass(frozen=True)
class _Layer:
    conv: Convolution  # of x, with the mix of the condition beside it
    activate: Activation  # to `bottleneck` channels
    onward: Convolution | None  # the 1x1 to the next layer
    to_head: Convolution | None  # the 1x1 to the head

    def forward(self, x: Array, c: Array, past: Array) -> tuple[Array, Array, Array]:
        """What goes on, what goes to the head, and the past."""
        z, past = self.conv.forward(x, past, c)
        a = self.activate(z)
        if self.onward is not None:
            step = self.onward.now(a)
            step += x
            x = step
        return x, a if self.to_head is None else self.to_head.now(a), past


class _LayerArray:
    """Layers with the same number of channels, and their head."""

    head_size: int
    past_samples: int

    def __init__(self, config: Section, weights: Weights, condition_size: int, before: _LayerArray | None) -> None:
        for name in _FILM:
            film = config.get(name)
            if film and (not isinstance(film, dict) or film.get("active", True)):
                raise EffectError(f"{config.where} uses {name}, which is not known here; expected a model without FiLM")
        self.channels = config.whole("channels", MAX_CHANNELS)
        bottleneck = config.whole("bottleneck", MAX_CHANNELS, self.channels)
        dilations = config.wholes("dilations", MAX_DILATION)
        count = len(dilations)
        _expect(config, "input_size", before.channels if before else 1)
        _expect(config, "condition_size", condition_size)
        one = config.section("layer1x1") if config.get("layer1x1") is not None else Section({}, config.where)
        head_one = config.section("head1x1") if config.get("head1x1") is not None else Section({}, config.where)
        goes_on, has_head_one = one.switch("active", True), head_one.switch("active", False)
        if not goes_on and bottleneck != self.channels:
            config.fail("bottleneck", f"{self.channels}, as channels, without layer1x1")
        head_width = head_one.whole("out_channels", MAX_CHANNELS) if has_head_one else bottleneck
        if before and before.head_size != head_width:
            raise EffectError(
                f"{config.where}: the array before it hands on a head of {before.head_size} channels; this one adds to "
                f"{head_width}"
            )
        groups, mix_groups = (config.whole(key, MAX_CHANNELS, 1) for key in ("groups_input", "groups_input_mixin"))
        self._rechannel = weights.convolution(self.channels, config.whole("input_size", MAX_CHANNELS), bias=False)
        self.layers: list[_Layer] = []
        for taps, dilation, (gated, activate) in zip(
            _taps(config, count), dilations, _activations(config, count, bottleneck), strict=True
        ):
            rows = 2 * bottleneck if gated else bottleneck
            conv = weights.convolution(rows, self.channels, taps, dilation=dilation, bias=True, groups=groups)
            mix = weights.convolution(rows, condition_size, bias=False, groups=mix_groups)
            onward = to_head = None
            if goes_on:
                onward = weights.convolution(
                    self.channels, bottleneck, bias=True, groups=one.whole("groups", MAX_CHANNELS, 1)
                )
            if has_head_one:
                to_head = weights.convolution(
                    head_width, bottleneck, bias=True, groups=head_one.whole("groups", MAX_CHANNELS, 1)
                )
            self.layers.append(_Layer(conv.with_beside(mix.weight[:, :, 0]), activate, onward, to_head))
        self.head_size, head_taps, head_bias = _head_shape(config)
        self._head = weights.convolution(self.head_size, head_width, head_taps, bias=head_bias)
        self.past_samples = sum(layer.conv.past_samples for layer in self.layers) + self._head.past_samples

    def fresh_state(self) -> State:
        """Zeros for every layer, then for the head."""
        return (*(layer.conv.fresh_past() for layer in self.layers), self._head.fresh_past())

    def forward(self, x: Array, c: Array, head: Array | None, state: State) -> tuple[Array, Array, State]:
        """What goes on to the next array, the head so far, and the state."""
        x = self._rechannel.now(x)
        after = []
        for layer, past in zip(self.layers, state[:-1], strict=True):
            x, a, past = layer.forward(x, c, past)
            head = a if head is None else head + a
            after.append(past)
        if head is None:
            raise EffectError("a WaveNet array has no layers; expected one at least")
        head, past = self._head.forward(head, state[-1])
        return x, head, (*after, past)


def _activations(config: Section, count: int, channels: int) -> list[tuple[bool, Activation]]:
    """For each layer, whether its convolution is twice as wide, and what comes after it."""
    modes = config.each("gating_mode", count, "gated" if config.switch("gated", False) else "none")
    firsts = config.each("activation", count)
    seconds = config.each("secondary_activation", count)
    found = []
    for mode, first, second in zip(modes, firsts, seconds, strict=True):
        if mode not in ("none", "gated", "blended"):
            config.fail("gating_mode", "none, gated or blended")
        plain = activation(first, channels, config.where)
        gate = activation("Sigmoid" if second is None else second, channels, config.where)
        found.append((mode != "none", plain if mode == "none" else _gate(plain, gate, channels, mode == "blended")))
    return found


def _gate(plain: Activation, gate: Activation, channels: int, blended: bool) -> Activation:
    """Half of the channels decide how much of the other half comes through, or how much of it is bent."""

    def apply(z: Array) -> Array:
        share = gate(z[channels:])
        if blended:
            z = z[:channels]
            return share * plain(z.copy()) + (np.float32(1.0) - share) * z
        return plain(z[:channels]) * share

    return apply


def _taps(config: Section, count: int) -> list[int]:
    if config.get("kernel_sizes") is None:
        return [config.whole("kernel_size", MAX_TAPS)] * count
    taps = config.wholes("kernel_sizes", MAX_TAPS)
    if len(taps) != count:
        config.fail("kernel_sizes", f"{count} values, one for each layer")
    return taps


def _head_shape(config: Section) -> tuple[int, int, bool]:
    """Channels, taps and whether there is a bias: version 0.7 has a section for it."""
    if config.get("head") is None:
        return config.whole("head_size", MAX_CHANNELS), 1, config.switch("head_bias")
    head = config.section("head")
    return head.whole("out_channels", MAX_CHANNELS), head.whole("kernel_size", MAX_TAPS), head.switch("bias")


def _post_head(config: Section, weights: Weights, width: int) -> list[tuple[Activation, Convolution]]:
    """Blocks of activation and convolution after the arrays; most models have none."""
    if config.get("head") is None:
        return []
    head = config.section("head")
    if head.get("kernel_sizes") is not None:
        taps = head.wholes("kernel_sizes", MAX_TAPS)
    else:
        taps = [head.whole("kernel_size", MAX_TAPS, 1)] * head.whole("num_layers", MAX_LAYERS)
    inner, out = head.whole("channels", MAX_CHANNELS), head.whole("out_channels", MAX_CHANNELS)
    blocks = []
    for number, size in enumerate(taps, 1):
        wide = out if number == len(taps) else inner
        act = activation(head.get("activation"), width, head.where)
        blocks.append((act, weights.convolution(wide, width, size, bias=True)))
        width = wide
    return blocks


def _expect(config: Section, key: str, value: int) -> None:
    if config.whole(key, MAX_CHANNELS) != value:
        config.fail(key, str(value))
