"""What the discriminators tell the generator: its losses, and their gradients at the fake audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class GeneratorTerms:
    """Losses of sub-discriminators, a 0-dim tensor each, and the logits they come from.

    `gradients` holds, once `take_gradients` has been called, the gradients of the sums of `adv`
    and of `feat` with respect to the fake audio.
    """

    adv: list[Tensor] = field(default_factory=list)
    feat: list[Tensor] = field(default_factory=list)
    on_fake: list[Tensor] = field(default_factory=list)
    on_real: list[Tensor] = field(default_factory=list)
    gradients: tuple[Tensor, Tensor] | None = None

    def take_gradients(self, fake: Tensor, retain_graph: bool = False) -> None:
        """Compute `gradients`; the losses then are without graph, which frees its activations."""
        adv, feat = sum(self.adv), sum(self.feat)
        of_adv = _gradient(adv, fake, retain_graph or bool(self.feat))
        self.gradients = of_adv, _gradient(feat, fake, retain_graph)
        self.adv = [loss.detach() for loss in self.adv]
        self.feat = [loss.detach() for loss in self.feat]
        self.on_fake = [logits.detach() for logits in self.on_fake]
        self.on_real = [logits.detach() for logits in self.on_real]

    def add(self, other: GeneratorTerms) -> None:
        """Those of further sub-discriminators, behind these."""
        self.adv += other.adv
        self.feat += other.feat
        self.on_fake += other.on_fake
        self.on_real += other.on_real
        if self.gradients is None or other.gradients is None:
            self.gradients = other.gradients
        else:
            ours, theirs = self.gradients, other.gradients
            self.gradients = ours[0] + theirs[0], ours[1] + theirs[1]


def _gradient(loss: Any, fake: Tensor, retain_graph: bool) -> Tensor:
    """Zeros where the loss does not depend on `fake`."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return torch.zeros_like(fake)
    (grad,) = torch.autograd.grad(loss, fake, retain_graph=retain_graph, allow_unused=True)
    return torch.zeros_like(fake) if grad is None else grad


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fake: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None, None


def carry(fake: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """`value` (0-dim), with the gradient with respect to `fake` that was computed before."""
    return _Carried.apply(fake, value, gradient)
