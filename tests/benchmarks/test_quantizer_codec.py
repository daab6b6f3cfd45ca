"""`scripts/benchmark.py quantizer` and `codec`, at sizes that take a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import benchmark


def run(tmp_path: Path, *argv: str) -> list[dict[str, Any]]:
    """The rows of the JSON that a case writes."""
    path = tmp_path / "result.json"
    assert benchmark.main([argv[0], "--json", str(path), "--rounds", "2", *argv[1:]]) == 0
    return json.loads(path.read_text())["rows"]


@pytest.mark.parametrize("against", ["plain", "encodec"])
def test_quantizer(tmp_path: Path, against: str) -> None:
    sizes = ["--codebooks", "3", "--bins", "32", "--dimension", "8", "--batch-size", "2"]
    argv = [*sizes, "--frames", "40", "--kmeans-frames", "80", "--against", against]
    training, kmeans = run(tmp_path, "quantizer", *argv)
    assert training["part"] == "training, 2 x 40 frames" and float(training["faster"]) > 0
    assert training["equal"] == "100.00% of codes"
    assert kmeans["part"].startswith("k-means") and {"ours", against} <= kmeans.keys()


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("option", ["--raw", None])
def test_codec(tmp_path: Path, option: str | None) -> None:
    argv = ["--solver", "tiny", "--bandwidth", "6.4", "--audio", "2x0.3"]
    argv += [option] if option else []
    (row,) = run(tmp_path, "codec", *argv)
    assert row["audio, s"] == "2 x 0.3" and float(row["x real time"]) > 0
    assert row["equal codes"] == "100.00%" and float(row["audio apart"]) < 5e-6
