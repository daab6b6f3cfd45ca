"""The process group of a run, and what becomes of the other ranks when one of them fails.

A rank that raises leaves a line about it in the store of the process group and closes its
connections, so that the collectives of the others fail as well; they log that line and exit. A rank
that died or hangs leaves none, and is named for its silence. A collective waits no longer than the
timeout of the process group; what else is left is ended by the launcher (Dora, torchrun, srun).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from dora.distrib import get_distrib_spec, set_distrib_env
from torch import distributed

logger = logging.getLogger(__name__)

# Exit status of a rank that ends because of another one.
STATUS = 3
# Importing torch in many processes at once, from a network file system, takes minutes.
START_TIMEOUT = timedelta(minutes=5)
# How long ranks wait for each other's word after an error, and rank 0 for the others at the end.
FAREWELL = timedelta(seconds=10)


class StartError(RuntimeError):
    """The processes of a run have not found one another."""


@contextmanager
def process_group(backend: str, hang_timeout: float) -> Iterator[None]:
    """Join the process group of the run; leave it when all ranks have come to the end.

    Ranks and address come from the launcher (Dora, torchrun, SLURM, or RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT in the environment).

    Args:
        backend: 'nccl' or 'gloo'; with the former, each rank takes the GPU of its local rank.
        hang_timeout: seconds that a rank waits for the others in a collective.

    Raises:
        StartError: some ranks did not come, which it names, or this one has no GPU.
        SystemExit: with `STATUS`, after an error that another rank has caused.
    """
    set_distrib_env()
    spec = get_distrib_spec()
    rank, world_size = spec.rank, spec.world_size
    here = f"{socket.gethostname()}, pid {os.getpid()}"
    if backend == "nccl":
        count = torch.cuda.device_count()
        if spec.local_rank >= count:
            raise StartError(
                f"Rank {rank} ({here}) has no GPU of its own: local rank {spec.local_rank}, "
                f"{count} visible. Start fewer processes, or use device=cpu."
            )
        torch.cuda.set_device(spec.local_rank)
    faulthandler.enable()  # stacks where a signal like SIGSEGV or NCCL's SIGABRT ends the process
    store = _connect(rank, world_size, here)
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("default_pg", store),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=hang_timeout),
    )
    logger.info("Rank %d of %d, on %s, with %s", rank, world_size, here, backend)
    try:
        yield
        distributed.barrier()
    except Exception as exc:
        reason = _find_reason(store, rank, world_size, exc)
        if not reason:
            raise
        logger.error("%s This process ends. (hang_timeout=%g)", reason, hang_timeout)
        logger.debug("In full:", exc_info=exc)
        sys.exit(STATUS)
    distributed.destroy_process_group()
    _leave(store, rank, range(world_size))


def _connect(rank: int, world_size: int, here: str) -> distributed.Store:
    """Return the store of all ranks, when all of them have come.

    `init_process_group` itself would tell how many ranks are missing, but not which.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun holds the store
    is_master = rank == 0 and not agent
    try:
        store = distributed.TCPStore(
            address, port, is_master=is_master, timeout=START_TIMEOUT, wait_for_workers=False
        )
    except distributed.DistNetworkError as exc:
        what = "listen on" if is_master else "reach rank 0 or the launcher at"
        raise StartError(
            f"Rank {rank} ({here}) cannot {what} {address}:{port}. If the same run goes on "
            "already, MASTER_PORT chooses another port."
        ) from exc
    store.set(f"who/{rank}", here)
    missing = _await(store, "who", range(world_size), START_TIMEOUT)
    if missing:
        raise StartError(
            f"Of {world_size} ranks, {', '.join(map(str, missing))} did not come within "
            f"{START_TIMEOUT.seconds} s. See their logs, or the launcher's."
        )
    return store


def _await(
    store: distributed.Store, key: str, ranks: Iterable[int], timeout: timedelta
) -> list[int]:
    """Wait until all of `ranks` have set `key`; returns those that have not."""
    end = time.monotonic() + timeout.total_seconds()
    while missing := [rank for rank in ranks if not store.check([f"{key}/{rank}"])]:
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return missing


def _leave(store: distributed.Store, rank: int, ranks: Iterable[int]) -> None:
    """Wait on rank 0, whose process may hold the store, until the other `ranks` need it no more."""
    store.set(f"left/{rank}", "")
    if rank == 0:
        _await(store, "left", ranks, FAREWELL)


def _find_reason(store: distributed.Store, rank: int, world_size: int, exc: Exception) -> str:
    """Tell the other ranks of `exc`, and return which of them it comes from; '' where it is this
    rank's own."""
    own = "" if _is_echo(exc) else f"{type(exc).__name__}: {' '.join(str(exc).split())[:500]}"
    lines = []
    try:
        store.set(f"failed/{rank}", own)
        if own and distributed.get_backend() == "gloo":
            distributed.destroy_process_group()  # so that the others wait for this rank no longer
        silent = _await(store, "failed", range(world_size), FAREWELL)
        for other in range(world_size):
            who = f"Rank {other} ({store.get(f'who/{other}').decode()})"
            if other in silent:
                lines.append(f"{who} does not answer: it has died, hangs or is far behind.")
            elif line := store.get(f"failed/{other}").decode():
                lines.append(f"{who} failed: {line}.")
        _leave(store, rank, set(range(world_size)) - set(silent))
    except distributed.DistError:
        lines = ["The process that holds the store (rank 0, or the launcher) has ended."]
    return "" if own else " ".join(lines)


def _is_echo(exc: Exception) -> bool:
    """Whether `exc` is what a collective raises when another process has gone or is late."""
    if isinstance(exc, distributed.DistError):
        return True
    pattern = r"gloo|nccl|connection (closed|reset)|broken pipe"
    return isinstance(exc, RuntimeError) and bool(re.search(pattern, str(exc), re.IGNORECASE))
