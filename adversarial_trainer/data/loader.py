"""Batches of segments: one global order, of which each process takes its share."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, get_worker_info

from adversarial_trainer import distrib

from .dataset import SegmentDataset, SegmentInfo
from .decoding import SkipLog

Keys = list[tuple[int, int]]  # (epoch, index) of each item of a batch
# Signals to all processes of a job that are the trainer's.
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass
class Batch:
    """Segments `wav`, float32 `[B, C, T]`, and where each comes from."""

    wav: torch.Tensor
    infos: list[SegmentInfo]

    def __len__(self) -> int:
        return len(self.infos)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; the copy is asynchronous from pinned memory."""
        return Batch(self.wav.to(device, non_blocking=True), self.infos)

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; called by torch's DataLoader."""
        return Batch(self.wav.pin_memory(), self.infos)


class TrainBatches:
    """The training batches from a position on, epoch by epoch.

    Item j of update u is `dataset[epoch, u * batch_size + j]`, and process r of `world_size` gets
    the r-th contiguous part of an update's items: the global batch, in rank order, is the same for
    any number of processes and workers. If `batch_size` is not a multiple of `world_size`,
    processes get batches that differ by one item; all get `updates_per_epoch` batches.

    Iterating gives the batches from `position` to the end of its epoch. `position` is that of the
    next batch to be taken, whatever workers have read ahead: store it after an update is done, set
    it before iterating, and the run continues with the very next batch.

    Args:
        batch_size: over all processes; at least one item for each.
        num_workers: processes that read; 0 reads in this one. They stay between epochs.

    Attributes:
        skips: the files of batches taken so far, in this process, that could not be used.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        batch_size: int,
        updates_per_epoch: int,
        num_workers: int = 0,
    ) -> None:
        self.rank, self.world_size = _place(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.num_workers = num_workers
        self.position = (0, 0)
        self.skips = SkipLog()
        # The batches from `position` on, without end: workers read on across epochs.
        self._stream: Iterator[Batch] | None = None

    def __len__(self) -> int:
        """Number of batches in a whole epoch."""
        return self.updates_per_epoch

    def set_position(self, epoch: int, update: int = 0) -> None:
        """Set the next update (from 0) of `epoch`; one past the last is the next epoch."""
        if not 0 <= update <= self.updates_per_epoch:
            raise ValueError(f"update must be in [0, {self.updates_per_epoch}], got {update}")
        position = (epoch + 1, 0) if update == self.updates_per_epoch else (epoch, update)
        if position != self.position:
            self.close()  # workers have read ahead from elsewhere
        self.position = position

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.position[0]
        while self.position[0] == epoch:
            if self._stream is None:
                keys = self._keys(*self.position)
                self._stream = _started(_loader(self.dataset, keys, self.num_workers))
            stream, self._stream = self._stream, None  # dropped if reading fails
            batch = next(stream)
            for info in batch.infos:
                self.skips.add(info.skipped)
            # Before the batch is handed out: from here on it counts as taken.
            self.set_position(epoch, self.position[1] + 1)
            self._stream = stream
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._stream = None

    def _keys(self, epoch: int, update: int) -> Iterator[Keys]:
        while True:
            first = update * self.batch_size
            mine = range(
                first + self.batch_size * self.rank // self.world_size,
                first + self.batch_size * (self.rank + 1) // self.world_size,
            )
            yield [(epoch, index) for index in mine]
            update += 1
            if update == self.updates_per_epoch:
                epoch, update = epoch + 1, 0


class FixedBatches:
    """The same `total` segments each time: a validation set.

    The items `dataset[0, n]` are cut into batches of nearly equal size; process r gets the items r,
    r + world_size, ... of each. Every process gets the same number of batches, none of them empty,
    so that collectives inside the loop do not hang; batches may differ by one item between
    processes, so weight averages by `len(batch)`. Batches have at most `batch_size` items over all
    processes, or less than twice `world_size` where that is more.

    Raises ValueError if there are fewer segments than processes.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        total: int,
        batch_size: int,
        num_workers: int = 0,
    ) -> None:
        rank, world_size = _place(batch_size)
        if total < world_size:
            raise ValueError(f"{total} segments are too few for {world_size} processes")
        self.dataset = dataset
        self.num_workers = num_workers
        self.skips = SkipLog()
        count = min(-(-total // batch_size), total // world_size)
        bounds = [total * n // count for n in range(count + 1)]
        self._keys: list[Keys] = [
            [(0, index) for index in range(first + rank, end, world_size)]
            for first, end in itertools.pairwise(bounds)
        ]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Batch]:
        for batch in _started(_loader(self.dataset, self._keys, self.num_workers)):
            for info in batch.infos:
                self.skips.add(info.skipped)
            yield batch


def _loader(dataset: SegmentDataset, keys: Iterable[Keys], num_workers: int) -> DataLoader:
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # indexed by (epoch, index), so not a torch Dataset
        batch_sampler=keys,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_await_sigterm,
        # Its base seed would otherwise be drawn from the global generator.
        generator=torch.Generator(),
    )


def _started(loader: DataLoader) -> Iterator[Batch]:
    """Start the workers. They inherit a mask that leaves Ctrl-C and SLURM's signals, which go to
    all processes of a job, to the trainer: it may need more batches to finish its step."""
    job_signals = {*IGNORED, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, job_signals)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collate(items: Sequence[tuple[torch.Tensor, SegmentInfo]]) -> Batch:
    wav = torch.stack([wav for wav, _ in items])
    if get_worker_info() is not None:
        # Here, where no room is an error: a batch that a worker can not send never arrives.
        wav.share_memory_()
    return Batch(wav, [info for _, info in items])


def _place(batch_size: int) -> tuple[int, int]:
    """Return rank and number of processes; ValueError for a batch that is too small for them."""
    rank, world_size = distrib.rank(), distrib.world_size()
    if batch_size < world_size:
        raise ValueError(
            f"batch_size={batch_size} counts over all processes and must be at least their number, "
            f"{world_size}"
        )
    return rank, world_size


def _await_sigterm(worker: int) -> None:
    """Let a SIGTERM end this worker if its parent sent it."""

    def wait(parent: int) -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, args=(os.getppid(),), daemon=True).start()
