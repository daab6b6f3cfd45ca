"""`scripts/benchmark.py` on the command line, at small sizes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from micro import MICRO, ROOT, write_audio

sys.path.insert(0, str(ROOT / "scripts"))
from benchmark import CASES, get_parser  # noqa: E402

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


MICRO_RECIPES = ["--device", "cpu", "--updates", "2", *SIZES, "num_threads=1"]
MICRO_RECIPES += ["dataset.batch_size=2", "dataset.segment_duration=0.25"]


def recipes(out: Path, *argv: str) -> dict[str, Any]:
    """Return recipes.json after the case in this process, each recipe in one of its own."""
    case = ["recipes", "--out", str(out), "--recipes", "tiny", "--compile", "false"]
    args = get_parser().parse_args([*case, *MICRO_RECIPES, *argv])
    CASES["recipes"].run(args)
    return json.loads((out / "recipes.json").read_text())


@pytest.mark.slow  # a process for each case, most of it imports
def test_recipes(tmp_path: Path) -> None:
    """A case that fails is a row, and the next one runs; those that are there are not run again."""
    argv = ["--precisions", "half", "float32", "--peak-tflops", "0.1", "--minutes", "3"]
    found = recipes(tmp_path, *argv)
    failed, row = found["rows"]
    assert (failed["recipe"], failed["precision"]) == ("tiny", "half")
    assert "precision=half" in failed["error"] and "\n" not in failed["error"]
    assert (row["precision"], row["compile"], row["batch"]) == ("float32", "false", "2 x 0.25 s")
    assert row["audio s/s"] == pytest.approx(0.5 * row["updates/s"], rel=0.01)
    assert row["peak MB"] > 100 and row["TFLOP/update"] > 0 and row["% of peak"] > 0
    assert found["not_run"] == [] and found["machine"]["cores"]
    page = (tmp_path / "recipes.md").read_text()
    assert page.count("| tiny |") == 2 and "precision=half" in page and "Not run" not in page
    assert recipes(tmp_path, *argv, "--minutes", "0") == found
    with pytest.raises(SystemExit, match="--updates is 3, but .* was measured with 2"):
        recipes(tmp_path, *argv, "--updates", "3")


def test_recipes_without_time(tmp_path: Path) -> None:
    """The rest is named; each recipe's plain case comes first, and bf16 compiled last."""
    argv = ["--recipes", "tiny", "encodec", "--minutes", "0", "--compile", "false", "true"]
    found = recipes(tmp_path, *argv)
    names = [line.removesuffix(", batch of the recipe") for line in found["not_run"]]
    assert found["rows"] == []
    assert names[:2] == ["tiny, float32, compile=false", "encodec, float32, compile=false"]
    assert len(names) == 8 and names[-1] == "encodec, bf16, compile=true"
    assert f"- {found['not_run'][-1]}" in (tmp_path / "recipes.md").read_text()


def test_a_recipe_that_takes_too_long(tmp_path: Path) -> None:
    argv = ["--precisions", "float32", "--minutes", "0.01", "--least", "0"]
    (row,) = recipes(tmp_path, *argv)["rows"]
    assert row["error"] == "no result in its share of the time, 1 s"


@pytest.mark.slow
@pytest.mark.parametrize(("mel", "words"), [("100", "reached"), ("0.01", "not reached")])
def test_time_to_a_mel_distance(mel: str, words: str, tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", 40)
    argv = ["--precisions", "float32", "--until-mel", mel, "--data", str(audio)]
    (row,) = recipes(tmp_path, *argv, "--minutes", "1")["rows"]
    assert row[f"mel {mel}"].startswith(f"{words}: ")


def test_documented_commands_parse() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    lines = [line.strip().partition(" #")[0] for line in text.splitlines()]
    found = [line.removeprefix(PROGRAM) for line in lines if line.startswith(f"{PROGRAM} ")]
    assert len(found) >= 3
    for line in found:
        get_parser().parse_args(shlex.split(line))
