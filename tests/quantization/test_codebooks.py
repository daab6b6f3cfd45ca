"""How codebooks start and learn: k-means, moving averages, dead codes."""

from __future__ import annotations

import pytest
import torch

from adversarial_trainer.quantization import QuantizedResult, ResidualVectorQuantizer, codebook
from adversarial_trainer.quantization.kmeans import kmeans


def learn(rvq: ResidualVectorQuantizer, x: torch.Tensor) -> QuantizedResult:
    """A training step on `x`; the result has the update's metrics as well."""
    result = rvq(x, 75.0)
    result.metrics |= rvq.update(result)
    return result


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chunks_and_plain_definition_agree(monkeypatch):
    """Lloyd's passes against distances written out; odd chunks change nothing."""
    frames = torch.randn(500, 5, dtype=torch.float64)
    means = frames[torch.randperm(500, generator=generator())[:20]]
    for _ in range(4):
        codes = (frames[:, None] - means).square().sum(-1).argmin(1)
        means = torch.stack([frames[codes == k].mean(0) for k in range(20)])
    monkeypatch.setattr(codebook, "CHUNK", 37)
    found, sizes = kmeans(frames, 20, 4, generator())
    torch.testing.assert_close(found, means)
    torch.testing.assert_close(sizes, torch.bincount(codes, minlength=20).double())


@pytest.mark.parametrize("count", [1, 5, 15])
def test_fewer_frames_than_codes(count):
    """No explosion: centroids stay among the frames, and those unused near one."""
    frames = torch.randn(count, 4) + 3
    means, sizes = kmeans(frames, 16, 10, generator())
    assert sizes.sum() == count
    assert torch.cdist(means[sizes <= 1], frames).amin(1).max() < 0.2
    margin = 0.1 * frames.std(0, correction=0)
    assert (means >= frames.amin(0) - margin).all() and (means <= frames.amax(0) + margin).all()


def test_survives_the_first_averages():
    """embed_avg = embed * cluster_size: the next step hardly moves the codebooks."""
    torch.manual_seed(0)
    rvq = ResidualVectorQuantizer(8, n_q=3, bins=16).train()
    x = torch.randn(4, 8, 64)
    learn(rvq, x)
    assert rvq.initialised
    started = [book.embed.clone() for book in rvq.codebooks]
    for book in rvq.codebooks:
        torch.testing.assert_close(book.embed_avg, book.embed * book.cluster_size[:, None])
        # N is where the averages settle: 4 * 64 frames a batch over 16 codes
        assert book.cluster_size.mean().item() == pytest.approx(16, rel=0.2)
    learn(rvq, x)
    for book, start in zip(rvq.codebooks, started, strict=True):
        assert (book.embed - start).norm() < 0.02 * start.norm()


def test_small_batches_are_gathered():
    """30 frames a batch, 64 codes: pass through until there are enough, then start
    every codebook, each on what the one before leaves."""
    torch.manual_seed(0)
    rvq = ResidualVectorQuantizer(8, n_q=4, bins=64, kmeans_frames_per_code=4).train()
    for step in range(9):
        assert not rvq.initialised
        x = torch.randn(2, 8, 15, requires_grad=True)
        result = learn(rvq, x)
        assert torch.equal(result.x, x) and not result.codes.any()
        progress = result.metrics["kmeans_progress"].item()
        assert progress == pytest.approx(min(30 * (step + 1) / 256, 1))
        (grad,) = torch.autograd.grad(result.x.sum() + result.penalty, x)
        assert torch.equal(grad, torch.ones_like(x))
    assert rvq.initialised
    norms = [book.embed.norm(dim=1).mean().item() for book in rvq.codebooks]
    assert norms[0] < 5 and all(
        0.02 * norms[0] < b < a for a, b in zip(norms, norms[1:], strict=False)
    )
    result = rvq(torch.randn(2, 8, 15), 75.0)
    assert result.codes.any() and result.penalty > 0


def test_empty_and_bad_frames_do_not_count():
    rvq = ResidualVectorQuantizer(8, n_q=2, bins=4, kmeans_max_batches=2).train()
    for _ in range(5):
        learn(rvq, torch.full((1, 8, 3), torch.nan))
        learn(rvq, torch.zeros(0, 8, 3))
    x = torch.randn(1, 8, 40)
    x[0, 0, ::2] = torch.inf
    assert learn(rvq, x).metrics["kmeans_progress"].item() == pytest.approx(20 / 32)
    assert not rvq.initialised
    learn(rvq, x)
    assert all(value.isfinite().all() for value in rvq.state_dict().values())
    assert rvq.initialised


def test_silence():
    """All frames equal: finite codebooks, and the frames are coded exactly."""
    rvq = ResidualVectorQuantizer(8, n_q=2, bins=16).train()
    for _ in range(3):
        result = learn(rvq, torch.zeros(2, 8, 100))
    assert all(value.isfinite().all() for value in rvq.state_dict().values())
    assert result.x.abs().max() < 1e-6


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
    book.start(torch.randn(8, 4), torch.full((8,), 16.0))
    book.embed[5] = book.embed_avg[5] = 1000.0  # where no frame is
    book.cluster_size[5] = 0.04 * book.cluster_size.mean()  # of the mean: 0.64
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
