"""The table of a grid of codecs, which `dora grid` and the local runner print."""

from __future__ import annotations

import sys
from typing import Any

import treetable as tt
from dora import Explorer, Sheep


class CodecExplorer(Explorer):
    """Table of progress, adversarial losses, reconstruction and codebook use.

    Cells of stages that have not run are blank.
    """

    def get_grid_metrics(self) -> list[Any]:
        train = [
            tt.leaf("epoch"),
            tt.leaf("steps_per_s", ".2f", display="steps/s"),
            tt.leaf("d_loss", ".2f"),
            tt.leaf("d_acc", ".0%"),
            tt.leaf("adv", ".2f"),
            tt.leaf("feat", ".2f"),
            tt.leaf("perplexity", ".1f", display="ppl"),
        ]
        evaluate = [
            tt.leaf("mel", ".3f"),
            tt.leaf("sisnr", ".2f", display="SI-SNR"),
            tt.leaf("visqol", ".2f", display="ViSQOL"),
            tt.leaf("usage", ".0%"),
            tt.leaf("perplexity", ".1f", display="ppl"),
            tt.leaf("bandwidth", ".2f", display="kb/s"),
        ]
        # Dora would cut the headings to the letters that tell them apart.
        return [
            tt.group("train", train, align=">", shorten=False),
            tt.group("evaluate", evaluate, align=">", shorten=False),
        ]

    def get_colors(self) -> list[str] | None:
        """Colours of alternate rows; none in a file."""
        return super().get_colors() if sys.stdout.isatty() else None

    def process_sheep(self, sheep: Sheep, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Metrics of the last run of each stage. One that was not finite then is not in `history`,
        and stays blank instead of showing an older value."""
        optim = sheep.xp.cfg.optim
        train: dict[str, Any] = {}
        evaluate: dict[str, Any] = {}
        for epoch in history:
            train = epoch.get("train", train)
            evaluate = epoch.get("evaluate", evaluate)
        row = {"epoch": f"{len(history)}/{optim.epochs}", **train}
        if "duration" in train:
            row["steps_per_s"] = optim.updates_per_epoch / train["duration"]
        return {"train": row, "evaluate": evaluate}
