"""Family ``ar``: the autoregressive next-sample model, the heart of fxclone.

    y[n] = mlp(x[n], x[n-1], ..., x[n-m+1],  y[n-1], ..., y[n-m+1])  +  the same window times a linear skip

With `averages` and `envelopes` the window reaches further back: leaky averages of x and y, and of |x| and |y| with an
attack and a release, at time constants up to seconds, carried as state. They are the recursive form of a pyramid of
averages; a filter with poles near 1 or a compressor's gain is out of reach of taps alone. With `blocks` it is the
pyramid itself: a long window, seen through averages (`pyramid`).

It sees m inputs, **the newest included** (the row that predicts y[n] contains x[n]; a published notebook leaves it out
and predicts a sample ahead of its newest input), and m-1 of its own past outputs. Three ways to run the same weights:

- `Ar.teacher_forced`: past outputs come from the recording, with noise; parallel over time, two convolutions.
- `Ar.forward`: past outputs are its own; state in, state out; exact gradients through the run (`kernels`).
- `fxclone_training.ar_export`: the same as a streaming ONNX graph.
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
from fxclone_export.graph import StreamingGraph
from fxclone_training import kernels
from fxclone_training.ar_config import ArConfig
from fxclone_training.pyramid import block_averages, fold


@dataclass(frozen=True)
class ArState:
    """What an ``ar`` model remembers: the last inputs and its own last outputs, oldest first, and its slow values."""

    x: Tensor  # (batch, reach-1)
    y: Tensor  # (batch, past_reach)
    slow_x: Tensor  # (batch, slow)
    slow_y: Tensor  # (batch, slow)

    def detach(self) -> ArState:
        """The same values, cut from the graph."""
        return ArState(self.x.detach(), self.y.detach(), self.slow_x.detach(), self.slow_y.detach())


class Ar(nn.Module):
    """The autoregressive next-sample model. Windows lie newest first, column j weighs lag j; slow values follow."""

    def __init__(self, config: ArConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        m, K, H, L = config.seen_x, config.seen_y, config.width, config.layers
        self.rates, self.rates_y = config.rates(), config.rates_y()

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
        if not config.hears_taps:
            self.w_y.data[:, : config.taps_y] = 0
        self.hidden = normal(L - 1, H, H, scale=H**-0.5)  # (layer, unit in, unit out)
        self.b_hidden = normal(L - 1, H, scale=H**-0.5)
        self.b_out = nn.Parameter(torch.zeros(1))
        zeros_x, zeros_y = torch.zeros(m), torch.zeros(K)
        if config.skip:
            self.skip_x, self.skip_y = nn.Parameter(zeros_x), nn.Parameter(zeros_y)
        else:
            self.register_buffer("skip_x", zeros_x)
            self.register_buffer("skip_y", zeros_y)

    family, channels_in, channels_out = "ar", 1, 1

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
        """The window of inputs; leaky averages reach further."""
        return self.config.reach

    def fresh_state(self, batch: int) -> ArState:
        """Silence before the first sample."""
        zeros = self.b_out.new_zeros
        c = self.config
        return ArState(*(zeros(batch, size) for size in (c.reach - 1, c.past_reach, c.slow, c.slow_y)))

    def state_after(self, x: Tensor, y: Tensor, slow_x: Tensor, slow_y: Tensor) -> ArState:
        """What it remembers when it has heard ``x`` and said ``y`` (batch, at least so many samples)."""
        c = self.config
        return ArState(x[:, x.shape[1] - c.reach + 1 :], y[:, y.shape[1] - c.past_reach :], slow_x, slow_y)

    def forward(self, x: Tensor, state: ArState, noise: Tensor | None = None) -> tuple[Tensor, ArState]:
        """Run freely: past outputs are the model's own.

        Parameters
        ----------
        x : Tensor [shape=(batch, 1, samples)]
        state : ArState
        noise : Tensor [shape=(batch, samples)] or None
            Added to each output as the model hears it later, not to what it says.

        Returns
        -------
        y : Tensor [shape=(batch, 1, samples)]
        state : ArState
            Carried on. Gradients flow through the block, not into the state before it.
        """
        heard = torch.cat([state.x, x[:, 0]], 1)  # (B, reach-1+T)
        slow_x = self.slow_values(x[:, 0], state.slow_x)
        u, v = self.input_part(heard, slow_x)
        y, slow_y = self.run(u, v if noise is None else v + noise, state)
        said = torch.cat([state.y, y], 1)
        return (y if noise is None else y - noise)[:, None], self.state_after(heard, said, slow_x[:, -1], slow_y)

    def run(self, u: Tensor, v: Tensor, state: ArState) -> tuple[Tensor, Tensor]:
        """The recursion alone: u (B, T, H) and v (B, T) of `input_part` to y (B, T), and the slow values after."""
        w_y, skip_y = (fold(part, self.config.taps_y, self.config.past_blocks) for part in (self.w_y, self.skip_y))
        weights = (w_y, skip_y, self.hidden, self.b_hidden, self.out)
        y, slow_y = _FreeRun.apply(u, v, state.y, state.slow_y, *weights, self.config, self.rates_y)  # type: ignore[no-untyped-call]
        return y, slow_y

    def slow_values(self, signal: Tensor, before: Tensor) -> Tensor:
        """Averages and envelopes of inputs (B, T): (B, T+1, slow), the first row being ``before``. No gradients."""
        return _slow_values(signal, before, self.rates, len(self.config.averages))

    def teacher_forced(
        self, x: Tensor, y_noisy: Tensor, slow_x: Tensor | None = None, slow_y: Tensor | None = None
    ) -> Tensor:
        """Predict every sample from the recording.

        Parameters
        ----------
        x, y_noisy : Tensor [shape=(batch, 1, history + samples)]
            ``history = history_samples`` samples lead in; column n of both is the same moment.
        slow_x, slow_y : Tensor [shape=(batch, slow), (batch, slow_y)] or None
            Averages and envelopes up to the lead-in's end; None for zero.

        Returns
        -------
        Tensor [shape=(batch, 1, samples)]
            The prediction of y, for the samples after the lead-in.
        """
        K, history = self.config.taps_y, self.history_samples
        fresh = self.fresh_state(x.shape[0])
        slow_x = self.slow_values(x[:, 0, history:], fresh.slow_x if slow_x is None else slow_x)
        u, v = self.input_part(x[:, 0, history - self.config.reach + 1 :], slow_x)
        if self.config.seen_y > K:
            further = self.further_past(y_noisy[:, 0], fresh.slow_y if slow_y is None else slow_y)
            u, v = u + further @ self.w_y[:, K:].T, v + further @ self.skip_y[K:]
        if K:
            past = y_noisy[:, :, history - K : -1]
            weights = torch.cat([self.w_y[:, :K], self.skip_y[None, :K]]).flip(-1)[:, None]
            back = functional.conv1d(past, weights)  # (B, H+1, T)
            u, v = u + back[:, :-1].transpose(1, 2), v + back[:, -1]
        h = self.activate(u)
        for layer in range(self.config.layers - 1):
            h = self.activate(h @ self.hidden[layer] + self.b_hidden[layer])
        return (v + h @ self.out)[:, None]

    @torch.no_grad()
    def turn_feedback_down(self, share: float) -> None:
        """Hear its own past outputs only to this share; at 0 nothing can howl."""
        self.w_y.mul_(share)
        self.skip_y.mul_(share)

    @property
    def history_samples(self) -> int:
        """Lead-in that `teacher_forced` needs."""
        return max(self.config.reach - 1, self.config.past_reach)

    def further_input(self, heard: Tensor, slow: Tensor) -> Tensor:
        """What it sees of the input beside taps: (B, reach-1+T) and slow values (B, T+1, slow) -> (B, T, ...).

        Blocks and averages up to x[n], envelopes up to x[n-1].
        """
        if self.config.blocks:
            return block_averages(heard, self.config.m, self.config.blocks)
        averages = len(self.config.averages)
        return torch.cat([slow[:, 1:, :averages], slow[:, :-1, averages:]], -1)

    def further_past(self, heard: Tensor, before: Tensor) -> Tensor:
        """What it sees of past outputs beside taps: (B, history + T) -> (B, T, ...).

        Blocks and averages up to y[n-1], envelopes up to y[n-3]; ``before`` holds slow values at the lead-in's end.
        """
        if self.config.past_blocks:
            past = heard[:, self.history_samples - self.config.past_reach : -1]
            return block_averages(past, self.config.taps_y, self.config.past_blocks)
        return self._slow_track(heard, before)[:, :-1]

    def slow_values_of_past(self, heard: Tensor, before: Tensor) -> Tensor:
        """Slow values after past outputs (B, history + T): (B, slow_y); ``before`` holds those at the lead-in's end."""
        return self._slow_track(heard, before)[:, -1]

    def _slow_track(self, heard: Tensor, before: Tensor) -> Tensor:
        averages = len(self.config.averages_y)
        values = _slow_values(heard[:, self.history_samples :], before, self.rates_y, averages)
        if self.config.envelopes:
            late = heard[:, self.history_samples - kernels.ENVELOPES_LATE : -kernels.ENVELOPES_LATE]
            later = _slow_values(late, before, self.rates_y, averages)
            values = torch.cat([values[..., :averages], later[..., averages:]], -1)
        return values

    def input_part(self, heard: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
        """All that depends on the input alone: (B, reach-1+T), slow values (B, T+1, slow) -> u (B, T, H), v (B, T)."""
        m = self.config.m
        weights = torch.cat([self.w_x[:, :m], self.skip_x[None, :m]]).flip(-1)[:, None]
        part = functional.conv1d(heard[:, None, self.config.reach - m :], weights)  # (B, H+1, T)
        u, v = part[:, :-1].transpose(1, 2) + self.b_in, part[:, -1] + self.b_out
        if self.config.seen_x > m:
            further = self.further_input(heard, slow)
            u, v = u + further @ self.w_x[:, m:].T, v + further @ self.skip_x[m:]
        return u, v

    def activate(self, a: Tensor) -> Tensor:
        """Apply the activation function of the hidden layers."""
        return {"tanh": torch.tanh, "relu": torch.relu, "gelu": functional.gelu}[self.config.activation](a)

    # What every family can do (`fxclone_training.family.Model`). Imports within: those modules need this one.

    @torch.no_grad()
    def run_freely(self, dry: Audio) -> Audio:
        """Run on its own outputs over ``(1, samples)`` from a fresh state."""
        y, _ = self(torch.tensor(dry, device=self.b_out.device)[None], self.fresh_state(1))
        out: Audio = y[0].cpu().numpy()
        return out

    def is_sturdy(self, dry: Audio) -> bool:
        """Whether rounding errors die away in the feedback, see `fxclone_training.certificate.is_sturdy`."""
        from fxclone_training.certificate import is_sturdy

        return is_sturdy(self, dry)

    def copy(self) -> Ar:
        """An independent copy, on the CPU."""
        other = Ar(self.config)
        other.load_state_dict({name: value.detach().clone() for name, value in self.state_dict().items()})
        return other

    def graphs(self, loudest: float) -> Iterator[onnx.ModelProto]:
        """The folded form if there is one, then the general one, which rounds a little less."""
        from fxclone_training.ar_export import export_ar

        if self.folds:
            yield export_ar(self, loudest=loudest)
        yield export_ar(self, loudest=loudest, fold=False)

    @property
    def folds(self) -> bool:
        """Whether it has a cheaper form that rounds a little more."""
        from fxclone_training.ar_export import folds

        return folds(self)

    def add_to(self, graph: StreamingGraph, signal: str, *, loudest: float, fold: bool, prefix: str) -> str:
        """Run ``signal`` (1, T) through it inside a graph, see `fxclone_training.ar_export.add_ar`."""
        from fxclone_training.ar_export import add_ar

        return add_ar(graph, self, signal, loudest=loudest, fold=fold, prefix=prefix)

    def certify(self, dry: Audio, sample_rate: int) -> dict[str, Any]:
        """See `fxclone_training.certificate.certify`."""
        from fxclone_training.certificate import certify

        return certify(self, dry, sample_rate)

    def facts(self) -> dict[str, Any]:
        """Its shape, JSON-safe."""
        return asdict(self.config) | {"past_outputs": self.config.taps_y}

    def describe(self) -> str:
        """Its shape in a few words."""
        c = self.config
        of_x, of_y = len(c.averages), len(c.averages_y)
        slow = f", {of_x} averages" if of_x == of_y else f", {of_x} + {of_y} averages"
        slow = slow * bool(of_x or of_y) + f", {len(c.envelopes)} envelopes" * bool(c.envelopes)
        inputs = f"{c.reach} inputs in {c.seen_x} taps and blocks" if c.blocks else f"{c.m} inputs"
        heard = c.taps_y if c.hears_taps else 0
        past = f"{c.past_reach} past outputs in {c.seen_y}" if c.past_blocks else f"{heard} past outputs"
        return f"{inputs}, {past}{slow}, {c.layers} x {c.width} {c.activation}"

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and weights, for the run folder."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        return asdict(self.config), weights

    @staticmethod
    def restored(shape: dict[str, Any], weights: dict[str, Tensor]) -> Ar:
        """The model that `stored` wrote.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If shape and weights do not fit each other.
        """
        known = {name: tuple(shape.get(name, ())) for name in ("averages", "envelopes", "blocks", "past_blocks")}
        if shape.get("past_averages") is not None:
            known["past_averages"] = tuple(shape["past_averages"])
        model = Ar(ArConfig(**(shape | known)))
        model.load_state_dict(weights)
        return model


class _FreeRun(torch.autograd.Function):
    """`kernels.free_run` and its gradient as a torch operation (on the CPU)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, v: Tensor, past: Tensor, slow: Tensor, w_y: Tensor, skip: Tensor, hidden: Tensor,
        bias: Tensor, out: Tensor, config: ArConfig, rates: kernels.F32,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        B, T, H = u.shape
        code, averages = kernels.ACTIVATIONS[config.activation], len(config.averages_y)
        keep = any(ctx.needs_input_grad)
        weights = [_array(t) for t in (w_y.t(), skip, hidden, bias, out)]
        pre = np.empty((B, T if keep else 1, hidden.shape[0] + 1, H), np.float32)
        post = np.empty_like(pre)
        track = np.empty((B, T + 1, config.slow_y), np.float32)
        track[:, 0] = slow.detach().cpu().numpy()
        before = _array(past.flip(-1))
        y = kernels.free_run(_array(u), _array(v), before, track, rates, averages, *weights, code, pre, post)
        ctx.saved = (y, before, track, rates, averages, *weights), code, pre, post
        after = torch.from_numpy(track[:, -1].copy()).to(u.device)
        ctx.mark_non_differentiable(after)
        return torch.from_numpy(y).to(u.device), after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _after: Tensor) -> Any:
        run, code, pre, post = ctx.saved
        weights = run[5:]  # fb, skip, hidden, bias, out
        sums = [np.zeros((len(run[0]), *array.shape), np.float32) for array in weights]
        gu, gv = kernels.free_run_backward(_array(grad), *run, code, pre, post, *sums)
        fb, skip, hidden, bias, out = (torch.from_numpy(total.sum(0)).to(grad.device) for total in sums)
        back = torch.from_numpy
        inputs = back(gu).to(grad.device), back(gv).to(grad.device), None, None
        return *inputs, fb.t(), skip, hidden, bias, out, None, None


def _slow_values(signal: Tensor, before: Tensor, rates: kernels.F32, averages: int) -> Tensor:
    """(B, T) and (B, slow) to (B, T+1, slow)."""
    if len(rates) == 0:
        return signal.new_zeros(signal.shape[0], signal.shape[1] + 1, 0)
    out = kernels.leaky(_array(signal), _array(before), rates, averages)
    return torch.from_numpy(out).to(signal.device)


def _array(tensor: Tensor) -> kernels.F32:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
