"""The process group of a run, and what becomes of the other ranks when one of them fails.

A rank that raises leaves a line about it in the store of the process group and closes its
connections, so that the collectives of the others fail as well; they log that line and exit. A rank
that died or hangs leaves none, and is named for its silence. What else is left is ended by the
launcher (Dora, torchrun, srun) and, where only a collective waits, by the timeout of the process
group.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import socket
import sys
import threading
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
    if backend == "nccl":
        count = torch.cuda.device_count()
        if spec.local_rank >= count:
            raise StartError(
                f"Rank {spec.rank} ({_here()}) has no GPU of its own: local rank "
                f"{spec.local_rank}, {count} visible. Start fewer processes, or use device=cpu."
            )
        torch.cuda.set_device(spec.local_rank)
    faulthandler.enable()  # stacks where a signal like SIGSEGV or NCCL's SIGABRT ends the process
    store = _connect(spec.rank, spec.world_size)
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("default_pg", store),
        rank=spec.rank,
        world_size=spec.world_size,
        timeout=timedelta(seconds=hang_timeout),
    )
    logger.info("Rank %d of %d, on %s, with %s", spec.rank, spec.world_size, _here(), backend)
    try:
        yield
        distributed.barrier()
    except BaseException as exc:
        reason = _explain(store, spec.rank, spec.world_size, exc)
        if reason is None:
            raise
        logger.error("%s This process ends. (hang_timeout=%g)", reason, hang_timeout)
        logger.debug("In full:", exc_info=exc)
        sys.exit(STATUS)
    distributed.destroy_process_group()
    _leave(store, spec.rank, range(spec.world_size))


def _here() -> str:
    return f"{socket.gethostname()}, pid {os.getpid()}"


def _connect(rank: int, world_size: int) -> distributed.Store:
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
            f"Rank {rank} ({_here()}) cannot {what} {address}:{port}. If the same run goes on "
            "already, MASTER_PORT chooses another port."
        ) from exc
    store.set(f"who/{rank}", _here())
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


def _explain(
    store: distributed.Store, rank: int, world_size: int, exc: BaseException
) -> str | None:
    """Tell the other ranks of `exc`.

    Returns:
        Which of them have failed or are silent, if `exc` only follows from that; else None.
    """
    # Requests to a store whose process is stopped wait without a limit.
    last_resort = threading.Timer(6 * FAREWELL.total_seconds(), os._exit, [STATUS])
    last_resort.daemon = True
    last_resort.start()
    own = None if _is_echo(exc) else f"{type(exc).__name__}: {' '.join(str(exc).split())[:500]}"
    ranks = range(world_size)
    lines = []
    try:
        store.set(f"failed/{rank}", own or "")
        if own is not None and distributed.get_backend() == "gloo":
            distributed.destroy_process_group()  # so that the others wait for this rank no longer
        if not isinstance(exc, Exception):  # Ctrl-C: there is little time
            return None
        silent = _await(store, "failed", ranks, FAREWELL)
        if own is None:
            who = [store.get(f"who/{other}").decode() for other in ranks]
            lines = [
                f"Rank {other} ({who[other]}) failed: {line}."
                for other in ranks
                if other not in silent and (line := store.get(f"failed/{other}").decode())
            ]
            lines += [
                f"Rank {other} ({who[other]}) does not answer: it has died, hangs or is far behind."
                for other in silent
            ]
        _leave(store, rank, set(ranks) - set(silent))
    except distributed.DistError:
        if own is None:
            return "The process that holds the store (rank 0, or the launcher) has ended."
    finally:
        last_resort.cancel()
    return " ".join(lines) or None


def _is_echo(exc: BaseException) -> bool:
    """Whether `exc` is what a collective raises when another process has gone or is late."""
    if isinstance(exc, distributed.DistError):
        return True
    pattern = r"gloo|nccl|connection (closed|reset)|broken pipe"
    return isinstance(exc, RuntimeError) and bool(re.search(pattern, str(exc), re.IGNORECASE))
