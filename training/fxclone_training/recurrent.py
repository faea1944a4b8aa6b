"""Family ``recurrent``: a window of inputs and an LSTM that hears its own last output.

    y[n] = skip . window[n] + out . h[n] + b
    h[n] = lstm( W_x window[n] + w_y y[n-1] + b_x,  h[n-1] )

The window, x[n] to x[n-m+1], spares the LSTM from remembering what a short filter can see. y[n-1] is affine in h[n-1]
and the window before, so the exported node needs no feedback: it folds into the recurrent weights, W + out w_y
(`recurrent_export`). While training, noise on the fed-back output is one more input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fxclone.audio import Audio
from fxclone.errors import UsageError
from fxclone_training.certificate import certify_state, survives_rounding
from fxclone_training.kernels import F32
from fxclone_training.recurrent_export import export_recurrent
from fxclone_training.recurrent_kernels import lstm, lstm_backward

State = tuple[Tensor, Tensor, Tensor, Tensor]
"""Last inputs (batch, m-1), h and c (batch, units), and the last output (batch, 1)."""


@dataclass(frozen=True)
class RecurrentConfig:
    """Shape of a ``recurrent`` model.

    Attributes
    ----------
    m : int
        Inputs seen, the newest included. 1 to 4096.
    units : int
        Of the LSTM. 1 to 256.
    feedback : bool
        Whether the LSTM hears the last output.
    """

    m: int = 32
    units: int = 24
    feedback: bool = True

    def __post_init__(self) -> None:
        for name, value, high in (("m", self.m, 4096), ("units", self.units, 256)):
            if not 1 <= value <= high:
                raise UsageError(f"recurrent model: {name} is {value}; expected 1 to {high}")


SIZES = {
    "nano": RecurrentConfig(16, 8),
    "small": RecurrentConfig(24, 16),
    "standard": RecurrentConfig(32, 24),
    "large": RecurrentConfig(32, 40),
}


class Recurrent(nn.Module):
    """See the module. Windows lie newest first: column j weighs lag j. Gates lie i, f, o, g."""

    family, channels_in, channels_out = "recurrent", 1, 1
    levels: Tensor

    def __init__(
        self,
        config: RecurrentConfig,
        *,
        levels: tuple[float, float] = (1.0, 1.0),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))
        m, H = config.m, config.units

        def uniform(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) * scale)

        # Units look mostly at the newest samples at first; with all lags alike, the sound's slow parts drown the rest.
        decay = torch.arange(m).add(1.0).rsqrt()
        self.w_x = nn.Parameter(uniform(4 * H, m, scale=1.0).data * decay)
        self.w_h = uniform(H, 4 * H, scale=H**-0.5)
        bias = uniform(4 * H, scale=H**-0.5).data
        bias[H : 2 * H] += 1.0  # remember at first (Jozefowicz et al. 2015)
        self.b = nn.Parameter(bias)
        self.out = uniform(H, scale=0.1 * H**-0.5)
        self.b_out = nn.Parameter(torch.zeros(1))
        self.skip = nn.Parameter(torch.zeros(m))
        if config.feedback:
            self.w_y = nn.Parameter(torch.zeros(4 * H))
        else:
            self.register_buffer("w_y", torch.zeros(4 * H))

    def fresh_state(self, batch: int) -> State:
        """Silence before the first sample."""
        zeros, H = self.b_out.new_zeros, self.config.units
        silent = self.weights()["b_out"].detach().expand(batch, 1)
        return zeros(batch, self.config.m - 1), zeros(batch, H), zeros(batch, H), silent

    def forward(self, x: Tensor, state: State, noise: Tensor | None = None) -> tuple[Tensor, State]:
        """Run freely.

        Parameters
        ----------
        x : Tensor [shape=(batch, 1, samples)]
        state : State
        noise : Tensor [shape=(batch, samples)] or None
            Added to the past output that the LSTM hears for each sample.

        Returns
        -------
        y : Tensor [shape=(batch, 1, samples)]
        state : State
            Carried on. Gradients flow through the block, not into the state before it.
        """
        h, c, y_last = state[1:]
        heard = torch.cat([state[0], x[:, 0]], 1)
        w = self.weights()
        rows = torch.cat([w["h"], w["y"][None], w["x"].t().flip(0), w["b"][None]])
        y, h, c = _Lstm.apply(heard, noise, rows, w["out"], w["skip"].flip(0), w["b_out"], h, c, y_last)  # type: ignore[no-untyped-call]
        return y[:, None], (heard[:, heard.shape[1] - self.config.m + 1 :], h, c, y[:, -1:].detach())

    def weights(self) -> dict[str, Tensor]:
        """Weights for sound as it is: those trained are for dry and wet sound of RMS level 1."""
        dry, wet = self.levels[0], self.levels[1]
        return {
            "h": self.w_h,
            "y": self.w_y / wet,
            "x": self.w_x / dry,
            "b": self.b,
            "out": self.out * wet,
            "skip": self.skip * (wet / dry),
            "b_out": self.b_out * wet,
        }

    # What every family can do (`fxclone_training.family.Model`).

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
        """The window of inputs; the LSTM remembers longer."""
        return self.config.m

    @torch.no_grad()
    def run_freely(self, dry: Audio) -> Audio:
        """Run over ``(1, samples)`` from a fresh state."""
        y, _ = self(torch.from_numpy(np.ascontiguousarray(dry))[None], self.fresh_state(1))
        out: Audio = y[0].numpy()
        return out

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether rounding errors die away, see `fxclone_training.certificate.survives_rounding`."""
        return survives_rounding(self, dry)

    def copy(self) -> Recurrent:
        """An independent copy."""
        other = Recurrent(self.config)
        other.load_state_dict({name: value.detach().clone() for name, value in self.state_dict().items()})
        return other

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """One graph: whatever is loud saturates."""
        yield export_recurrent(self)

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """How fast two runs meet; see `fxclone_training.certificate.certify_state`."""
        return certify_state(self, dry, sample_rate)

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe."""
        return asdict(self.config)

    def describe(self) -> str:
        """Its shape in a few words."""
        fed = " and its last output" if self.config.feedback else ""
        return f"LSTM of {self.config.units} units on {self.config.m} inputs{fed}"

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        return asdict(self.config), weights

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> Recurrent:
        """The model that `stored` wrote.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If shape and weights do not fit each other.
        """
        model = Recurrent(RecurrentConfig(**shape))
        model.load_state_dict(weights)
        return model


class _Lstm(torch.autograd.Function):
    """`recurrent_kernels.lstm` and its gradient as a torch operation (on the CPU)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, noise: Tensor | None, w: Tensor, out: Tensor, skip: Tensor, bias: Tensor,
        h: Tensor, c: Tensor, y_last: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        B, H, m = x.shape[0], out.shape[0], skip.shape[0]
        T = x.shape[1] - m + 1
        kept = T if any(ctx.needs_input_grad) else 1
        cells, z = np.empty((kept + 1, B, H), np.float32), np.zeros((kept + 1, B, len(w)), np.float32)
        gates, y = np.empty((kept, B, 4 * H), np.float32), np.empty((B, T), np.float32)
        cells[0], z[0, :, :H], z[0, :, H] = c.detach(), h.detach(), y_last.detach()[:, 0]
        extra = np.empty((B, 0), np.float32) if noise is None else _array(noise)
        weights = [_array(part) for part in (w, out, skip)]
        lstm(_array(x), extra, *weights, float(bias.detach()), cells, z, gates, y)
        ctx.run = weights, cells, z, gates
        last = T if kept == T else T % 2
        after = torch.from_numpy(z[last, :, :H].copy()), torch.from_numpy(cells[last].copy())
        ctx.mark_non_differentiable(*after)
        return torch.from_numpy(y), *after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _h: Tensor, _c: Tensor) -> Any:
        (w, out, skip), cells, z, gates = ctx.run
        T, B, _ = gates.shape
        H = len(out)
        sent = np.empty_like(gates)
        sums = [np.zeros(shape, np.float32) for shape in ((B, H), (B, len(skip)), (B,))]
        weights = np.ascontiguousarray(w[:H].T), np.ascontiguousarray(w[H]), out, skip
        lstm_backward(_array(grad), *weights, cells, z, gates, sent, *sums)
        rows = torch.from_numpy(z[:T].reshape(T * B, -1))
        g_w = rows.t() @ torch.from_numpy(sent.reshape(T * B, -1))
        g_out, g_skip, g_bias = (torch.from_numpy(part).sum(0) for part in sums)
        return None, None, g_w, g_out, g_skip, g_bias[None], None, None, None


def _array(tensor: Tensor) -> F32:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
