"""Mean absolute difference of large maps, as fast as memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Elements done at once on a CPU: three such pieces of float32 stay in a core's cache, so that
# several small operations cost about what one pass through memory does.
CHUNK = 1 << 16


class L1Loss(torch.autograd.Function):
    """See `l1_loss`."""

    @staticmethod
    def forward(ctx: Any, fake: Tensor, real: Tensor) -> Tensor:
        if not fake.permute(_order(fake)).is_contiguous():
            fake = fake.contiguous()  # with gaps or overlaps, which `empty_like` would not have
        sign = torch.empty_like(fake)
        exact = torch.promote_types(fake.dtype, torch.float32)
        total = fake.new_zeros((), dtype=exact)
        for ours, theirs, out in pieces(fake, real, sign):
            torch.sub(ours, theirs, out=out)
            total += out.abs().sum(dtype=exact)
            out.sgn_()
        ctx.save_for_backward(sign)
        return total / fake.numel()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (sign,) = ctx.saved_tensors
        return sign * (grad / sign.numel()).to(sign.dtype), None


def l1_loss(fake: Tensor, real: Tensor) -> Tensor:
    """`F.l1_loss(fake, real)` of tensors of one shape, at least in float32, with a gradient for
    `fake` alone, laid out in memory as `fake` is: torch's own is contiguous, and all that follows
    it in the backward of a channels-last network then mixes both layouts."""
    return L1Loss.apply(fake, real)


def mean_magnitude(x: Tensor) -> Tensor:
    """mean |x|, at least in float32, 0-dim, without a graph."""
    exact = torch.promote_types(x.dtype, torch.float32)
    total = x.new_zeros((), dtype=exact)
    for (piece,) in pieces(x.detach()):
        total += piece.abs().sum(dtype=exact)
    return total / x.numel()


def pieces(first: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching flat pieces of tensors of one shape: views of those that are laid out as `first` is,
    densely, and copies of others. On a GPU one piece, as each takes launches of its own there."""
    order = _order(first)
    flat = [x.detach().permute(order).reshape(-1) for x in (first, *others)]
    if first.device.type != "cpu":
        yield tuple(flat)
        return
    yield from zip(*(x.split(CHUNK) for x in flat), strict=True)


def _order(x: Tensor) -> list[int]:
    """The dimensions from the slowest to the fastest in memory."""
    return sorted(range(x.dim()), key=x.stride, reverse=True)
