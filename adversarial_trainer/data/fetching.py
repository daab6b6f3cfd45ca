"""Batches of segments for given keys, read here or in worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from .dataset import SegmentDataset, SegmentInfo

Keys = list[tuple[int, int]]  # (epoch, index)


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


class Fetcher:
    """Turns lists of dataset keys into batches, here or in workers that stay."""

    def __init__(self, dataset: SegmentDataset, num_workers: int, pin_memory: bool | None) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, got {num_workers}")
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._source = _KeySource()
        self._loader: DataLoader | None = None

    def fetch(self, keys: Iterator[Keys]) -> Iterator[Batch]:
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

    keys: Iterator[Keys] = iter(())

    def __iter__(self) -> Iterator[Keys]:
        return self.keys


def _collate(items: Sequence[tuple[torch.Tensor, SegmentInfo]]) -> Batch:
    return Batch(torch.stack([wav for wav, _ in items]), [info for _, info in items])


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


def _end_with_error(error: Exception, _: object) -> None:
    """What Python does instead is to drop the batch, for which the trainer then waits for ever."""
    print(f"loader: can't hand over a batch: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_with_error)  # type: ignore[attr-defined]
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


def _close_at_exit(fetcher: Fetcher) -> None:
    # Registered after multiprocessing's own hook, so it runs before that one.
    reference = weakref.ref(fetcher)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    atexit.register(close)
