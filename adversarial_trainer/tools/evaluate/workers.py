"""Scoring in several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from .scoring import FileScores, Scorer, Task

# Each process computes on one thread; numpy and the metrics' packages read these at their import.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def score_in_processes(scorer: Scorer, tasks: Iterable[Task], jobs: int) -> Iterator[FileScores]:
    """Yield the scores of all tasks, in their order, computed on the CPU by `jobs` processes.

    At most two tasks for each process wait at a time, as they hold audio.

    Raises:
        ChildProcessError: a process died.
    """
    before = set(multiprocessing.active_children())
    # Spawned and not forked, as torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(scorer,))
    os.environ.update(THREADS)  # without effect on this process, which has read them
    # A terminal sends Ctrl-C to all of its processes. The new ones inherit that they do not see it,
    # and are ended by this one.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for _ in range(jobs):  # each starts a process
        pool.submit(os.getpid)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    processes = set(multiprocessing.active_children()) - before
    pending: deque[tuple[str, Future[FileScores]]] = deque()

    def first() -> FileScores:
        scores = pending[0][1].result()
        pending.popleft()  # a failed one stays, for the message
        return scores

    try:
        for task in tasks:
            # Bytes, as multiprocessing moves tensors through shared memory, which containers have
            # little of.
            pending.append((task.path, pool.submit(_score, pickle.dumps(task))))
            if len(pending) == 2 * jobs:
                yield first()
        while pending:
            yield first()
    except BaseException as exc:
        for process in processes:
            process.kill()
        if not isinstance(exc, BrokenProcessPool):
            raise
        raise ChildProcessError(
            "A scoring process died (out of memory?) while working on one of "
            f"{', '.join(path for path, _ in pending)}. Try fewer --jobs, a --max-duration, or "
            "fewer metrics."
        ) from exc
    finally:
        pool.shutdown(cancel_futures=True)


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
