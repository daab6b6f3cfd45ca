"""Runs on a real SLURM cluster of two pretended nodes: `make test_slurm`; docs/slurm.md.

All runs of the grid in slurm_cluster.py are submitted at once, since most of a run's time is its
start. Accidents happen to some of them in the middle of an epoch; the tests then check the results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from micro import differences, relative_differences
from slurm_cluster import EPOCH, LIMIT, PATH, RUN, RUNS, Cluster, wait_for

NEEDED = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sacct")
pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacking := [tool for tool in NEEDED if shutil.which(tool, path=PATH) is None]:
        pytest.skip(
            f"no SLURM here ({', '.join(lacking)} not found): "
            "apt-get install slurm-wlm slurmdbd munge mariadb-server"
        )
    if os.geteuid() != 0:
        pytest.skip("a SLURM cluster of one's own needs root")
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def requeue(cluster: Cluster, name: str) -> None:
    """Requeue it, as an administrator does, or the cluster after the failure of a node."""
    cluster("scontrol", "requeue", cluster.job(name))
    cluster.starts_again(name)


def run_out_of_time(cluster: Cluster, name: str) -> None:
    """Let it time out. SLURM checks every half minute; the run is stopped until its warning."""
    # The warning comes 90 s before the end: at the next check, if 45 to 105 s are left.
    minutes = (int(cluster.field(name, "ElapsedRaw")) + 45) // 60 + 1
    cluster("scontrol", "update", f"JobId={cluster.job(name)}", f"TimeLimit={minutes}")
    cluster.starts_again(name)
    assert "Caught signal SIGUSR2" in cluster.log(name)
    assert "this job is timed-out" in cluster.log(name)


def terminate(cluster: Cluster, name: str) -> None:
    """Send a warning, as before a preemption in a partition with a GraceTime."""
    cluster("scancel", "--signal=TERM", cluster.job(name))
    for process in cluster.processes(name).values():
        os.kill(process, signal.SIGCONT)
    cluster.starts_again(name)
    assert "Caught signal SIGTERM" in cluster.log(name)


def cancel(cluster: Cluster, name: str) -> None:
    """Cancel it by Dora, upon which SLURM sends SIGTERM; and submit it again."""
    before = cluster.job(name)
    assert f"Canceling job {before}" in cluster.grid("--cancel", only=name)
    assert cluster.ends(name) == "CANCELLED", "and not queued again"
    cluster.grid("--no_monitoring", "--retry", only=name)
    assert cluster.job(name) != before


def kill_a_rank(cluster: Cluster, name: str) -> None:
    processes = cluster.processes(name)
    os.kill(processes[1], signal.SIGKILL)
    os.kill(processes[0], signal.SIGCONT)
    assert cluster.ends(name, 60) == "FAILED", "the whole job, and soon"


ACCIDENTS = {
    "dying": kill_a_rank,
    "requeued": requeue,
    "cancelled": cancel,
    "timed_out": run_out_of_time,
    "terminated": terminate,
}


def accident(cluster: Cluster, name: str) -> None:
    """Stop the run in the middle of an epoch, and let its accident happen."""
    wait_for(lambda: cluster.in_the_middle(name), f"the middle of {name}")
    processes = cluster.processes(name)
    assert len(processes) == RUNS[name][0]
    for process in processes.values():
        os.kill(process, signal.SIGSTOP)
    ACCIDENTS[name](cluster, name)


@pytest.fixture(scope="module")
def table(cluster: Cluster) -> str:
    """The grid's table when all runs have ended."""
    cluster.grid("--no_monitoring")
    with ThreadPoolExecutor() as pool:
        for result in [pool.submit(accident, cluster, name) for name in ACCIDENTS]:
            result.result()
    cluster.grid("-i", "0.05")  # until all have ended
    # Dora reads histories before states: the last table may lack a last epoch.
    return cluster.grid("--no_monitoring")


def row(cluster: Cluster, table: str, name: str) -> str:
    return next(line for line in table.splitlines() if cluster.folder(name).name in line)


def test_a_grid_ends_with_metrics_in_its_table(cluster: Cluster, table: str) -> None:
    for name in RUNS.keys() - {"failing", "dying"}:
        assert cluster.field(name) == "COMPLETED", f"{name}: {cluster.log(name)[-3000:]}"
        line = row(cluster, table, name)
        assert "COM" in line
        history = json.loads((cluster.folder(name) / "history.json").read_text())
        assert len(history) == (1 if name == "sixteen" else 2)
        shown = [float(number) for number in re.findall(r"-?\d+\.\d+", line)]
        mel = history[-1]["evaluate"]["mel"]
        assert any(abs(number - mel) < 0.01 for number in shown), line
    # An array, and jobs of several processes.
    assert cluster.job("one").partition("_")[0] == cluster.job("other").partition("_")[0]
    assert cluster.field("two", "NNodes") == "1" and cluster.field("sixteen", "NNodes") == "2"
    logs = cluster.folder("sixteen") / "latest"
    assert len(list(logs.glob(f"{cluster.job('sixteen')}_*_log.out"))) == 16


def test_nothing_is_scheduled_twice(cluster: Cluster, table: str) -> None:
    before = cluster("sacct", "-X", "-n", "-P", "-o", "JobID").split()
    assert len(before) == len(RUNS) + 1, "each once, and the one that was cancelled twice"
    assert "Scheduled" not in cluster.grid("--no_monitoring")
    assert cluster("sacct", "-X", "-n", "-P", "-o", "JobID").split() == before


@pytest.mark.parametrize("name", ["two", "sixteen"])
def test_several_processes_give_the_numbers_of_one(cluster: Cluster, table: str, name: str) -> None:
    """On one node and on two; all tensors of the checkpoint."""
    epochs = 1 if name == "sixteen" else 2
    ours, reference = cluster.state(name, epochs), cluster.state("one", epochs)
    for state in (ours, reference):
        del state["ranks"]  # each process's own
    found = relative_differences(ours, reference)
    assert len(found) > 200
    # Rounding grows with each update (docs/scaling.md); a mistake differs from the first digits on.
    assert {path: value for path, value in found.items() if not value < 1e-7} == {}


@pytest.mark.parametrize(
    "name, undisturbed",
    [("requeued", "one"), ("timed_out", "two"), ("cancelled", "one"), ("terminated", "two")],
)
def test_a_resumed_run_equals_an_undisturbed_one(
    cluster: Cluster, table: str, name: str, undisturbed: str
) -> None:
    """No update is lost or repeated: the end is the same, bit for bit."""
    log = (cluster.folder(name) / "solver.log.0").read_text()
    if name in ("timed_out", "terminated"):  # the others have KillWait to save, if that is enough
        assert re.search(rf"Resuming from epoch 2, update \d+ \(\d+ of the {EPOCH} in", log)
    # On a slow machine time may run out more than once.
    most = 20 if name == "timed_out" else 1
    assert 1 <= log.count("Resuming from") <= most
    assert log.count("Train summary | Epoch 1") == log.count("Train summary | Epoch 2") == 1
    assert differences(cluster.state(name), cluster.state(undisturbed)) == []
    lives = cluster("sacct", "-X", "-D", "-n", "-P", "-j", cluster.job(name)).splitlines()
    ends = log.count("Resuming from")
    assert len(lives) == (1 if name == "cancelled" else ends + 1), lives


def test_failed_runs(cluster: Cluster, table: str) -> None:
    """One with a wrong path, and one with a process that died; soon, says `kill_a_rank`."""
    assert cluster.field("failing") == "FAILED"
    assert "error: dset.path='/nowhere': no such folder\n" in cluster.log("failing")
    assert "FAI" in row(cluster, table, "failing") and "FAI" in row(cluster, table, "dying")
    assert cluster.processes("dying") == {} and "Killed" in cluster.log("dying")


def test_git_save_runs_the_commit(cluster: Cluster) -> None:
    """Not the changed working tree; and requests to SLURM come from the environment."""
    config = cluster.repository / "config" / "config.yaml"
    assert "git_save: false" in config.read_text()
    config.write_text(config.read_text().replace("git_save: false", "git_save: true"))
    saved = cluster.commit()
    argv = ["--no_tail", *RUN, f"dset.path={cluster.audio}", "seed=2", "optim.epochs=1"]
    asked = {"ACCOUNT": "lab", "QOS": "long", "CONSTRAINT": "a100", "TIME": "7", "MEM_GB": "1"}
    environment = {f"SLURM_{name}": value for name, value in asked.items()}
    cluster("scontrol", "update", "PartitionName=main", "State=DOWN")  # jobs wait
    output = cluster.dora("launch", *argv, "slurm.cpus_per_gpu=2", limit=LIMIT, **environment)
    job, sig = re.findall(r"Scheduled job (\d+) for sheep (\w+)", output)[0]
    fields = "Partition,Account,QOS,Constraints,TimelimitRaw,ReqMem,ReqCPUS"
    sacct = ("sacct", "-X", "-n", "-P", "-j", job, "-o", fields)
    wait_for(lambda: bool(cluster(*sacct)), "sacct", 30)
    assert cluster(*sacct) == "main|lab|long|a100|7|1G|2\n"

    package = cluster.repository / "solvers" / "__init__.py"
    package.write_text(package.read_text() + 'print("the working tree")\n')
    refused = cluster.dora("launch", *argv, "seed=3", check=False)
    assert "Repository is not clean" in refused and "solvers/__init__.py" in refused
    cluster("scontrol", "update", "PartitionName=main", "State=UP")
    wait_for(lambda: not cluster("squeue", "-h", "-j", job, check=False), f"the end of {job}")
    folder = cluster.outputs / "xps" / sig
    log = (folder / "latest" / f"{job}_0_log.out").read_text()
    assert f"CWD is {cluster.outputs}/codes/{saved}\n" in log
    assert "Train summary | Epoch 1" in log and "the working tree" not in log
    assert (folder / "checkpoint.th").exists()
    cluster("git", "checkout", "--quiet", ".")
