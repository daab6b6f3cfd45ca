"""The tiny codec against each family of discriminators: minutes on a CPU.

`dora grid tiny --dry_run --no_monitoring` shows what would be scheduled.
"""

from __future__ import annotations

from typing import Any

from ._explorers import CodecExplorer


@CodecExplorer
def explorer(launcher: Any) -> None:
    launcher.slurm_(gpus=1, time=60, mem_per_gpu=8, cpus_per_gpu=2)
    launcher.bind_({"solver": "tiny"})
    for adversarial in ["none", "msstftd", "mpd", "msd"]:
        launcher({"adversarial": adversarial})
