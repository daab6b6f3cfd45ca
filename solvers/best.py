"""The best epoch so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

History = Sequence[Mapping[str, Mapping[str, float]]]


def is_best(history: History, metric: str, mode: str) -> bool:
    """Return whether the last epoch has the best value of `metric` so far, and log it.

    Logs an error if the epoch lacks the metric although its stage ran.

    Args:
        history: metrics by stage, of each epoch.
        metric: stage and name, such as `valid.mel`.
        mode: 'min' or 'max': which values are better.
    """
    stage, _, name = metric.partition(".")
    last = history[-1].get(stage)
    if last is None:
        return False
    if name not in last:
        logger.error(
            "checkpoint.best=%s: no such metric, or it is not finite. Those of %s are: %s.",
            *(metric, stage, ", ".join(last)),
        )
        return False
    sign = -1 if mode == "max" else 1
    metrics = [epoch.get(stage, {}) for epoch in history[:-1]]
    before = [sign * values[name] for values in metrics if name in values]
    if sign * last[name] >= min(before, default=math.inf):
        return False
    logger.info("The best %s so far: %.4g", metric, last[name])
    return True
