"""Fused optimizers: equal steps, and state that both kinds load."""

from __future__ import annotations

import copy

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from solvers.builders import get_optimizer


def made(name: str, fused: bool, dtype: torch.dtype) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5).to(dtype)
    cfg = OmegaConf.create({"name": name, "lr": 1e-2, "betas": [0.5, 0.9], "fused": fused})
    return layer, get_optimizer(layer.parameters(), cfg)


def steps(layer: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for number in range(first, last):
        generator = torch.Generator().manual_seed(number)
        for p in layer.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize(
    "name, dtype, fused", [("adam", torch.float32, True), ("adamw", torch.float64, False)]
)
def test_continues_as_the_other_kind(name: str, dtype: torch.dtype, fused: bool) -> None:
    plain, optimizer = made(name, False, dtype)
    steps(plain, optimizer, 0, 6)

    first, before = made(name, fused, dtype)
    steps(first, before, 0, 3)
    ours, after = made(name, not fused, dtype)
    ours.load_state_dict(first.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert after.param_groups[0]["fused"] is not fused  # as configured, not as it was saved
    steps(ours, after, 3, 6)
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=rtol)
