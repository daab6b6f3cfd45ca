"""Pages to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adversarial_trainer.audio import replacing

from . import comparison, single
from .run import History, read_run

NAME = "report.html"


def write_report(folder: Path, out: Path | None = None, history: History | None = None) -> Path:
    """The page of the run in `folder`, by default into it; atomic.

    Args:
        history: instead of history.json's, which lags behind while an epoch runs.
    Raises OSError if it cannot be written.
    """
    return _write(single.page(read_run(folder, history)), out or folder / NAME)


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """One page of several runs. Raises OSError if it cannot be written."""
    return _write(comparison.page([read_run(folder) for folder in folders]), out)


def _write(text: str, out: Path) -> Path:
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out
