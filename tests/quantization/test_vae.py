"""The VAE's bottleneck: KL, noise, ranks."""

from __future__ import annotations

import math

import pytest
import torch
from ranks import run_ranks
from torch.distributions import Normal, kl_divergence

from adversarial_trainer import distrib
from adversarial_trainer.quantization.vae import VAEQuantizer


def latents(items: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(items, 8, 40, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_kl_is_twice_the_divergence_from_a_normal() -> None:
    """Summed over channels, the mean over items and frames, times its weight."""
    x = latents()
    mean, scale = x.chunk(2, 1)
    posterior = Normal(mean, torch.nn.functional.softplus(scale) + 1e-4)
    wanted = 2 * kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
    for training in (True, False):
        result = VAEQuantizer(8, kl_weight=0.01).train(training)(x, 50.0)
        torch.testing.assert_close(result.penalty, 0.01 * wanted)
        torch.testing.assert_close(result.metrics["kl"], wanted)


def test_mean_in_evaluation_and_noise_in_training() -> None:
    vae = VAEQuantizer(8)
    assert vae.output_dimension == 4 and not vae.discrete
    x = latents(50)
    mean, scale = x.chunk(2, 1)
    noise = (vae.train()(x, 50.0).x - mean) / (torch.nn.functional.softplus(scale) + 1e-4)
    assert abs(noise.mean()) < 4 / math.sqrt(noise.numel())
    assert abs(noise.std() - 1) < 4 / math.sqrt(2 * noise.numel())
    assert not torch.equal(vae(x, 50.0).x, vae(x, 50.0).x)
    evaluated = vae.eval()(x, 50.0)
    assert torch.equal(evaluated.x, mean) and torch.equal(vae.encode(x)[:, 0], mean)
    assert torch.equal(vae.decode(evaluated.codes), mean)
    assert evaluated.bandwidth.item() == pytest.approx(4 * 32 * 50 / 1000)


def test_gradient_of_mean_and_scale() -> None:
    """The noise is that of the generator: dx/dm = 1, dx/ds = n."""
    vae = VAEQuantizer(8, kl_weight=0.0, generator=distrib.shared_generator(7)).train()
    x = latents().requires_grad_()
    vae(x, 50.0).x.sum().backward()
    noise = torch.randn(3, 4, 40, generator=distrib.shared_generator(7)).double()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:, :4], torch.ones_like(noise))
    torch.testing.assert_close(x.grad[:, 4:], noise * torch.sigmoid(x[:, 4:].detach()))


def test_half_precision() -> None:
    """The KL of a small deviation needs more than bfloat16."""
    x = latents(dtype=torch.float32).bfloat16()
    wanted = VAEQuantizer(8).eval()(x.float(), 50.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = VAEQuantizer(8).eval()(x, 50.0)
    assert found.x.dtype == torch.bfloat16
    torch.testing.assert_close(found.penalty, wanted.penalty)


def work(rank: int, sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    start = sum(sizes[:rank])
    vae = VAEQuantizer(8).train()
    result = vae(latents(sum(sizes))[start : start + sizes[rank]], 50.0)
    return result.x, result.penalty * sizes[rank], vae.generator.get_state()


def test_ranks_equal_one() -> None:
    sizes = [1, 0, 2]
    x, penalty, state = work(0, [3])
    found = run_ranks(work, sizes, world_size=3)
    assert torch.equal(torch.cat([part[0] for part in found]), x)
    torch.testing.assert_close(sum(part[1] for part in found), penalty)
    assert all(torch.equal(part[2], state) for part in found)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="dimension must be even.* got 7"):
        VAEQuantizer(7)
    with pytest.raises(ValueError, match="kl_weight .* got -1"):
        VAEQuantizer(8, kl_weight=-1)
    with pytest.raises(ValueError, match=r"\[B, 8, T\], got \[1, 4, 5\]"):
        VAEQuantizer(8).encode(torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"\[B, 1, 4, T\]"):
        VAEQuantizer(8).decode(torch.zeros(1, 1, 8, 5))
