"""What each option that trades exactness for speed does to a codec: 6 short runs of the tiny one.

Three runs as they are, with a seed each, show how far runs differ of themselves.
"""

from __future__ import annotations

from dora import Launcher

from ._explorers import CodecExplorer

OPTIONS = [
    {"precision": "bf16"},
    {"adversarial.every": 2},
    {"precision": "bf16", "adversarial.every": 2},
]


@CodecExplorer
def explorer(launcher: Launcher) -> None:
    launcher.slurm_(gpus=0, cpus_per_gpu=2, mem_per_gpu=8, time=60)  # a task without a GPU
    launcher.bind_({"solver": "tiny", "optim.updates_per_epoch": 200})  # times 5 epochs
    # Less of everything, and discriminators for nine tenths of the updates.
    launcher.bind_({"adversarial.start_step": 100, "adversarial.msstftd.filters": 4})
    launcher.bind_({"dataset.segment_duration": 0.5})
    with launcher.job_array():
        for seed in [2036, 2037, 2038]:
            launcher({"seed": seed})
        for option in OPTIONS:
            launcher(option)
