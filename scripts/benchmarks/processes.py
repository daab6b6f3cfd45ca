"""The same function on several processes of one group, as `dora run -d` would have it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import multiprocessing

from adversarial_trainer.distrib import collectives


def on_ranks(worker: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """What `worker(*args)` returns on each rank."""
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        multiprocessing.spawn(_main, (worker, world_size, folder, args), nprocs=world_size)
        return [torch.load(f"{folder}/{r}.pt", weights_only=True) for r in range(world_size)]


def _main(rank: int, worker: Callable[..., Any], size: int, folder: str, args: Any) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    backend = "gloo"
    if torch.cuda.device_count() >= size:
        backend = "nccl"
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        backend, init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    torch.save(worker(*args), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@contextmanager
def independent() -> Iterator[None]:
    """Inside, each process takes itself for the only one: the same work without messages."""
    with mock.patch.object(collectives, "world_size", lambda: 1):
        yield


def together(call: Callable[[], object]) -> float:
    """Seconds until all ranks are through with `call`, all having started at once."""
    torch.distributed.barrier()
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    torch.distributed.barrier()
    return time.perf_counter() - begin
