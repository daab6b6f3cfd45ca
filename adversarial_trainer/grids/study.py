"""What trains the best small codec in a given time: 16 variants, three seeds each.

`optim.max_time` is the budget. scripts/study.py makes a table and curves of its runs.
"""

from __future__ import annotations

from typing import Any

from dora import Launcher

from ._explorers import CodecExplorer

SEEDS = [1, 2, 3]
VARIANTS: list[dict[str, Any]] = [
    # Discriminators of the MDCT codec.
    {"solver": "tiny_mdct", "adversarial": "none"},
    {"solver": "tiny_mdct", "adversarial": "mdct"},
    {"solver": "tiny_mdct", "adversarial": "msstftd"},
    {"solver": "tiny_mdct", "adversarial": "mpd"},
    {"solver": "tiny_mdct", "adversarial": "msd"},
    {"solver": "tiny_mdct", "adversarial": "msstftd", "adversarial.discriminators": ["mrd"]},
    # Generators and quantizers.
    {"solver": "tiny"},
    {"solver": "tiny_fsq"},
    {"solver": "tiny_dac"},
    {
        **{"solver": "tiny_mdct", "adversarial": "mdct"},
        **{"quantizer": "dac_tiny", "losses.penalty": 1},
    },
    # Losses of the game, and fixed weights. With the default, hinge2, see above.
    {"solver": "tiny_mdct", "adversarial": "mdct", "adversarial.loss": "mse"},
    {"solver": "tiny_mdct", "adversarial": "mdct", "adversarial.loss": "hinge"},
    {"solver": "tiny_mdct", "adversarial": "mdct", "adversarial.loss": "nonsaturating"},
    {
        **{"solver": "tiny_mdct", "adversarial": "mdct", "adversarial.loss": "relativistic"},
        "adversarial.penalty.weight": 1,
    },
    {"solver": "tiny_mdct", "adversarial": "mdct", "balancer": "none"},
    # AudioCraft's settings of EnCodec, at the size of tiny.
    {
        **{"solver": "tiny", "losses": "audiocraft", "adversarial": "msstftd_audiocraft"},
        **{"quantizer.kmeans_iters": 50, "data_init": False, "optim.ema.decay": 0.99},
        **{"schedule": "constant"},
        **{"optim.lr": 3e-4, "adversarial.optim.lr": 3e-4, "adversarial.start_step": 0},
    },
]


@CodecExplorer
def explorer(launcher: Launcher) -> None:
    launcher.slurm_(gpus=0, cpus_per_gpu=2, mem_per_gpu=8, time=60)
    # The budget ends a run with its epoch, so these are short.
    launcher.bind_({"optim.epochs": 100_000, "optim.updates_per_epoch": 50, "optim.max_time": 15})
    launcher.bind_({"evaluate.every": 10, "generate.every": 0, "evaluate.num_files": 32})
    with launcher.job_array():
        for seed in SEEDS:  # first all variants once
            for variant in VARIANTS:
                launcher(variant, {"seed": seed})
