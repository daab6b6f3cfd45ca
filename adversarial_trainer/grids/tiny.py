"""The tiny codec without discriminators and against each family of them: minutes each on a CPU."""

from __future__ import annotations

from dora import Launcher

from ._explorers import CodecExplorer


@CodecExplorer
def explorer(launcher: Launcher) -> None:
    launcher.slurm_(gpus=0, cpus_per_gpu=2, mem_per_gpu=8, time=60)  # a task without a GPU
    launcher.bind_({"solver": "tiny"})
    with launcher.job_array():
        for adversarial in ["none", "msstftd", "mpd", "msd"]:
            launcher({"adversarial": adversarial})
