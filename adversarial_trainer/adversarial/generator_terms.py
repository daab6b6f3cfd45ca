"""What the discriminators tell the generator: its losses, and their gradients at the fake audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adversarial_trainer.adversarial.discriminators.wanted import without_weights


@dataclass
class GeneratorTerms:
    """Losses of sub-discriminators, a 0-dim tensor each, and the logits they come from.

    `gradients` holds, once `take_gradients` has been called, the gradients of the sums of `adv`
    and of `feat` with respect to the fake audio, or only that of both sums times their factors.
    """

    adv: list[Tensor] = field(default_factory=list)
    feat: list[Tensor] = field(default_factory=list)
    on_fake: list[Tensor] = field(default_factory=list)
    on_real: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] | None = None

    def take_gradients(
        self,
        fake: Tensor,
        factors: tuple[Tensor, Tensor] | None = None,
        retain_graph: bool = False,
    ) -> None:
        """Compute `gradients`; the losses then are without graph, which frees its activations.

        Args:
            fake: the audio, a leaf.
            factors: of adv and feat, where those of the one gradient wanted are known.
        """
        adv, feat = sum(self.adv), sum(self.feat)
        if factors is None:
            of_adv = _gradient(adv, fake, retain_graph or bool(self.feat))
            self.gradients = [of_adv, _gradient(feat, fake, retain_graph)]
        else:
            total = factors[0] * adv + factors[1] * feat
            self.gradients = [_gradient(total, fake, retain_graph)]
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
            pairs = zip(self.gradients, other.gradients, strict=True)
            self.gradients = [ours + theirs for ours, theirs in pairs]


def _gradient(loss: Any, fake: Tensor, retain_graph: bool) -> Tensor:
    """Zeros where the loss does not depend on `fake`."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return torch.zeros_like(fake)
    with without_weights():
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


class _CarriedTogether(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, fake: Tensor, adv: Tensor, feat: Tensor, gradient: Tensor, factors: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gradient, factors)
        return adv.clone(), feat.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gradient, factors = ctx.saved_tensors
        # How many times the factors: 1, or what scales the sum.
        times = (torch.stack(grads) * factors).sum() / factors.square().sum().clamp_min(1e-30)
        return gradient * times.to(gradient.dtype), None, None, None, None


def carry_together(
    fake: Tensor,
    adv: Tensor,
    feat: Tensor,
    gradient: Tensor,
    factors: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """`adv` and `feat` (0-dim), such that `factors[0] * adv + factors[1] * feat`, or a multiple of
    that, has this gradient with respect to `fake`. Any other sum would have a wrong one."""
    values = (x.reshape(()) for x in (adv, feat))
    return _CarriedTogether.apply(fake, *values, gradient, torch.stack(factors))
