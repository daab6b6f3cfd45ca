"""Bad numbers on one of two ranks: both leave the step out, and the first tells of the other."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import torch
from micro import differences
from ranks import run_ranks
from spoiling import COUNTERS, FAULTS, batches, codec_differences, spoilt_step, started, state_of

from solvers import CompressionSolver

# Name of the fault, the rank that has it, and the ranks on which it must be found to begin.
STEPS = [
    ("input", 1, [1]),
    ("reconstruction", 1, [1]),
    ("feature map, real", 1, [1]),
    ("msspec", 1, [1]),
    # Gradients are known as averages.
    ("codec's gradient", 1, [0, 1]),
]


def shared(solver: CompressionSolver) -> dict[str, Any]:
    """What is the same on all ranks."""
    return {key: value for key, value in state_of(solver).items() if key not in ("ranks", "sig")}


def train(rank: int, folder: str, audio: str) -> dict[str, Any]:
    torch.manual_seed(rank)
    solver = started(
        Path(folder) / str(rank),
        Path(audio),
        *("dataset.batch_size=3", "adversarial=hifigan", "adversarial.discriminators=[msd]"),
        *("optim.ema.decay=0.9", "optim.max_bad_steps=2"),
    )
    torch.manual_seed(rank)  # ranks may differ in their own randomness
    (batch, *_) = batches(solver)
    for _ in range(2):
        assert solver.train_step(batch)[1]
    seen = []
    for name, where, _ in STEPS:
        before = state_of(solver)
        step = spoilt_step(solver, batch, name) if rank == where else solver.train_step(batch)
        changed = codec_differences(before, state_of(solver)) - COUNTERS
        seen.append((step[1], sorted(changed)))
    try:
        solver.after_update()
        report = ""
    except FloatingPointError as exc:
        report = str(exc)
    written = list(solver.folder.glob("bad_steps.jsonl")) + list(solver.folder.glob("diverged.txt"))
    assert bool(written) == (rank == 0)
    records = []
    if rank == 0:
        records = [json.loads(line) for line in solver.bad_steps.path.read_text().splitlines()]
    # A signal to one rank is known to all by the same message.
    if rank == 1:
        solver.interruption.signum = signal.SIGTERM
    agreed = [solver.stop_agreed]
    good = solver.train_step(batch)[1]
    agreed.append(solver.stop_agreed)
    return {
        "seen": seen,
        "report": report,
        "records": records,
        "files": [str(info.path) for info in batch.infos],
        "agreed": agreed,
        "good": good,
        "state": shared(solver),
    }


def test_one_decision(tmp_path: Path, audio: Path) -> None:
    """PITFALLS 26."""
    first, second = run_ranks(train, str(tmp_path), str(audio))
    # Nothing of the codec has changed.
    assert first["seen"] == second["seen"] == [(False, [])] * len(STEPS)
    assert differences(first["state"], second["state"]) == []
    files = {0: first["files"], 1: second["files"]}
    assert not set(files[0]) & set(files[1])
    for (name, _, ranks), record in zip(STEPS, first["records"], strict=True):
        assert record["ranks"] == ranks
        assert record["first"] == FAULTS[name][1], name
        assert record["files"] and set(record["files"]) <= {
            f for rank in ranks for f in files[rank]
        }
    assert first["report"] == second["report"] and "on rank 0, 1; files:" in first["report"]
    assert "The first, update 3 in epoch 1: the input (input)" in first["report"]
    assert first["agreed"] == second["agreed"] == [False, True]
    assert first["good"] and second["good"]
