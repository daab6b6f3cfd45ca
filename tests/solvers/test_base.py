"""State, history and checkpoints of a run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import differences, make_cfg, make_solver

from adversarial_trainer import checkpoint
from solvers.changes import config_differences
from solvers.state import RandomState


def test_random_state_continues() -> None:
    """Python's, numpy's and torch's generators."""

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), *np.random.standard_normal(3), *torch.rand(3)]

    draw()
    random.gauss(0, 1)  # leaves one of two values for the next call
    state = RandomState().state_dict()
    expected = draw()
    draw()
    RandomState().load_state_dict(state)
    assert draw() == expected


def test_differences_of_configurations() -> None:
    """A key that is new in the code, as `seed` is here, is no difference."""
    cfg = make_cfg("optim.lr=0.1", "dset.path=/b", "adversarial=mpd", "device=cpu")
    text = (
        "optim: {lr: 0.2, gone: 1}\ndset: {path: /b}\nadversarial: {mpd: {periods: [2, 5]}}\n"
        "device: cuda\n"
    )
    assert list(config_differences(text, cfg, ["device"]).values()) == [
        "adversarial.mpd.periods: [2, 5] -> [2, 3]",
        "optim.gone: 1 -> (not there)",
        "optim.lr: 0.2 -> 0.1",
    ]


def test_settings_that_may_change_in_a_resumed_run(tmp_path: Path, audio: Path) -> None:
    """Those that do not change the result; others are in test_resume.py."""
    make_solver(tmp_path, audio, "optim.epochs=0").run()
    make_solver(tmp_path, audio, "optim.epochs=1").run()
    other = ["optim.epochs=3", "device=auto", "logging.every=7", "evaluate.metrics.sisnr=false"]
    other += ["num_threads=null", "checkpoint.keep_last=5", "dataset.num_workers=1"]
    assert make_solver(tmp_path, audio, *other).restored


def test_parts_that_came_or_went_are_named(tmp_path: Path, audio: Path) -> None:
    solver = make_solver(tmp_path, audio, "optim.epochs=1")
    solver.run()
    state = checkpoint.load(solver.checkpoint_path)
    del state["balancer"]
    checkpoint.save(state, solver.checkpoint_path)
    with pytest.raises(ValueError, match="does not fit this version: balancer"):
        make_solver(tmp_path, audio)


def test_copies_and_history(tmp_path: Path, audio: Path) -> None:
    """`keep_last`; files that `weights_only=True` reads; the history in JSON."""
    overrides = ["checkpoint.keep_last=2", "adversarial=none"]
    solver = make_solver(tmp_path, audio, *overrides, "optim.epochs=4")
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
    again = make_solver(tmp_path, audio, *overrides, "optim.epochs=4")
    assert json.loads((solver.folder / "history.json").read_text()) == history
    before = checkpoint.load(solver.checkpoint_path)
    again.run()
    assert differences(before, checkpoint.load(solver.checkpoint_path)) == []


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


def test_the_log_is_in_order(tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Progress, table of discriminators, summaries; their losses first, then the others."""
    solver = make_solver(tmp_path, audio, "optim.epochs=1", "adversarial.probability=1")
    with caplog.at_level("INFO"):
        solver.run()
    lines = [record.message for record in caplog.records]
    starts = [line.split(" | ")[0].split()[0] for line in lines]
    assert starts[-8:] == [
        *("Codebooks", "Train", "Train", "Discriminator", "fft256", "fft128", "Train", "Valid"),
    ]
    parts = lines[-2].split(" | ")
    assert parts[:2] == ["Train summary", "Epoch 1"]
    assert [part.split()[0] for part in parts[2:]] == [
        *("d_loss", "d_acc", "adv", "feat", *[n for n in solver.weights if n in solver.losses]),
        *("penalty", "perplexity", "usage", "grad_norm", "bad_steps", "duration", "data_wait"),
    ]
