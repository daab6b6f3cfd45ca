"""Scores of files: each metric of each system's reconstruction, in this process or several."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adversarial_trainer.metrics import METRICS, Metric
from adversarial_trainer.models.builders import naming
from adversarial_trainer.registry import parameter_names

from .opus import Opus
from .results import MODEL, Measure

# Each process computes on one thread; numpy and the metrics' packages read these at their import.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Task(NamedTuple):
    """A file to score.

    Attributes:
        number, path: of the file in the list of files.
        real: the original, `[C, T]`.
        fakes: what the model made of it at each bandwidth (kb/s), `[C, T]` each.
        metrics: names of the metrics to compute.
    """

    number: int
    path: str
    real: Tensor
    fakes: Mapping[float, Tensor]
    metrics: Sequence[str]


class FileScores(NamedTuple):
    """Scores of one file, by its number in the list of files.

    `rows` have `system`, `bandwidth`, `measured` and the metrics, of the model at each bandwidth
    and then of the baseline. None stands for what has no value.
    """

    number: int
    path: str
    seconds: float
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Scorer:
    """Scores files, on the device of their waveforms.

    Attributes:
        metrics, measures: by name, and the words for them.
        num_files: number of files that a metric is computed on; None: all.
        sample_rate: of the waveforms, in Hz.
        opus: baseline.
    """

    metrics: Mapping[str, Metric]
    measures: Mapping[str, Measure]
    num_files: Mapping[str, int | None]
    sample_rate: int
    opus: Opus | None = None

    def metrics_of(self, index: int, total: int) -> list[str]:
        """Return the metrics to compute on file `index` of `total`: those on a sample of the files
        take them evenly spread, as neighbours are often of one speaker or one piece."""
        limits = {name: self.num_files[name] or total for name in self.metrics}
        return [name for name, n in limits.items() if index in {k * total // n for k in range(n)}]

    @torch.no_grad()
    def __call__(self, task: Task) -> FileScores:
        """Return the scores of a file."""
        rows = [self._row(task, MODEL, rate, None, fake) for rate, fake in task.fakes.items()]
        if self.opus is not None:
            for rate in self.opus.rates:
                fake, measured = self.opus(task.real, self.sample_rate, rate)
                rows.append(self._row(task, self.opus.name, rate, measured, fake))
        return FileScores(task.number, task.path, task.real.shape[-1] / self.sample_rate, rows)

    def _row(
        self, task: Task, system: str, bandwidth: float, measured: float | None, fake: Tensor
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"system": system, "bandwidth": bandwidth, "measured": measured}
        for name in task.metrics:
            value = float(self.metrics[name].to(fake.device)(fake[None], task.real[None]))
            row[name] = value if math.isfinite(value) else None
        return row


def get_scorer(settings: Mapping[str, Any], sample_rate: int, opus: Opus | None = None) -> Scorer:
    """Return a scorer with the metrics of a configuration.

    Args:
        settings: `evaluate` of a configuration: `metrics` that are true, and the arguments of some.

    Raises:
        ValueError: there is no such metric, an argument is wrong, or a package is missing.
    """
    metrics, measures, num_files = {}, {}, {}
    for name in [name for name, wanted in settings["metrics"].items() if wanted]:
        given = {"sample_rate": sample_rate, **settings.get(name, {})}
        # A run of an older version may have keys that are gone; new ones have been checked.
        known = parameter_names(METRICS.get_class(name))
        with naming(f"evaluate.{name}"):
            metric = METRICS.build(name, **{k: given[k] for k in known if k in given})
            measures[name] = Measure(metric.title, metric.unit, metric.higher_is_better)
        try:
            metric.prepare()
        except ImportError as exc:
            raise ValueError(f"evaluate.metrics.{name}: {exc}") from exc
        metrics[name], num_files[name] = metric, given.get("num_files")
    return Scorer(metrics, measures, num_files, sample_rate, opus)


def score_in_processes(scorer: Scorer, tasks: Iterable[Task], jobs: int) -> Iterator[FileScores]:
    """Yield the scores of all tasks, in their order, computed on the CPU by `jobs` processes.

    At most two tasks for each process wait at a time, as they hold audio.

    Raises:
        ChildProcessError: a process died.
    """
    # Spawned and not forked, as torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(scorer,))
    os.environ.update(THREADS)  # without effect on this process, which has read them
    # A terminal sends Ctrl-C to all of its processes. The new ones inherit that they ignore it, and
    # are ended by this one.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for _ in range(jobs):  # each starts a process
        pool.submit(os.getpid)
    signal.signal(signal.SIGINT, handler)
    pending: deque[tuple[str, Future[FileScores]]] = deque()
    try:
        for task in tasks:
            # Bytes, as multiprocessing moves tensors through shared memory, which containers have
            # little of.
            pending.append((task.path, pool.submit(_score, pickle.dumps(task))))
            if len(pending) == 2 * jobs:
                yield pending[0][1].result()
                pending.popleft()  # a failed one stays, for the message
        while pending:
            yield pending[0][1].result()
            pending.popleft()
    except BrokenProcessPool as exc:
        raise ChildProcessError(
            "A scoring process died (out of memory?) while working on one of "
            f"{', '.join(path for path, _ in pending)}. Try fewer --jobs, a --max-duration, or "
            "fewer metrics."
        ) from exc
    finally:
        if pending:  # after an error, or Ctrl-C
            for process in multiprocessing.active_children():
                process.kill()
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
