"""The real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_export_as_users_call_it(run: Path, tmp_path: Path) -> None:
    """By signature, as the run is listed."""
    env = {**os.environ, "DORA_DIR": str(run.parents[1]), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "adversarial_trainer.cli", "export", run.name, "out"]
    result = subprocess.run(
        [*argv, "--format", "safetensors"],
        cwd=tmp_path,
        env=env,
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert "out/model.safetensors" in result.stdout and "licence: unknown" in result.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "config.yaml", "model.safetensors"}
    again = subprocess.run(
        [*argv, "--format", "hf"], cwd=tmp_path, env=env, text=True, capture_output=True
    )
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert "out is not empty; --force" in again.stderr
