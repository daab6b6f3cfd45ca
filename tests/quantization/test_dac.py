"""DAC's quantizer: values, losses, gradients, dropout, ranks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from micro import composed
from ranks import run_ranks

from adversarial_trainer import distrib
from adversarial_trainer.models.builders import get_quantizer
from adversarial_trainer.quantization.dac import DACQuantizer


def build(seed: int = 0, **kwargs) -> DACQuantizer:
    torch.manual_seed(seed)
    defaults = {"dimension": 12, "n_q": 4, "bins": 32, "codebook_dim": 3, "q_dropout": 0.0}
    return DACQuantizer(**{**defaults, **kwargs}).double()


def theirs_like(ours: DACQuantizer) -> torch.nn.Module:
    """transformers' quantizer, without weight norm, with the same weights."""
    # Slow, and not for the processes of other tests.
    from transformers import DacConfig
    from transformers.models.dac.modeling_dac import DacResidualVectorQuantizer

    book = ours.codebooks[0]
    config = DacConfig(
        n_codebooks=len(ours.codebooks),
        codebook_size=ours.cardinality,
        codebook_dim=book.codebook.embedding_dim,
        hidden_size=ours.dimension,
        quantizer_dropout=0.0,
    )
    config.hidden_size = ours.dimension
    theirs = DacResidualVectorQuantizer(config).double()
    state = {}
    for i, book in enumerate(ours.codebooks):
        for name in ("in_proj", "out_proj"):
            conv = getattr(book, name)
            state[f"quantizers.{i}.{name}.weight"] = conv.weight.detach()
            state[f"quantizers.{i}.{name}.bias"] = conv.bias.detach()
        state[f"quantizers.{i}.codebook.weight"] = book.codebook.weight.detach()
    theirs.load_state_dict(state)
    return theirs


def randomised(**kwargs) -> DACQuantizer:
    quantizer = build(**kwargs)
    for book in quantizer.codebooks:
        torch.nn.init.normal_(book.in_proj.bias)
        torch.nn.init.normal_(book.out_proj.bias)
    return quantizer


def test_values_and_gradients_of_transformers() -> None:
    """Codes, latents, decoding, and the gradient of the latents at input and projections."""
    ours = randomised().train()
    theirs = theirs_like(ours).train()
    x = torch.randn(3, 12, 20, dtype=torch.float64)
    weight = torch.randn(3, 12, 20, dtype=torch.float64)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    result, expected = ours(a, 50.0), theirs(b)
    assert torch.equal(result.codes, expected[1])
    torch.testing.assert_close(result.x, expected[0], rtol=1e-12, atol=1e-12)
    (result.x * weight).sum().backward()
    (expected[0] * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)
    for book, other in zip(ours.codebooks, theirs.quantizers, strict=True):
        for name in ("in_proj", "out_proj"):
            mine, their = getattr(book, name), getattr(other, name)
            torch.testing.assert_close(mine.bias.grad, their.bias.grad, rtol=1e-9, atol=1e-9)
    for n in (1, 3, 4):
        codes = result.codes[:, :n]
        torch.testing.assert_close(
            ours.decode(codes), theirs.from_codes(codes)[0], rtol=1e-9, atol=0
        )
        ours.eval().set_num_codebooks(n)
        assert torch.equal(ours.encode(x), codes)
        assert torch.equal(ours(x, 50.0).x, ours.decode(codes))


def plain_penalty(quantizer: DACQuantizer, x: torch.Tensor, used: list[int]) -> torch.Tensor:
    """DAC's two losses: each item's mean, times its mask, the mean over the batch, the sum over
    codebooks (descriptinc/descript-audio-codec, dac/nn/quantize.py)."""
    total, residual = torch.zeros((), dtype=x.dtype), x
    for k, book in enumerate(quantizer.codebooks):
        z = F.conv1d(residual, book.in_proj.weight, book.in_proj.bias)
        entries = book.codebook.weight
        cosine = torch.einsum("bdt,nd->bnt", F.normalize(z, dim=1), F.normalize(entries, dim=1))
        e = entries[cosine.argmax(1)].transpose(1, 2)
        commit = F.mse_loss(z, e.detach(), reduction="none").mean([1, 2])
        codebook = F.mse_loss(e, z.detach(), reduction="none").mean([1, 2])
        mask = torch.tensor([float(k < n) for n in used], dtype=x.dtype)
        total = total + 0.25 * (commit * mask).mean() + 1.0 * (codebook * mask).mean()
        straight = z + (e - z).detach()
        residual = residual - F.conv1d(straight, book.out_proj.weight, book.out_proj.bias)
    return total


@pytest.mark.parametrize("q_dropout", [0.0, 0.5, 1.0])
def test_losses_of_dac(q_dropout: float) -> None:
    """With dropout the first int(B p) items draw from 1..N, and what they leave over goes on."""
    quantizer = randomised(q_dropout=q_dropout, generator=distrib.shared_generator(3)).train()
    x = torch.randn(5, 12, 20, dtype=torch.float64)
    dropped = int(5 * q_dropout)
    drawn = torch.randint(1, 5, (dropped,), generator=distrib.shared_generator(3)).tolist()
    used = [*drawn, *[4] * (5 - dropped)]
    a, b = (x.clone().requires_grad_() for _ in range(2))
    result, expected = quantizer(a, 50.0), plain_penalty(quantizer, b, used)
    torch.testing.assert_close(result.penalty, expected, rtol=1e-12, atol=0)
    weights = list(quantizer.parameters())
    wanted = torch.autograd.grad(expected, [b, *weights], materialize_grads=True)
    found = torch.autograd.grad(result.penalty, [a, *weights], materialize_grads=True)
    for mine, their in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-12)
    for item, n in enumerate(used):
        latents = quantizer.decode(result.codes[item : item + 1, :n])
        torch.testing.assert_close(result.x[item : item + 1], latents)
    assert result.codes.shape == (5, 4, 20)
    assert result.bandwidth.item() == pytest.approx(np.mean(used) * 5 * 50 / 1000)
    assert quantizer.eval()(x, 50.0).penalty.item() == 0


def test_single_codebook_of_bigcodec() -> None:
    """8192 codes; a minute of 80 Hz frames at once, in memory that does not grow with it."""
    quantizer = get_quantizer(composed("quantizer=dac_single").quantizer, 32).eval()
    assert isinstance(quantizer, DACQuantizer)
    assert (quantizer.total_codebooks, quantizer.cardinality) == (1, 8192)
    assert quantizer.bandwidth(80.0) == pytest.approx(1.04)
    x = torch.randn(1, 32, 4800)
    codes = quantizer.encode(x)
    parts = [quantizer.encode(part) for part in x.split(700, 2)]
    assert torch.equal(codes, torch.cat(parts, 2))
    z = F.normalize(quantizer.codebooks[0](x)[0].detach(), dim=1)
    entries = F.normalize(quantizer.codebooks[0].entries.detach(), dim=1)
    nearest = torch.cdist(z[0].t()[:100], entries).argmin(1)
    assert (codes[0, 0, :100] == nearest).double().mean() > 0.98  # rounding decides a few


def test_state_of_descript() -> None:
    """Names and shapes of its weight-normed state dict, but for the counts; biases start at 0."""
    quantizer = build(n_q=1)
    assert {key: list(value.shape) for key, value in quantizer.state_dict().items()} == {
        "quantizers.0.counts": [32],
        "quantizers.0.in_proj.bias": [3],
        "quantizers.0.in_proj.parametrizations.weight.original0": [3, 1, 1],  # weight_g
        "quantizers.0.in_proj.parametrizations.weight.original1": [3, 12, 1],  # weight_v
        "quantizers.0.out_proj.bias": [12],
        "quantizers.0.out_proj.parametrizations.weight.original0": [12, 1, 1],
        "quantizers.0.out_proj.parametrizations.weight.original1": [12, 3, 1],
        "quantizers.0.codebook.weight": [32, 3],
    }
    assert not any(p.any() for name, p in quantizer.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Nothing is computed in less than float32 under autocast, or for latents in half precision."""
    quantizer = randomised(bins=512).float().eval()
    x = torch.randn(2, 12, 40).to(dtype)
    wanted = quantizer.encode(x.float())
    result = quantizer(x, 50.0)
    assert result.x.dtype == dtype and torch.equal(result.codes, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(x.float(), 50.0).codes, wanted)
        assert torch.equal(quantizer.encode(x.float()), wanted)
        assert quantizer.decode(wanted).dtype == torch.float32
    assert copy.deepcopy(quantizer).to(dtype)(x, 50.0).x.dtype == dtype


def test_counts_follow_the_codes() -> None:
    """Their averages over batches; metrics are those of the batch; evaluation moves nothing."""
    quantizer = build(n_q=2).train()
    x = torch.randn(2, 12, 30, dtype=torch.float64)
    result = quantizer(x, 50.0)
    quantizer.update(result)
    for k, counts in enumerate(quantizer.code_counts()):
        seen = torch.bincount(result.codes[:, k].flatten(), minlength=32)
        torch.testing.assert_close(counts, 0.99 + 0.01 * seen.double())
        used = (seen > 0).double().mean()
        torch.testing.assert_close(result.metrics[f"usage/{k}"].double(), used)
    assert result.metrics.keys() >= {"usage", "perplexity", "perplexity/1"}
    quantizer.update(quantizer.eval()(x, 50.0))
    torch.testing.assert_close(quantizer.code_counts()[0].sum().item(), 0.99 * 32 + 0.01 * 60)


def work(rank: int, sizes: list[int]) -> dict:
    """Averaged gradients of latents and penalty on ranks with so many items each."""
    quantizer = randomised(q_dropout=0.6).train()
    generator = torch.Generator().manual_seed(1)
    total = sum(sizes)
    x = torch.randn(total, 12, 20, generator=generator, dtype=torch.float64)
    weight = torch.randn(total, 12, 20, generator=generator, dtype=torch.float64)
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    result = quantizer(x[mine], 50.0)
    items = sizes[rank]
    loss = (result.x * weight[mine]).sum() / max(items, 1) + result.penalty
    loss.backward()
    distrib.average_gradients(quantizer.parameters(), items)
    quantizer.update(result)
    return {
        "gradients": [p.grad for p in quantizer.parameters()],
        "counts": quantizer.code_counts(),
        "metrics": result.metrics,
        "bandwidth": result.bandwidth,
        "draws": quantizer.generator.get_state(),
    }


@pytest.mark.parametrize("sizes", [[2, 3], pytest.param([1, 2, 0, 2], marks=pytest.mark.slow)])
def test_ranks_equal_one(sizes: list[int]) -> None:
    alone = work(0, [5])
    for found in run_ranks(work, sizes, world_size=len(sizes)):
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("items", "frames"), [(0, 5), (2, 0), (1, 1)])
def test_any_shape(training: bool, items: int, frames: int) -> None:
    quantizer = build(q_dropout=0.5).train(training)
    result = quantizer(torch.randn(items, 12, frames), 50.0)
    quantizer.update(result)
    assert result.codes.shape == (items, 4, frames) and result.x.shape == (items, 12, frames)
    assert result.penalty.isfinite() and result.bandwidth.isfinite()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_q": 0}, "n_q .* got 0"),
        ({"codebook_dim": 1.5}, "codebook_dim .* got 1.5"),
        ({"q_dropout": 1.5}, "q_dropout .* got 1.5"),
        ({"commitment": -1}, "commitment .* got -1"),
        ({"codebook": float("nan")}, "codebook .* got nan"),
    ],
)
def test_wrong_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_supported_counts() -> None:
    assert build(n_q=9, q_dropout=0.5).supported_codebook_counts == [1, 2, 4, 8, 9]
    assert build(n_q=8, q_dropout=0.5).supported_codebook_counts == [1, 2, 4, 8]
    assert build(n_q=9).supported_codebook_counts == [9]
    assert build(n_q=1, q_dropout=1.0).supported_codebook_counts == [1]
