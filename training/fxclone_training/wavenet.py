"""Family ``wavenet``: gated dilated causal convolutions, fast where no feedback is needed.

    a_l = gate(conv_l * z_l) - rest_l        gate(f, g) = tanh(f) sigmoid(g), or tanh(f) alone
    z_l+1 = z_l + mix_l a_l                  z_0 = w_in x
    y = head(sum_l read_l a_l) + skip * x + b_out

``rest_l`` is what the gate says in silence, so in silence everything inside is zero: a fresh state, all zeros, is the
state that silence leaves behind, and a clone starts without a thump.

There is no feedback: a whole passage is computed at once, and what came before it is carried as one history per layer.
Inside, samples lie time first and passages next to each other, ``(channels, samples * batch)``: then every tap of a
dilated convolution is a plain slice. `run_layers` says in plain torch what the layers do; on a CPU the compiled layers
of `wavenet_kernels` do the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from fxclone.audio import Audio
from fxclone.errors import UsageError
from fxclone_training import wavenet_kernels

MAX_REACH = 1 << 17
"""Samples that a model may see: the histories it must carry grow with it."""
STATE = tuple[Tensor, ...]
_PART = 1 << 14
"""Samples that a free run computes at a time, so that what lies between the layers stays in the cache."""


def stacks(longest: int, count: int = 1, *, base: int = 2) -> tuple[int, ...]:
    """Dilations 1, base, base^2 ... up to ``longest``, ``count`` times over."""
    one = [1]
    while one[-1] * base <= longest:
        one.append(one[-1] * base)
    return tuple(one * count)


@dataclass(frozen=True)
class WaveNetConfig:
    """Shape of a ``wavenet`` model.

    Attributes
    ----------
    channels : int
        Channels between the layers. 1 to 256.
    dilations : tuple of int
        One layer for each: how many samples its taps lie apart. At most 64 layers.
    kernel : int
        Taps of each layer's convolution, the newest sample included. 1 to 64.
    gated : bool
        Whether a sigmoid of a convolution of its own opens and closes each channel. It nearly doubles the work; on a
        Tube Screamer it was 2.5 dB behind after the same seconds of training, so it is not the default.
    head : int
        Hidden tanh units between the layers' sum and the output; 0 for a linear output.
    skip : int
        Taps of the linear path from input to output; 0 for none.
    """

    channels: int = 8
    dilations: tuple[int, ...] = stacks(512, 2)
    kernel: int = 3
    gated: bool = False
    head: int = 0
    skip: int = 32

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("channels", self.channels, 1, 256),
            ("kernel", self.kernel, 1, 64),
            ("head", self.head, 0, 256),
            ("skip", self.skip, 0, 4096),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"wavenet model: {name} is {value!r}; expected {low} to {high}")
        good = all(isinstance(d, int) and d >= 1 for d in self.dilations)
        if not good or not 1 <= len(self.dilations) <= 64:
            raise UsageError(f"wavenet model: dilations are {self.dilations}; expected 1 to 64 whole numbers from 1 up")
        if self.reach > MAX_REACH:
            raise UsageError(
                f"wavenet model: it would see {self.reach} samples; expected at most {MAX_REACH}: "
                "use smaller dilations or a smaller kernel"
            )

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.dilations)

    @property
    def histories(self) -> tuple[int, ...]:
        """Samples that each layer remembers."""
        return tuple((self.kernel - 1) * dilation for dilation in self.dilations)

    @property
    def reach(self) -> int:
        """Inputs that an output depends on, the newest included."""
        return max(1 + sum(self.histories), self.skip)


SIZES = {
    "nano": WaveNetConfig(channels=4),
    "small": WaveNetConfig(channels=8),
    "standard": WaveNetConfig(channels=16),
    "large": WaveNetConfig(channels=32),
}
"""Sizes to choose from, cheapest first."""


class WaveNet(nn.Module):
    """Gated dilated causal convolutions; see the module.

    Parameters
    ----------
    config : WaveNetConfig
    generator : torch.Generator or None
        Of the first weights.
    level_in, level_out : float
        RMS of the dry and of the wet sound that it will learn from: inside, both are 1, so that first weights and
        learning rates suit any recording.
    """

    scale_in: Tensor
    scale_out: Tensor

    def __init__(
        self,
        config: WaveNetConfig,
        *,
        generator: torch.Generator | None = None,
        level_in: float = 0.1,
        level_out: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = config
        C, K, L = config.channels, config.kernel, config.layers
        F, R = C * (2 if config.gated else 1), config.head or 1

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        self.w_in = normal(C, scale=1.0)
        self.conv = normal(L, K, F, C, scale=(K * C) ** -0.5)  # oldest tap first
        self.bias = normal(L, F, scale=0.3)
        self.mix = normal(L - 1, C, C, scale=0.5 * C**-0.5)  # what the last layer says goes to the output alone
        self.read = normal(L, R, C, scale=0.3 * (L * C) ** -0.5)
        self.head_bias, self.head_out = normal(config.head, scale=0.3), normal(config.head, scale=1.0)
        self.skip = nn.Parameter(torch.zeros(config.skip))  # oldest tap first
        self.b_out = nn.Parameter(torch.zeros(1))
        self.register_buffer("scale_in", torch.tensor(1 / max(level_in, 1e-4)))
        self.register_buffer("scale_out", torch.tensor(max(level_out, 1e-4)))

    family, channels_in, channels_out = "wavenet", 1, 1

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def work_per_sample(self) -> int:
        """Each weight is used once for a sample."""
        return self.parameter_count

    @property
    def receptive_field_samples(self) -> int:
        """How many inputs an output depends on, the newest included."""
        return self.config.reach

    def fresh_state(self, batch: int) -> STATE:
        """Silence before the first sample: each layer's history (batch, channels, samples), then the skip path's."""
        C, skip = self.config.channels, max(0, self.config.skip - 1)
        shapes = [*((C, samples) for samples in self.config.histories), (1, skip)]
        return tuple(
            self.w_in.new_zeros(channels, samples, batch).permute(2, 0, 1) for channels, samples in shapes
        )  # batch innermost in memory, as `forward` uses it

    def forward(self, x: Tensor, state: STATE) -> tuple[Tensor, STATE]:
        """Compute a passage.

        Parameters
        ----------
        x : Tensor [shape=(batch, 1, samples)]
        state : tuple of Tensor
            Of `fresh_state`, or what the passage before left.

        Returns
        -------
        y : Tensor [shape=(batch, 1, samples)]
        state : tuple of Tensor
            Carried on. Gradients flow through the passage, not into the histories before it.
        """
        B, _, T = x.shape
        config = self.config
        total, after = self._run_layers(x, state, self.read)
        if config.head:
            bent = torch.tanh(total + self.head_bias[:, None]) - torch.tanh(self.head_bias)[:, None]
            total = self.head_out[None] @ bent
        y = _unflat(total, B)
        joined = torch.cat([state[-1], x * self.scale_in], 2)  # (B, 1, skip - 1 + T)
        if config.skip:
            y = y + functional.conv1d(joined, self.skip[None, None])
        carried = *(_unflat(history, B) for history in after), joined[..., T:].detach()
        return (y + self.b_out) * self.scale_out, carried

    def said(self, x: Tensor) -> Tensor:
        """What each channel of each layer says, from silence on: (samples,) to (layers * channels, samples)."""
        c = self.config
        units = torch.eye(c.layers * c.channels, dtype=x.dtype, device=x.device)
        read = units.view(-1, c.layers, c.channels).swapaxes(0, 1).contiguous()
        return self._run_layers(x[None, None], self.fresh_state(1), read)[0]

    def _run_layers(self, x: Tensor, state: STATE, read: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(batch, 1, samples) to (outputs, samples * batch), and the histories after it, flat as well."""
        B = len(x)
        compiled = x.device.type == "cpu" and self.w_in.dtype == torch.float32
        return (wavenet_kernels.run_layers if compiled else run_layers)(
            self.w_in[:, None] * _flat(x * self.scale_in),
            [_flat(history) for history in state[:-1]],
            (self.conv, self.bias, self.mix, read),
            [dilation * B for dilation in self.config.dilations],
            self.config.gated,
        )

    # What every family can do (`fxclone_training.family.Model`). Imports within: those modules need other families.

    @torch.no_grad()
    def run_freely(self, dry: Audio) -> Audio:
        """Run over ``(1, samples)`` from a fresh state."""
        sound, state, parts = torch.tensor(dry, device=self.w_in.device, dtype=self.w_in.dtype), self.fresh_state(1), []
        for part in torch.split(sound, _PART, dim=1):
            y, state = self(part[None], state)
            parts.append(y[0])
        out: Audio = torch.cat(parts, 1).cpu().numpy()
        return out

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether float32 sums come out as exact ones do: large terms that cancel lose what is left."""
        from fxclone_training.certificate import STURDY

        around = int(np.abs(dry).max(axis=0).argmax())
        # Around the loudest place, since rounding adds up over layers, not time; begun before it, as it is played.
        start = max(0, min(around - _PART // 2, dry.shape[1] - _PART))
        part = dry[:, start : start + _PART]
        exact, rounded = self.copy().double().run_freely(part), self.run_freely(part)
        return float(np.abs(exact - rounded).max()) <= STURDY * max(1.0, float(np.abs(exact).max()))

    def copy(self) -> WaveNet:
        """An independent copy, on the CPU."""
        other = WaveNet(self.config)
        other.load_state_dict({name: value.detach().cpu().clone() for name, value in self.state_dict().items()})
        return other

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """There is one form, whatever the level."""
        from fxclone_training.wavenet_export import export_wavenet

        yield export_wavenet(self)

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """There is no feedback to certify; its tail cannot be longer than what it sees."""
        from fxclone_training.certificate import NO_FEEDBACK, tail_samples

        longest_s = self.receptive_field_samples / sample_rate + 0.2
        return NO_FEEDBACK | {"tail_samples": tail_samples(self, sample_rate, longest_s=longest_s)}

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe."""
        return asdict(self.config) | {"dilations": list(self.config.dilations)}

    def describe(self) -> str:
        """Its shape in a few words."""
        c = self.config
        kind = "gated layers" if c.gated else "layers"
        return f"{c.layers} {kind} of {c.channels} channels and {c.kernel} taps, {c.reach} inputs"

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        return self.facts(), {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> WaveNet:
        """The model that `stored` wrote.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If shape and weights do not fit each other.
        """
        model = WaveNet(WaveNetConfig(**(shape | {"dilations": tuple(shape["dilations"])})))
        model.load_state_dict(weights)
        return model


def run_layers(
    z: Tensor, histories: list[Tensor], weights: tuple[Tensor, ...], steps: list[int], gated: bool
) -> tuple[Tensor, list[Tensor]]:
    """All layers in plain torch, see `wavenet_kernels.run_layers`: for other devices, and other precisions."""
    conv, bias, mix, read = weights
    (_, K, _, C), N = conv.shape, z.shape[1]
    total, after = z.new_zeros(read.shape[1], N), []
    for place, (step, history) in enumerate(zip(steps, histories, strict=True)):
        joined = torch.cat([history, z], 1)
        f = bias[place, :, None] + sum(conv[place, k] @ joined[:, k * step : k * step + N] for k in range(K))
        said = _gate(f, C, gated) - _gate(bias[place, :, None], C, gated)
        total = total + read[place] @ said
        if place < len(mix):
            z = z + mix[place] @ said
        after.append(joined[:, N:].detach())
    return total, after


def _gate(f: Tensor, channels: int, gated: bool) -> Tensor:
    curve = torch.tanh(f[:channels])
    return curve * torch.sigmoid(f[channels:]) if gated else curve


def _flat(signal: Tensor) -> Tensor:
    """(batch, channels, samples) to (channels, samples * batch), the batch innermost."""
    return signal.permute(1, 2, 0).flatten(1)


def _unflat(signal: Tensor, batch: int) -> Tensor:
    """What `_flat` made, back."""
    return signal.view(len(signal), signal.shape[1] // batch, batch).permute(2, 0, 1)
