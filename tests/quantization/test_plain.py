"""The quantizer against the plain one (tests/plain), in float64."""

from __future__ import annotations

import pytest
import torch
from plain.quantizer import PlainResidualVQ, plain_kmeans

from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.quantization.kmeans import kmeans


@pytest.fixture
def pair() -> tuple[ResidualVectorQuantizer, PlainResidualVQ]:
    """Ours with different averages behind each codebook, and the plain one with its state."""
    torch.manual_seed(0)
    ours = ResidualVectorQuantizer(12, n_q=5, bins=32, kmeans_init=False, dead_code_threshold=0)
    ours.double().train()
    for book in ours.codebooks:
        sizes = torch.rand(32, dtype=torch.float64) + 0.5
        book.start(0.5 * torch.randn(32, 12, dtype=torch.float64), sizes)
    plain = PlainResidualVQ(12, n_q=5, bins=32).double().train()
    plain.load_state_dict(ours.state_dict(), strict=True)
    return ours, plain


@pytest.mark.parametrize("n_q", [3, 5])
def test_training_steps(pair: tuple[ResidualVectorQuantizer, PlainResidualVQ], n_q: int) -> None:
    """Codes, outputs, penalty, gradients and averages over three steps; unused books stay."""
    ours, plain = pair
    ours.set_num_codebooks(n_q)
    for step in range(3):
        x = torch.randn(3, 12, 20, dtype=torch.float64, requires_grad=True)
        direction = torch.randn_like(x)
        out, codes, penalty = plain(x, 75.0, n_q)
        (wanted,) = torch.autograd.grad((out * direction).sum() + 0.7 * penalty, x)
        result = ours(x, 75.0)
        ours.update(result)
        (grad,) = torch.autograd.grad((result.x * direction).sum() + 0.7 * result.penalty, x)
        assert torch.equal(result.codes, codes), step
        for a, b in [(result.x, out), (result.penalty, penalty), (grad, wanted)]:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        for (key, a), b in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=f"{key}, step {step}")


def test_evaluation(pair: tuple[ResidualVectorQuantizer, PlainResidualVQ]) -> None:
    ours, plain = (module.eval() for module in pair)
    x = torch.randn(2, 12, 9, dtype=torch.float64)
    result, (out, codes, penalty) = ours(x, 75.0), plain(x, 75.0)
    assert torch.equal(result.codes, codes) and penalty.item() == 0
    torch.testing.assert_close(result.x, out, rtol=1e-12, atol=1e-12)


def test_kmeans() -> None:
    torch.manual_seed(1)
    frames = torch.randn(300, 6, dtype=torch.float64)
    first = torch.randperm(300, generator=torch.Generator().manual_seed(2))[:16]
    means, sizes = kmeans(frames, 16, 7, torch.Generator().manual_seed(2))
    plain_means, plain_sizes = plain_kmeans(frames, frames[first], 7)
    assert torch.equal(sizes.long(), plain_sizes)
    torch.testing.assert_close(means, plain_means, rtol=1e-12, atol=1e-12)
