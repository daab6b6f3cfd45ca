"""Moving averages and dead codes."""

from __future__ import annotations

import torch

from adversarial_trainer.quantization import QuantizedResult, ResidualVectorQuantizer


def learn(rvq: ResidualVectorQuantizer, x: torch.Tensor) -> QuantizedResult:
    """A training step on `x`; the result has the update's metrics as well."""
    result = rvq(x, 75.0)
    result.metrics |= rvq.update(result)
    return result


def two_codes(**kwargs) -> ResidualVectorQuantizer:
    """One codebook: code 0 at 0 with N = 3, code 1 at 10 with N = 1."""
    rvq = ResidualVectorQuantizer(1, n_q=1, bins=2, **kwargs).double().train()
    embed = torch.tensor([[0.0], [10.0]], dtype=torch.float64)
    rvq.codebooks[0].start(embed, torch.tensor([3.0, 1.0], dtype=torch.float64))
    return rvq


def frames(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None]


def test_average_by_hand():
    rvq = two_codes(decay=0.9, dead_code_threshold=0)
    learn(rvq, frames(1, 2, 9))
    book = rvq.codebooks[0]
    size = torch.tensor([0.9 * 3 + 0.1 * 2, 0.9 * 1 + 0.1 * 1], dtype=torch.float64)
    average = torch.tensor([0.9 * 0 + 0.1 * 3, 0.9 * 10 + 0.1 * 9], dtype=torch.float64)
    torch.testing.assert_close(book.cluster_size, size)
    torch.testing.assert_close(book.embed_avg[:, 0], average)
    smoothed = (size + 1e-5) / (size.sum() + 2e-5) * size.sum()
    torch.testing.assert_close(book.embed[:, 0], average / smoothed)
    assert abs(book.embed[0, 0].item() - 0.3 / 2.9) < 1e-5


def test_random_start_stays_put():
    """The first average does not blow up codes that no frame picks (e = M / N from the start)."""
    rvq = ResidualVectorQuantizer(8, n_q=2, bins=64, kmeans_init=False).train()
    before = rvq.codebooks[0].embed.clone()
    learn(rvq, torch.zeros(1, 8, 1))
    torch.testing.assert_close(rvq.codebooks[0].embed, before, atol=0.05, rtol=0)


def test_dead_code_is_revived_and_stays():
    """embed, embed_avg and cluster_size are all reset, so the next average keeps it."""
    torch.manual_seed(0)
    rvq = ResidualVectorQuantizer(4, n_q=1, bins=8, kmeans_init=False).train()
    book = rvq.codebooks[0]
    book.start(torch.randn(8, 4), torch.ones(8))
    book.embed[5] = book.embed_avg[5] = 1000.0  # where no frame is
    book.cluster_size[5] = 0.049 * book.cluster_size.mean()
    x = torch.randn(4, 4, 32)
    result = learn(rvq, x)
    assert result.metrics["replaced"].item() == 1
    revived = book.embed[5].clone()
    rows = x.transpose(1, 2).reshape(-1, 4)
    assert (rows == revived).all(1).any()  # it is one of the frames
    torch.testing.assert_close(book.embed_avg[5], revived * book.cluster_size[5])

    learn(rvq, x)
    assert (book.embed[5] - revived).norm() < 0.1
    uses = 0
    for _ in range(50):
        result = learn(rvq, x)
        assert result.metrics["replaced"].item() == 0
        uses += int((result.codes == 5).sum())
    assert book.embed[5].norm() < 5 and uses > 0


def test_revived_code_that_nobody_wants_dies_again():
    """After log(t) / log(d) steps: 0.9^22 < 0.1."""
    rvq = two_codes(decay=0.9, dead_code_threshold=0.1)
    lifetimes, age = [], 0
    for _ in range(70):
        age += 1
        rvq.codebooks[0].embed_avg[1] = 1e6 * rvq.codebooks[0].cluster_size[1]  # drives it away
        rvq.codebooks[0].embed[1] = 1e6
        if learn(rvq, frames(1, 2, 3)).metrics["replaced"].item():
            lifetimes.append(age)
            age = 0
    assert 18 <= lifetimes[1] <= 26


def test_threshold_is_a_share_of_the_mean_use():
    """A batch ten times larger replaces the same codes."""
    replaced = []
    for repeats in (1, 10):
        torch.manual_seed(1)
        rvq = ResidualVectorQuantizer(
            4, n_q=2, bins=32, decay=0.5, dead_code_threshold=0.2, kmeans_init=False
        )
        rvq.double().train()
        x = torch.randn(2, 4, 30, dtype=torch.float64)
        for book in rvq.codebooks:  # at the scale at which the averages settle
            book.cluster_size.mul_(60 * repeats / 32)
            book.embed_avg.mul_(60 * repeats / 32)
        dead = []
        for _ in range(4):
            dead.append(learn(rvq, x.repeat(repeats, 1, 1)).metrics["replaced"].item())
            for book in rvq.codebooks:  # which frame replaces differs: forget it
                book.embed_avg.copy_(torch.eye(32, 4) * book.cluster_size[:, None])
                book.embed.copy_(torch.eye(32, 4))
        replaced.append(dead)
    assert replaced[0] == replaced[1] and sum(replaced[0]) > 0


def test_replacements_are_different_frames():
    """Many dead codes at once get distinct frames, from all over the batch."""
    rvq = ResidualVectorQuantizer(2, n_q=1, bins=16, kmeans_init=False).train()
    book = rvq.codebooks[0]
    book.cluster_size[1:] = book.embed_avg[1:] = 1e-6
    book.cluster_size[0] = 100.0
    position = torch.arange(160.0)
    x = torch.stack([position, torch.ones(160)])[None]
    learn(rvq, x)
    chosen = book.embed[1:, 0].sort().values
    assert chosen.unique().numel() == 15
    assert chosen[0] < 30 and chosen[-1] >= 130
