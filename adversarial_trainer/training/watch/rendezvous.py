"""How the processes of a run find one another."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from dora.distrib import get_distrib_spec, set_distrib_env
from torch import distributed

from . import exchange
from .judging import Record
from .process import Process
from .watcher import Watch

logger = logging.getLogger(__name__)

# In seconds. Processes start at different times: importing torch in many of them at once, from a
# network file system, takes minutes.
START_LIMIT = 300.0
# The watch knows who is at fault long before; and a rank that scans a large folder, with progress,
# while the others wait for it, is not at fault at all.
BACKEND_LIMIT = timedelta(days=1)


class StartError(RuntimeError):
    """The processes of a run have not found one another."""


def join(backend: str, hang_timeout: float, log: Path) -> Watch:
    """Make the process group of all ranks, and begin to watch over them.

    Who they are comes from the launcher (Dora, torchrun, SLURM, or RANK, WORLD_SIZE, MASTER_ADDR
    and MASTER_PORT in the environment).

    Args:
        backend: 'nccl' or 'gloo'; with the former, each rank takes the GPU of its local rank.
        hang_timeout: as for `Watch`.
        log: this process's log file, to be named to the others.

    Raises:
        StartError: some ranks have not come within `START_LIMIT`; it names them.
    """
    set_distrib_env()
    spec = get_distrib_spec()
    if backend == "nccl":
        count = torch.cuda.device_count()
        if spec.local_rank >= count:
            raise StartError(
                f"Rank {spec.rank} ({Process.own()}) has no GPU of its own: local rank "
                f"{spec.local_rank}, {count} visible. Start fewer processes, or use device=cpu."
            )
        torch.cuda.set_device(spec.local_rank)
    record = Record(Process.own(), str(log))
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun holds the store
    holder = None if agent else 0
    store = _connect(spec.rank, holder)
    exchange.register(store, spec.rank, record)
    records = _await_all(store, spec.world_size)
    # A connection of its own: one on which the main thread waits is locked.
    own = _connect(None, holder)
    watch = Watch(own, spec.rank, records, hang_timeout, holder)
    watch.start()
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("default_pg", store),
        rank=spec.rank,
        world_size=spec.world_size,
        timeout=BACKEND_LIMIT,
    )
    logger.info(
        "Rank %d of %d (local rank %d), on %s, with %s",
        *(spec.rank, spec.world_size, spec.local_rank, record.process, backend),
    )
    return watch


def _connect(rank: int | None, holder: int | None) -> distributed.TCPStore:
    """The store, of which the process is made where `rank` is `holder`.

    Not `torch.distributed.rendezvous`: it waits for all in a way that cannot tell who is missing.

    Args:
        holder: the rank that holds the store; None where the launcher does.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    holds = rank is not None and rank == holder
    limit = timedelta(seconds=START_LIMIT)
    try:
        return distributed.TCPStore(
            address, port, is_master=holds, timeout=limit, wait_for_workers=False
        )
    except distributed.DistNetworkError as exc:
        if holds:
            raise StartError(
                f"Rank {rank} ({Process.own()}) cannot listen on port {port}, where the others "
                "look for it: does the same run go on already? MASTER_PORT chooses another."
            ) from exc
        who = "The launcher" if holder is None else f"Rank {holder}"
        raise StartError(f"{who} was not found at {address}:{port} for {limit.seconds} s.") from exc


def _await_all(store: distributed.Store, world_size: int) -> list[Record]:
    """The first records of all ranks."""
    ranks = range(world_size)
    try:
        store.wait([exchange.key(rank) for rank in ranks], timedelta(seconds=START_LIMIT))
    except distributed.DistStoreError as exc:
        records = [exchange.read(store, rank) for rank in ranks]
        missing = [str(rank) for rank in ranks if records[rank] is None]
        raise StartError(
            f"Of {world_size} ranks, {', '.join(missing)} did not come within {START_LIMIT:g} s. "
            "See their logs, or the launcher's."
        ) from exc
    return [exchange.load(store.get(exchange.key(rank))) for rank in ranks]
