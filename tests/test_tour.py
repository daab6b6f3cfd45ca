"""docs/tour.ipynb runs from top to bottom."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from micro import ROOT
from nbclient import NotebookClient

TOUR = ROOT / "docs" / "tour.ipynb"


def test_it_has_no_outputs() -> None:
    cells = nbformat.read(TOUR, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.integ
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    # The commands of this environment, whatever is in PATH.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = [
        out["text"]
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if out.output_type == "stream"
    ]
    # `!command` does not raise.
    assert "Traceback" not in "".join(printed)
    assert printed[-1].count("model ") and "opus" in printed[-1]
