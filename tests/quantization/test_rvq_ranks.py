"""N ranks compute what one would."""

from __future__ import annotations

import pytest
import torch
from ranks import run_ranks

from adversarial_trainer import distrib
from adversarial_trainer.quantization import ResidualVectorQuantizer

STEPS = 14


def build() -> ResidualVectorQuantizer:
    """Everything active: gathering over batches, k-means, dropout, dead codes."""
    rvq = ResidualVectorQuantizer(
        dimension=6,
        n_q=4,
        bins=32,
        decay=0.8,
        kmeans_frames_per_code=3,
        dead_code_threshold=0.3,
        q_dropout=0.5,
        dropout_choices=[1, 2, 4],
        generator=distrib.shared_generator(7),
    )
    return rvq.double().train()


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(5, 6, 9, dtype=torch.float64, generator=generator)
    return x * (1 + step % 3)


def train(part: slice | None) -> tuple[dict, float, list]:
    rvq = build()
    results = []
    replaced = 0.0
    for step in range(STEPS):
        x = batch(step)
        if part and step % 4 == 3:  # now and then one rank has nothing at all
            x = x if distrib.rank() == 1 else x[:0]
        elif part:
            x = x[part]
        if step == 9 and distrib.is_rank_zero():
            x = torch.full_like(x[:1] if len(x) else x, torch.nan)  # bad on one rank only
        torch.manual_seed(distrib.rank())  # ranks' global RNGs differ
        result = rvq(x, 75.0)
        replaced += float(rvq.update(result).get("replaced", 0))
        results.append((result.codes.shape[1], result.metrics.get("perplexity/0")))
    return rvq.state_dict(), replaced, results


def worker(rank: int) -> tuple[dict, float, list]:
    return train(slice(0, 2) if rank == 0 else slice(2, 5))  # uneven


@pytest.fixture(scope="module")
def outcomes():
    """(state, codes replaced, steps) of one process alone and of each of two."""
    return train(None), *run_ranks(worker)


def test_two_ranks_equal_one(outcomes):
    """Counts, sums, k-means frames and replacements over all ranks; with uneven
    and empty shares, dropout, and a step that is bad on one rank."""
    (one, replaced, steps), (two, two_replaced, two_steps), _ = outcomes
    assert replaced > 0 and replaced == two_replaced
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-9, atol=1e-9, msg=key)
    for step, (a, b) in enumerate(zip(steps, two_steps, strict=True)):
        assert a[0] == b[0]
        if a[1] is not None and step != 9:
            torch.testing.assert_close(a[1], b[1])


def test_ranks_are_equal_bit_for_bit(outcomes):
    """Although their global random generators differ."""
    _, (a, replaced, steps), (b, other_replaced, other_steps) = outcomes
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert replaced == other_replaced and steps == other_steps
