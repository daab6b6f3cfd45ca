"""Long tests of the real command line: `make test_integ`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import (
    ROOT,
    command,
    dora_run,
    relative_differences,
    without_durations,
    write_audio,
)

pytestmark = pytest.mark.integ

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
# All that draws or remembers.
EVERYTHING = [
    *("schedule=cosine", "schedule.total_updates=20", "optim.ema.decay=0.9"),
    *("adversarial.discriminators=[msstftd,msd]", "adversarial.probability=0.6667"),
]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio", 8)


def checkpoint_of(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("xps/*/checkpoint.th")
    return torch.load(path, weights_only=True)


def check_equal(state: dict[str, Any], other: dict[str, Any]) -> None:
    """Two runs in float64 are equal up to the order of sums."""
    del state["ranks"], other["ranks"]  # each process's own
    for side in (state, other):
        side["history"] = without_durations(side["history"])
        del side["unfinished"], side["health"]  # seconds
    found = relative_differences(state, other)
    assert {path: value for path, value in found.items() if not value < 1e-9} == {}


@pytest.mark.parametrize("how", ["dora -d", "torchrun"])
def test_two_processes_equal_one(tmp_path: Path, audio: Path, how: str) -> None:
    """With unequal shares of the batch (3 = 1 + 2); then each resumes with the other's number of
    processes."""
    argv = [*EVERYTHING, "precision=float64", "dataset.batch_size=3", "dataset.valid_samples=5"]
    # Adam turns rounding errors of gradients that are zero into whole steps; this keeps them small.
    argv += ["optim.eps=1e-3", "adversarial.optim.eps=1e-3"]
    argv += ["model.seanet.n_filters=4", "evaluate.every=1", "generate.every=1"]
    argv += ["logging.tensorboard=true", "dataset.num_workers=1"]
    one, two = tmp_path / "one", tmp_path / "two"

    def alone(folder: Path, epochs: int) -> str:
        return dora_run(*command(folder, audio, *argv, f"optim.epochs={epochs}"))

    def together(folder: Path, epochs: int) -> str:
        line = command(folder, audio, *argv, f"optim.epochs={epochs}")
        if how == "dora -d":
            return dora_run("-d", "--ddp_workers", "2", *line)
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
        return dora_run(*line, prefix=torchrun)

    alone(one, 1)
    output = together(two, 1)
    assert "Traceback" not in output and "destroy_process_group" not in output
    assert output.count("Train summary | Epoch 1") == 1, "only the first process prints"

    check_equal(checkpoint_of(two), checkpoint_of(one))
    (run,) = (two / "xps").iterdir()
    assert "Train summary | Epoch 1" in (run / "solver.log.1").read_text()
    assert len(list((run / "tensorboard").iterdir())) == 1

    assert "Resuming from epoch 1, update 3" in alone(two, 2)
    assert "Resuming from epoch 1, update 3" in together(one, 2)
    check_equal(checkpoint_of(two), checkpoint_of(one))


def test_an_error_of_two_processes_is_one_line(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run"]
    result = subprocess.run(
        [*line, "-d", "--ddp_workers", "2", *command(tmp_path, Path("/nowhere"))],
        cwd=ROOT,
        env=ENV,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.count("error: dset.path='/nowhere': no such folder\n") == 1
    assert "Traceback" not in result.stdout


def test_a_job_that_sbatch_refuses_is_one_line(tmp_path: Path) -> None:
    for name in ("sbatch", "srun", "sacct"):
        text = "echo no such partition >&2; exit 1" if name == "sbatch" else "exit 0"
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o700)
    env = {**ENV, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DORA_DIR": str(tmp_path / "out")}
    line = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "launch", "solver=tiny"]
    result = subprocess.run(line, cwd=ROOT, env=env, text=True, capture_output=True, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.endswith("error: SLURM took no job: no such partition\n")


def test_demo(tmp_path: Path) -> None:
    """`make demo` with fewer updates: metrics improve, and its files are there."""
    fewer = ["optim.epochs=2", "optim.updates_per_epoch=60", "adversarial.start_step=60"]
    fewer += ["evaluate.every=2", "generate.every=2", "schedule.total_updates=120"]

    def demo() -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "scripts/demo.py", *fewer],
            cwd=ROOT,
            env={**ENV, "DORA_DIR": str(tmp_path / "demo")},
            text=True,
            capture_output=True,
            timeout=400,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
        return result

    result = demo()
    (run,) = (tmp_path / "demo" / "xps").iterdir()
    history = json.loads((run / "history.json").read_text())
    start, end = history[0]["start"], history[-1]["evaluate"]
    assert end["mel"] < start["mel"] and end["stft"] < start["stft"]
    assert f"{start['mel']:.2f}" in result.stdout and f"{end['mel']:.2f}" in result.stdout
    assert (run / "checkpoint.th").exists()
    assert len(list(run.glob("samples/2/*.png"))) == len(list(run.glob("samples/2/*original.wav")))
    assert len(list(run.glob("samples/2/*kbps.wav"))) >= 4

    trained = (run / "checkpoint.th").read_bytes()
    again = demo()  # shows what there is
    assert "Nothing to do: 2 epochs are done" in again.stderr
    assert f"{end['mel']:.2f}" in again.stdout
    assert (run / "checkpoint.th").read_bytes() == trained
