"""`adversarial-trainer report`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from run_folders import MakeRun

from adversarial_trainer.cli import main


def test_the_command(make_run: MakeRun, tmp_path: Path) -> None:
    """The real one."""
    folder = make_run()
    line = [sys.executable, "-m", "adversarial_trainer.cli", "report", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'report.html'}\n"), done.stderr
    assert (folder / "report.html").stat().st_size > 50_000


def test_signatures_and_folders(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_run("11111111"), make_run("22222222")
    monkeypatch.setenv("DORA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["report", "11111111"]) == 0
    assert "Run 11111111" in (first / "report.html").read_text()
    assert main(["report", "11111111"]) == 0  # its own page is made anew
    assert main(["report", "11111111", str(second), "22222222"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "2 runs compared" in text  # a run named twice is there once
    assert not (second / "report.html").exists()


def test_nothing_is_overwritten(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(make_run()), tmp_path / "sub" / "page.html"
    assert main(["report", folder, "--out", str(out)]) == 0
    out.write_text("mine")
    assert main(["report", folder, "--out", str(out)]) == 2
    assert "--force overwrites it" in capsys.readouterr().err and out.read_text() == "mine"
    assert main(["report", folder, "--out", str(out), "--force"]) == 0
    assert out.read_text() != "mine" and list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("name", ["nowhere", "", "../x", "."])
def test_no_such_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DORA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["report", name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no folder of a run" in error and str(tmp_path) in error
