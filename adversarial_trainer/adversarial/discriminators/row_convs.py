"""Convolutions along rows as few large matrix products, for a CPU.

With channels last, the rows that a stride of s steps over lie side by side, so that [R, C] seen as
[R / s, s C] holds the first s taps of each window in one row, the next s in the row below, and so
on: a kernel of k taps is ceil(k / s) products of views, of which nothing is copied but the zeros
around each item. On one core the layers of the multi-period discriminator do 90 to 125 GFLOP/s
forward and backward this way, and 30 to 65 with torch's convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators.wanted import weights_wanted
from adversarial_trainer.modules.conv import NormConv1d, NormConv2d, is_hooked
from adversarial_trainer.modules.spectral import as_autocast


class RowNormConv1d(NormConv1d):
    """`NormConv1d` by matrix products on a CPU; then with channels last in memory."""

    def convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        if not _fits(conv, x):
            return conv(x)
        rows = x.transpose(1, 2)  # [B, C, T] -> [B, T, C]
        padding = int(conv.padding[0])
        rows = row_conv(rows, conv.weight, conv.bias, conv.stride[0], padding, conv.groups)
        return rows.transpose(1, 2)


class ColumnNormConv2d(NormConv2d):
    """`NormConv2d` with kernels of one column, by matrix products on a CPU; then with rows and
    channels last in memory."""

    def convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        if conv.kernel_size[1] != 1 or not _fits(conv, x):
            return conv(x)
        batch, _, _, columns = x.shape
        rows = x.permute(0, 3, 2, 1).flatten(0, 1)  # [B, C, H, W] -> [B W, H, C]
        weight, padding = conv.weight[..., 0], int(conv.padding[0])
        rows = row_conv(rows, weight, conv.bias, conv.stride[0], padding, conv.groups)
        return rows.unflatten(0, (batch, columns)).permute(0, 3, 2, 1)


def _fits(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> bool:
    """Whether `conv` is one that `row_conv` does, on this device."""
    if x.device.type != "cpu" or is_hooked(conv) or isinstance(conv.padding, str):
        return False
    along, *across = zip(conv.stride, conv.padding, conv.dilation, strict=True)
    if across and across != [(1, 0, 1)]:
        return False
    return along[2] == 1 and along[1] < conv.kernel_size[0] and conv.padding_mode == "zeros"


@dataclass(frozen=True)
class _Plan:
    """How items of `rows` rows become one matrix of windows."""

    items: int
    rows: int
    channels: int  # of a group
    taps: int
    stride: int
    padding: int
    groups: int

    @property
    def products(self) -> int:
        """Matrix products a window takes."""
        return -(-self.taps // self.stride)

    @property
    def windows(self) -> int:
        """Outputs of an item."""
        return (self.rows + 2 * self.padding - self.taps) // self.stride + 1

    @property
    def places(self) -> int:
        """Windows that an item has room for: its own, and those that start in its zeros. The zeros
        in front of the next item are those behind this one."""
        behind = -(-(self.taps - self.padding) // self.stride)
        return max(-(-(self.padding + self.rows) // self.stride), self.windows - 1 + behind)

    @property
    def count(self) -> int:
        """Places of all items."""
        return self.items * self.places

    def room(self, like: Tensor) -> Tensor:
        """Zeros [G, count + products - 1, stride * C], of the type of `like`."""
        width = self.stride * self.channels
        return like.new_zeros(self.groups, self.count + self.products - 1, width)

    def inside(self, wide: Tensor) -> Tensor:
        """Where the items are in such a `room`, a view [M, R, G, C]."""
        length = self.places * self.stride
        items = wide[:, : self.count].view(self.groups, self.items, length, self.channels)
        return items[:, :, self.padding : self.padding + self.rows].permute(1, 2, 0, 3)

    def pad(self, x: Tensor) -> Tensor:
        """`x` [M, R, G C] in a `room`, with zeros around the items."""
        wide = self.room(x)
        self.inside(wide).copy_(x.unflatten(2, (self.groups, self.channels)))
        return wide

    def pairs(self, wide: Tensor, kernel: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each group its number, windows [count, n C] of a `room` and the taps [O, n C] of
        `kernel` [G O, k C] for them, `products` times: views, which may be written to."""
        outputs = len(kernel) // self.groups
        step = self.stride * self.channels
        for group in range(self.groups):
            # Made one by one: those of a tensor that changes in a differentiable backward grow
            # stale.
            for i in range(self.products):
                width = min(step, self.taps * self.channels - i * step)
                taps = kernel[group * outputs : (group + 1) * outputs, i * step : i * step + width]
                yield group, wide[group, i : i + self.count, :width], taps


class RowConv(torch.autograd.Function):
    """See `row_conv`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        groups: int,
    ) -> Tensor:
        items, rows, width = x.shape
        channels = width // groups
        plan = _Plan(items, rows, channels, kernel.shape[1] // channels, stride, padding, groups)
        ctx.save_for_backward(x, kernel)
        ctx.plan = plan
        outputs = len(kernel) // groups
        out = x.new_zeros(groups, plan.count, outputs)
        if bias is not None:
            out += bias.view(groups, 1, outputs)
        for group, part, taps in plan.pairs(plan.pad(x), kernel):
            out[group].addmm_(part, taps.t())
        out = out.view(groups, items, plan.places, outputs)[:, :, : plan.windows]
        return out.permute(1, 2, 0, 3).flatten(2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, kernel = ctx.saved_tensors
        plan: _Plan = ctx.plan
        outputs = len(kernel) // plan.groups
        flat = F.pad(grad, (0, 0, 0, plan.places - plan.windows))
        flat = flat.reshape(plan.count, plan.groups, outputs).permute(1, 0, 2)
        grad_x = grad_kernel = grad_bias = None
        if ctx.needs_input_grad[0]:
            wide = plan.room(flat)
            for group, part, taps in plan.pairs(wide, kernel):
                part.addmm_(flat[group], taps)
            grad_x = plan.inside(wide).flatten(2)
        if ctx.needs_input_grad[1] and weights_wanted():
            grad_kernel = torch.zeros_like(kernel)
            for group, part, taps in plan.pairs(plan.pad(x), grad_kernel):
                taps.addmm_(flat[group].t(), part)
        if ctx.needs_input_grad[2] and weights_wanted():
            grad_bias = grad.sum((0, 1))
        return grad_x, grad_kernel, grad_bias, None, None, None


def row_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """`F.conv1d` with channels last: [M, R, G C] -> [M, R', G O].

    Any number of times differentiable, also under autocast.

    Args:
        weight: [G O, C, k].
        padding: zeros on both sides, at most k - 1.
    """
    x, weight, bias = as_autocast(x, weight, bias)
    # [G O, C, k] -> [G O, k C], of which all matrices are views. In the other order, k C first,
    # this copy takes five times as long, longer than the products of a short batch.
    kernel = weight.transpose(1, 2).flatten(1)
    return RowConv.apply(x, kernel, bias, stride, padding, groups)
