"""One layer of a WaveNet, and its exact gradient, as few passes over memory as there can be.

Sound lies as ``(channels, samples * batch)``, the batch innermost, so a tap ``lag`` samples back is the slice that
starts ``lag * batch`` columns earlier: a dilated convolution is one matrix product for each tap, on views. Gradients
are exact for the passage given; what came before it is constant (truncated backpropagation through time).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def layer(
    history: Tensor, z: Tensor, total: Tensor | None, conv: Tensor, bias: Tensor, mix: Tensor | None, read: Tensor,
    step: int, gated: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gate a dilated convolution; add what it says to the stream and to the output's sum.

    Parameters
    ----------
    history : Tensor [shape=(channels, (taps - 1) * step)]
        What came before; no gradient flows into it.
    z : Tensor [shape=(channels, columns)]
        The stream.
    total : Tensor [shape=(outputs, columns)] or None
        What the layers before added up for the output; None for nothing yet.
    conv : Tensor [shape=(taps, filters, channels)]
        Oldest tap first; filters are channels, or twice as many if gated (tanh, then sigmoid).
    bias : Tensor [shape=(filters,)]
    mix : Tensor [shape=(channels, channels)] or None
        From what it says to the stream; None for a last layer, whose stream is not needed.
    read : Tensor [shape=(outputs, channels)]
    step : int
        Columns from tap to tap: dilation times batch.
    gated : bool

    Returns
    -------
    z, total : Tensor
        With what this layer adds.
    joined : Tensor [shape=(channels, (taps - 1) * step + columns)]
        History and stream, for the history of the next passage; without gradient.
    """
    z, total, joined = _Layer.apply(history, z, total, conv, bias, mix, read, step, gated)  # type: ignore[no-untyped-call]
    return z, total, joined


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, history: Tensor, z: Tensor, total: Tensor | None, conv: Tensor, bias: Tensor, mix: Tensor | None,
        read: Tensor, step: int, gated: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        channels, columns = z.shape
        ctx.step, ctx.gated, ctx.first = step, gated, total is None
        joined = torch.cat([history, z], 1)
        f = torch.addmm(bias[:, None], conv[0], joined[:, :columns])
        for tap in range(1, len(conv)):
            f.addmm_(conv[tap], joined[:, tap * step : tap * step + columns])
        rest = torch.tanh(bias[:channels])
        curve = f[:channels].tanh_()
        if gated:
            rest = rest * torch.sigmoid(bias[channels:])
            said = torch.addcmul(-rest[:, None], curve, f[channels:].sigmoid_())
        else:
            said = curve - rest[:, None]
        z = z if mix is None else torch.addmm(z, mix, said)
        total = read @ said if total is None else torch.addmm(total, read, said)
        ctx.save_for_backward(joined, f, said, conv, bias, mix, read)
        ctx.mark_non_differentiable(joined)
        ctx.set_materialize_grads(False)
        return z, total, joined

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_total: Tensor, _joined: None) -> Any:
        joined, f, said, conv, bias, mix, read = ctx.saved_tensors
        channels, columns = said.shape
        taps, step = len(conv), ctx.step
        grad_read = grad_total @ said.t()
        grad_mix = None if mix is None or grad_z is None else grad_z @ said.t()
        grad_said = read.t() @ grad_total
        if mix is not None and grad_z is not None:
            grad_said.addmm_(mix.t(), grad_z)

        curve, curve_rest = f[:channels], torch.tanh(bias[:channels])
        grad_f, of_rest = torch.empty_like(f), -grad_said.sum(1)
        if ctx.gated:
            opened, open_rest = f[channels:], torch.sigmoid(bias[channels:])
            torch.mul(grad_said, opened, out=grad_f[:channels])
            torch.mul(grad_said, curve, out=grad_f[channels:])
            torch.ops.aten.sigmoid_backward.grad_input(grad_f[channels:], opened, grad_input=grad_f[channels:])
            through = torch.cat(
                [open_rest * (1 - curve_rest**2), curve_rest * open_rest * (1 - open_rest)]
            ) * of_rest.repeat(2)
        else:
            grad_f.copy_(grad_said)
            through = of_rest * (1 - curve_rest**2)
        torch.ops.aten.tanh_backward.grad_input(grad_f[:channels], curve, grad_input=grad_f[:channels])
        grad_bias = grad_f.sum(1) + through

        taken = [joined[:, tap * step : tap * step + columns] for tap in range(taps)]
        grad_conv = torch.stack([grad_f @ part.t() for part in taken])
        newest = conv[-1].t()
        grad_in = newest @ grad_f if grad_z is None else torch.addmm(grad_z, newest, grad_f)
        for tap in range(taps - 1):
            late = (taps - 1 - tap) * step
            if late < columns:
                grad_in[:, : columns - late].addmm_(conv[tap].t(), grad_f[:, late:])
        return None, grad_in, None if ctx.first else grad_total, grad_conv, grad_bias, grad_mix, grad_read, None, None
