"""`scripts/benchmark.py` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from micro import MICRO, ROOT


def benchmark(tmp_path: Path, *argv: str) -> tuple[str, list[dict[str, Any]]]:
    """What a case prints, and its rows."""
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
    return result.stdout, json.loads(path.read_text())["rows"]


def test_ranks_model_by_hand(tmp_path: Path) -> None:
    """Two ranks, 80 MB over 80 GB/s: 2 x (10 us + 40 MB / 80 GB/s) = 1.02 ms."""
    argv = ["--ranks", "2", "--mb", "80", "--small", "0", "--compute-ms", "9.18"]
    _, rows = benchmark(tmp_path, "ranks-model", *argv)
    assert rows[0]["messages, ms"] == "1.0" and rows[0]["efficiency at 9.18 ms"] == "90.0%"


@pytest.mark.slow
def test_scaling_and_sync(tmp_path: Path) -> None:
    overrides = [arg for arg in MICRO if arg != "data_init=true"]
    argv = ["--processes", "1", "2", "--rounds", "2", "--batch-size", "4", *overrides]
    text, (one, two) = benchmark(tmp_path, "scaling", *argv)
    assert "efficiency" in text and one["messages a step"] == 0
    # counts of frames, codebooks, discriminators, feature matching (2), balancer, generator, and
    # whether the step is good
    assert two["messages a step"] == len(two["sizes"]) == 8
    assert 0 < two["seconds"] < 60
    _, rows = benchmark(tmp_path, "sync", "--rounds", "2", "solver=tiny")
    assert [row["way"] for row in rows] == ["none", "after", "overlap", "flashy", "ddp"]


@pytest.mark.slow
def test_data_and_startup(tmp_path: Path) -> None:
    argv = ["--rounds", "1", "--files", "1", "--formats", "wav", "flac", "--workers", "0"]
    text, rows = benchmark(tmp_path, "data", *argv)
    assert [row["files"] for row in rows[:2]] == ["wav 44100", "flac 44100"]
    clean = {row["way"]: int(row["12600 Hz, dB"]) for row in rows if "way" in row}
    assert clean["ours"] < -80 and clean["torchaudio"] > -20
    assert rows[-1]["workers"] == 0 and "batches of 16 a second" in text
    _, rows = benchmark(tmp_path, "startup", "--rounds", "1", "--recipe", "tiny")
    assert rows[0]["over the imports"] == "1.00" and len(rows) == 5
