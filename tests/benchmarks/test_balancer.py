"""The ways that `scripts/benchmark.py balancer` times give the same gradients."""

from __future__ import annotations

import torch
from micro import MICRO

from scripts.benchmarks import balancer
from scripts.benchmarks.solvers_ready import ready_solver


def test_the_same_gradients() -> None:
    overrides = [arg for arg in MICRO if arg not in ("data_init=true", "dset=folder")]
    exact = ["precision=float64", "quantizer.q_dropout=0", "quantizer.dead_code_threshold=0"]
    solver = ready_solver([*overrides, *exact, "adversarial.probability=1"])
    found = []
    for way in balancer._ways(solver).values():
        torch.manual_seed(0)
        call = balancer._timed(solver, 2, way)
        for _ in range(2):  # the second of `between norms` takes none
            assert call() > 0
        found.append([p.grad.clone() for p in solver.model.parameters() if p.grad is not None])
    assert all(len(grads) == len(found[0]) > 0 for grads in found)
    for grads in found[1:]:
        for ours, theirs in zip(grads, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
