"""Scoring in other processes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch

from .scoring import FileScores, Scorer, Task

# Each process computes on one thread, numpy's and the packages' included.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def score_here(scorer: Scorer, tasks: Iterable[Task]) -> Iterator[FileScores]:
    """In this process, but on the CPU and on one thread as in `Workers`, for the same numbers."""
    before = torch.get_num_threads()
    for task in tasks:
        torch.set_num_threads(1)
        try:
            scores = scorer(_as_tensors(_as_arrays(task)))
        finally:
            torch.set_num_threads(before)
        yield scores


class Workers:
    """Processes that score, on the CPU; a context manager, which leaves none of them behind.

    They are started afresh, not forked: threads of torch's do not survive a fork.

    Args:
        scorer: what each of them does.
        jobs: how many they are.
    """

    def __init__(self, scorer: Scorer, jobs: int) -> None:
        self.jobs = jobs
        before = set(multiprocessing.active_children())
        self.executor = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_start, initargs=(scorer,)
        )
        with _for_children():
            for _ in range(jobs):  # which starts a process each
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
        """The scores of all tasks, as they come. A few tasks wait at a time: they hold audio.

        Raises:
            ChildProcessError: a process died.
        """
        pending: dict[Future[FileScores], str] = {}
        try:
            for task in tasks:
                pending[self.executor.submit(_score, _as_arrays(task))] = task.path
                while len(pending) >= 2 * self.jobs:
                    yield from _finished(pending)
            while pending:
                yield from _finished(pending)
        except BrokenProcessPool as exc:
            paths = ", ".join(sorted(pending.values()))
            raise ChildProcessError(
                f"A process that scores has died (out of memory?), at one of {paths}. Try fewer "
                "--jobs, a --max-duration, or fewer metrics."
            ) from exc


def _finished(pending: dict[Future[FileScores], str]) -> Iterator[FileScores]:
    """Waits for one at least. What fails stays, for the message."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        result = future.result()
        del pending[future]
        yield result


@contextmanager
def _for_children() -> Iterator[None]:
    """What processes started inside inherit: one thread, and no end by Ctrl-C, of which a terminal
    tells them as well: this process ends them."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main_thread else None
    try:
        yield
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_scorer: Scorer | None = None  # of a worker


def _start(scorer: Scorer) -> None:
    """In a new process. It ends with the one that started it, however that ends."""
    global _scorer
    _scorer = scorer
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _score(task: Task) -> FileScores:
    """In a worker."""
    if _scorer is None:
        raise RuntimeError("called outside of a worker")
    return _scorer(_as_tensors(task))


def _as_arrays(task: Task) -> Task:
    """For the way to a worker: tensors would go through shared memory, which may be scarce."""
    fakes = {system: fake.cpu().numpy() for system, fake in task.fakes.items()}
    return dataclasses.replace(task, real=task.real.cpu().numpy(), fakes=fakes)


def _as_tensors(task: Task) -> Task:
    fakes = {system: torch.from_numpy(fake) for system, fake in task.fakes.items()}
    return dataclasses.replace(task, real=torch.from_numpy(task.real), fakes=fakes)
