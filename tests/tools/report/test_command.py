"""`adversarial-trainer report`."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import MakeRun

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
