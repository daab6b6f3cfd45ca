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
        sign = torch.empty_like(fake, dtype=torch.int8)  # a quarter of the map
        exact = torch.promote_types(fake.dtype, torch.float32)
        total = fake.new_zeros((), dtype=exact)
        for ours, theirs, out in pieces(fake, real, sign):
            difference = ours.to(exact) - theirs.to(exact)
            total += difference.abs().sum()
            out.copy_(difference.sgn_())
        ctx.dtype = fake.dtype
        # Which has no sign that is not a number.
        ctx.save_for_backward(sign, torch.where(total.isnan(), total, 1.0))
        return total / fake.numel()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        sign, one = ctx.saved_tensors
        scale = (one * grad / sign.numel()).to(ctx.dtype)
        gradient = torch.empty_like(sign, dtype=ctx.dtype)
        for small, out in pieces(sign, gradient):
            out.copy_(small).mul_(scale)
        return gradient, None


def l1_loss(fake: Tensor, real: Tensor) -> Tensor:
    """`F.l1_loss(fake, real)` of tensors of one shape, at least in float32, with a gradient for
    `fake` alone, laid out in memory as `fake` is: torch's own is contiguous, and all that follows
    it in the backward of a channels-last network then mixes both layouts."""
    loss = L1Loss.apply(fake, real)
    _make_late(loss.grad_fn, fake.grad_fn)
    return loss


def _make_late(node: Any, before: Any) -> None:
    """Let a backward come to `node` as late as to `before`, which waits for it.

    Of what can run, autograd takes first what was made last: the distances of all layers before any
    layer's own backward, so that the gradients of all feature maps would be alive at once.
    """
    if node is not None and before is not None and hasattr(node, "_set_sequence_nr"):
        node._set_sequence_nr(before._sequence_nr())


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
