from __future__ import annotations

import numpy as np
import pytest
import torch
from ranks import run_ranks

from solvers.averager import Averager


def test_against_numpy() -> None:
    """Weighted means of metrics of which each step has some, in changing order."""
    random = np.random.default_rng(0)
    averager = Averager()
    values: dict[str, list[float]] = {name: [] for name in "abc"}
    weights: dict[str, list[float]] = {name: [] for name in "abc"}
    for step in range(50):
        names = [name for name in "abc" if random.random() < 0.6]
        if step % 2:
            names.reverse()
        weight = float(random.integers(1, 9))
        metrics: dict[str, torch.Tensor | float] = {}
        for name in names:
            value = random.standard_normal()
            is_float = name == "a"
            metrics[name] = value if is_float else torch.tensor(value, dtype=torch.float64)
            values[name].append(value)
            weights[name].append(weight)
        averager.update(metrics, weight)
    averages = averager.averages
    assert averages.keys() == values.keys()
    for name, average in averages.items():
        assert isinstance(average, float)
        assert average == pytest.approx(np.average(values[name], weights=weights[name]), rel=1e-12)


def test_small_terms_are_not_lost() -> None:
    """Sums in float64: a million steps of 0.1 in float32 would be off in the third digit."""
    averager = Averager()
    step = {"x": torch.tensor(0.1)}
    averager.update({"x": torch.tensor(1e6)})
    for _ in range(1000):
        averager.update(step)
    exact = (1e6 + 1000 * float(torch.tensor(0.1))) / 1001
    assert averager.averages["x"] == pytest.approx(exact, rel=1e-12)


def test_empty_and_without_a_graph() -> None:
    averager = Averager()
    averager.update({})
    assert averager.averages == {}
    averager.update({"x": torch.ones((), requires_grad=True) * 2})
    assert averager.averages == {"x": 2.0}


def averages(rank: int) -> list[dict[str, float]]:
    averager = Averager()
    steps: list[tuple[dict[str, torch.Tensor | float], float]] = [
        ({"a": 1.0, "b": torch.tensor(2.0)}, 3),
        ({"b": 4.0, "c": 8.0}, 5),
    ]
    found = [averager.over_ranks()]  # no rank has metrics
    if rank == 1:
        averager.update({"a": 1.5}, 2)
    found.append(averager.over_ranks())
    averager.clear()
    averager.update(*steps[rank])
    averager.update({"b": float("nan")}, 0)  # of a rank without items
    found.append(averager.over_ranks())
    return found


def test_over_ranks() -> None:
    """Weighted by items, also where ranks have different metrics, or none."""
    first, second = run_ranks(averages)
    assert first == [{}, {"a": 1.5}, {"a": 1.0, "b": (3 * 2.0 + 5 * 4.0) / 8, "c": 8.0}]
    assert first == second and [list(found) for found in first] == [list(f) for f in second]


def test_continues_from_its_state() -> None:
    """Bit for bit."""
    one, other = Averager(), Averager()
    for step in range(6):
        if step == 3:
            other_before, other = other, Averager()
            other.load_state_dict(other_before.state_dict())
        for averager in (one, other):
            averager.update({"x": torch.tensor(0.1 * step), "y": 1 / (step + 1)}, step)
    assert one.averages == other.averages
    assert list(one.averages) == ["x", "y"]
