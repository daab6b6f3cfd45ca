"""Encoder and decoder at the frame rate: ConvNeXt blocks behind a transform of the waveform, and
ahead of its inverse. All convolutions pad with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .checks import check_sizes
from .conv import StreamableConv1d, StreamableConvTranspose1d, pad1d
from .convnext import ConvNeXt, initialise_convnext
from .norm import NormConv1d
from .streaming import State, StreamingModule, WholeSignalModule, step_layers


class SparseConv1d(WholeSignalModule):
    """Strided convolution whose kernel is smaller than its stride, centred at inputs 0, stride, ...

    Shape: [B, channels, T] -> [B, channels, T / stride], T a multiple of stride.

    Args:
        kernel_size: odd.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv = NormConv1d(channels, channels, kernel_size, stride, norm=norm)
        self.side = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad1d(x, (self.side, self.side)))


class FrameBase(StreamingModule):
    """What `FrameEncoder` and `FrameDecoder` share.

    Args:
        hop_length: samples of a latent frame.
        channels: audio channels.
        causal: layers look at no later frame. The windows of the transforms reach beyond a frame
            on both sides all the same.
        dimension: of a latent frame.
        hidden_dim, intermediate_dim, num_layers, kernel_size, grn, layer_scale: see `ConvNeXt`.
            kernel_size is also that of the convolution ahead of the blocks.
        stride: frames of the transform that a latent frame stands for.
        stride_kernel_size: of the convolution with that stride; None: 2 * stride. The encoder's may
            be smaller than the stride, as MDCTCodec's is: odd, and without streaming.
        last_kernel_size: of the convolutions to (and with a stride from) the latent, and to the
            coefficients.
        norm: of these and of the strided ones, 'none' or 'weight_norm'.
    """

    model: nn.Sequential

    def __init__(
        self,
        hop_length: int,
        channels: int = 1,
        causal: bool = False,
        dimension: int = 32,
        hidden_dim: int = 256,
        intermediate_dim: int = 512,
        num_layers: int = 8,
        kernel_size: int = 7,
        grn: bool = False,
        layer_scale: float | None = None,
        stride: int = 1,
        stride_kernel_size: int | None = None,
        last_kernel_size: int = 1,
        norm: str = "none",
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, dimension=dimension, intermediate_dim=intermediate_dim)
        check_sizes(kernel_size=kernel_size, stride=stride, last_kernel_size=last_kernel_size)
        check_sizes(0, num_layers=num_layers)
        check_sizes(2, hidden_dim=hidden_dim)
        if norm not in ("none", "weight_norm"):
            raise ValueError(f"norm must be none or weight_norm, got {norm!r}")
        if causal and grn:
            raise ValueError(
                "grn=True needs causal=False: the global response norm averages over the whole "
                "signal. Causal models have grn=False and a layer_scale"
            )
        self.hop_length = hop_length
        self.channels = channels
        self.causal = causal
        self.dimension = dimension
        self.hidden_dim = hidden_dim
        self.stride = stride
        self.stride_kernel_size = stride_kernel_size or 2 * stride
        self.kernel_size = kernel_size
        self.last_kernel_size = last_kernel_size
        self.norm = norm
        blocks = intermediate_dim, num_layers, kernel_size, causal, grn, layer_scale
        self._blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        return step_layers(self.model, x, state, last)

    def _body(self, inputs: int) -> list[nn.Module]:
        """A convolution to hidden_dim and the blocks."""
        layers: list[nn.Module] = [
            StreamableConv1d(
                inputs, self.hidden_dim, self.kernel_size, causal=self.causal, pad_mode="constant"
            ),
            ConvNeXt(self.hidden_dim, *self._blocks),
        ]
        for layer in layers:
            initialise_convnext(layer.modules())
        return layers

    def _pointwise(self) -> list[nn.Module]:
        """With a stride MDCTCodec has a linear layer behind the blocks."""
        width = self.hidden_dim
        return [StreamableConv1d(width, width, 1)] if self.stride > 1 else []

    def _last(self, inputs: int, outputs: int) -> nn.Module:
        return StreamableConv1d(
            inputs,
            outputs,
            self.last_kernel_size,
            causal=self.causal,
            norm=self.norm,
            pad_mode="constant",
        )


class FrameEncoder(FrameBase):
    """Waveform to latent frames.

    Shape: [B, channels, T] -> [B, dimension, ceil(T / hop_length)], T >= 1.

    Args: those of `FrameBase`, and
        front: layers that make coefficients [B, inputs, stride * ceil(T / hop_length)] of the
            waveform.
        inputs: how many.
    """

    kwargs_of: type[nn.Module] = FrameBase

    def __init__(self, front: Sequence[nn.Module], inputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        layers = [*front, *self._body(inputs), *self._pointwise()]
        if self.stride > 1:
            layers.append(self._strided())
        self.model = nn.Sequential(*layers, self._last(self.hidden_dim, self.dimension))

    def _strided(self) -> nn.Module:
        width, kernel, stride = self.hidden_dim, self.stride_kernel_size, self.stride
        if kernel < stride:
            if self.causal or kernel % 2 == 0:
                raise ValueError(
                    f"stride_kernel_size must be at least the stride, {stride}, or odd and "
                    f"causal=False, got {kernel}"
                )
            return SparseConv1d(width, kernel, stride, self.norm)
        return StreamableConv1d(
            width, width, kernel, stride, causal=self.causal, norm=self.norm, pad_mode="constant"
        )


class FrameDecoder(FrameBase):
    """Latent frames to waveform, the mirror of `FrameEncoder`.

    Shape: [B, dimension, F] -> [B, channels, F * hop_length].

    Args: those of `FrameBase`, and
        outputs: channels [B, outputs, F * stride] of which `head` makes the waveform.
        head: layers.
    """

    kwargs_of: type[nn.Module] = FrameBase

    def __init__(self, outputs: int, head: Sequence[nn.Module], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width, kernel = self.hidden_dim, self.stride_kernel_size
        layers: list[nn.Module] = []
        if self.stride > 1:
            layers.append(self._last(self.dimension, width))
            layers.append(
                StreamableConvTranspose1d(
                    width, width, kernel, self.stride, causal=self.causal, norm=self.norm
                )
            )
        layers += self._body(width if layers else self.dimension) + self._pointwise()
        self.model = nn.Sequential(*layers, self._last(width, outputs), *head)
