"""Scoring in several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType

import torch

from .scoring import FileScores, Scorer, Task

# Each process computes on one thread; numpy and the metrics' packages read these at their import.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Workers:
    """Processes that score files on the CPU, ended at the end of a `with` block.

    They are spawned and not forked, as torch's threads do not survive a fork.

    Args:
        scorer: what each of them calls.
        jobs: their number.
    """

    def __init__(self, scorer: Scorer, jobs: int) -> None:
        self.jobs = jobs
        before = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(scorer,))
        with _inherited():
            for _ in range(jobs):  # each starts a process
                self.executor.submit(os.getpid)
        self.processes = set(multiprocessing.active_children()) - before

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is not None:
            for process in self.processes:
                process.kill()
        self.executor.shutdown(cancel_futures=True)

    def __call__(self, tasks: Iterable[Task]) -> Iterator[FileScores]:
        """Yield the scores of all tasks, in the order in which they are ready.

        At most two tasks for each process wait at a time, as they hold audio.

        Raises:
            ChildProcessError: a process died.
        """
        pending: dict[Future[FileScores], str] = {}
        try:
            for task in tasks:
                # Bytes, as multiprocessing moves tensors through shared memory, which containers
                # have little of.
                pending[self.executor.submit(_score, pickle.dumps(task))] = task.path
                while len(pending) >= 2 * self.jobs:
                    yield from _finished(pending)
            while pending:
                yield from _finished(pending)
        except BrokenProcessPool as exc:
            paths = ", ".join(sorted(pending.values()))
            raise ChildProcessError(
                f"A scoring process died (out of memory?) while working on one of {paths}. Try "
                "fewer --jobs, a --max-duration, or fewer metrics."
            ) from exc


def _finished(pending: dict[Future[FileScores], str]) -> Iterator[FileScores]:
    """Wait for at least one task, and remove what is done; failed ones stay for the message."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        result = future.result()
        del pending[future]
        yield result


@contextmanager
def _inherited() -> Iterator[None]:
    """Let processes that start inside compute on one thread and ignore Ctrl-C, which a terminal
    sends to all of its processes: the first one ends the others."""
    before = {name: os.environ.get(name) for name in THREADS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_scorer: Scorer  # of a worker process


def _start(scorer: Scorer) -> None:
    """Set up a worker process, which ends with its parent, however that ends."""
    global _scorer
    _scorer = scorer
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score(task: bytes) -> FileScores:
    return _scorer(pickle.loads(task))
