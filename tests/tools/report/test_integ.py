"""Real runs, their pages, and one that compares them."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro import command, dora_run, write_audio

from adversarial_trainer.cli import main
from adversarial_trainer.tools.report import read_run


@pytest.mark.integ
def test_two_runs_of_the_real_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = write_audio(tmp_path / "audio")
    stages = ("evaluate.every=2", "generate.every=2", "generate.num_files=1")
    for rate in ("0.001", "0.0003"):
        said = dora_run(*command(tmp_path, audio, *stages, f"optim.lr={rate}"))
        assert "Report: " in said
    folders = sorted((tmp_path / "xps").iterdir())
    for folder in folders:
        run = read_run(folder)
        assert run.missing == [] and run.samples_epoch == run.evaluation_epoch == 2
        # The history was not on disk yet when the run wrote its page: no number is missing.
        own = (folder / "report.html").read_text()
        assert main(["report", str(folder)]) == 0
        again = (folder / "report.html").read_text()
        assert own.count("<title>") == again.count("<title>") > 50
    monkeypatch.setenv("DORA_DIR", str(tmp_path))
    out = tmp_path / "both.html"
    assert main(["report", *(folder.name for folder in folders), "--out", str(out)]) == 0
    text = out.read_text()
    assert "<td>optim.lr</td>" in text and text.count("<audio") == 2 * 3
    assert "Not in this page" not in text
