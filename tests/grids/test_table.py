"""Cells of a grid's table, as `dora grid` prints it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from dora.grid import RunGridArgs, monitor
from micro import make_cfg

from adversarial_trainer.grids._explorers import CodecExplorer

TRAIN = {
    **{"d_loss": 1.9649, "d_acc": 0.625, "d_acc/fft1024": 0.7, "adv": 0.7312, "feat": 12.349},
    **{"perplexity": 412.36, "usage": 0.25, "bandwidth": 9.3, "l1": 0.1, "duration": 125.0},
}
EVALUATE = {
    **{"mel": 0.87654, "sisnr": -3.456, "visqol": 4.237, "usage": 0.995, "perplexity": 800.44},
    **{"bandwidth": 24.0, "stft": 1.0, "duration": 60.0},
}


def rows(*histories: list[dict[str, Any]]) -> list[list[list[str]]]:
    """Return the cells of each run with these histories, in groups; blank ones are left out."""
    cfg = make_cfg("optim.epochs=300", "optim.updates_per_epoch=2000")
    sheep: list[Any] = [
        SimpleNamespace(
            xp=SimpleNamespace(cfg=cfg, sig=f"{index:08x}", history=history),
            state=lambda: "RUNNING",
            is_done=lambda: False,
            current_job_id=None,
        )
        for index, history in enumerate(histories)
    ]
    main: Any = SimpleNamespace(
        get_names=lambda xps: (["run"] * len(xps), ""), get_xp_history=lambda xp: xp.history
    )
    lines: list[str] = []
    monitor(RunGridArgs(), main, CodecExplorer(lambda launcher: None), sheep, lines.append)
    _, heading, *found = lines[0].splitlines()
    names = "epoch steps/s d_loss d_acc adv feat ppl | mel SI-SNR ViSQOL usage ppl kb/s"
    assert names in " ".join(heading.split())
    return [[cells.split() for cells in line.split(" | ")] for line in found]


def test_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {key: value for key, value in TRAIN.items() if key[:2] != "d_" and key != "adv"}
    running, new, without_gan, not_finite = rows(
        [
            {"train": {**TRAIN, "d_loss": 3.0}, "evaluate": {**EVALUATE, "mel": 2.0}},
            {"train": {**TRAIN, "d_acc": 0.9}, "evaluate": EVALUATE},
            {"train": TRAIN, "valid": {"l1": 0.2}},
        ],
        [],
        [{"train": plain}],
        [{"train": TRAIN}, {"train": {**plain, "d_loss": 0.5}}],
    )
    assert running == [
        ["0", "run", "RUN", "00000000"],
        ["3/300", "16.00", "1.96", "62%", "0.73", "12.35", "412.4"],
        # of the second epoch, the last with an evaluation
        ["0.877", "-3.46", "4.24", "100%", "800.4", "24.00"],
    ]
    assert new[1:] == [["0/300"], []]
    assert without_gan[1:] == [["1/300", "16.00", "12.35", "412.4"], []]
    # Metrics that were not finite: their older values are not shown.
    assert not_finite[1] == ["2/300", "16.00", "0.50", "12.35", "412.4"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "x1b" in str(rows([])), "colours are for terminals"
