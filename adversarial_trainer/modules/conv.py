"""1d convolutions that pad by themselves: for any length T, a stride s gives ceil(T / s) frames and
the matching transposed convolution s samples a frame.

Names and state-dict layout are those of AudioCraft 1.3 and of the encodec package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check_sizes
from .norm import NormConv1d, NormConvTranspose1d
from .streaming import State, StreamingModule, join, remember

PAD_MODES = ("constant", "reflect", "replicate")


def pad1d(
    x: Tensor, paddings: tuple[int, int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """Pad the last axis of `x` [B, C, T] by `paddings` (left, right), for any T >= 1.

    torch reflects at most T - 1 samples. A shorter input is first lengthened with zeros, as in
    the encodec package (so that short inputs get the same codes as there).
    """
    left, right = paddings
    if mode != "reflect":
        return _pad(x, paddings, mode, value)
    # A graph for ONNX must hold for inputs of any length.
    if torch.onnx.is_in_onnx_export() or max(left, right) >= x.shape[-1]:
        return _reflect_by_index(x, left, right)
    return _pad(x, paddings, "reflect")


def _reflect_by_index(x: Tensor, left: int, right: int) -> Tensor:
    length = x.shape[-1]
    missing = torch.sym_max(torch.sym_max(left, right) + 1 - length, 0)
    end = length + missing - 1
    index = torch.arange(-left, length + right, device=x.device)
    index = end - (end - index.abs()).abs()
    return F.pad(x, (0, missing)).index_select(-1, index)


def _pad(x: Tensor, paddings: tuple[int, int], mode: str, value: float = 0.0) -> Tensor:
    # In 2d, where torch keeps the memory layout that `Codec.prepare` works in.
    x = F.pad(x.unsqueeze(2), (*paddings, 0, 0), mode, value if mode == "constant" else None)
    return x.squeeze(2)


class StreamableConv1d(StreamingModule):
    """1d convolution that pads its input: all on the left if causal, on both sides otherwise.

    With causal=True and pad_mode='constant' an output depends on no later sample. The reflection
    that encodec uses fills the left padding from the first samples, so only the outputs whose
    window lies inside the signal are strictly causal.

    Shape: [B, in_channels, T] -> [B, out_channels, ceil(T / stride)], T >= 1.

    Args:
        kernel_size: if causal at least `stride`, counted with its dilation. A smaller one has zeros
            (or what `pad_mode` says) ahead of the signal alone, half of the kernel.
        norm, norm_kwargs: see `NormConv1d`.
        pad_mode: 'constant' (zeros), 'reflect' or 'replicate'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
        norm: str = "none",
        norm_kwargs: Mapping[str, Any] | None = None,
        pad_mode: str = "reflect",
    ) -> None:
        super().__init__()
        if pad_mode not in PAD_MODES:
            raise ValueError(f"Unknown pad_mode {pad_mode!r}. Choices: {', '.join(PAD_MODES)}")
        self.effective_kernel_size = (kernel_size - 1) * dilation + 1
        check_sizes(stride=stride)
        if causal and stride > self.effective_kernel_size:
            raise ValueError(
                f"stride must be at most the kernel's extent if causal, got stride={stride} with "
                f"kernel_size={kernel_size}, dilation={dilation} ({self.effective_kernel_size})"
            )
        self.conv = NormConv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            causal=causal,
            norm=norm,
            norm_kwargs=norm_kwargs,
        )
        self.out_channels = out_channels
        self.stride = stride
        self.pad_mode = pad_mode
        padding = self.effective_kernel_size - stride
        right = 0 if causal else max(padding, 0) // 2  # the left gets the odd one, as in encodec
        left = padding - right if padding >= 0 else self.effective_kernel_size // 2
        self.paddings = (left, right)

    def forward(self, x: Tensor) -> Tensor:
        if self.effective_kernel_size == 1:
            return self.conv(x)
        return self.conv(pad1d(x, self._paddings_of(x.shape[-1]), self.pad_mode))

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # `past`: input from position `start` on, to the outputs from `done` on.
        past, start, done = state.get(self, (None, 0, 0))
        past = join(past, x)
        end = start + past.shape[-1]
        # The input that the left padding is made of comes before any output.
        if not last and self.pad_mode != "constant" and end <= self.paddings[0]:
            state[self] = remember(past, 0), start, done
            return x.new_zeros(len(x), self.out_channels, 0)
        left, right = self._paddings_of(end)
        left, right = left if start == 0 else 0, right if last else 0
        padded = pad1d(past, (left, right), self.pad_mode) if left or right else past
        # The next window begins at this position of the signal, counted without padding.
        begin = done * self.stride - self.paddings[0]
        window = padded[..., begin - (start - left) :]
        count = (window.shape[-1] - self.effective_kernel_size) // self.stride + 1
        y = self.conv(window) if count > 0 else x.new_zeros(len(x), self.out_channels, 0)
        done += y.shape[-1]
        # Kept: the next window, and what the right padding will mirror.
        mirrored = 0 if self.pad_mode == "constant" else self.paddings[1] + self.stride
        keep = max(start, min(done * self.stride - self.paddings[0], end - mirrored))
        state[self] = remember(past, keep - start), keep, done
        return y

    def _paddings_of(self, length: int) -> tuple[int, int]:
        """Samples to add (left, right) to a signal of `length`, so that the last window is full."""
        left, right = self.paddings
        frames = (length + self.stride - 1) // self.stride
        return left, right + frames * self.stride - length


class StreamableConvTranspose1d(StreamingModule):
    """Transposed 1d convolution that trims its output to `stride` samples a frame.

    Shape: [B, in_channels, T] -> [B, out_channels, T * stride], or a sample less, see
    `output_padding`.

    Args:
        kernel_size: at least `stride`.
        causal: trim on the right, so that no output depends on a later frame.
        trim_right_ratio: share in [0, 1] of the trim that is on the right; below 1 the output
            looks ahead and is less delayed. Only for causal=True.
        norm, norm_kwargs: see `NormConv1d`.
        output_padding: as torch's: with False an odd trim takes the odd sample from the right, too.
            Only for causal=False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        causal: bool = False,
        norm: str = "none",
        trim_right_ratio: float = 1.0,
        norm_kwargs: Mapping[str, Any] | None = None,
        output_padding: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 <= trim_right_ratio <= 1.0:
            raise ValueError(f"trim_right_ratio must be in [0, 1], got {trim_right_ratio}")
        if not causal and trim_right_ratio != 1.0:
            raise ValueError(
                f"trim_right_ratio={trim_right_ratio} needs causal=True: otherwise "
                "both sides are trimmed alike"
            )
        if causal and not output_padding:
            raise ValueError("output_padding=False needs causal=False")
        if not 1 <= stride <= kernel_size:
            raise ValueError(
                "stride must be between 1 and kernel_size, got "
                f"stride={stride}, kernel_size={kernel_size}"
            )
        self.convtr = NormConvTranspose1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            causal=causal,
            norm=norm,
            norm_kwargs=norm_kwargs,
        )
        self.out_channels = out_channels
        self.stride = stride
        padding = kernel_size - stride
        right = math.ceil(padding * trim_right_ratio) if causal else padding // 2
        left = padding - right
        self.trims = (left, right if output_padding else left)
        self._end = padding - self.trims[1]  # samples of the last frame beyond its stride
        self._context = math.ceil(kernel_size / stride) - 1  # earlier frames in an output

    def forward(self, x: Tensor) -> Tensor:
        y = self.convtr(x)
        return y[..., self.trims[0] : y.shape[-1] - self.trims[1]]

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        past, frames = state.get(self, (None, 0))  # the last frames, and how many came
        past = join(past, x)
        start, end = frames + x.shape[-1] - past.shape[-1], frames + x.shape[-1]
        state[self] = remember(past, max(0, past.shape[-1] - self._context)), end
        if past.shape[-1] == 0:
            return x.new_zeros(len(x), self.out_channels, 0)
        # Outputs in the untrimmed signal that no later frame adds to, from the first new one on.
        first = max(self.trims[0], frames * self.stride)
        after = end * self.stride + (self._end if last else 0)
        offset = start * self.stride
        return self.convtr(past)[..., first - offset : max(first, after) - offset]
