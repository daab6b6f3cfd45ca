"""Two processes with unequal shares of a batch equal one process with the whole of it."""

from __future__ import annotations

import torch
from adversaries import build, wrap
from ranks import run_ranks

from adversarial_trainer.adversarial import FeatureMatchingLoss

SHARES = (slice(0, 3), slice(3, 5))


def play(rank: int | None) -> dict:
    """Some steps on this rank's share of each batch (None: alone, with all of it)."""
    torch.manual_seed(rank or 0)  # other weights, buffers and global RNG on each rank
    adversary = build("msd").double()
    adv_loss = wrap(adversary, max_norm=0.05, probability=0.6)
    adv_loss.optimizer = torch.optim.Adam(adversary.parameters(), 1e-2)
    adv_loss.loss_feat = FeatureMatchingLoss(relative=True)  # sums over the ranks
    generator = torch.Generator().manual_seed(7)
    updates, gradients = [], []
    for step in range(8):
        fake, real = torch.randn(2, 5, 1, 300, generator=generator, dtype=torch.float64)
        if step == 4:
            fake[4] = float("nan")  # on rank 1 only, and all must drop the update
        share = slice(None) if rank is None else SHARES[rank]
        adv_loss.train_adv(fake[share], real[share])
        updates.append(adv_loss.updated)
        if step != 4:
            losses = adv_loss.gradients(fake[share], real[share])
            assert losses.adv_grad is not None and losses.feat_grad is not None
            # Of the sum over this rank's items, as losses are means over them.
            gradients.append((losses.adv_grad + losses.feat_grad) * len(losses.adv_grad))
        torch.rand((rank or 0) + 1)
    return {
        "state": adversary.state_dict(),
        "updates": updates,
        "skipped": adv_loss.num_skipped,
        "gradients": gradients,
    }


def test_two_ranks_equal_one() -> None:
    """Gradients are weighted by samples, weights and buffers broadcast, draws shared, and a
    gradient that is not finite on one rank is dropped by both."""
    first, second = run_ranks(play)
    alone = play(None)
    assert alone["updates"] == first["updates"] == second["updates"]
    assert alone["skipped"] == first["skipped"] == second["skipped"] == 1
    assert 2 <= sum(alone["updates"]) < 7
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        assert torch.allclose(first["state"][key], value, rtol=1e-9, atol=1e-12), key
    parts = zip(first["gradients"], second["gradients"], alone["gradients"], strict=True)
    for one, other, whole in parts:
        torch.testing.assert_close(torch.cat([one, other]), whole, rtol=1e-9, atol=1e-12)
