"""Parts of a checkpoint beside the modules: means of metrics, random generators, progress."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

logger = logging.getLogger(__name__)


class Averager:
    """Weighted means of 0-dim tensors (or floats), each over the updates that had it.

    `update` never waits for the device; reading `averages` does.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = {}
        self.weights: dict[str, float] = {}

    def update(self, metrics: Mapping[str, Tensor | float], weight: float = 1.0) -> None:
        """Add the metrics of one step, counted `weight` times (its number of items)."""
        if not weight:  # a rank without items has NaNs
            return
        for name, value in metrics.items():
            # In float64: small terms would be lost beside the sum of an epoch.
            term = torch.as_tensor(value, dtype=torch.float64).detach() * weight
            self.sums[name] = self.sums.get(name, 0.0) + term
            self.weights[name] = self.weights.get(name, 0.0) + weight

    @property
    def averages(self) -> dict[str, float]:
        """Mean of each metric so far."""
        return {name: float(total) / self.weights[name] for name, total in self.sums.items()}

    def over_ranks(self) -> dict[str, float]:
        """Mean of each metric over all ranks' updates. Every rank calls it and gets the same."""
        together = Averager()
        for state in distrib.gather_objects(self.state_dict()):
            together.add(state)
        return together.averages

    def state_dict(self) -> dict[str, Any]:
        sums = {name: float(total) for name, total in self.sums.items()}
        return {"sums": sums, "weights": dict(self.weights)}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add what another averager, of which this is the state, has averaged."""
        for name, total in state["sums"].items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.weights[name] = self.weights.get(name, 0.0) + state["weights"][name]

    def clear(self) -> None:
        """Forget everything."""
        self.sums, self.weights = {}, {}


def gather_ranks(averager: Averager) -> list[dict[str, Any]]:
    """Return each rank's own state: global random generators, sums of the epoch's metrics."""
    name, keys, *rest = np.random.get_state(legacy=True)
    own = {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),  # checkpoints hold no arrays
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "averager": averager.state_dict(),
    }
    return distrib.gather_objects(own)


def load_ranks(ranks: Sequence[Mapping[str, Any]], averager: Averager) -> None:
    """Continue this rank from what `gather_ranks` returned.

    With another number of ranks the first takes all sums, and all take its random generators;
    training depends on neither.
    """
    if len(ranks) == distrib.world_size():
        own = [ranks[distrib.rank()]]
    else:
        own = list(ranks) if distrib.is_rank_zero() else []
    state = own[0] if own else ranks[0]
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():  # may be another machine
        torch.cuda.set_rng_state_all(state["cuda"])
    averager.clear()
    for rank in own:
        averager.add(rank["averager"])


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without NaN and Inf, which JSON has not."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def is_best(history: Sequence[Mapping[str, Any]], metric: str, mode: str) -> bool:
    """Return whether the last epoch has the best value of `metric` so far, and log it.

    Logs an error if the epoch lacks the metric although its stage ran.

    Args:
        history: metrics by stage, of each epoch.
        metric: stage and name, such as `valid.mel`.
        mode: 'min' or 'max': which values are better.
    """
    stage, _, name = metric.partition(".")
    *before, last = [epoch.get(stage, {}) for epoch in history]
    if name not in last:
        if last:
            logger.error(
                "checkpoint.best=%s: no such metric, or it is not finite. Those of %s are: %s.",
                *(metric, stage, ", ".join(last)),
            )
        return False
    sign = -1 if mode == "max" else 1
    values = [sign * metrics[name] for metrics in before if name in metrics]
    if sign * last[name] >= min(values, default=math.inf):
        return False
    logger.info("The best %s so far: %.4g", metric, last[name])
    return True


@dataclass
class UnfinishedEpoch:
    """Progress of the current epoch.

    Attributes:
        done: updates done, skipped ones included.
        bad_steps: updates that were skipped.
        seconds: training time, over all starts of the run.
        waiting: seconds of it in which this rank waited for data (rank 0's after a resume).
        before: metrics of stages that ran before the training stage.
    """

    done: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    before: dict[str, dict[str, float]] = field(default_factory=dict)

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches; add the seconds that each was waited for to `waiting`."""
        began = time.monotonic()
        for batch in batches:
            self.waiting += time.monotonic() - began
            yield batch
            began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
