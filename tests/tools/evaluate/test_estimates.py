from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adversarial_trainer.tools.evaluate.results import estimate


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
    found = estimate([None, 1.0, 3.0])
    assert found == estimate([1.0, 3.0]) and found.format(2) == "2.00 ± 12.71"
    one = estimate([None, 5.0])
    assert (one.mean, one.low, one.high, one.count) == (5, None, None, 1)
    assert one.format(1) == "5.0" and estimate([]).count == 0 and estimate([]).format(1) == "–"
