from __future__ import annotations

from pathlib import Path

import pytest
from micro import make_solver, write_audio

# Speech metrics need longer clips than micro's, and no training makes a micro codec sound good.
RUN = (
    *("evaluate.every=1", "optim.epochs=1", "evaluate.bandwidths=all", "dset.shares.evaluate=0.5"),
    *("evaluate.metrics.stoi=true", "evaluate.stoi.num_files=2", "dset.shares.train=0.3"),
    *("dset.shares.valid=0.1", "dset.shares.generate=0.1"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is done; its audio lies beside it."""
    place = tmp_path_factory.mktemp("run")
    solver = make_solver(place / "dora", write_audio(place / "audio", 8), *RUN)
    solver.run()
    return solver.folder
