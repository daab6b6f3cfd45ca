"""The adversarial game.

What makes it plain: four passes through all discriminators, D(fake) and D(real) for their own
update and again for the generator's losses; parameters are read-only in the latter; all graphs
live until their backward is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import flashy.utils
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from .losses import CRITERIA, FeatureMatching


class PlainAdversarialLoss(nn.Module):
    """Discriminators, their optimizer and the losses of both sides."""

    def __init__(
        self, adversary: nn.Module, optimizer: torch.optim.Optimizer, loss: str,
        matching: FeatureMatching, normalize: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.adversary = adversary
        self.optimizer = optimizer
        self.loss, self.loss_adversary = CRITERIA[loss]
        self.matching = matching
        self.normalize = normalize

    def train_adv(self, fake: Tensor, real: Tensor) -> Tensor:
        """One update of the discriminators; their loss."""
        on_fake, _ = self.adversary(fake.detach())
        on_real, _ = self.adversary(real.detach())
        loss = fake.new_zeros(())
        for of_fake, of_real in zip(on_fake, on_real, strict=True):
            loss = loss + self.loss_adversary(of_fake, of_real)
        if self.normalize:
            loss = loss / len(on_fake)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def forward(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's losses, adversarial and of features."""
        adv, feat = fake.new_zeros(()), fake.new_zeros(())
        with read_only(self.adversary):
            on_fake, maps_fake = self.adversary(fake)
            on_real, maps_real = self.adversary(real)
            for of_fake, of_real in zip(on_fake, on_real, strict=True):
                adv = adv + self.loss(of_fake, of_real)
            for of_fake, of_real in zip(maps_fake, maps_real, strict=True):
                feat = feat + self.matching(of_fake, of_real)
        count = len(on_fake) if self.normalize else 1
        return adv / count, feat / count


@contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient, and spectral norm stays as it is (in AudioCraft it does
    not, which would make the two steps different mathematics)."""
    normed = nn.ModuleList(child for child in module.modules() if isinstance(child, _SpectralNorm))
    with flashy.utils.readonly(module):
        normed.eval()
        yield
        normed.train()
