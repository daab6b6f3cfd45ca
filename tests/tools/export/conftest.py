"""A run to export."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro import make_solver, write_audio


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with averaged weights, two kinds of discriminators and an evaluation."""
    folder = tmp_path_factory.mktemp("exported")
    audio = write_audio(folder / "home" / "jane.doe" / "Voices")
    solver = make_solver(
        folder,
        audio,
        "adversarial.discriminators=[msstftd,msd]",
        "optim.ema.decay=0.9",
        "evaluate.every=2",
    )
    solver.run()
    return solver.folder
