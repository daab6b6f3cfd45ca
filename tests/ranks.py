"""Several processes in a gloo group, for tests of what ranks do together."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from adversarial_trainer import distrib

# Ranks are forked from a server that has imported the slow packages and has run nothing: with a GPU
# torch does not survive a fork after a backward.
_context = multiprocessing.get_context("forkserver")
_packages = [f"adversarial_trainer.{name}" for name in ("adversarial", "data", "losses", "models")]
_context.set_forkserver_preload(["ranks", "micro", "pytest", "torch._dynamo", *_packages])


def run_ranks(
    worker: Callable[..., Any], *args: Any, world_size: int = 2, limit: float = 120
) -> list[Any]:
    """Return the results of `worker(rank, *args)` on `world_size` processes of one group.

    Args:
        worker: a function at the top of its test file.
        args: anything that `torch.save` takes, as are results.
        limit: in seconds.

    Raises:
        AssertionError: with the output of the rank that failed first; the others are killed.
    """
    with _started(_main, worker, args, world_size) as (processes, folder):
        _wait(processes, folder, limit)
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def kill_ranks(
    worker: Callable[..., Any], *args: Any, world_size: int, moment: Callable[[], bool]
) -> bool:
    """As `run_ranks`, with SIGKILL for all as soon as `moment()`; False if they had all ended."""
    with _started(_main, worker, args, world_size) as (processes, folder):
        while not moment():
            if all(process.exitcode == 0 for process in processes):
                return False
            if any(process.exitcode for process in processes):
                _wait(processes, folder, 0)  # raises
        return True


def launch(
    worker: Callable[[int], Any], world_size: int, limit: float = 60
) -> tuple[list[int | None], list[str]]:
    """Run `worker(rank)` in processes with a launcher's environment variables and no process group;
    return their exit statuses and logs."""
    with _started(_launched, worker, free_port(), world_size) as (processes, folder):
        end = time.monotonic() + limit
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        logs = [(folder / f"{rank}.log").read_text() for rank in range(world_size)]
        statuses = [process.exitcode for process in processes]
        assert None not in statuses, "\n".join(logs)
        return statuses, logs


@contextmanager
def _started(
    target: Callable[..., None], worker: Callable[..., Any], args: Any, world_size: int
) -> Iterator[tuple[list[BaseProcess], Path]]:
    """Yield the ranks' processes and the folder of their results; kill them at the end."""
    with tempfile.TemporaryDirectory(prefix="ranks_") as name:
        folder = Path(name)
        torch.save(args, folder / "args.pt")
        where = (worker.__code__.co_filename, worker.__name__, world_size, folder)
        processes: list[BaseProcess] = [
            _context.Process(target=target, args=(rank, *where), daemon=True)
            for rank in range(world_size)
        ]
        try:
            for process in processes:
                process.start()
            yield processes, folder
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()


def _wait(processes: Sequence[BaseProcess], folder: Path, limit: float) -> None:
    end = time.monotonic() + limit
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            break
        if time.monotonic() > end:
            raise AssertionError(f"The ranks have not finished after {limit:g} s.")
        time.sleep(0.01)
    for rank, process in enumerate(processes):
        if process.exitcode:
            log = (folder / f"{rank}.log").read_text(errors="replace")
            raise AssertionError(f"Rank {rank} failed:\n{log[-4000:]}")


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _main(rank: int, file: str, function: str, world_size: int, folder: Path) -> None:
    """One rank of a group."""
    worker, args = _load(rank, file, function, folder)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    result = worker(rank, *args)
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def _launched(rank: int, file: str, function: str, world_size: int, folder: Path) -> None:
    worker, port = _load(rank, file, function, folder)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    worker(rank)


def _load(rank: int, file: str, function: str, folder: Path) -> tuple[Callable[..., Any], Any]:
    """Return a function of a test file, which is in no package, and its arguments; redirect output
    into a log."""
    log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("rank_module", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"Can't import {file}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["rank_module"] = module
    spec.loader.exec_module(module)
    return getattr(module, function), torch.load(folder / "args.pt", weights_only=False)


@contextmanager
def as_rank(rank: int, world_size: int) -> Iterator[None]:
    """What is made inside takes this process for one of several, which need not be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distrib, "rank", lambda: rank)
        patch.setattr(distrib, "world_size", lambda: world_size)
        yield
