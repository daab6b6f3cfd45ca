"""scripts/study.py on folders of runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT
from run_folders import make_run_folder, write_json
from scipy import stats


def study(*argv: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "scripts/study.py", *map(str, argv)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def make_run(xps: Path, name: str, overrides: list[str], mel: float) -> Path:
    folder = make_run_folder(xps, name)
    write_json(folder / ".argv.json", ["solver=tiny", *overrides])
    history = json.loads((folder / "history.json").read_text())
    history[0]["evaluate"] = {"sisnr": -5.0, "mel": 3 * mel}
    history[-1]["evaluate"] = {"sisnr": mel, "mel": mel, "usage": 0.5}
    write_json(folder / "history.json", history)
    return folder


def test_table_of_means_over_seeds(tmp_path: Path) -> None:
    values = {"mpd": [2.0, 2.1, 2.4], "none": [3.0, 3.1, 3.2], "msd": [1.9, 2.3, 2.7]}
    runs = [
        make_run(tmp_path, f"{name}{seed}", [f"adversarial={name}", f"seed={seed}"], mel)
        for name, found in values.items()
        for seed, mel in enumerate(found)
    ]
    result = study(*runs, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "out" / "study.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    found = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    # The best first; Opus, whose files are the same for all, at the end.
    assert list(found) == [*(f"adversarial={n}" for n in ("mpd", "msd", "none")), "opus 6.4 kb/s"]
    (mel,) = (title for title in lines[0] if title.startswith("mel"))
    half = stats.sem(values["mpd"]) * stats.t.ppf(0.975, 2)
    assert found["adversarial=mpd"][mel] == f"2.17 ± {half:.2f} ="
    assert found["adversarial=msd"][mel].endswith(" =")  # within the noise of the best
    assert not found["adversarial=none"][mel].endswith("=")
    row = found["adversarial=none"]
    assert (row["seeds"], row["codes in use"], row["skipped"]) == ("3", "50%", "18")
    assert float(row["minutes"]) == pytest.approx(3 * 12.5 / 60, abs=0.05)
    assert (tmp_path / "out" / "study.png").stat().st_size > 10_000
    rows = json.loads((tmp_path / "out" / "study.json").read_text())
    assert rows[0]["mel"]["mean"] == pytest.approx(6.5 / 3)


def test_errors_name_what_there_is(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", [], 1.0)
    result = study(run, "--out", tmp_path / "out", "--by", "pesq")
    assert result.returncode == 1 and "--by pesq: all runs have " in result.stderr
    (run / "evaluation" / "3" / "evaluation.json").unlink()
    result = study(run, "--out", tmp_path / "out")
    assert "it has no evaluation yet" in result.stdout and result.returncode == 1
