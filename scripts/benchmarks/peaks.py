"""What the machine reaches at best: matrix products, convolutions, copies."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from .timing import seconds_on


class Peaks(NamedTuple):
    """Highest rates found, in GFLOP/s and GB/s."""

    matmul: float
    conv: float
    copy: float

    @property
    def compute(self) -> float:
        """The higher of the two rates of computing."""
        return max(self.matmul, self.conv)


def measure(device: str, dtype: torch.dtype, budget: float = 1.0) -> Peaks:
    """Peaks of `device`, with torch's number of threads.

    Args:
        budget: seconds, about, for each shape.
    """
    big = torch.device(device).type == "cuda"
    matmul = max(
        _matmul(size, device, dtype, budget) for size in ((4096, 8192) if big else (1024, 2048))
    )
    widths = (64, 256) if big else (32, 128)
    conv = max(
        _conv(width, layout, device, dtype, budget)
        for width in widths
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    return Peaks(matmul, conv, _copy(device, budget))


def _matmul(size: int, device: str, dtype: torch.dtype, budget: float) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device, budget) / 1e9


def _conv(
    width: int, layout: torch.memory_format, device: str, dtype: torch.dtype, budget: float
) -> float:
    """3 x 3, as many filters as channels, on 16 images of 64 x 64."""
    x = torch.randn(16, width, 64, 64, device=device, dtype=dtype).to(memory_format=layout)
    weight = torch.randn(width, width, 3, 3, device=device, dtype=dtype).to(memory_format=layout)
    work = 2 * x.numel() * width * 9
    return work / _seconds(lambda: F.conv2d(x, weight, padding=1), device, budget) / 1e9


def _copy(device: str, budget: float) -> float:
    """Reads and writes of a copy of 256 MB."""
    source = torch.zeros(64 << 20, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device, budget) / 1e9


@torch.no_grad()
def _seconds(call: Callable[[], object], device: str, budget: float) -> float:
    """Of the quicker half of the calls: others may use the machine."""
    timed = seconds_on(device)
    timed(call)
    first = timed(call)
    repeats = max(3, min(200, int(budget / max(first, 1e-6))))
    return statistics.quantiles([timed(call) for _ in range(repeats)], n=4)[0]
