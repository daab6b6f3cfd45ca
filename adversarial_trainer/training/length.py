"""How long a run trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]


def trained_seconds(history: History) -> float:
    """Return the seconds of training in the epochs of a history, without those of other stages."""
    return sum(epoch.get("train", {}).get("duration", 0.0) for epoch in history)


def seconds_left(history: History, optim: Mapping[str, Any]) -> float:
    """Return the seconds of training that `optim.max_time`, in minutes, leaves; inf without it."""
    minutes = optim.get("max_time")
    return math.inf if minutes is None else 60 * minutes - trained_seconds(history)


def is_finished(history: History, optim: Mapping[str, Any]) -> bool:
    """Return whether these epochs are all that `optim.epochs` and `optim.max_time` ask for."""
    return len(history) >= optim["epochs"] or seconds_left(history, optim) <= 0
