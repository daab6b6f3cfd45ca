"""Gradient penalties: they keep small how much logits change with the discriminators' input.

Without one a game need not come to rest where real and fake are alike, but may circle around it.
R1 is the penalty at real audio, R2 that at fake audio (Mescheder et al., arXiv 1801.04406); R3GAN
(arXiv 2501.05441) has both:

    weight / 2 * (mean of |grad D(real)|^2 + mean of |grad D(fake)|^2)

with the square summed over the samples and channels of an item, and the mean over items. D of an
item is one number there. Here it is many logits, each with a gradient of its own, and the mean is
over those too, as in the criteria: so a weight means the same for any length of the audio.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adversarial_trainer import distrib
from adversarial_trainer.modules.checks import check_sizes
from adversarial_trainer.modules.spectral import no_autocast

from .adversary import SubForward


class GradientPenalty:
    """R1, R2 or both.

    By double backward the gradient is that of the logits' sum with random signs, whose expected
    square is the sum of the squared gradients of the logits; with one logit an item the sign does
    not matter, and the penalty is exactly R1 or R2.

    By finite differences (as in stable-audio-tools' training/arc.py) it is the mean of
    (D(x + sigma noise) - D(x))^2 / sigma^2, which has the same expectation where D is linear at
    the scale of sigma, and takes no second derivative: less memory, and it can be compiled.
    stable-audio-tools sums over the logits and does not divide: its penalty of 1/2 (R1 + R2) with
    sigma .05 is here `weight` = .05^2 times the number of logits.

    Computed without autocast: a difference of bfloat16 logits has no digits left.

    Args:
        weight: Gamma, >= 0 (R3GAN: .05 to 150, by data set).
        every: Compute it at every n-th update only, then n times as large (StyleGAN2's lazy
            regularisation, arXiv 1912.04958), which costs less and is the same on average.
        sides: Where: `real` (R1), `fake` (R2), or both.
        sigma: Standard deviation of the noise of finite differences, in the audio's unit; 0 for
            the double backward.
    """

    def __init__(
        self,
        weight: float,
        every: int = 1,
        sides: Sequence[str] = ("real", "fake"),
        sigma: float = 0.0,
    ):
        for key, value in {"weight": weight, "sigma": sigma}.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{key} must be at least 0 and finite, got {value!r}.")
        check_sizes(every=every)
        if sorted(sides) not in (["fake"], ["fake", "real"], ["real"]):
            raise ValueError(f"sides must be [real] (R1), [fake] (R2) or both, got {sides!r}.")
        self.weight = weight
        self.every = every
        self.sides = sides
        self.sigma = sigma

    def __call__(
        self, sub: SubForward, fake: Tensor, real: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        """Return the penalties of a sub-discriminator's logits, with a graph to its weights.

        Args:
            sub: Function from audio [B, C, T] to (list of logits [B, ...], feature maps).
            fake, real: Audio [B, C, T].
            generator: CPU generator in the same state on all ranks. What is drawn for an item does
                not depend on how the batch is spread over ranks.
        """
        dtype = torch.promote_types(real.dtype, torch.float32)
        with no_autocast(real):
            audio = [{"fake": fake, "real": real}[side].to(dtype) for side in self.sides]
            sides = [self._at(sub, x, generator) for x in audio]
        scale = self.weight / 2 * self.every
        return [scale * torch.stack(terms).sum() for terms in zip(*sides, strict=True)]

    def _at(self, sub: SubForward, x: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Return the mean square of the gradients at `x` of each of the logits."""
        if self.sigma:  # in one pass, as each may change the state of spectral norm
            moved = x + self.sigma * _noise(x, generator)
            pairs = [logits.chunk(2) for logits in sub(torch.cat([x, moved]))[0]]
            return [_mean_square((moved - still) / self.sigma) for still, moved in pairs]
        x = x.detach().requires_grad_()
        return [_squared_gradient(logits, x, generator) for logits in sub(x)[0]]


def _squared_gradient(logits: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return the squared norm of the gradient of a random combination of an item's logits, by the
    number of logits."""
    signs = 2 * torch.randint(2, logits.shape[1:], generator=generator).to(logits) - 1
    (gradient,) = torch.autograd.grad((signs * logits).sum(), x, create_graph=True)
    return gradient.square().sum() / max(logits.numel(), 1)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().sum() / max(x.numel(), 1)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise shaped as `x` [B, ...].

    Each item of the batch of all ranks has a seed, and each rank draws its own items on its device.
    """
    own, total = distrib.share_of_rank(len(x), x.device)
    seeds = torch.randint(2**62, (total,), generator=generator)[own].tolist()
    noise = torch.empty_like(x)
    for item, seed in zip(noise, seeds, strict=True):
        item.normal_(generator=torch.Generator(x.device).manual_seed(seed))
    return noise
