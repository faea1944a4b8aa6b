"""Family ``ar``: the autoregressive next-sample model, the heart of fxclone.

    y[n] = mlp(x[n], x[n-1], ..., x[n-m+1],  y[n-1], ..., y[n-m+1])  +  the same window times a linear skip

It sees m inputs, **the newest included** (the row that predicts y[n] contains x[n]; a published notebook leaves it out
and predicts a sample ahead of its newest input), and m-1 of its own past outputs. Three ways to run the same weights:

- `Ar.teacher_forced`: past outputs come from the recording, with noise; parallel over time, two convolutions.
- `Ar.forward`: past outputs are its own; state in, state out; exact gradients through the run (`kernels`).
- `fxclone_training.ar_export`: the same as a streaming ONNX graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fxclone.errors import UsageError
from fxclone_training import kernels


@dataclass(frozen=True)
class ArConfig:
    """Shape of an ``ar`` model.

    Attributes
    ----------
    m : int
        Inputs seen, the newest included; m-1 past outputs unless `past_outputs` says otherwise. 1 to 4096.
    past_outputs : int or None
        Past outputs seen; None for m-1.
    layers, width : int
        Hidden layers and units in each.
    activation : str
        ``tanh``, ``relu`` or ``gelu``.
    skip : bool
        A linear path from both windows to the output.
    """

    m: int = 64
    past_outputs: int | None = None
    layers: int = 1
    width: int = 24
    activation: str = "tanh"
    skip: bool = True

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("m", self.m, 1, 4096),
            ("past_outputs", self.taps_y, 0, 4096),
            ("layers", self.layers, 1, 16),
            ("width", self.width, 1, 1024),
        ):
            if not low <= value <= high:
                raise UsageError(f"ar model: {name} is {value}; expected {low} to {high}")
        if self.activation not in kernels.ACTIVATIONS:
            raise UsageError(
                f"ar model: activation is {self.activation!r}; expected one of {', '.join(kernels.ACTIVATIONS)}"
            )

    @property
    def taps_y(self) -> int:
        """Past outputs seen."""
        return self.m - 1 if self.past_outputs is None else self.past_outputs


@dataclass(frozen=True)
class ArState:
    """What an ``ar`` model remembers: the last inputs and its own last outputs, oldest first."""

    x: Tensor  # (batch, m-1)
    y: Tensor  # (batch, taps_y)

    def detach(self) -> ArState:
        """The same values, cut from the graph."""
        return ArState(self.x.detach(), self.y.detach())


class Ar(nn.Module):
    """The autoregressive next-sample model. Windows are stored newest first: column j weighs lag j."""

    def __init__(self, config: ArConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        m, K, H, L = config.m, config.taps_y, config.width, config.layers

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        if config.skip:
            # Units look mostly at the newest samples at first; with all lags alike, a memoryless curve drowns in them.
            decay = torch.arange(m).add(1.0).rsqrt()
            self.w_x = nn.Parameter(normal(H, m, scale=1.0).data * decay * torch.where(torch.arange(m) == 0, 3.0, 0.1))
            self.w_y = normal(H, K, scale=0.01)
            self.b_in = normal(H, scale=0.3)
            self.out = normal(H, scale=0.1 / H**0.5)
        else:  # the original: everything N(0, 1) / sqrt(width)
            scale = H**-0.5
            self.w_x, self.w_y, self.b_in = normal(H, m, scale=scale), normal(H, K, scale=scale), normal(H, scale=scale)
            self.out = normal(H, scale=scale)
        self.hidden = normal(L - 1, H, H, scale=H**-0.5)  # (layer, unit in, unit out)
        self.b_hidden = normal(L - 1, H, scale=H**-0.5)
        self.b_out = nn.Parameter(torch.zeros(1))
        zeros_x, zeros_y = torch.zeros(m), torch.zeros(K)
        if config.skip:
            self.skip_x, self.skip_y = nn.Parameter(zeros_x), nn.Parameter(zeros_y)
        else:
            self.register_buffer("skip_x", zeros_x)
            self.register_buffer("skip_y", zeros_y)

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def fresh_state(self, batch: int) -> ArState:
        """Silence before the first sample."""
        zeros = self.b_out.new_zeros
        return ArState(zeros(batch, self.config.m - 1), zeros(batch, self.config.taps_y))

    def forward(self, x: Tensor, state: ArState) -> tuple[Tensor, ArState]:
        """Run freely: past outputs are the model's own.

        Parameters
        ----------
        x : Tensor [shape=(batch, 1, samples)]
        state : ArState

        Returns
        -------
        y : Tensor [shape=(batch, 1, samples)]
        state : ArState
            Carried on. Gradients flow through the block, not into the state before it.
        """
        heard = torch.cat([state.x, x[:, 0]], 1)  # (B, m-1+T)
        y = self.run(*self.input_part(heard), state.y)
        said = torch.cat([state.y, y], 1)
        tail = said.shape[1] - self.config.taps_y
        return y[:, None], ArState(heard[:, heard.shape[1] - self.config.m + 1 :], said[:, tail:])

    def run(self, u: Tensor, v: Tensor, past: Tensor) -> Tensor:
        """The recursion alone: u (B, T, H) and v (B, T) of `input_part`, past outputs (B, taps_y), to y (B, T)."""
        weights = (self.w_y, self.skip_y, self.hidden, self.b_hidden, self.out)
        y: Tensor = _FreeRun.apply(u, v, past, *weights, self.config.activation)  # type: ignore[no-untyped-call]
        return y

    def teacher_forced(self, x: Tensor, y_noisy: Tensor) -> Tensor:
        """Predict every sample from the recording.

        Parameters
        ----------
        x, y_noisy : Tensor [shape=(batch, 1, history + samples)]
            ``history = max(m - 1, taps_y)`` samples lead in; column n of both is the same moment.

        Returns
        -------
        Tensor [shape=(batch, 1, samples)]
            The prediction of y, for the samples after the lead-in.
        """
        m, K = self.config.m, self.config.taps_y
        history = max(m - 1, K)
        u, v = self.input_part(x[:, 0, history - m + 1 :])
        if K:
            past = y_noisy[:, :, history - K : -1]
            weights = torch.cat([self.w_y, self.skip_y[None]]).flip(-1)[:, None]
            back = functional.conv1d(past, weights)  # (B, H+1, T)
            u, v = u + back[:, :-1].transpose(1, 2), v + back[:, -1]
        h = self.activate(u)
        for layer in range(self.config.layers - 1):
            h = self.activate(h @ self.hidden[layer] + self.b_hidden[layer])
        return (v + h @ self.out)[:, None]

    @property
    def history_samples(self) -> int:
        """Lead-in that `teacher_forced` needs."""
        return max(self.config.m - 1, self.config.taps_y)

    def input_part(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """All that depends on the input alone: (B, m-1+T) -> u (B, T, H), v (B, T)."""
        weights = torch.cat([self.w_x, self.skip_x[None]]).flip(-1)[:, None]
        part = functional.conv1d(heard[:, None], weights)  # (B, H+1, T)
        return part[:, :-1].transpose(1, 2) + self.b_in, part[:, -1] + self.b_out

    def activate(self, a: Tensor) -> Tensor:
        """Apply the activation function of the hidden layers."""
        return {"tanh": torch.tanh, "relu": torch.relu, "gelu": functional.gelu}[self.config.activation](a)


class _FreeRun(torch.autograd.Function):
    """`kernels.free_run` and its gradient as a torch operation (on the CPU)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, v: Tensor, past: Tensor, w_y: Tensor, skip: Tensor, hidden: Tensor, bias: Tensor,
        out: Tensor, activation: str,
    ) -> Tensor:  # fmt: skip
        B, T, H = u.shape
        code = kernels.ACTIVATIONS[activation]
        keep = any(ctx.needs_input_grad)
        arrays = [_array(t) for t in (u, v, past.flip(-1), w_y.t(), skip, hidden, bias, out)]
        pre = np.empty((B, T if keep else 1, hidden.shape[0] + 1, H), np.float32)
        post = np.empty_like(pre)
        y = kernels.free_run(*arrays, code, pre, post)
        ctx.arrays, ctx.code, ctx.pre, ctx.post, ctx.y = arrays[2:], code, pre, post, y
        return torch.from_numpy(y).to(u.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        past, *weights = ctx.arrays  # fb, skip, hidden, bias, out
        sums = [np.zeros((len(ctx.y), *array.shape), np.float32) for array in weights]
        gu, gv = kernels.free_run_backward(_array(grad), ctx.y, past, *weights, ctx.code, ctx.pre, ctx.post, *sums)
        fb, skip, hidden, bias, out = (torch.from_numpy(total.sum(0)).to(grad.device) for total in sums)
        back = torch.from_numpy
        return back(gu).to(grad.device), back(gv).to(grad.device), None, fb.t(), skip, hidden, bias, out, None


def _array(tensor: Tensor) -> kernels.F32:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
