"""What training minimises: terms added up, for models trained by short blocks that follow on one another.

A block is shorter than what some terms need to see, so they are shown the samples before it as well. Those are past:
only the block itself has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxclone.audio import Audio
from fxclone.errors import UsageError
from fxclone_training.losses_terms import Passages, Term, make_term, mean_power
from fxclone_training.losses_text import LossText


class Past:
    """The samples before the block, predicted and target, of every stream.

    Parameters
    ----------
    target : Tensor [shape=(batch, context)]
        What came before the first block. Streams begin with a true past, so this is also what was predicted.
    """

    def __init__(self, target: Tensor) -> None:
        self.target = target
        self.predicted = target.clone()

    def restart(self, over: Tensor, target: Tensor) -> None:
        """Streams where ``over`` (batch,) is true begin anew, after ``target`` (batch, context; other rows unused)."""
        if self.target.shape[1]:
            self.target = torch.where(over[:, None], target, self.target)
            self.predicted = torch.where(over[:, None], target, self.predicted)

    def push(self, predicted: Tensor, target: Tensor) -> None:
        """The block (batch, samples) is past now."""
        context = self.target.shape[1]
        if context:
            self.predicted = torch.cat((self.predicted, predicted.detach()), 1)[:, -context:]
            self.target = torch.cat((self.target, target), 1)[:, -context:]


@dataclass(frozen=True)
class Judged:
    """A loss with its gradient."""

    value: float
    gradient: Tensor
    """(batch, samples): of the value, by each sample predicted."""
    terms: dict[str, float]
    """Each term by its name, before its weight."""


class Loss:
    """A weighted sum of terms.

    Parameters
    ----------
    text : LossText
    sample_rate : int
    wet : Audio [shape=(channels, samples)]
        The reference of the training sound: terms are scaled by it.

    Attributes
    ----------
    context_samples : int
        How many samples before a block the terms want to see; 0 for ``esr`` and ``mse``. Fewer will do: what is missing
        counts as silence in both sounds.
    least_block_samples : int
        Shorter blocks train badly.

    Raises
    ------
    UsageError
        If the wet sound is silent.
    """

    def __init__(self, text: LossText, sample_rate: int, wet: Audio) -> None:
        self.text = text
        self._mean_power = mean_power(wet)
        self._terms: list[tuple[str, float, Term]] = [
            (term.name, term.weight, make_term(term, sample_rate, wet)) for term in text.terms
        ]
        self.context_samples = max(term.context_samples for _, _, term in self._terms)
        self.least_block_samples = max(term.least_block_samples for _, _, term in self._terms)

    @classmethod
    def parse(cls, text: str, sample_rate: int, wet: Audio) -> Loss:
        """From text such as ``esr+0.01*mrstft``, see `LossText.parse`."""
        return cls(LossText.parse(text), sample_rate, wet)

    def __str__(self) -> str:
        return str(self.text)

    def __call__(self, predicted: Tensor, target: Tensor, weight: Tensor, past: Past | None = None) -> Tensor:
        """The weighted sum, a scalar with a gradient.

        Parameters
        ----------
        predicted, target : Tensor [shape=(batch, samples)]
            One block of each stream; channels count as streams.
        weight : Tensor [shape=(batch, 1)]
            One over the level (RMS) that errors of this stream are measured against, as `Streams` gives it.
        past : Past or None
            What came before; None for silence.
        """
        return self._sum(self.terms(predicted, target, weight, past))

    def terms(self, predicted: Tensor, target: Tensor, weight: Tensor, past: Past | None = None) -> dict[str, Tensor]:
        """Each term by its name, before its weight; see `__call__`."""
        _check(predicted, target, weight, past)
        none = predicted[:, :0].detach()
        before = (none, none) if past is None else (past.predicted, past.target)
        passages = Passages(predicted, target, weight, *before)
        return {name: term(passages) for name, _, term in self._terms}

    def value_and_grad(self, predicted: Tensor, target: Tensor, weight: Tensor, past: Past | None = None) -> Judged:
        """The weighted sum and its gradient, for models whose own gradients are compiled; see `__call__`.

        Plain squares take no detour through autograd.
        """
        if self.text.is_quadratic:
            return self._squares(predicted, target, weight, past)
        with torch.enable_grad():
            leaf = predicted.detach().requires_grad_()
            terms = self.terms(leaf, target, weight, past)
            total = self._sum(terms)
            (gradient,) = torch.autograd.grad(total, leaf)
        return Judged(total.item(), gradient, {name: term.item() for name, term in terms.items()})

    def _sum(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack([terms[name] * weight for name, weight, _ in self._terms]).sum()

    def _squares(self, predicted: Tensor, target: Tensor, weight: Tensor, past: Past | None) -> Judged:
        """Sums of squares: the gradient of mean(c e^2) is 2 c e / count."""
        _check(predicted, target, weight, past)
        error = predicted.detach() - target
        power = error.square().mean(1, keepdim=True)
        terms, factor = {}, torch.zeros_like(weight)
        for name, share, _ in self._terms:
            by = torch.full_like(weight, 1 / self._mean_power) if name == "mse" else weight.square()
            terms[name] = float((power * by).mean())
            factor = factor + share * by
        value = sum(terms[name] * share for name, share, _ in self._terms)
        return Judged(value, error * (factor * (2 / error.numel())), terms)


def _check(predicted: Tensor, target: Tensor, weight: Tensor, past: Past | None) -> None:
    """Shapes that would broadcast into nonsense."""
    batch = predicted.shape[:1]
    wrong = predicted.ndim != 2 or predicted.shape != target.shape or weight.shape != (*batch, 1)
    if wrong or (past is not None and past.target.shape[:1] != batch):
        raise UsageError(
            f"a loss of predicted {tuple(predicted.shape)}, target {tuple(target.shape)} and weight "
            f"{tuple(weight.shape)}; expected (batch, samples) twice, and (batch, 1)"
        )
