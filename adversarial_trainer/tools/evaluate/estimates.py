"""Means over files and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Mean over `count` files with its 95 % confidence interval; NaN where there is none."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def estimate(values: Iterable[float]) -> Estimate:
    """Return the mean of the finite values and its interval.

    The interval is Student's, as files are a sample of unknown spread:
    mean +- t(0.975, n - 1) s / sqrt(n), from two files on.
    """
    finite = [value for value in values if math.isfinite(value)]
    count = len(finite)
    if not count:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(finite) / count
    if count == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    from scipy.special import stdtrit  # quick to import, unlike scipy.stats

    variance = math.fsum((value - mean) ** 2 for value in finite) / (count - 1)
    half = float(stdtrit(count - 1, 0.975)) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)
