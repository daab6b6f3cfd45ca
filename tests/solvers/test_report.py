"""The page and the provenance that a run writes into its folder."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ROOT, make_solver

from adversarial_trainer.tools.report import read_run
from solvers import provenance, stages

BOTH = ["evaluate.every=2", "generate.every=1", "generate.num_files=1", "generate.report=true"]


def test_after_evaluate_and_generate(tmp_path: Path, audio: Path) -> None:
    solver = make_solver(tmp_path, audio, *BOTH, "optim.epochs=2")
    page = solver.folder / "report.html"
    solver.start()
    solver.run_epoch()
    first = page.read_text()
    assert "history.json" not in first  # which is written later
    assert first.count("<audio") == 3 and "ViSQOL" not in first
    assert "<dt>epochs</dt><dd>1</dd>" in first  # this one has not ended
    assert "SI-SDR" not in first  # no evaluation yet
    solver.commit()
    solver.run_epoch()
    second = page.read_text()
    assert "<dt>epochs</dt><dd>2</dd>" in second and "Evaluated at epoch 2" in second
    assert "Made at epoch 2" in second
    run = read_run(solver.folder)
    count = sum(p.numel() for p in solver.model.parameters())
    assert run.parameters["codec"] == count and f"{count:,}" in second


def test_no_report_and_a_full_disk(
    tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None with generate.report=false, nor on other ranks; a full disk does not end training."""
    solver = make_solver(tmp_path, audio, *BOTH, "generate.report=false")
    stages.write_page(solver)
    solver.cfg.generate.report = True
    with monkeypatch.context() as patch:
        patch.setattr(stages.distrib, "is_rank_zero", lambda: False)
        stages.write_page(solver)
    assert not (solver.folder / "report.html").exists()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (solver.folder / provenance.PROVENANCE).unlink()
    monkeypatch.setattr(stages, "write_report", full)
    monkeypatch.setattr(provenance.audio, "replacing", full)
    with caplog.at_level(logging.ERROR):
        stages.write_page(solver)
        stages.open_run(solver)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("No space left" in text for text in told)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / provenance.PROVENANCE).read_text())


def test_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = torch.nn.Linear(3, 5)
    provenance.git_state.cache_clear()
    device = torch.device("cpu")

    def record(epoch: int) -> list[dict[str, Any]]:
        provenance.record(tmp_path, epoch, device, {"codec": layers})
        return read(tmp_path)["starts"]

    (start,) = record(1)
    assert read(tmp_path)["parameters"] == {"codec": 20}
    assert (start["epoch"], start["device"], start["torch"]) == (1, "CPU", torch.__version__)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode == 0:
        assert start["commit"] == head.stdout.strip() and isinstance(start["dirty"], bool)
    assert record(4) == [start]  # resumed, and nothing has changed
    monkeypatch.setattr(provenance, "git_state", lambda: ("abc", False))
    first, second = record(5)
    assert first == start and second == {**second, "epoch": 5, "commit": "abc", "dirty": False}
    (tmp_path / provenance.PROVENANCE).write_text('{"starts": 3}')
    assert len(record(6)) == 1


@pytest.mark.parametrize("tracked", [True, False])
def test_the_commit_is_that_of_the_code(
    tracked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None where the repository does not track the package."""
    code = tmp_path / "package" / "__init__.py"
    code.parent.mkdir()
    code.write_text("a = 1\n")
    (tmp_path / "other").write_text("")
    for line in ("init -q", f"add {'package' if tracked else 'other'}", "commit -q -m first"):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *line.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "_FILE", code)
    state = provenance.git_state.__wrapped__
    commit, dirty = state()
    assert (commit is not None, dirty) == (tracked, False if tracked else None)
    code.write_text("a = 2\n")
    assert state() == (commit, True if tracked else None)
    monkeypatch.setenv("PATH", "")  # without git
    assert state() == (None, None)
