"""Cells of a grid's table."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from dora.grid import RunGridArgs, monitor
from micro import make_cfg

from adversarial_trainer.grids._explorers import CodecExplorer

History = list[dict[str, Any]]
STAGES = ("Meta", "train", "evaluate")


def printed(histories: dict[str, History], **optim: int) -> str:
    """Return what `dora grid` prints of runs with these names and histories."""
    cfg = make_cfg(*(f"optim.{key}={value}" for key, value in optim.items()))
    sheep: list[Any] = [
        SimpleNamespace(
            xp=SimpleNamespace(cfg=cfg, sig=f"{index:08x}", name=name),
            state=lambda: "RUNNING",
            is_done=lambda: False,
            current_job_id=None,
        )
        for index, name in enumerate(histories)
    ]
    main: Any = SimpleNamespace(
        get_names=lambda xps: ([xp.name for xp in xps], ""),
        get_xp_history=lambda xp: histories[xp.name],
    )
    lines: list[str] = []
    monitor(RunGridArgs(), main, CodecExplorer(lambda launcher: None), sheep, lines.append)
    (table,) = lines
    return table


def cells(table: str) -> dict[str, dict[str, str]]:
    """Return {run: {column: cell}}. Numbers end where their headings end."""
    _, heading, *rows = table.splitlines()
    result = {}
    for row in rows:
        found = {}
        sections = zip(STAGES, heading.split(" | "), row.split(" | "), strict=True)
        for stage, names, values in sections:
            if stage == "Meta":
                match = re.match(r" *\d+  (.+?)  +(\w+) +(\w+)", values)
                assert match, values
                found.update(zip(("name", "state", "sig"), match.groups(), strict=True))
                continue
            start = 0
            for name in re.finditer(r"\S+", names):
                found[f"{stage} {name.group()}"] = values[start : name.end()].strip()
                start = name.end()
            assert values[start:].strip() == "", "nothing outside of the columns"
        result[found["name"]] = found
    return result


TRAIN = {
    **{"d_loss": 1.9649, "d_acc": 0.625, "d_acc/fft1024": 0.7, "adv": 0.7312, "feat": 12.349},
    **{"perplexity": 412.36, "usage": 0.25, "bandwidth": 9.3, "l1": 0.1, "duration": 125.0},
}
EVALUATE = {
    **{"mel": 0.87654, "sisnr": -3.456, "visqol": 4.237, "usage": 0.995, "perplexity": 800.44},
    **{"bandwidth": 24.0, "stft": 1.0, "duration": 60.0},
}


def test_cells_of_a_running_run() -> None:
    history = [
        {"train": {**TRAIN, "d_loss": 3.0}, "evaluate": {**EVALUATE, "mel": 2.0}},
        {"train": {**TRAIN, "d_acc": 0.9}, "evaluate": EVALUATE},
        {"train": TRAIN, "valid": {"l1": 0.2}},
    ]
    (row,) = cells(printed({"run": history}, epochs=300, updates_per_epoch=2000)).values()
    assert row == {
        **{"name": "run", "state": "RUN", "sig": "00000000"},
        **{"train epoch": "3/300", "train steps/s": "16.00", "train d_loss": "1.96"},
        **{"train d_acc": "62%", "train adv": "0.73", "train feat": "12.35", "train ppl": "412.4"},
        # of the second epoch, the last with an evaluation
        **{"evaluate mel": "0.877", "evaluate SI-SNR": "-3.46", "evaluate ViSQOL": "4.24"},
        **{"evaluate usage": "100%", "evaluate ppl": "800.4", "evaluate kb/s": "24.00"},
    }


def test_empty_cells() -> None:
    """A run that has not begun, one without discriminators, and metrics that were not finite: their
    older values are not shown."""
    plain = {key: value for key, value in TRAIN.items() if key[:2] != "d_" and key != "adv"}
    rows = cells(
        printed(
            {
                "new": [],
                "plain": [{"train": plain}],
                "nan": [{"train": TRAIN}, {"train": {**plain, "d_loss": 0.5}}],
            },
            epochs=10,
        )
    )
    filled = {name: {k for k, v in row.items() if v} for name, row in rows.items()}
    meta = {"name", "state", "sig", "train epoch"}
    plain_cells = {*meta, "train steps/s", "train feat", "train ppl"}
    assert filled == {"new": meta, "plain": plain_cells, "nan": plain_cells | {"train d_loss"}}
    assert [row["train epoch"] for row in rows.values()] == ["0/10", "1/10", "2/10"]


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033" not in printed({"run": []})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\033" in printed({"run": []})
