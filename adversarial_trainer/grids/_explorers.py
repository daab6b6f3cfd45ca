"""Tables that `dora grid` prints for codec runs."""

from __future__ import annotations

from typing import Any

import treetable as tt
from dora import Explorer


class CodecExplorer(Explorer):
    """Epoch, who is winning, reconstruction, codebook use; blank where a stage has not run yet."""

    def get_grid_meta(self) -> list[Any]:
        return [
            tt.leaf("index", align=">"),
            tt.leaf("name", wrap=140),
            tt.leaf("state"),
            tt.leaf("sig", align=">"),
        ]

    def get_grid_metrics(self) -> list[Any]:
        return [
            tt.group(
                "train",
                [
                    tt.leaf("epoch"),
                    tt.leaf("d_loss", ".3f"),
                    tt.leaf("d_acc", ".0%"),
                    tt.leaf("adv", ".3f"),
                    tt.leaf("feat", ".3f"),
                    tt.leaf("perplexity", ".1f"),
                ],
                align=">",
            ),
            tt.group("valid", [tt.leaf("l1", ".4f"), tt.leaf("msspec", ".3f")], align=">"),
            tt.group(
                "evaluate",
                [
                    tt.leaf("sisnr", ".2f"),
                    tt.leaf("mel", ".3f"),
                    tt.leaf("stft", ".3f"),
                    tt.leaf("visqol", ".2f"),
                    tt.leaf("usage", ".0%"),
                    tt.leaf("bandwidth", ".2f"),
                ],
                align=">",
            ),
        ]

    def process_history(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """The newest value of each metric of each stage, from `history.json`."""
        out: dict[str, Any] = {"train": {"epoch": len(history)}, "valid": {}, "evaluate": {}}
        for epoch in history:
            for stage in out:
                out[stage].update(epoch.get(stage, {}))
        return out
