from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from run_folders import MakeRun, make_run_folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes folders of runs in `xps/`."""
    return partial(make_run_folder, tmp_path / "xps")
