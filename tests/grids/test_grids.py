"""The experiments that the grid files list, and `dora grid` where there is no SLURM."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dora.explore import Herd, Launcher
from dora.grid import _get_explore as get_explore
from micro import ROOT
from omegaconf import DictConfig

from adversarial_trainer import grids
from adversarial_trainer.grids._explorers import CodecExplorer
from adversarial_trainer.train import main
from solvers import check_config

COUNTS = {"tiny": 4, "discriminators": 12, "encodec_24khz": 15}


def herd_of(name: str) -> Herd:
    """What Dora's own launcher makes of a grid file."""
    explorer = get_explore(SimpleNamespace(grid=name), main)
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


def test_these_are_all_files() -> None:
    (folder,) = grids.__path__
    names = {path.stem for path in Path(folder).glob("*.py") if not path.stem.startswith("_")}
    assert names == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_each_run_of_each_grid_is_sound(name: str) -> None:
    herd = herd_of(name)
    cfgs = [sheep.xp.cfg for sheep in herd.sheeps.values()]
    assert len(cfgs) == COUNTS[name], "keyed by signature: as many as were asked for"
    for cfg in cfgs:
        check_config(cfg)
    # One job array, and nothing that depends on the cluster.
    assert [len(array) for array in herd.job_arrays if array] == [COUNTS[name]]
    usual = main.get_slurm_config()
    for slurm in herd.slurm_configs.values():
        assert (slurm.partition, slurm.account, slurm.qos) == (
            usual.partition,
            usual.account,
            usual.qos,
        )
    if name == "discriminators":
        pairs = {(tuple(c.adversarial.discriminators), c.adversarial.loss) for c in cfgs}
        sets = [("msstftd",), ("mpd",), ("msd",), ("msstftd", "mpd")]
        assert pairs == {(s, loss) for s in sets for loss in ("mse", "hinge", "hinge2")}
        assert len({c.adversarial.probability for c in cfgs}) == 1
    if name == "encodec_24khz":
        rates = sorted((kbps(c), c.seed) for c in cfgs)
        assert rates == [(rate, seed) for rate in (1.5, 3, 6, 12, 24) for seed in (1, 2, 3)]
        assert {c.quantizer.q_dropout for c in cfgs} == {0}


@pytest.mark.parametrize("name", ["nosuch", "_explorers", "__main__", "tiny.py"])
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
@pytest.mark.parametrize("argv", [["grid", "tiny", "mpd"], ["launch", "solver=tiny"]], ids=str)
def test_without_slurm_it_says_what_to_do(tmp_path: Path, argv: list[str]) -> None:
    result = dora(tmp_path, *argv, path="/nowhere")
    assert result.returncode == 2
    *_, last = result.stderr.splitlines()
    assert last.startswith("error: there is no SLURM here (no sbatch command).")
    assert "`python -m adversarial_trainer.grids NAME`" in last and "`dora run`" in last
    assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) <= 2


@pytest.mark.integ
def test_what_needs_no_slurm_works_without(tmp_path: Path) -> None:
    result = dora(tmp_path, "grid", "tiny", "--dry_run", path="/nowhere")
    assert result.returncode == 0 and result.stderr == ""
    for name in ("none", "msstftd", "mpd", "msd"):
        assert f"adversarial={name} " in result.stdout
    listed = dora(tmp_path, "grid", path="/nowhere")
    names = listed.stderr.partition("Potential grids are: ")[2].strip().split(", ")
    assert listed.returncode == 0 and sorted(names) == sorted(COUNTS)  # in the folder's order


@pytest.mark.integ
def test_what_slurm_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text("#!/bin/sh\necho 'sbatch: error: Invalid account' >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    result = dora(tmp_path / "runs", "grid", "tiny", path=f"{tools}:/usr/bin:/bin")
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].endswith("sbatch: error: Invalid account")
