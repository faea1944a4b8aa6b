"""Small .nam files for tests, and what they should sound like: computed in double precision, a sample or a layer at a
time, with torch where it has the operation, and by none of the code under test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

RATE = 48_000


def write(path: Path, architecture: str, config: dict[str, Any], weights: Any, **others: Any) -> Path:
    """A file; ``others`` replace top-level keys."""
    listed = weights.tolist() if isinstance(weights, np.ndarray) else weights
    top = {"version": "0.5.4", "architecture": architecture, "config": config, "weights": listed, "sample_rate": RATE}
    path.write_text(json.dumps(top | others))
    return path


class Dealt:
    """Random weights: drawn when a reference asks for them, kept in that order for the file."""

    def __init__(self, rng: np.random.Generator, scale: float = 0.4) -> None:
        self._rng, self._scale, self.all = rng, scale, []

    def take(self, *shape: int, positive: bool = False) -> torch.Tensor:
        new = (self._rng.standard_normal(shape) * self._scale).astype(np.float32)
        new = np.abs(new) + np.float32(0.1) if positive else new
        self.all.extend(float(value) for value in new.ravel())
        return torch.from_numpy(new).double()

    def conv(
        self, width_in: int, width_out: int, taps: int, bias: bool, dilation: int = 1, groups: int = 1
    ) -> nn.Conv1d:
        conv = nn.Conv1d(width_in, width_out, taps, dilation=dilation, bias=bias, groups=groups).double()
        conv.weight.data = self.take(width_out, width_in // groups, taps)
        if bias:
            conv.bias.data = self.take(width_out)
        return conv


def causal(conv: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """Valid convolution of sound that has ``(taps - 1) * dilation`` samples too many: shorter by that."""
    return conv(x[None])[0]


@torch.no_grad()
def wavenet(dealt: Dealt, arrays: list[dict[str, Any]], head: dict[str, Any] | None, x: np.ndarray) -> np.ndarray:
    """The output of a WaveNet after silence. Valid convolutions over enough silence before the sound."""
    acts = {"Tanh": torch.tanh, "ReLU": torch.relu, "Sigmoid": torch.sigmoid, "Hardtanh": nn.functional.hardtanh,
            "SiLU": nn.functional.silu, "Softsign": nn.functional.softsign, "Hardswish": nn.functional.hardswish,
            "LeakyReLU": nn.functional.leaky_relu}  # fmt: skip
    silence = 500
    sound = torch.from_numpy(np.concatenate((np.zeros(silence), x)))[None]
    inner, total = sound, None
    for spec in arrays:
        width, cond = spec["channels"], spec["condition_size"]
        bottleneck = spec.get("bottleneck", width)
        inner = causal(dealt.conv(spec["input_size"], width, 1, bias=False), inner)
        kinds = (
            spec["activation"]
            if isinstance(spec["activation"], list)
            else [spec["activation"]] * len(spec["dilations"])
        )
        taps = spec.get("kernel_sizes") or [spec["kernel_size"]] * len(spec["dilations"])
        gate = spec.get("gating_mode", "gated" if spec.get("gated") else "none")
        onward, head_one = spec.get("layer1x1", {"active": True, "groups": 1}), spec.get("head1x1", {"active": False})
        for kind, tap, dilation in zip(kinds, taps, spec["dilations"], strict=True):
            rows = bottleneck * (1 if gate == "none" else 2)
            conv = dealt.conv(width, rows, tap, True, dilation, spec.get("groups_input", 1))
            mix = dealt.conv(cond, rows, 1, False, groups=spec.get("groups_input_mixin", 1))
            z = causal(conv, inner)
            length = z.shape[1]
            z = z + causal(mix, sound[:, -length:])
            if gate == "none":
                a = acts[kind](z)
            else:
                share = acts[spec.get("secondary_activation", "Sigmoid")](z[bottleneck:])
                a = acts[kind](z[:bottleneck]) * share
                if gate == "blended":
                    a = a + (1 - share) * z[:bottleneck]
            inner = inner[:, -length:]
            if onward["active"]:
                inner = inner + causal(dealt.conv(bottleneck, width, 1, True, groups=onward["groups"]), a)
            if head_one["active"]:
                a = causal(dealt.conv(bottleneck, head_one["out_channels"], 1, True, groups=head_one["groups"]), a)
            total = a if total is None else total[:, -length:] + a
        shape = spec.get("head") or {"out_channels": spec["head_size"], "kernel_size": 1, "bias": spec["head_bias"]}
        total = causal(dealt.conv(total.shape[0], shape["out_channels"], shape["kernel_size"], shape["bias"]), total)
    blocks, width = [], total.shape[0]
    if head:
        for number, tap in enumerate(head["kernel_sizes"], 1):
            wide = head["out_channels"] if number == len(head["kernel_sizes"]) else head["channels"]
            blocks.append(dealt.conv(width, wide, tap, True))
            width = wide
    y = total * dealt.take(1)
    for conv in blocks:
        y = causal(conv, acts[head["activation"]](y))
    return y[0, -x.size :].numpy()


@torch.no_grad()
def lstm(dealt: Dealt, layers: int, hidden: int, x: np.ndarray, silence: int) -> np.ndarray:
    """The output of an LSTM after silence."""
    net, starts = nn.LSTM(1, hidden, layers).double(), []
    for layer in range(layers):
        width = hidden if layer else 1
        both = dealt.take(4 * hidden, width + hidden)
        getattr(net, f"weight_ih_l{layer}").data = both[:, :width].contiguous()
        getattr(net, f"weight_hh_l{layer}").data = both[:, width:].contiguous()
        getattr(net, f"bias_ih_l{layer}").data = dealt.take(4 * hidden)
        getattr(net, f"bias_hh_l{layer}").data.zero_()
        starts.append((dealt.take(hidden), dealt.take(hidden)))
    head, bias = dealt.take(hidden), dealt.take(1)
    start = tuple(torch.stack([one[i] for one in starts]) for i in (0, 1))
    sound = torch.from_numpy(np.concatenate((np.zeros(silence), x)))
    found, _ = net(sound[:, None], start)
    return (found @ head + bias)[-x.size :].numpy()


@torch.no_grad()
def convnet(dealt: Dealt, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """The output of a ConvNet with tanh after silence."""
    inner = torch.from_numpy(np.concatenate((np.zeros(500), x)))[None]
    for dilation in config["dilations"]:
        conv = dealt.conv(inner.shape[0], config["channels"], 2, not config["batchnorm"], dilation)
        inner = causal(conv, inner)
        if config["batchnorm"]:
            mean, variance = dealt.take(config["channels"]), dealt.take(config["channels"], positive=True)
            gain, offset, epsilon = (
                dealt.take(config["channels"]),
                dealt.take(config["channels"]),
                dealt.take(1, positive=True),
            )
            inner = nn.functional.batch_norm(inner[None], mean, variance, gain, offset, eps=float(epsilon))[0]
        inner = torch.tanh(inner)
    return causal(dealt.conv(config["channels"], 1, 1, True), inner)[0, -x.size :].numpy()
