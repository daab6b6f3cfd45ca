"""Batches of segments: one global order, of which each process takes its share."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from .. import distrib
from .dataset import SegmentDataset, SegmentInfo

_Keys = list[tuple[int, int]]


@dataclass
class Batch:
    """Segments `wav`, float32 `[B, C, T]`, and where each comes from."""

    wav: torch.Tensor
    infos: list[SegmentInfo]

    def __len__(self) -> int:
        return len(self.infos)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its audio on `device`; the copy does not wait if memory is pinned."""
        return Batch(self.wav.to(device, non_blocking=True), self.infos)

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader."""
        return Batch(self.wav.pin_memory(), self.infos)


class TrainBatches:
    """The training batches from a position on, epoch by epoch.

    Item j of update u is `dataset[epoch, u * batch_size + j]`, and process r of `world_size` gets
    those with j = r, r + world_size, ...: the global batch is the same for any number of processes
    and workers. If `batch_size` is not a multiple of `world_size`, processes get batches that
    differ by one item; all get `updates_per_epoch` batches.

    Iterating gives the batches from `position` to the end of its epoch. `position` is that of the
    next batch to be taken, whatever workers have fetched ahead: store it after an update is done,
    set it before iterating, and the run goes on with the very next batch.

    Args:
        batch_size: over all processes; at least one item for each.
        num_workers: processes that read; 0 reads in this one. They stay between epochs.
        pin_memory: for copies to a GPU; by default where there is one.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        batch_size: int,
        updates_per_epoch: int,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        self.rank, self.world_size = _place(rank, world_size)
        _check_batch_size(batch_size, self.world_size)
        if updates_per_epoch < 1:
            raise ValueError(f"updates_per_epoch must be >= 1, got {updates_per_epoch}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.position = (0, 0)
        self._fetcher = _Fetcher(dataset, num_workers, pin_memory)
        # Batches of one endless sequence, so that the workers read on while an epoch is validated.
        self._stream: Iterator[Batch] | None = None
        self._stream_position = (0, 0)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.updates_per_epoch

    def set_position(self, epoch: int, update: int = 0) -> None:
        """Go on with update `update` (from 0) of `epoch`; one past the last is the next epoch."""
        if epoch < 0 or not 0 <= update <= self.updates_per_epoch:
            raise ValueError(
                f"no update {update} in epoch {epoch}: expected epoch >= 0 and "
                f"0 <= update <= {self.updates_per_epoch}"
            )
        self.position = (epoch + 1, 0) if update == self.updates_per_epoch else (epoch, update)

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"epoch": self.position[0], "update": self.position[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_position(state["epoch"], state["update"])

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.position[0]
        while self.position[0] == epoch:
            stream, self._stream = self._stream, None  # lost if reading fails
            if stream is None or self._stream_position != self.position:
                stream = self._fetcher.fetch(self._keys(*self.position))
            batch = next(stream)
            self._stream = stream
            # Before the batch is handed out: it is then the consumer's to count as done.
            self.set_position(epoch, self.position[1] + 1)
            self._stream_position = self.position
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._stream = None
        self._fetcher.close()

    def _keys(self, epoch: int, update: int) -> Iterator[_Keys]:
        while True:
            first = update * self.batch_size
            mine = range(first + self.rank, first + self.batch_size, self.world_size)
            yield [(epoch, index) for index in mine]
            update += 1
            if update == self.updates_per_epoch:
                epoch, update = epoch + 1, 0


class FixedBatches:
    """The same `len(dataset)` segments each time: a validation set.

    The items `dataset[0, n]` are cut into batches of nearly equal size; process r gets the items r,
    r + world_size, ... of each. Every process gets the same number of batches, none of them empty,
    so that collectives inside the loop do not hang; batches may differ by one item between
    processes, so weigh averages by `len(batch)`. Batches have at most `batch_size` items over all
    processes, or less than twice `world_size` where that is more.

    Raises ValueError if there are fewer segments than processes.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        batch_size: int,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        self.rank, self.world_size = _place(rank, world_size)
        _check_batch_size(batch_size, self.world_size)
        total = len(dataset)
        if total < self.world_size:
            raise ValueError(f"{total} segments are too few for {self.world_size} processes")
        self.dataset = dataset
        count = min(-(-total // batch_size), total // self.world_size)
        self._bounds = [total * n // count for n in range(count + 1)]
        self._fetcher = _Fetcher(dataset, num_workers, pin_memory)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Batch]:
        return self._fetcher.fetch(
            [(0, index) for index in range(first + self.rank, end, self.world_size)]
            for first, end in zip(self._bounds, self._bounds[1:], strict=False)
        )

    def close(self) -> None:
        """End the workers."""
        self._fetcher.close()


class _Fetcher:
    """Turns lists of dataset keys into batches, here or in workers that stay."""

    def __init__(self, dataset: SegmentDataset, num_workers: int, pin_memory: bool | None) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, got {num_workers}")
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._source = _KeySource()
        self._loader: DataLoader | None = None

    def fetch(self, keys: Iterator[_Keys]) -> Iterator[Batch]:
        """Batches for `keys`, read ahead of the consumer. A new call ends the one before."""
        if self._loader is None:
            self._loader = DataLoader(
                self.dataset,  # type: ignore[arg-type]  # read by key, so not a torch Dataset
                batch_sampler=self._source,
                num_workers=self.num_workers,
                collate_fn=_collate,
                pin_memory=self.pin_memory,
                persistent_workers=self.num_workers > 0,
                worker_init_fn=_start_worker,
                # Its base seed would otherwise be drawn from the global generator.
                generator=torch.Generator(),
            )
            _close_at_exit(self)
        self._source.keys = keys
        with _signals_blocked():
            batches = iter(self._loader)
        return self._report(batches)

    def _report(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self.num_workers > 0:
                for info in batch.infos:
                    self.dataset.skips.add(info.skipped)
            yield batch

    def close(self) -> None:
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()


class _KeySource:
    """A batch sampler whose next sequence can be exchanged between iterations."""

    keys: Iterator[_Keys] = iter(())

    def __iter__(self) -> Iterator[_Keys]:
        return self.keys


def _collate(items: Sequence[tuple[torch.Tensor, SegmentInfo]]) -> Batch:
    return Batch(torch.stack([wav for wav, _ in items]), [info for _, info in items])


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    rank = distrib.rank() if rank is None else rank
    world_size = distrib.world_size() if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
    return rank, world_size


def _check_batch_size(batch_size: int, world_size: int) -> None:
    if batch_size < world_size:
        raise ValueError(
            f"batch_size={batch_size} is the size over all processes and must be at least their "
            f"number, {world_size}"
        )


# Ctrl-C and SLURM's warnings go to every process of a job; the trainer decides what to do, and may
# need more batches to finish its step.
_JOB_SIGNALS = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name) and hasattr(signal, "pthread_sigmask")
}


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold signals back while workers are forked: they inherit that, and are never without it."""
    if not _JOB_SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _JOB_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)
    if _JOB_SIGNALS:
        signal.pthread_sigmask(signal.SIG_BLOCK, _JOB_SIGNALS)
        parent = multiprocessing.parent_process()
        pid = os.getppid() if parent is None else parent.pid
        threading.Thread(target=_obey_parent, args=(pid,), daemon=True).start()


def _obey_parent(parent: int) -> None:
    """End on SIGTERM from `parent`; one sent to the whole job is not for a worker."""
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if received is not None and received.si_pid == parent:
            os._exit(0)


def _close_at_exit(fetcher: _Fetcher) -> None:
    # Registered after multiprocessing's own hook, so it runs before that one.
    reference = weakref.ref(fetcher)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    atexit.register(close)
