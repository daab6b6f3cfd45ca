"""NaN and Inf in a training step: each side skips its own update; the log names the first value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import differences, make_solver
from ranks import run_ranks
from spoiling import FAULTS, batches, spoilt_step, started, state_of

from adversarial_trainer import checkpoint
from solvers import CompressionSolver

REMEMBERS = ["optim.ema.decay=0.9", "adversarial.probability=1", "optim.max_bad_steps=1000"]
# State of the generator that only a good step may change.
GENERATOR = (".model.", ".optimizer.", ".ema.", ".modules.0.")
DISCRIMINATORS = (".adversarial.adversary.", ".adversarial.optimizer.")


@pytest.fixture(scope="module")
def solver(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> CompressionSolver:
    """After one good update: optimizers and averages have state."""
    solver = started(tmp_path_factory.mktemp("run"), audio, *REMEMBERS)
    assert solver.train_step(batches(solver)[0])
    return solver


@pytest.mark.parametrize(
    "name, value", [*((name, math.nan) for name in FAULTS), ("reconstruction", math.inf)]
)
def test_each_side_skips_its_own_update(
    solver: CompressionSolver, caplog: pytest.LogCaptureFixture, name: str, value: float
) -> None:
    batch = batches(solver)[1]
    before = state_of(solver)
    caplog.clear()
    metrics = spoilt_step(solver, batch, name, value)
    changed = differences(before, state_of(solver))
    first = FAULTS[name][1]
    generator = [path for path in changed if path.startswith(GENERATOR)]
    adversary = [path for path in changed if path.startswith(DISCRIMINATORS)]
    assert ".updates" in changed
    if first is None:  # the discriminators' fault alone
        assert metrics and generator and not adversary
    else:
        assert metrics == {} and not generator
        (record,) = [record for record in caplog.records if record.name == "solvers.bad_steps"]
        message = record.getMessage()
        named = f": {first} was the first value that is not finite; files:"
        assert f"Skipping update {solver.updates}" in message and named in message
        assert str(batch.infos[-1].path) in message
        # A reconstruction that is not finite spoils the discriminators' gradient too.
        assert bool(adversary) == (name in ("loss", "codec gradient"))
    good = solver.train_step(batches(solver)[0])
    assert solver.bad_steps_in_row == 0 and all(v.isfinite() for v in good.values())


def test_many_in_a_row_do_not_flood_the_log(
    tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    solver = started(tmp_path, audio, *REMEMBERS, "adversarial=none")
    batch = batches(solver)[0]
    caplog.clear()
    for _ in range(10):
        spoilt_step(solver, batch, "input")
    rows = [r.getMessage() for r in caplog.records]
    assert len(rows) == 5 and "(8 in a row)" in rows[-1]  # 1, 2, 3, 4, 8


def test_divergence_saves_and_ends(tmp_path: Path, audio: Path) -> None:
    """A learning rate that makes the weights overflow; the command line is in test_train.py."""
    argv = ("optim.lr=1e38", "optim.max_bad_steps=2", "optim.updates_per_epoch=9")
    solver = make_solver(tmp_path, audio, *argv)
    with pytest.raises(FloatingPointError, match="diverged: 2 updates in a row were skipped"):
        solver.run()
    state = checkpoint.load(solver.checkpoint_path)
    assert state["unfinished"]["bad_steps"] == state["bad_steps_in_row"] == 2


def ranks_step(rank: int, folder: str, audio: str) -> dict[str, Any]:
    """Return what this rank sees of three steps, the second of them spoilt on rank 1 alone."""
    solver = started(
        Path(folder) / str(rank),  # its own: nothing here is written by the first rank alone
        Path(audio),
        *("dataset.batch_size=3", "adversarial=hifigan", "adversarial.probability=0.5"),
        "optim.ema.decay=0.9",
    )
    torch.manual_seed(rank)  # ranks may differ in their own randomness
    given = batches(solver)
    if rank == 1:
        given[1].wav[0, 0, 7] = float("inf")
    good = [bool(solver.train_step(batch)) for batch in given]
    state = solver.state_dict()
    names = ("model", "adversarial", "ema", "balancer", "optimizer", "bad_steps_in_row")
    return {"good": good, "items": len(given[0]), "state": {name: state[name] for name in names}}


def test_one_decision_on_all_ranks(tmp_path: Path, audio: Path) -> None:
    """A batch spoilt on one rank is skipped by all, whose states stay the same."""
    first, second = run_ranks(ranks_step, str(tmp_path), str(audio))
    assert first["good"] == second["good"] == [True, False, True]
    assert (first["items"], second["items"]) == (1, 2)  # unequal shares
    assert differences(first["state"], second["state"]) == []
