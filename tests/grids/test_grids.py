"""The experiments that the grid files list, and `dora grid` where there is no SLURM."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dora.explore import Herd, Launcher
from micro import ROOT
from omegaconf import DictConfig

from adversarial_trainer import grids
from adversarial_trainer.grids._explorers import CodecExplorer
from adversarial_trainer.train import main

COUNTS = {"tiny": 4, "discriminators": 12, "encodec_24khz": 15, "study": 48}


def herd_of(name: str) -> Herd:
    """Return what Dora's launcher makes of a grid file."""
    explorer = importlib.import_module(f"{grids.__name__}.{name}").explorer
    assert isinstance(explorer, CodecExplorer)
    herd = Herd()
    shepherd: Any = SimpleNamespace(main=main, get_sheep_from_argv=_sheep)
    explorer(Launcher(shepherd, main.get_slurm_config(), herd))
    return herd


def _sheep(argv: list[str]) -> Any:
    return SimpleNamespace(xp=main.get_xp(argv))


def kbps(cfg: DictConfig) -> float:
    """Bandwidth of all codebooks."""
    frame_rate = cfg.sample_rate / math.prod(cfg.model.seanet.ratios)
    return frame_rate * math.log2(cfg.quantizer.bins) * cfg.quantizer.n_q / 1000


@pytest.mark.parametrize(
    "name", ["tiny", *(pytest.param(n, marks=pytest.mark.slow) for n in list(COUNTS)[1:])]
)
def test_each_run_of_each_grid_is_sound(name: str) -> None:
    herd = herd_of(name)
    (folder,) = grids.__path__
    assert set(COUNTS) == {p.stem for p in Path(folder).glob("[a-z]*.py")}
    # Each configuration has been checked by `get_xp`.
    cfgs = [sheep.xp.cfg for sheep in herd.sheeps.values()]
    assert len(cfgs) == COUNTS[name], "each has its own signature"
    # One job array; settings of the cluster are left to the user.
    assert [len(array) for array in herd.job_arrays if array] == [COUNTS[name]]
    usual = main.get_slurm_config()
    for slurm in herd.slurm_configs.values():
        for key in ("partition", "account", "qos"):
            assert getattr(slurm, key) == getattr(usual, key)
    if name == "discriminators":
        pairs = {(tuple(c.adversarial.discriminators), c.adversarial.loss) for c in cfgs}
        sets = [("msstftd",), ("mpd",), ("msd",), ("msstftd", "mpd")]
        assert pairs == {(s, loss) for s in sets for loss in ("mse", "hinge", "hinge2")}
        assert len({c.adversarial.probability for c in cfgs}) == 1
    if name == "encodec_24khz":
        rates = sorted((kbps(c), c.seed) for c in cfgs)
        assert rates == [(rate, seed) for rate in (1.5, 3, 6, 12, 24) for seed in (1, 2, 3)]
        assert {c.quantizer.q_dropout for c in cfgs} == {0}


@pytest.mark.parametrize("name", ["nosuch", "_explorers"])
def test_an_unknown_grid_is_an_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.check_grid(name)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err == f"error: Unknown grid '{name}'. Choices: {', '.join(sorted(COUNTS))}.\n"


def dora(folder: Path, *argv: str, path: str) -> subprocess.CompletedProcess[str]:
    """`dora ...` with only `path` for PATH."""
    return subprocess.run(
        [sys.executable, "-m", "dora", "-P", "adversarial_trainer", *argv],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DORA_DIR": str(folder), "PATH": path},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.integ
def test_without_slurm_it_says_what_to_do(tmp_path: Path) -> None:
    result = dora(tmp_path, "grid", "tiny", "mpd", path="/nowhere")
    assert result.returncode == 2
    *_, last = result.stderr.splitlines()
    assert last.startswith("error: there is no SLURM here (no sbatch command).")
    assert "`python -m adversarial_trainer.grids NAME`" in last and "`dora run`" in last
    assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) <= 2


@pytest.mark.integ
def test_refusals_of_slurm_are_shown(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text("#!/bin/sh\necho 'sbatch: error: Invalid account' >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    result = dora(tmp_path / "runs", "grid", "tiny", path=f"{tools}:/usr/bin:/bin")
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].endswith("sbatch: error: Invalid account")
