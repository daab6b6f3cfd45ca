"""Which discriminators, with which loss, train the better EnCodec: 4 x 3 runs.

Table 2 of EnCodec's paper (arXiv 2210.13438) compares discriminators; here each meets each loss.
"""

from __future__ import annotations

from dora import Launcher

from ._explorers import CodecExplorer


@CodecExplorer
def explorer(launcher: Launcher) -> None:
    launcher.bind_({"solver": "encodec", "evaluate.metrics.visqol": True})
    # The paper's 2/3 for all of them: of themselves, mpd and msd are updated at each step.
    launcher.bind_({"adversarial.probability": 0.667})
    with launcher.job_array():
        for adversarial in ["msstftd", "mpd", "msd", "msstftd_mpd"]:
            for loss in ["mse", "hinge", "hinge2"]:
                launcher({"adversarial": adversarial, "adversarial.loss": loss})
