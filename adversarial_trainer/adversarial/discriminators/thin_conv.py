"""A 2d convolution of few channels, as over a spectrogram, put so that a CPU's vectors are full."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators.wanted import weights_wanted
from adversarial_trainer.modules.conv import NormConv2d, is_hooked
from adversarial_trainer.modules.spectral import as_autocast

# Outputs of a convolution that oneDNN has in one vector.
LANES = 16


class ThinNormConv2d(NormConv2d):
    """`NormConv2d` that goes by `thin_conv2d` where that is faster: on a CPU, of few channels,
    channels-last."""

    def convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        padding = conv.padding
        plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
        # A layer that this machine computes wrongly in bfloat16 has been given another forward.
        plain = plain and not is_hooked(conv) and "forward" not in vars(conv)
        if not plain or conv.padding_mode != "zeros" or isinstance(padding, str):
            return conv(x)
        fits = all(p < k for p, k in zip(padding, conv.kernel_size, strict=True))
        if not fits or x.device.type != "cpu" or x.shape[1] * 4 > LANES:
            return conv(x)
        return thin_conv2d(x, conv.weight, conv.bias, padding)


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
        if any(ctx.needs_input_grad[1:3]) and weights_wanted():
            mask = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
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
                mask,
            )
        return grad_x, grad_weight, grad_bias, None


def thin_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]) -> Tensor:
    """A convolution of few input channels whose gradient with respect to its input is fast.

    oneDNN computes that gradient as a convolution with as few outputs: of its vectors of 16 lanes
    all but two idle where a spectrogram has 2 channels: on one core with AVX-512, 18 GFLOP/s of
    130. This way takes a third of the time.

    Args: as `F.conv2d`.
    """
    x, weight, bias = as_autocast(x, weight, bias)
    return ThinConv2d.apply(x, weight, bias, padding)


def input_gradient(grad: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor:
    """The gradient [B, C, H, W] of such a convolution's input.

    A convolution along W alone gives what each of the I rows of the kernel sends to its C channels,
    I * C outputs; one of ones and zeros along H adds up those that each input hears. (Rows of zeros
    around the first one's input would do instead of the second one's, but make oneDNN's bfloat16
    ten times as slow.)

    Args:
        grad: of its output, [B, O, H', W'].
        weight: [O, C, I, J].
    """
    outputs, channels, rows, taps = weight.shape
    # Channel i * C + c: row i of channel c.
    kernel = weight.flip(3).permute(2, 1, 0, 3).reshape(rows * channels, outputs, 1, taps)
    sent = F.conv2d(grad, kernel, padding=(0, taps - 1 - padding[1]))
    # Input h hears row i of output h + padding - i.
    eye = torch.eye(rows * channels, dtype=weight.dtype, device=weight.device)
    picks = eye.view(rows, channels, rows * channels).permute(1, 2, 0).flip(2).unsqueeze(3)
    return F.conv2d(sent, picks, padding=(rows - 1 - padding[0], 0))
