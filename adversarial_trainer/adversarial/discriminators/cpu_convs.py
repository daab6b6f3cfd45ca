"""2d convolutions over spectrograms, put so that a CPU's vectors are full.

Both are for channels-last maps and equal torch's but for rounding. Figures: EnCodec's MS-STFT with
windows of 2048, batch 4 x 1 s, float32 on one core (AVX-512), where matrix products reach 180
GFLOP/s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Outputs of a convolution that oneDNN has in one vector.
LANES = 16


def conv2d(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)`, in the way that is fastest for `x` [B, C, H, W] in channels-last."""
    if x.device.type == "cpu" and conv.groups == 1 and conv.padding_mode == "zeros":
        few = conv.in_channels * 4 <= LANES
        if few and conv.stride == conv.dilation == (1, 1) and not isinstance(conv.padding, str):
            return thin_conv2d(x, conv.weight, conv.bias, conv.padding)
        if _can_pair(conv):
            return paired_conv2d(x, conv.weight, conv.bias, conv.dilation[0])
    return conv(x)


def _can_pair(conv: nn.Conv2d) -> bool:
    (height, width), dilation = conv.kernel_size, conv.dilation
    same = (height // 2 * dilation[0], width // 2)
    paired = conv.stride == (1, 2) and dilation[1] == 1 and conv.padding == same
    return paired and height % 2 == 1 and width % 4 == 1


def paired_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """A convolution with stride 2 along W and output i centred at 2 i, as one of stride 1 over
    pairs of neighbours: twice the channels and half of the taps, and one tap of zeros more.

    In channels-last a pair's channels lie side by side, so that this is a view, but for a column
    of zeros where W is odd. Forward and backward together are 1.3 to 1.4 times as fast.

    Args:
        x: [B, C, H, W].
        weight: [O, C, I, J], I odd, J = 1 modulo 4.
        dilation: along H.
    """
    outputs, channels, rows, taps = weight.shape
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, x.shape[3] % 2))
    pairs = x.unflatten(2, (-1, 2)).flatten(3).permute(0, 3, 1, 2)  # [B, 2 C, H, ceil(W / 2)]
    kernel = F.pad(weight, (0, 1)).unflatten(3, (-1, 2))  # [O, C, I, (J + 1) / 2, 2]
    kernel = kernel.permute(0, 4, 1, 2, 3).flatten(1, 2)
    padding = (rows // 2 * dilation, taps // 4)
    return F.conv2d(pairs, kernel, bias, padding=padding, dilation=(dilation, 1))


class ThinConv2d(torch.autograd.Function):
    """`F.conv2d` with stride and dilation 1; see `thin_conv2d`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = input_gradient(grad, weight, ctx.padding)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            wanted = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
            _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                [len(weight)],
                (1, 1),
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                1,
                wanted,
            )
        return grad_x, grad_weight, grad_bias, None


def thin_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]) -> Tensor:
    """A convolution of few input channels whose gradient with respect to its input is fast.

    oneDNN computes that gradient as a convolution with as few outputs: of its vectors of 16 lanes
    all but two idle where a spectrogram has 2 channels (18 GFLOP/s; this way 50).

    Args: as `F.conv2d`.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        # Not done by autocast itself inside of a Function, whose backward would then mix types.
        dtype = torch.get_autocast_dtype(kind)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return ThinConv2d.apply(x, weight, bias, padding)


def input_gradient(grad: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor:
    """The gradient [B, C, H, W] of such a convolution's input.

    A convolution along W alone gives what each of the I rows of the kernel sends to its C channels,
    I * C outputs; the sum over rows, each shifted by its position, is then I additions.

    Args:
        grad: of its output, [B, O, H', W'].
        weight: [O, C, I, J].
    """
    outputs, channels, rows, taps = weight.shape
    # Channel i * C + c: row i of channel c.
    kernel = weight.flip(3).permute(2, 1, 0, 3).reshape(rows * channels, outputs, 1, taps)
    sent = F.conv2d(grad, kernel, padding=(rows - 1, taps - 1 - padding[1]))
    sent = sent.permute(0, 2, 3, 1).unflatten(3, (rows, channels))  # [B, H' + 2 (I - 1), W, I, C]
    height = grad.shape[2] + rows - 1 - 2 * padding[0]
    # Input h hears row i of output h + padding - i, which `sent` has I - 1 further on.
    first = padding[0] + rows - 1
    total = sent[:, first : first + height, :, 0].clone()
    for i in range(1, rows):
        total += sent[:, first - i : first - i + height, :, i]
    return total.permute(0, 3, 1, 2)
