"""Variants timed in turn, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from adversarial_trainer.tools.evaluate.output import align


class Times(NamedTuple):
    """Median and quartiles, in ms."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} [{self.low:.1f}, {self.high:.1f}]"


def summarise(seconds: list[float]) -> Times:
    """Median and quartiles of durations in seconds."""
    ms = [1000 * s for s in seconds]
    if len(ms) < 2:
        return Times(ms[0], ms[0], ms[0])
    low, median, high = statistics.quantiles(ms, n=4, method="inclusive")
    return Times(median, low, high)


def in_turn(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str | torch.device = "cpu",
    warmup: int = 2,
) -> dict[str, list[float]]:
    """Seconds that each call takes on `device`, A B A B ...; those of the warm-up left out."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for index in range(-warmup, rounds):
        for name, call in variants.items():
            begin = time.perf_counter()
            call()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            if index >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def print_table(title: str, rows: list[dict[str, object]]) -> None:
    """Rows of equal keys."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    print("", title, *align(cells), sep="\n")
