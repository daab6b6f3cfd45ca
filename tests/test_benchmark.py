"""`scripts/benchmark.py` on the command line, at small sizes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from micro import MICRO, ROOT

PROGRAM = ".venv/bin/python scripts/benchmark.py"
LEFT_OUT = ("solver=", "device=", "num_threads=", "dataset.", "data_init=")
SIZES = ["--override", *(arg for arg in MICRO if not arg.startswith(LEFT_OUT))]


def benchmark(tmp_path: Path, *argv: str) -> list[dict[str, Any]]:
    """Return the rows of the JSON that a case writes."""
    path = tmp_path / "result.json"
    result = subprocess.run(
        [sys.executable, "scripts/benchmark.py", *argv[:1], "--json", str(path), *argv[1:]],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return json.loads(path.read_text())["rows"]


@pytest.mark.slow
def test_step(tmp_path: Path) -> None:
    small = ["--solver", "tiny", "--batch-size", "2", "--length", "0.25", "--rounds", "2"]
    ours, plain = benchmark(tmp_path, "step", *small, "--memory", *SIZES)
    assert (ours["side"], ours["ours is faster"]) == ("ours", "1.00")
    assert float(plain["ours is faster"]) > 0 and float(plain["peak, MB"]) > 100


@pytest.mark.slow
def test_data(tmp_path: Path) -> None:
    argv = ["--rounds", "1", "--files", "1", "--workers", "0"]
    rows = benchmark(tmp_path, "data", *argv)
    assert [row["files"] for row in rows[:2]] == ["wav 44100", "flac 44100"]
    assert rows[-1]["workers"] == 0


@pytest.mark.slow  # imports transformers
def test_codec(tmp_path: Path) -> None:
    argv = ["--solver", "tiny", "--bandwidth", "6.4", "--audio", "2x0.3", "--rounds", "2"]
    (row,) = benchmark(tmp_path, "codec", *argv)
    assert row["audio, s"] == "2 x 0.3" and float(row["x real time"]) > 0
    assert row["equal codes"] == "100.00%" and float(row["audio apart"]) < 5e-6


def test_documented_commands_parse() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    from benchmark import get_parser

    text = (ROOT / "docs" / "performance.md").read_text()
    lines = [line.strip().partition(" #")[0] for line in text.splitlines()]
    found = [line.removeprefix(PROGRAM) for line in lines if line.startswith(f"{PROGRAM} ")]
    assert len(found) >= 3
    for line in found:
        get_parser().parse_args(shlex.split(line))
