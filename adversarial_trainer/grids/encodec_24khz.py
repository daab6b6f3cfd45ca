"""EnCodec with as many codebooks as a bandwidth takes, all of them always in use: 5 x 3 seeds.

The recipe itself draws the number of codebooks at each update, so that one model serves all these
bandwidths. These runs show what the codec can do at each of them, and how much seeds differ.
"""

from __future__ import annotations

from dora import Launcher

from ._explorers import CodecExplorer

CODEBOOK = 75 * 10 / 1000  # kb/s of one: 75 frames a second, 10 bits each
BANDWIDTHS = [1.5, 3.0, 6.0, 12.0, 24.0]  # kb/s
SEEDS = [1, 2, 3]  # none is the default: all names say theirs


@CodecExplorer
def explorer(launcher: Launcher) -> None:
    launcher.bind_({"solver": "encodec", "evaluate.metrics.visqol": True})
    launcher.bind_({"quantizer.q_dropout": 0.0, "quantizer.dropout_choices": None})
    with launcher.job_array():
        for bandwidth in BANDWIDTHS:
            for seed in SEEDS:
                launcher({"quantizer.n_q": round(bandwidth / CODEBOOK), "seed": seed})
