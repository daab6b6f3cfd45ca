"""Steps of two processes, in one gloo group."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import differences, make_solver, without_durations
from ranks import run_ranks

from adversarial_trainer.data import Batch


def train(rank: int, folder: str, audio: str) -> dict:
    """An epoch in which the second of three batches is spoilt, on the second rank only."""
    torch.manual_seed(rank)
    solver = make_solver(
        Path(folder) / str(rank),  # each its own: nothing here is written by the first alone
        Path(audio),
        *("dataset.batch_size=3", "adversarial=hifigan", "optim.ema.decay=0.9"),
        *("adversarial.probability=0.5", "evaluate.every=1", "optim.epochs=1"),
    )
    torch.manual_seed(rank)  # ranks may differ in their own randomness (PITFALLS 7)
    step = solver.train_step
    seen = []

    def spoilt(batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        if solver.updates == 1 and rank == 1:
            batch.wav[0, 0, 7] = float("inf")
        before = [p.detach().clone() for p in solver.model.parameters()]
        metrics, good = step(batch)
        same = all(
            torch.equal(a, b) for a, b in zip(before, solver.model.parameters(), strict=True)
        )
        seen.append([good, same, len(batch)])
        return metrics, good

    solver.train_step = spoilt  # type: ignore[method-assign]
    last = solver.run()
    state = solver.state_dict()
    return {
        "seen": seen,
        "state": {name: state[name] for name in ("model", "adversarial", "ema", "balancer")},
        "optimizer": state["optimizer"],
        "metrics": without_durations([last]),
    }


@pytest.mark.slow
def test_a_batch_spoilt_on_one_rank_is_left_out_by_all(tmp_path: Path, audio: Path) -> None:
    """PITFALLS 26: and ranks stay the same bit for bit."""
    first, second = run_ranks(train, str(tmp_path), str(audio))
    assert [seen[:2] for seen in first["seen"]] == [[True, False], [False, True], [True, False]]
    assert [seen[:2] for seen in second["seen"]] == [seen[:2] for seen in first["seen"]]
    assert (first["seen"][0][2], second["seen"][0][2]) == (1, 2)  # unequal shares
    for name in ("state", "optimizer", "metrics"):
        assert differences(first[name], second[name]) == []
    assert first["metrics"][0]["train"]["bad_steps"] == 1
