"""The process group of a run, and what becomes of the other ranks when one of them fails.

A rank that raises leaves a line about it in the store of the process group and closes its
connections, so that the collectives of the others fail as well; they log that line and exit. A rank
that died or hangs leaves none, and is named for its silence. In an update, ranks wait for each
other no longer than the timeout of the process group; between stages, as long as all of them live.
What else is left is ended by the launcher (Dora, torchrun, srun).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
from dora.distrib import get_distrib_spec, set_distrib_env
from torch import distributed

from adversarial_trainer import distrib

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
        hang_timeout: seconds that a rank waits for the others in an update.

    Raises:
        StartError: not all ranks came, or this one has no GPU.
        SystemExit: with `STATUS`, after an error that another rank has caused.
    """
    set_distrib_env()
    rank, world_size, local_rank, *_ = get_distrib_spec()
    here = f"{socket.gethostname()}, pid {os.getpid()}"
    if backend == "nccl":
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise StartError(
                f"Rank {rank} ({here}) has no GPU of its own: local rank {local_rank}, "
                f"{count} visible. Start fewer processes, or use device=cpu."
            )
        torch.cuda.set_device(local_rank)
    faulthandler.enable()  # stacks where a signal like SIGSEGV or NCCL's SIGABRT ends the process
    try:
        store, *_ = next(distributed.rendezvous("env://", timeout=START_TIMEOUT))
    except distributed.DistError as exc:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise StartError(
            f"Rank {rank} of {world_size} ({here}) has not met all others at {where} within "
            f"{START_TIMEOUT.seconds} s: {_first_line(exc)} See their logs, or the launcher's. If "
            "the same run goes on already, MASTER_PORT chooses another port."
        ) from exc
    store.set(f"who/{rank}", here)
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
        distrib.barrier()
    except Exception as exc:
        reason = _find_reason(store, rank, world_size, exc)
        if not reason:
            raise
        logger.error("%s This process ends. (hang_timeout=%g)", reason, hang_timeout)
        logger.debug("In full:", exc_info=exc)
        sys.exit(STATUS)
    distributed.destroy_process_group()
    _gather(store, "left", rank, world_size)


def _gather(
    store: distributed.Store, key: str, rank: int, world_size: int, value: str = ""
) -> dict[int, str]:
    """Set `value` under this rank's `key`; return those of the ranks that set it within FAREWELL.

    Only rank 0, whose process may hold the store, waits for "left".
    """
    store.set(f"{key}/{rank}", value)
    if key == "left" and rank > 0:
        return {}
    with suppress(distributed.DistStoreError):  # not all of them
        store.wait([f"{key}/{other}" for other in range(world_size)], FAREWELL)
    there = [other for other in range(world_size) if store.check([f"{key}/{other}"])]
    return {other: store.get(f"{key}/{other}").decode() for other in there}


def _find_reason(store: distributed.Store, rank: int, world_size: int, exc: Exception) -> str:
    """Tell the other ranks of `exc`, and return which of them it comes from; '' where it is this
    rank's own."""
    own = "" if _is_echo(exc) else f"{type(exc).__name__}: {_first_line(exc)}"
    lines = []
    try:
        if own and distributed.get_backend() == "gloo":
            distributed.destroy_process_group()  # so that the others wait for this rank no longer
        failed = _gather(store, "failed", rank, world_size, own)
        for other in range(world_size):
            who = f"Rank {other} ({store.get(f'who/{other}').decode()})"
            if other not in failed:
                lines.append(f"{who} does not answer: it has died, hangs or is far behind.")
            elif failed[other]:
                lines.append(f"{who} failed: {failed[other]}.")
        _gather(store, "left", rank, world_size)
    except distributed.DistError:
        lines = ["The process that holds the store (rank 0, or the launcher) has ended."]
    return "" if own else " ".join(lines)


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:500]


def _is_echo(exc: Exception) -> bool:
    """Whether `exc` is what a collective raises when another process has gone or is late."""
    if isinstance(exc, distributed.DistError):
        return True
    pattern = r"gloo|nccl|connection (closed|reset)|broken pipe"
    return isinstance(exc, RuntimeError) and bool(re.search(pattern, str(exc), re.IGNORECASE))
