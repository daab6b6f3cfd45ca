"""Means of metrics, random generators, progress and history of a run."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import differences, make_solver
from ranks import run_ranks

from adversarial_trainer import checkpoint
from solvers import stages
from solvers.state import Averager, UnfinishedEpoch, gather_ranks, load_ranks


def test_means_against_numpy() -> None:
    """Of metrics of which each step has some, weighted, with a resume in the middle."""
    draw = np.random.default_rng(0)
    averager = Averager()
    values: dict[str, list[float]] = {name: [] for name in "abc"}
    weights: dict[str, list[float]] = {name: [] for name in "abc"}
    for step in range(50):
        if step == 25:
            state = gather_ranks(averager)
            averager = Averager()
            load_ranks(state, averager)
        weight = float(draw.integers(1, 9))
        metrics: dict[str, torch.Tensor | float] = {}
        for name in [name for name in "abc" if draw.random() < 0.6]:
            value = 1e6 if step == 0 else draw.standard_normal()  # float32 would lose the others
            metrics[name] = value if name == "a" else torch.tensor(value, dtype=torch.float64)
            values[name].append(value)
            weights[name].append(weight)
        averager.update(metrics, weight)
    averager.update({"d": torch.ones((), requires_grad=True) * 2})
    averages = averager.averages
    assert averages.pop("d") == 2.0 and averages.keys() == values.keys()
    for name, average in averages.items():
        assert type(average) is float
        assert average == pytest.approx(np.average(values[name], weights=weights[name]), rel=1e-12)


def on_rank(rank: int) -> list[dict[str, float]]:
    averager = Averager()
    steps: list[tuple[dict[str, torch.Tensor | float], float]] = [
        ({"a": 1.0, "b": torch.tensor(2.0)}, 3),
        ({"b": 4.0, "c": 8.0}, 5),
    ]
    found = [averager.over_ranks()]  # no rank has metrics
    averager.update(*steps[rank])
    averager.update({"b": float("nan")}, 0)  # of a rank without items
    found.append(averager.over_ranks())
    epoch = UnfinishedEpoch(seconds=8.0, waiting=[1.0, 2.0][rank])
    return [*found, {"wait": stages.data_wait(epoch)}]


def test_over_ranks() -> None:
    """Weighted by items, also where ranks have different metrics; the longest wait for data."""
    first, second = run_ranks(on_rank)
    mean = (3 * 2.0 + 5 * 4.0) / 8
    assert first == second == [{}, {"a": 1.0, "b": mean, "c": 8.0}, {"wait": 0.25}]


def test_random_generators_continue() -> None:
    """Python's, numpy's and torch's, through a file."""

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), *np.random.standard_normal(3), *torch.rand(3)]

    random.gauss(0, 1)  # leaves one of two values for the next call
    state = gather_ranks(Averager())
    expected = draw()
    draw()
    load_ranks(state, Averager())
    assert draw() == expected


def test_waiting_for_data_is_seen(
    tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow loader, in addition to what was waited before a resume."""
    solver: Any = make_solver(tmp_path, audio, "optim.epochs=1", "dataset.num_workers=0")
    read = type(solver.data.train.dataset).__getitem__

    def slow(dataset: Any, item: Any) -> Any:
        time.sleep(0.05)
        return read(dataset, item)

    monkeypatch.setattr(type(solver.data.train.dataset), "__getitem__", slow)
    solver.unfinished.seconds = solver.unfinished.waiting = 50.0
    solver.run()
    train = solver.history[0]["train"]
    asleep = 0.05 * solver.cfg.optim.updates_per_epoch * solver.cfg.dataset.batch_size
    assert asleep + 50 <= train["data_wait"] * train["duration"] < train["duration"]
    for seconds, waited in ((1000.0, 90.0), (10.0, 9.0), (0.0, 0.0)):
        share = stages.data_wait(UnfinishedEpoch(seconds=seconds, waiting=waited))
        assert share == (waited / seconds if seconds else 0)


def test_checkpoints_and_history(tmp_path: Path, audio: Path) -> None:
    """`keep_last`; files that `weights_only=True` reads; the history in JSON."""
    overrides = ["checkpoint.keep_last=2", "adversarial=none", "optim.epochs=4"]
    solver = make_solver(tmp_path, audio, *overrides)
    solver.run()
    names = sorted(path.name for path in solver.folder.glob("checkpoint*"))
    copies = ["checkpoint_3.th", "checkpoint_4.th", "checkpoint_previous.th"]
    assert names == ["checkpoint.th", *copies]
    for name, epochs in (("checkpoint.th", 4), ("checkpoint_3.th", 3)):
        state = torch.load(solver.folder / name, weights_only=True)
        assert len(state["history"]) == epochs and state["updates"] == 3 * epochs
    history = json.loads((solver.folder / "history.json").read_text())
    assert history == solver.history == torch.load(solver.checkpoint_path)["history"]
    assert all(type(v) is float for stage in history[0].values() for v in stage.values())

    # A run that was killed between checkpoint and history.
    (solver.folder / "history.json").unlink()
    again = make_solver(tmp_path, audio, *overrides)
    assert json.loads((solver.folder / "history.json").read_text()) == history
    before = checkpoint.load(solver.checkpoint_path)
    again.run()
    assert differences(before, checkpoint.load(solver.checkpoint_path)) == []

    del before["balancer"]  # a state of other code
    checkpoint.save(before, solver.checkpoint_path)
    with pytest.raises(ValueError, match="does not fit this version: balancer"):
        make_solver(tmp_path, audio, *overrides)


def test_when_stages_run(tmp_path: Path, audio: Path) -> None:
    """Every so many epochs and after the last; 0 is never."""
    solver = make_solver(tmp_path, audio)
    for every, epochs, due in ((1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (0, 3, []), (10, 3, [3])):
        solver.cfg.evaluate.every, solver.cfg.optim.epochs = every, epochs
        solver.history.clear()
        ran = []
        for epoch in range(1, epochs + 1):
            ran += [epoch] if solver.is_due("evaluate") else []
            solver.history.append({})
        assert ran == due
