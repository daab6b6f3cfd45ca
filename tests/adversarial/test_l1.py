"""The mean absolute difference of maps, against torch's."""

import pytest
import torch
from torch.nn import functional as F

from adversarial_trainer.adversarial import l1


def contiguous(x):
    return x.contiguous()


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def with_gaps(x):
    return F.pad(x, (0, 3))[..., : x.shape[-1]]


def expanded(x):
    return x[:, :1].expand_as(x)


LAYOUTS = [contiguous, channels_last, with_gaps, expanded]


@pytest.mark.parametrize("of_real", LAYOUTS)
@pytest.mark.parametrize("of_fake", LAYOUTS)
def test_equals_torch(of_fake, of_real, monkeypatch):
    monkeypatch.setattr(l1, "CHUNK", 100)  # several pieces, the last one short
    fake, real = torch.randn(2, 2, 3, 5, 7, dtype=torch.float64)
    fake[0], real[0] = 1, 1  # no gradient where they are equal
    fake, real = of_fake(fake), of_real(real)
    fake = fake.detach().requires_grad_()
    (ours,) = torch.autograd.grad(3 * l1.l1_loss(fake, real), fake)
    (theirs,) = torch.autograd.grad(3 * F.l1_loss(fake, real), fake)
    assert l1.l1_loss(fake, real).item() == pytest.approx(F.l1_loss(fake, real).item(), rel=1e-13)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
    assert l1.mean_magnitude(fake).item() == pytest.approx(fake.abs().mean().item(), rel=1e-13)


def test_gradient_has_the_layout_of_fake():
    fake, real = channels_last(torch.randn(2, 4, 5, 6)).requires_grad_(), torch.randn(2, 4, 5, 6)
    (gradient,) = torch.autograd.grad(l1.l1_loss(fake, real), fake)
    assert gradient.stride() == fake.stride()


def test_a_gradient_is_made_when_it_is_needed():
    """After the later layers' backwards, so that those of all maps are never alive at once."""
    log = []
    x = torch.randn(1, 2, 3, 4, requires_grad=True)
    distances = []
    maps = [x * 2]
    for _ in range(2):
        maps.append(maps[-1] * 2)
    for i, each in enumerate(maps):
        distances.append(l1.l1_loss(each, torch.zeros_like(each)))
        each.grad_fn.register_prehook(lambda _, i=i: log.append(f"layer {i}"))
        distances[-1].grad_fn.register_prehook(lambda _, i=i: log.append(f"distance {i}"))
    torch.stack(distances).sum().backward()
    assert log == [f"{kind} {i}" for i in (2, 1, 0) for kind in ("distance", "layer")]


def test_half_precision_is_summed_in_float32():
    """256 ones and a half is 256 in bfloat16, and so would be their sum for ever."""
    fake = torch.full((1, 1, 100, 100), 0.5, dtype=torch.bfloat16, requires_grad=True)
    real = torch.zeros_like(fake)
    loss = l1.l1_loss(fake, real)
    assert loss.dtype == torch.float32 and loss.item() == 0.5
    assert l1.mean_magnitude(fake).item() == 0.5
    (gradient,) = torch.autograd.grad(loss, fake)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(
        gradient.float(), torch.full(gradient.shape, 1e-4), rtol=4e-3, atol=0
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(bad):
    fake, real = torch.randn(2, 1, 2, 3, 4)
    real[0, 1, 2, 3] = bad
    assert not l1.l1_loss(fake, real).isfinite() and not l1.mean_magnitude(real).isfinite()


def test_what_is_not_a_number_shows_in_the_gradient():
    """Whose signs are kept as whole numbers."""
    fake, real = torch.randn(2, 1, 2, 3, 4)
    real[0, 1, 2, 3] = float("nan")
    (gradient,) = torch.autograd.grad(l1.l1_loss(fake.requires_grad_(), real), fake)
    assert not gradient.isfinite().all()
