"""`scripts/benchmark.py step` and `adversarial`, at sizes that take a moment."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import MICRO, ROOT

from adversarial_trainer.train import main
from scripts import benchmark
from solvers import check_config

PROGRAM = ".venv/bin/python scripts/benchmark.py"

LEFT_OUT = ("solver=", "device=", "num_threads=", "dataset.", "data_init=")
SMALL = ["--solver", "tiny", "--batch-size", "2", "--length", "0.25", "--rounds", "2"]


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's peaks are told, not measured: 3 s in each call."""
    known = benchmark.step.ceiling.peaks.Peaks(matmul=100.0, conv=200.0, copy=10.0)
    monkeypatch.setattr(benchmark.step.ceiling.peaks, "measure", lambda *_: known)


def run(tmp_path: Path, case: str, *argv: str) -> list[dict[str, Any]]:
    """The rows of the JSON that a case writes."""
    path = tmp_path / "result.json"
    sizes = [arg for arg in MICRO if not arg.startswith(LEFT_OUT)]
    line = [case, *SMALL, "--json", str(path), "--override", *sizes, *argv]
    assert benchmark.main(line) == 0
    result = json.loads(path.read_text())
    assert result["case"] == case and result["machine"]["torch"] == torch.__version__
    return result["rows"]


def test_step(tmp_path: Path) -> None:
    rows = run(tmp_path, "step", "--against", "plain", "exact", "--profile")
    sides, parts, others = rows[:3], rows[3:11], rows[11:]
    assert [row["side"] for row in sides] == ["ours", "plain", "exact"]
    assert sides[0]["ours is faster"] == "1.00"
    assert [row["part"] for row in parts][0] == "generator forward"
    for row in parts:
        assert {"ours, GFLOP", "plain, ms", "exact, of peak"} <= row.keys()
    assert parts[-1]["part"] == "all" and float(parts[-1]["exact, GFLOP"]) > 0
    assert others[0] == {"peak": "float32", "matmul": 100.0, "conv": 200.0, "copy": 10.0}
    assert len(others[1:]) == 10 and {"operator", "share", "bound by"} <= others[1].keys()


@pytest.mark.parametrize("discriminators", ["msstftd", "mpd"])
def test_adversarial(tmp_path: Path, discriminators: str) -> None:
    rows = run(tmp_path, "adversarial", "--discriminators", discriminators, "--dtype", "float64")
    assert [row.get("side") for row in rows[:2]] == ["ours", "plain"]
    assert rows[2]["part"] == "discriminators' update" and float(rows[2]["plain, GFLOP"]) > 0
    assert rows[-1]["peak"] == "float64"


@pytest.mark.slow
def test_memory_and_options(tmp_path: Path) -> None:
    argv = ["--no-parts", "--memory", "--option", "balancer.norms_every=2"]
    ours, plain = run(tmp_path, "step", *argv)
    assert float(ours["above start"]) > 0 and float(plain["peak MB"]) > 100
    assert plain["ours has"] != "1.00"


def documented() -> list[str]:
    """Command lines of the page, without the program."""
    text = (ROOT / "docs" / "performance.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    found = [line.partition(" #")[0] for line in lines if line.startswith(f"{PROGRAM} ")]
    return [line.removeprefix(PROGRAM).strip() for line in found]


@pytest.mark.parametrize("line", documented())
def test_documented_commands_parse(line: str) -> None:
    args = benchmark.get_parser().parse_args(shlex.split(line))
    if args.case == "step":  # keys and values that a run takes
        check_config(main.get_xp(benchmark.step.sides.overrides(args, "ours")).cfg)


def test_there_are_documented_commands() -> None:
    assert len(documented()) >= 8
