"""The soak, for a minute; and that it would find something, if there were something to find."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT

pytestmark = pytest.mark.integ


def soak(
    folder: Path, *argv: str, python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    if python_path is not None:
        env["PYTHONPATH"] = str(python_path)
    line = [sys.executable, str(ROOT / "scripts" / "soak.py"), *argv]
    return subprocess.run(line, env=env, text=True, capture_output=True, timeout=580)


def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    result = soak(
        tmp_path, "--minutes", "0.7", "--seed", "5", "--json", str(tmp_path / "soak.json")
    )
    assert result.returncode == 0, result.stdout + result.stderr
    match = re.fullmatch(r"(\d+) faults, 0 lost", result.stdout.splitlines()[-1])
    assert match is not None and int(match.group(1)) >= 3, result.stdout
    figures = json.loads((tmp_path / "soak.json").read_text())
    assert figures["faults"] == int(match.group(1)) and figures["lost"] == []
    scratch = re.search(r" in (/\S+soak_\w+),", result.stdout)
    assert scratch is not None and not Path(scratch.group(1)).exists()


# What a run that loses something does, once it goes on from a checkpoint; and what shows it.
SABOTAGE = {
    "a batch done twice": (
        "update .* differs",
        """
from solvers.state import UnfinishedEpoch
load = UnfinishedEpoch.load_state_dict
def load_state_dict(self, state):
    load(self, state)
    self.done = max(0, self.done - 1)
UnfinishedEpoch.load_state_dict = load_state_dict
""",
    ),
    "averaged weights forgotten": (
        "checkpoint.th.ema|update .* differs|history.json differs",
        """
from adversarial_trainer.training import ModuleEMA
ModuleEMA.load_state_dict = lambda self, state: self.reset()
""",
    ),
    "a signal that saves nothing": (
        "ended with status|has not saved|on disk",
        """
import sys
from solvers.base import BaseSolver
save = BaseSolver.save
BaseSolver.save = lambda self, epoch=None: self.stop_agreed or save(self, epoch)
""",
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_loss_is_found(tmp_path: Path, name: str) -> None:
    found, code = SABOTAGE[name]
    (tmp_path / "sitecustomize.py").write_text(code)
    result = soak(tmp_path, "--minutes", "4", "--seed", "5", "--real", "0", python_path=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.fullmatch(r"\d+ faults, [1-9]\d* lost", result.stdout.splitlines()[-1])
    assert re.search(f"LOST in run .*({found})", result.stderr), result.stderr
    kept = re.search(r"What is left of the runs is in (\S+)", result.stdout)
    assert kept is not None and list(Path(kept.group(1)).rglob("checkpoint.th"))
