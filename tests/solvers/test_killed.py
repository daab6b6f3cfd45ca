"""A run that is killed, as often as one likes, ends with the bits of one that never was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import differences, make_solver, without_durations
from ranks import kill_ranks, run_ranks

# All that draws or remembers, and a save after each update.
EVERYTHING = [
    *("schedule=cosine", "schedule.total_updates=6", "optim.ema.decay=0.9"),
    *("adversarial.discriminators=[msstftd,msd]", "adversarial.probability=0.6667"),
    *("optim.updates_per_epoch=2", "optim.epochs=2", "evaluate.every=1", "evaluate.num_files=1"),
    *("checkpoint.every_updates=1", "checkpoint.best=valid.l1", "checkpoint.keep_every=1"),
    *("dataset.batch_size=3", "evaluate.at_start=true"),
]


def train(rank: int, folder: str, audio: str) -> None:
    random.seed(0)
    np.random.seed(0)
    make_solver(Path(folder), Path(audio), *EVERYTHING).run()


def stamp(run: Path) -> int:
    """Changes when a checkpoint is saved."""
    path = run / "checkpoint.th"
    return path.stat().st_mtime_ns if path.exists() else 0


def final_state(folder: Path) -> dict[str, Any]:
    run = folder / "xps" / "run"
    state = torch.load(run / "checkpoint.th", weights_only=True)
    state["history"] = without_durations(state["history"])
    return state


@pytest.mark.parametrize("world_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_random(tmp_path: Path, audio: Path, world_size: int) -> None:
    """SIGKILL, for all processes at once, at any instant: inside an update, a save, a stage."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(train, str(whole), str(audio), world_size=world_size)
    run = killed / "xps" / "run"
    draws = random.Random(world_size)
    kills = 0

    def moment(after_a_save: bool, seconds: float) -> Callable[[], bool]:
        before, since = stamp(run), None if after_a_save else time.monotonic()

        def is_now() -> bool:
            nonlocal since
            time.sleep(0.001)
            if since is None and stamp(run) != before:
                since = time.monotonic()
            return since is not None and time.monotonic() > since + seconds

        return is_now

    # Each life but every fourth may save once: there is an end to it.
    for life in range(100):
        now = moment(after_a_save=life % 4 < 3, seconds=draws.uniform(0, 0.4))
        if not kill_ranks(train, str(killed), str(audio), world_size=world_size, moment=now):
            break
        kills += 1
    assert kills >= 3
    print(f"{kills} kills")
    assert differences(final_state(killed), final_state(whole)) == []
    kept = {path.name for path in run.glob("checkpoint*")}
    assert kept == {path.name for path in (whole / "xps" / "run").glob("checkpoint*")}
