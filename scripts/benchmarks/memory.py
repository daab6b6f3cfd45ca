"""Peak memory of a call, in a process of its own.

On a CPU the largest resident set of the process during the steps, and what of it is above that
before the first one (so without torch, the modules and their weights); on a GPU the same of what
torch's allocator has handed out.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
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
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(send, steps, args))
    process.start()
    send.close()
    try:
        return Peak(*receive.recv())
    except EOFError:
        raise RuntimeError("The process whose memory was measured has failed; see above.") from None
    finally:
        process.join()


def _measure(
    send: Connection, steps: Callable[..., Callable[[], object]], args: tuple[object, ...]
) -> None:
    call = steps(*args)
    gc.collect()
    cuda = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    _reset(cuda)
    before = _now(cuda)
    for _ in range(STEPS):
        call()
    peak = _most(cuda)
    send.send((peak, peak - before))


def _reset(cuda: bool) -> None:
    """Forget the peak so far, where the system can."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _now(cuda: bool) -> float:
    if cuda:
        return torch.cuda.memory_allocated() / 1e6
    return _status("VmRSS") if sys.platform == "linux" else _most(cuda)


def _most(cuda: bool) -> float:
    if cuda:
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "linux":
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kilobytes) * 1024 / 1e6
