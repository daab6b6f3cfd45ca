from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adversarial_trainer.tools.evaluate.estimates import estimate


def test_by_hand() -> None:
    """t(0.975, 3) = 3.1824 in any table; mean 2.5, s = 1.2910, s / sqrt(4) = 0.6455."""
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.count == 4
    assert found.low == pytest.approx(2.5 - 3.1824 * 0.6455, abs=1e-3)
    assert found.high == pytest.approx(2.5 + 3.1824 * 0.6455, abs=1e-3)


def test_against_scipy() -> None:
    for count in (2, 7, 500):
        values = np.random.default_rng(count).normal(3, 2, count)
        low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
        found = estimate(values)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_undefined_values_are_left_out() -> None:
    assert estimate([math.nan, 1.0, math.inf, 3.0]) == estimate([1.0, 3.0])
    one = estimate([math.nan, 5.0])
    assert one.mean == 5 and one.count == 1 and math.isnan(one.low) and math.isnan(one.high)
    assert estimate([]).count == 0 and math.isnan(estimate([]).mean)
