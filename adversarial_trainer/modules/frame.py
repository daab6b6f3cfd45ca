"""Encoder and decoder at the frame rate: ConvNeXt blocks behind a transform of the waveform, and
ahead of its inverse. All convolutions pad with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from .checks import check_sizes
from .conv import StreamableConv1d, StreamableConvTranspose1d
from .convnext import ConvNeXtBlock, initialise_convnext
from .norm import ConvLayerNorm
from .streaming import StreamingStack


class FrameBase(StreamingStack):
    """What `FrameEncoder` and `FrameDecoder` share.

    Args:
        hop_length: samples of a latent frame.
        channels: audio channels.
        causal: layers look at no later frame. The windows of the transforms reach beyond a frame
            on both sides all the same.
        dimension: of a latent frame.
        hidden_dim, intermediate_dim, kernel_size, grn, layer_scale: see `ConvNeXtBlock`.
            kernel_size is also that of the convolution ahead of the blocks.
        num_layers: number of blocks.
        stride: frames of the transform that a latent frame stands for.
        stride_kernel_size: of the convolution with that stride; None: 2 * stride. Where causal is
            False the encoder's may be smaller than the stride, as MDCTCodec's is.
        last_kernel_size: of the convolutions to (and with a stride from) the latent, and to the
            coefficients.
        norm: of these and of the strided ones, 'none' or 'weight_norm'.
    """

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
        self.norm = norm
        self.num_layers = num_layers
        self._block = partial(
            ConvNeXtBlock, hidden_dim, intermediate_dim, kernel_size, causal, grn, layer_scale
        )
        self._conv = partial(StreamableConv1d, causal=causal, pad_mode="constant")
        self._last = partial(self._conv, kernel_size=last_kernel_size, norm=norm)

    def _body(self, inputs: int) -> list[nn.Module]:
        """A convolution to hidden_dim, and blocks between layer norms; with a stride a linear layer
        (MDCTCodec)."""
        width = self.hidden_dim
        blocks = (self._block() for _ in range(self.num_layers))
        norms = [ConvLayerNorm(width, eps=1e-6) for _ in range(2)]
        body = nn.Sequential(
            self._conv(inputs, width, self.kernel_size),
            StreamingStack([norms[0], *blocks, norms[1]]),
        )
        initialise_convnext(body.modules())
        return [*body, self._conv(width, width, 1)] if self.stride > 1 else [*body]


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
        width = self.hidden_dim
        layers = [*front, *self._body(inputs)]
        if self.stride > 1:
            kernel = self.stride_kernel_size
            layers.append(self._conv(width, width, kernel, self.stride, norm=self.norm))
        self.model = nn.Sequential(*layers, self._last(width, self.dimension))


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
        layers += self._body(width if layers else self.dimension)
        self.model = nn.Sequential(*layers, self._last(width, outputs), *head)
