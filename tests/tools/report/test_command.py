"""`adversarial-trainer report`."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from run_folders import MakeRun, make_run_folder, write_json

from adversarial_trainer.cli import main


def test_signatures_and_folders(
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = make_run("11111111", files={}), make_run("22222222", files={})
    monkeypatch.setenv("DORA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["report", "11111111"]) == 0
    assert capsys.readouterr().out == f"{first / 'report.html'}\n"
    assert "Run 11111111" in (first / "report.html").read_text()
    assert main(["report", "11111111", str(second), "22222222"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "2 runs compared" in text  # a run named twice is there once
    assert not (second / "report.html").exists()
    capsys.readouterr()
    for name in ("nowhere", "", "../x", "."):
        assert main(["report", name]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "no folder of a run" in error and str(tmp_path) in error


def test_nothing_is_overwritten(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for a run's own page, which is made anew."""
    folder, out = make_run(files={}), tmp_path / "sub" / "page.html"
    for path in (out, folder / "report.html"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert main(["report", str(folder), "--out", str(out)]) == 2
    assert "--force overwrites it" in capsys.readouterr().err and out.read_text() == "mine"
    assert main(["report", str(folder), "--out", str(out), "--force"]) == 0
    assert out.read_text() != "mine" and list(out.parent.iterdir()) == [out]
    assert main(["report", str(folder)]) == 0 and (folder / "report.html").read_text() != "mine"


def test_runs_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest first, also those a folder below; their signatures may be shortened."""
    monkeypatch.setenv("DORA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.startswith(f"no runs in {tmp_path / 'xps'}.")
    old = make_run_folder(tmp_path / "xps", "11111111", files={})
    new = make_run_folder(tmp_path / "demo" / "xps", "22222222", files={}, lr=3e-4)
    (tmp_path / "xps" / "no_run").mkdir()
    write_json(new / "history.json", [{"valid": {"l1": 0.5, "adv": 1}}, {"valid": {"l1": 0.25}}])
    for path in (old, *old.iterdir()):
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    assert main(["runs"]) == 0
    assert [line.split("  ") for line in _joined(capsys.readouterr().out)] == [
        ["run", "age", "epochs", "best", "folder", "overrides"],
        ["22222222", "0 min", "2/3", "l1 0.25", "demo/xps", "solver=tiny optim.lr=0.0003"],
        ["11111111", "3 days", "3/3", "sisnr 5.25, mel 1.5", "xps", "solver=tiny optim.lr=0.001"],
    ]
    assert main(["report", "222"]) == 0
    assert (new / "report.html").exists()


def _joined(text: str) -> list[str]:
    """Lines with two spaces between columns."""
    return [re.sub("  +", "  ", line) for line in text.splitlines()]
