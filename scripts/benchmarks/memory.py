"""Peak memory of a call, in this process or in one of its own.

On a CPU the largest resident set of the process during the steps, and what of it is above that
before the first one (so without torch, the modules and their weights), as Linux counts it; on a GPU
the same of what torch's allocator has handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import multiprocessing

STEPS = 3  # the first one makes the optimizers' state


class Peak(NamedTuple):
    """In MB."""

    whole: float
    above_start: float


def peak_of(steps: Callable[..., Callable[[], object]], *args: object) -> Peak:
    """Peak memory of `STEPS` calls of what `steps(*args)` returns, in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, steps, *args).result()


def _measure(steps: Callable[..., Callable[[], object]], *args: object) -> Peak:
    return peak_here(steps(*args))


def peak_here(call: Callable[[], object]) -> Peak:
    """Peak memory of `STEPS` calls in this process."""
    cuda = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = torch.cuda.memory_allocated() / 1e6 if cuda else _resident("VmRSS")
    for _ in range(STEPS):
        call()
    peak = torch.cuda.max_memory_allocated() / 1e6 if cuda else _resident("VmHWM")
    return Peak(peak, peak - before)


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kilobytes) * 1024 / 1e6
