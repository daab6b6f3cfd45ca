"""A SLURM cluster on this machine, and a grid of small runs for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from micro import MICRO, ROOT, without_durations, write_audio

SCRIPT = ROOT / "scripts" / "local_slurm.sh"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# Seconds that a run may take, with others beside it on two cores.
LIMIT = 300

EPOCH = 12  # updates
RUN = [
    *MICRO,
    *("precision=float64", "dataset.batch_size=16", "dataset.segment_duration=0.1"),
    *("dataset.valid_samples=32", f"optim.updates_per_epoch={EPOCH}", "optim.epochs=2"),
    "hang_timeout=300",
    *("adversarial.probability=0.6667", "optim.ema.decay=0.9", "evaluate.every=1"),
    # Adam turns rounding errors of gradients that are zero into whole steps; a larger epsilon keeps
    # them small.
    *("optim.eps=1e-3", "adversarial.optim.eps=1e-3"),
]
# Runs by name: GPUs, and overrides. TAG gives each its own signature without changing its numbers:
# no gradient is as large.
RUNS = {
    "one": (1, []),
    "failing": (1, ["dset.path=/nowhere"]),
    "other": (1, ["seed=1"]),
    "two": (2, []),
    "requeued": (1, []),
    "cancelled": (1, []),
    "timed_out": (2, []),
    "dying": (2, []),
    "terminated": (2, []),
    "sixteen": (16, ["optim.epochs=1"]),
}
ARRAY = ["one", "failing", "other"]
TAG = {name: f"optim.max_norm={10**6 + number}" for number, name in enumerate(RUNS)}

GRID = f"""
from adversarial_trainer.grids._explorers import CodecExplorer

@CodecExplorer
def explorer(launcher):
    launcher.slurm_(cpus_per_gpu=1, mem_per_gpu=1, time=10)
    launcher.bind_([*{RUN!r}, "dset.path=AUDIO"])
    runs = {RUNS!r}
    tags = {TAG!r}
    with launcher.job_array():
        for name in {ARRAY!r}:
            launcher([tags[name], *runs.pop(name)[1]])
    for name, (gpus, overrides) in runs.items():
        launcher.slurm(gpus=gpus)([tags[name], *overrides])
"""


def wait_for(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {limit:g} s"
        time.sleep(0.1)


class Cluster:
    """A cluster, a clean repository with the grid `micro`, and its runs.

    As a context manager it starts the cluster and stops it.
    """

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self.outputs = folder / "outputs"
        self.slurm = folder / "slurm"
        self.audio = write_audio(folder / "audio", 8)
        self.folders: dict[str, Path] = {}  # of runs by name
        self.env = {
            **os.environ,
            "PATH": PATH,
            "SLURM_CONF": str(self.slurm / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
            "DORA_DIR": str(self.outputs),
        }
        for name in list(self.env):  # if this runs in a job itself
            if re.match(r"SLURM_(?!CONF)|SBATCH_|(RANK|LOCAL_RANK|WORLD_SIZE)$", name):
                del self.env[name]
        for name in ("adversarial_trainer", "solvers", "config"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.repository / name, ignore=ignored)
        shutil.copy(ROOT / ".gitignore", self.repository)
        grid = self.repository / "adversarial_trainer" / "grids" / "micro.py"
        grid.write_text(GRID.replace("AUDIO", str(self.audio)))
        self("git", "init", "--quiet")
        self.commit()

    def __enter__(self) -> Cluster:
        self(str(SCRIPT), "start", str(self.slurm), limit=180)
        return self

    def __exit__(self, *exc: object) -> None:
        self(str(SCRIPT), "stop", str(self.slurm), limit=180)

    def commit(self) -> str:
        """Commit everything in the repository; return the commit's name."""
        self("git", "add", "--all")
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        self("git", *who, "commit", "--quiet", "--message", "test")
        return self("git", "rev-parse", "HEAD").strip()

    def __call__(self, *line: str, limit: float = 60, check: bool = True, **env: str) -> str:
        """Return the output of a command in the repository."""
        result = subprocess.run(
            line,
            cwd=self.repository,
            env={**self.env, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
        assert result.returncode == 0 or not check, f"{line}\n{result.stdout[-4000:]}"
        return result.stdout

    def dora(self, *argv: str, **kwargs: Any) -> str:
        return self(sys.executable, "-m", "dora", "-P", "adversarial_trainer", *argv, **kwargs)

    def grid(self, *flags: str, only: str | None = None) -> str:
        """Return the output of `dora grid micro`, for all runs or one."""
        which = [] if only is None else [str(list(RUNS).index(only))]
        return self.dora("grid", *flags, "micro", *which, limit=LIMIT)

    def folder(self, name: str) -> Path:
        """Return the folder of a run."""

        def find() -> bool:
            # Each process of each run writes its file again when it starts.
            for path in self.outputs.glob("xps/*/.argv.json"):
                if f'"{TAG[name]}"' in path.read_text():
                    self.folders[name] = path.parent
            return name in self.folders

        wait_for(find, f"the folder of {name}", 10)
        return self.folders[name]

    def job(self, name: str) -> str:
        """Return the number of its job."""
        return json.loads((self.folder(name) / "job.json").read_text())["job_id"]

    def log(self, name: str) -> str:
        """Return the output of its first process, of all starts."""
        path = self.folder(name) / "latest" / f"{self.job(name)}_0_log.out"
        return path.read_text() if path.exists() else ""

    def field(self, name: str, field: str = "State") -> str:
        """Return a field of sacct for its job."""
        argv = ("-X", "-n", "-P", "-j", self.job(name), "-o", field)
        return self("sacct", *argv).strip().partition(" ")[0]

    def ends(self, name: str, limit: float = LIMIT) -> str:
        """Wait for the end of its job; return its state."""
        going = ("", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED")
        state: list[str] = []

        def ended() -> bool:
            state[:] = [self.field(name)]
            return state[0] not in going

        wait_for(ended, f"the end of {name}", limit)
        return state[0]

    def in_the_middle(self, name: str) -> bool:
        """Return whether it has done six updates of its second epoch."""
        path = self.folder(name) / "solver.log.0"
        return path.exists() and f"Train | Epoch 2 | 6/{EPOCH}" in path.read_text()

    def processes(self, name: str) -> dict[int, int]:
        """Return its process numbers by rank."""
        job = self.field(name, "JobIDRaw")
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                line = (path / "cmdline").read_bytes()
                variables = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended
                continue
            environment = dict(entry.partition("=")[::2] for entry in variables)
            ours = environment.get("SLURM_CONF") == self.env["SLURM_CONF"]
            ours = ours and environment.get("SLURM_JOB_ID") == job
            if ours and b"submitit.core._submit" in line and b"srun" not in line:
                found[int(environment["SLURM_PROCID"])] = int(path.name)
        return found

    def starts_again(self, name: str) -> None:
        """Skip the pause before a requeued job starts."""
        wait_for(lambda: "PD" in self("squeue", "-h", "-j", self.job(name), "-o", "%t"), name)
        self("scontrol", "update", f"JobId={self.job(name)}", "StartTime=now")

    def state(self, name: str, epoch: int = 2) -> dict[str, Any]:
        """Return its checkpoint without its configuration, signature and times."""
        state = torch.load(self.folder(name) / f"checkpoint_{epoch}.th", weights_only=True)
        state["history"] = without_durations(state["history"])
        state["unfinished"] = None  # seconds
        return {key: value for key, value in state.items() if key not in ("config_text", "sig")}
