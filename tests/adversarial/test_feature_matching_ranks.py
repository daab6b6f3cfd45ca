"""Two processes with unequal shares of a batch equal one process with the whole of it."""

from __future__ import annotations

import torch
from ranks import run_ranks

from adversarial_trainer import distrib
from adversarial_trainer.adversarial import FeatureMatchingLoss

SHARES = (slice(0, 3), slice(3, 4))


def gradient(rank: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient and value of the whole batch's loss, from this rank's share (None: all of it)."""
    generator = torch.Generator().manual_seed(0)
    mine = slice(None) if rank is None else SHARES[rank]
    # Items of very different level: a mean of ratios is far from the ratio of means.
    levels = torch.tensor([1.0, 10.0, 0.1, 100.0], dtype=torch.float64)[:, None, None]
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    fake, real = [], []
    for size in (5, 9):
        maps = torch.randn(2, 4, 2, size, generator=generator, dtype=torch.float64) * levels
        fake.append(weight * maps[0][mine])
        real.append(maps[1][mine])
    loss = FeatureMatchingLoss(relative=True)(fake, real)
    loss.backward()
    distrib.average_gradients([weight], len(fake[0]))
    assert weight.grad is not None
    share = len(fake[0]) * torch.stack([loss.detach(), torch.ones_like(loss)])
    total, items = distrib.all_reduce(share)
    return weight.grad, total / items


def test_two_ranks_equal_one() -> None:
    """The relative loss divides by the mean magnitude over all ranks (cf. PITFALLS 6)."""
    alone = gradient(None)
    for parts in run_ranks(gradient):
        for part, whole in zip(parts, alone, strict=True):
            assert torch.allclose(part.double(), whole.double(), rtol=1e-6)
