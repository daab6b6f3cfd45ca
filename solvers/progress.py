"""Progress of training: a bar in a terminal, log lines, curves by update."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

import flashy
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

from .loggers import RunLogger
from .summary import join_parts

BAR = "{desc}: {n_fmt}/{total_fmt} |{bar}| {rate_noinv_fmt}, ETA {remaining}"


class Progress:
    """Progress of a run's updates: a bar in a terminal, and log lines
    `Train | Epoch <epoch> | <done>/<total> | <speed> | ETA <time of the run> | <metrics>`.

    Args:
        logger: of the run.
        epoch: the current one, from 1.
        epochs: of the run.
        total: updates of an epoch.
        done: of them, updates done before.
        seconds_left: the run ends then if its epochs take longer.
    """

    def __init__(
        self,
        logger: RunLogger,
        epoch: int,
        epochs: int,
        total: int,
        done: int,
        seconds_left: float = math.inf,
    ) -> None:
        self.logger, self.epoch, self.total = logger, epoch, total
        self.before, self.all = (epoch - 1) * total, epochs * total  # updates of the run
        now = time.monotonic()
        self.since, self.end = (done, now), now + seconds_left

    def bar(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of the rest of the epoch."""
        if not sys.stderr.isatty() or not distrib.is_rank_zero():
            yield from batches
            return
        with logging_redirect_tqdm():
            yield from tqdm(
                *(batches, f"Epoch {self.epoch}", self.all),
                initial=self.before + self.since[0], leave=False, unit=" updates",
                dynamic_ncols=True, bar_format=BAR,
            )  # fmt: skip

    def log(self, done: int, metrics: dict[str, float], formatter: flashy.Formatter) -> None:
        """Log the averages since the last call, and the speed since then."""
        then, began = self.since
        self.since = (done, now := time.monotonic())
        rate = (done - then) / (now - began)
        if done < self.total:  # at its end the epoch's summary follows
            seconds = min((self.all - self.before - done) / rate, self.end - now)
            left = timedelta(seconds=max(0, round(seconds)))
            parts = ["Train", f"Epoch {self.epoch}", f"{done}/{self.total}"]
            parts += [f"{rate:.3g} updates/s", f"ETA {left}"]
            parts += [f"{key} {value}" for key, value in formatter(metrics).items()]
            self.logger.logger.info(join_parts(parts))
        self.logger.log_update(metrics, self.before + done)
