"""Learning rates by hand and against torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

from adversarial_trainer.training import SCHEDULES, Schedule
from adversarial_trainer.training.optim import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseSchedule,
    LinearSchedule,
)

Make = Callable[[torch.optim.Optimizer], Schedule]


def optimizer(rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=rate)


def rates_of(make: Make, updates: int, base: float = 1.0) -> list[float]:
    """Return the rates at updates 0, 1, ..."""
    opt = optimizer(base)
    schedule = make(opt)
    out = []
    for _ in range(updates):
        out.append(opt.param_groups[0]["lr"])
        schedule.step()
    return out


def test_by_hand() -> None:
    assert rates_of(ConstantSchedule, 3, 0.5) == [0.5] * 3
    constant = rates_of(lambda o: ConstantSchedule(o, warmup_updates=3), 5)
    assert constant == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    expected = [1 / 3, 2 / 3 * 0.9, 0.9**2, 0.9**3, 0.9**4]
    exponential = rates_of(lambda o: ExponentialSchedule(o, gamma=0.9, warmup_updates=3), 5)
    assert exponential == pytest.approx(expected)
    # Half a cosine in four steps, then flat: 1, cos^2(pi/8), 1/2, sin^2(pi/8), 0.
    high, low = math.cos(math.pi / 8) ** 2, math.sin(math.pi / 8) ** 2
    cosine = rates_of(lambda o: CosineSchedule(o, total_updates=4), 7)
    assert cosine == pytest.approx([1, high, 0.5, low, 0, 0, 0])
    raised = rates_of(lambda o: CosineSchedule(o, total_updates=4, min_ratio=0.2), 7)
    assert raised == pytest.approx([0.2 + 0.8 * value for value in cosine])
    warm = rates_of(lambda o: CosineSchedule(o, total_updates=4, warmup_updates=2), 7)
    assert warm == pytest.approx([0.5, *cosine[1:]])
    linear = rates_of(lambda o: LinearSchedule(o, total_updates=6, warmup_updates=2), 8)
    assert linear == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0])
    # BigCodec's after its warm-up (common/schedulers.py): through (s1, 1e-4) and (s2, 1e-5).
    big = rates_of(lambda o: LinearSchedule(o, 60, 10, min_ratio=0.1), 70, 1e-4)
    line = [1e-4 + (1e-5 - 1e-4) * (step - 10) / 50 for step in range(10, 60)]
    assert big[10:] == pytest.approx([*line, *[1e-5] * 10])
    # InverseLR: half the rate at 3 inv_gamma with power .5; warm-up by itself at a large inv_gamma.
    inverse = rates_of(lambda o: InverseSchedule(o, inv_gamma=4, power=0.5), 13)
    assert [inverse[0], inverse[4], inverse[12]] == pytest.approx([1, 2**-0.5, 0.5])
    rising = rates_of(lambda o: InverseSchedule(o, inv_gamma=1e12, warmup=0.9), 3)
    assert rising == pytest.approx([0.1, 0.19, 0.271])


@pytest.mark.parametrize("name", ["cosine", "exponential"])
def test_against_torch(name: str) -> None:
    """Cosine up to its end, where torch's would rise again."""
    opt = optimizer(3e-4)
    if name == "cosine":
        reference: Any = CosineAnnealingLR(opt, T_max=20, eta_min=0.05 * 3e-4)
        ours = rates_of(lambda o: CosineSchedule(o, total_updates=20, min_ratio=0.05), 30, 3e-4)
        assert ours[21:] == [ours[20]] * 9
    else:
        reference = ExponentialLR(opt, gamma=0.97)
        ours = rates_of(lambda o: ExponentialSchedule(o, gamma=0.97), 30, 3e-4)
    for rate in ours[:21]:
        assert rate == pytest.approx(opt.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        opt.step()
        reference.step()


@pytest.mark.parametrize(
    "name, params, message",
    [
        ("constant", {"warmup_updates": -1}, "warmup_updates must be >= 0, got -1"),
        ("cosine", {"total_updates": 0}, "must be above warmup_updates, 0, got 0"),
        ("cosine", {"total_updates": 3, "min_ratio": 2}, r"min_ratio must be in \[0, 1\], got 2"),
        ("exponential", {"gamma": 1.5}, r"gamma must be in \(0, 1\], got 1.5"),
        ("linear", {"total_updates": 3, "warmup_updates": 3}, "above warmup_updates, 3, got 3"),
        ("linear", {"total_updates": 3, "min_ratio": -1}, r"min_ratio must be in \[0, 1\], got -1"),
        ("inverse", {"inv_gamma": 0}, "inv_gamma must be > 0, got 0"),
        ("inverse", {"inv_gamma": 1, "power": -1}, "power must be >= 0, got -1"),
        ("inverse", {"inv_gamma": 1, "warmup": 1}, r"warmup must be in \[0, 1\), got 1"),
    ],
)
def test_wrong_settings_are_named(name: str, params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEDULES.build(name, optimizer=optimizer(1.0), **params)
