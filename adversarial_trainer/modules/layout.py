"""1d convolutions with the channels innermost in memory, for inference on a CPU.

oneDNN's kernels read and write that layout as it is, while it reorders the usual one before and
after each convolution, and transposed convolutions most of all. SEANet's convolutions of 10 s at
24 kHz took 1.9 times as long without it, a transposed one up to 5 times. In training it brought
nothing (1.01 to 1.05: the backward's kernels are no faster), so it is for inference alone.

Shapes stay `[B, C, T]`: only strides differ, and what works on elements keeps them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def pays(x: torch.Tensor) -> bool:
    """Whether a convolution of `x` is one of those described above."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
    )


def fuses(x: torch.Tensor) -> bool:
    """Whether `elu_pad` and `add_pointwise` pay for `x`; torch.compile fuses by itself."""
    return pays(x) and not torch.compiler.is_compiling()


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """`x` `[B, C, T]` with the channels innermost; itself where they are."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def inference_weight(weight: torch.Tensor) -> torch.Tensor:
    """`weight` `[C1, C2, kernel]` as the convolutions below want it, to make it so only once."""
    return channels_last(weight) if weight.device.type == "cpu" else weight


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of `x` `[B, C, T]` are innermost, and the usual layout is another."""
    return x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()


def conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`F.conv1d` without padding, in the faster layout where that pays."""
    if not pays(x):
        return F.conv1d(x, weight, bias, stride, 0, dilation, groups)
    if weight.shape[2] == stride == groups == 1:
        rows = x.transpose(1, 2).contiguous()  # [B, T, C]
        return F.linear(rows, weight[..., 0], bias).transpose(1, 2)  # [B, C, T]
    y = F.conv2d(_as_2d(x), _as_2d(weight), bias, (1, stride), 0, (1, dilation), groups)
    return y.squeeze(2)


def conv_transpose1d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int = 1
) -> torch.Tensor:
    """`F.conv_transpose1d` without padding, in the faster layout where that pays."""
    if not pays(x):
        return F.conv_transpose1d(x, weight, bias, stride)
    return F.conv_transpose2d(_as_2d(x), _as_2d(weight), bias, (1, stride)).squeeze(2)


def elu_pad(x: torch.Tensor, alpha: float, left: int, right: int) -> torch.Tensor:
    """`F.pad(F.elu(x, alpha), (left, right), "reflect")` of `x` `[B, C, T]`, T > left, right.

    The ELU is written to where the padding leaves room for it, which saves a copy.
    """
    rows = x.transpose(1, 2).contiguous()
    batch, length, channels = rows.shape
    padded = rows.new_empty(batch, left + length + right, channels)
    inner = padded[:, left : left + length]
    torch.ops.aten.elu.out(rows, alpha, out=inner)
    padded[:, :left] = inner[:, 1 : left + 1].flip(1)
    padded[:, left + length :] = inner[:, length - 1 - right : length - 1].flip(1)
    return padded.transpose(1, 2)


def add_pointwise(
    x: torch.Tensor, y: torch.Tensor, to_x: nn.Conv1d, to_y: nn.Conv1d
) -> torch.Tensor:
    """`to_x(x) + to_y(y)` of convolutions with kernels of 1; the second product adds to the first.

    Args:
        x, y: `[B, C, T]` and `[B, C', T]`.
    """
    biases = [conv.bias for conv in (to_x, to_y) if conv.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else None
    out = F.linear(x.transpose(1, 2).contiguous(), to_x.weight[..., 0], bias)  # [B, T, C]
    rows = y.transpose(1, 2).reshape(-1, y.shape[1])
    out.view(-1, out.shape[2]).addmm_(rows, to_y.weight[..., 0].t())
    return out.transpose(1, 2)


def _as_2d(x: torch.Tensor) -> torch.Tensor:
    """`x` `[B, C, T]` as `[B, C, 1, T]` in `torch.channels_last`.

    By its strides: with one channel, any layout is this one too, and torch would take another.
    """
    batch, channels, length = x.shape
    rows = x.transpose(1, 2).contiguous()
    strides = (channels * length, 1, channels * length, channels)
    return rows.as_strided((batch, channels, 1, length), strides)


def pad(x: torch.Tensor, left: int, right: int, mode: str, value: float = 0.0) -> torch.Tensor:
    """`F.pad` of the last axis of `x` `[B, C, T]`, in its layout; modes as in `conv.PAD_MODES`."""
    if not is_channels_last(x):
        return F.pad(x, (left, right), mode, value if mode == "constant" else None)
    rows = x.transpose(1, 2)  # [B, T, C]
    length = rows.shape[1]
    if mode == "reflect":
        before, after = rows[:, 1 : left + 1], rows[:, length - 1 - right : length - 1]
        before, after = before.flip(1), after.flip(1)
    elif mode == "replicate":
        before, after = rows[:, :1].expand(-1, left, -1), rows[:, -1:].expand(-1, right, -1)
    else:
        shape = (len(rows), left + right, rows.shape[2])
        before, after = rows.new_full(shape, value).split([left, right], 1)
    return torch.cat([before, rows, after], 1).transpose(1, 2)  # [B, C, T]
