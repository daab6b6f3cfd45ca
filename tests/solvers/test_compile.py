"""Training with compiled modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from spoiling import batches, started

from solvers import builders


@pytest.mark.slow
def test_step_with_compiled_modules(tmp_path: Path, audio: Path) -> None:
    """Traced by torch.compile, the modules give the same step, with two backwards through each
    sub-discriminator."""
    found = []
    for compiled in (False, True):
        solver = started(tmp_path / str(compiled), audio, "adversarial.probability=1")
        if compiled:
            builders.compile_parts(solver.model, solver.adversarial, backend="aot_eager")
        metrics = solver.train_step(batches(solver)[0])
        found.append({name: float(value) for name, value in metrics.items()})
    plain, traced = found
    assert plain.keys() == traced.keys() and plain["adv"] > 0
    assert traced == pytest.approx(plain, rel=1e-3)
