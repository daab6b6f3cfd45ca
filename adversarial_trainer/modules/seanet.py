"""SEANet encoder and decoder (Tagliasacchi et al. 2020, arXiv 2009.02095), as in EnCodec
(Défossez et al. 2022, arXiv 2210.13438). Layer order, and so state dicts, are those of
AudioCraft 1.3 and of the encodec package; the defaults are AudioCraft's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import activation as activations

from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM

# torch.nn's activations, less those that need arguments, change the shape or mix positions.
ACTIVATIONS = tuple(
    sorted(
        set(activations.__all__)
        - {
            "GLU",
            "LogSoftmax",
            "MultiheadAttention",
            "Softmax",
            "Softmax2d",
            "Softmin",
            "Threshold",
        }
    )
)


def get_activation(name: str, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Build `torch.nn.<name>(**params)`, for a name in `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}. Choices: {', '.join(ACTIVATIONS)}")
    try:
        return getattr(nn, name)(**(params or {}))
    except TypeError as error:
        raise ValueError(f"activation {name!r} with {dict(params or {})}: {error}") from error


class SEANetResnetBlock(nn.Module):
    """Residual block: activations and convolutions through dim // compress channels, plus a skip.

    Shape: [B, dim, T] -> [B, dim, T].

    Args:
        kernel_sizes, dilations: one entry per convolution.
        activation, activation_params: a name in `ACTIVATIONS` and its arguments.
        norm, norm_params, causal, pad_mode: see `StreamableConv1d`.
        true_skip: add the input itself; otherwise the input through a 1x1 convolution (EnCodec).
    """

    def __init__(
        self,
        dim: int,
        kernel_sizes: Sequence[int] = (3, 1),
        dilations: Sequence[int] = (1, 1),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        norm: str = "none",
        norm_params: Mapping[str, Any] | None = None,
        causal: bool = False,
        pad_mode: str = "reflect",
        compress: int = 2,
        true_skip: bool = True,
    ) -> None:
        super().__init__()
        if len(kernel_sizes) != len(dilations):
            raise ValueError(
                "kernel_sizes and dilations must have one entry per convolution, got "
                f"{list(kernel_sizes)} and {list(dilations)}"
            )
        if not 1 <= compress <= dim:
            raise ValueError(
                f"compress must be in [1, {dim}] (the block's channels), got {compress}"
            )
        options: dict[str, Any] = dict(
            norm=norm, norm_kwargs=norm_params, causal=causal, pad_mode=pad_mode
        )
        widths = [dim] + [dim // compress] * (len(kernel_sizes) - 1) + [dim]
        layers: list[nn.Module] = []
        for i, (kernel_size, dilation) in enumerate(zip(kernel_sizes, dilations, strict=True)):
            layers += [
                get_activation(activation, activation_params),
                StreamableConv1d(
                    widths[i], widths[i + 1], kernel_size, dilation=dilation, **options
                ),
            ]
        self.block = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if not true_skip:
            self.shortcut = StreamableConv1d(dim, dim, kernel_size=1, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.block(x)


class _SEANet(nn.Module):
    """What the encoder and the decoder share: checked sizes and the factories of their layers."""

    def __init__(
        self,
        channels: int,
        dimension: int,
        n_filters: int,
        n_residual_layers: int,
        ratios: Sequence[int],
        activation: str,
        activation_params: Mapping[str, Any] | None,
        norm: str,
        norm_params: Mapping[str, Any] | None,
        residual_kernel_size: int,
        dilation_base: int,
        causal: bool,
        pad_mode: str,
        true_skip: bool,
        compress: int,
        lstm: int,
        disable_norm_outer_blocks: int,
    ) -> None:
        super().__init__()
        minima = {
            "channels": (channels, 1),
            "dimension": (dimension, 1),
            "n_filters": (n_filters, 1),
            "n_residual_layers": (n_residual_layers, 0),
            "dilation_base": (dilation_base, 1),
            "lstm": (lstm, 0),
        }
        for key, (value, minimum) in minima.items():
            if value < minimum:
                raise ValueError(f"{key} must be >= {minimum}, got {value}")
        if not ratios or min(ratios) < 1:
            raise ValueError(f"ratios must be one or more integers >= 1, got {list(ratios)}")
        # The first convolution, one block per ratio, the last convolution.
        self.n_blocks = len(ratios) + 2
        if not 0 <= disable_norm_outer_blocks <= self.n_blocks:
            raise ValueError(
                f"disable_norm_outer_blocks must be in [0, {self.n_blocks}] "
                f"(ratios + 2), got {disable_norm_outer_blocks}"
            )
        self.channels = channels
        self.dimension = dimension
        self.n_filters = n_filters
        self.n_residual_layers = n_residual_layers
        self.hop_length = math.prod(ratios)
        self.disable_norm_outer_blocks = disable_norm_outer_blocks
        self._activation = (activation, activation_params)
        self._norm = (norm, norm_params)
        self._conv: dict[str, Any] = dict(causal=causal, pad_mode=pad_mode)
        self._residual: dict[str, Any] = dict(
            self._conv,
            compress=compress,
            true_skip=true_skip,
            activation=activation,
            activation_params=activation_params,
        )
        self._residual_kernel_size = residual_kernel_size
        self._dilation_base = dilation_base

    def _norm_of(self, block: int) -> tuple[str, Mapping[str, Any] | None]:
        """Norm of the `block`-th of `n_blocks` counted from the waveform's side."""
        return ("none", None) if block < self.disable_norm_outer_blocks else self._norm

    def _act(self) -> nn.Module:
        return get_activation(*self._activation)

    def _conv1d(
        self, block: int, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> nn.Module:
        norm, norm_kwargs = self._norm_of(block)
        return StreamableConv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            norm=norm,
            norm_kwargs=norm_kwargs,
            **self._conv,
        )

    def _residual_layers(self, block: int, width: int) -> list[nn.Module]:
        norm, norm_params = self._norm_of(block)
        return [
            SEANetResnetBlock(
                width,
                [self._residual_kernel_size, 1],
                [self._dilation_base**j, 1],
                norm=norm,
                norm_params=norm_params,
                **self._residual,
            )
            for j in range(self.n_residual_layers)
        ]


class SEANetEncoder(_SEANet):
    """Waveform to latent frames.

    Shape: [B, channels, T] -> [B, dimension, ceil(T / hop_length)], T >= 1; where ratios do not
    divide T, each stage pads its input to a multiple of its own stride.

    Args:
        channels: audio channels.
        dimension: of a latent frame.
        n_filters: channels at the waveform's rate; each ratio doubles them.
        n_residual_layers: blocks per ratio, the j-th with dilation dilation_base ** j.
        ratios: strides in the decoder's order (the encoder applies them reversed);
            `hop_length` is their product.
        activation, activation_params: a name in `ACTIVATIONS` and its arguments.
        norm, norm_params: see `NormConv1d`.
        kernel_size, last_kernel_size, residual_kernel_size: of the first and last convolution and
            of the residual blocks.
        causal, pad_mode: see `StreamableConv1d`.
        true_skip, compress: see `SEANetResnetBlock`.
        lstm: number of LSTM layers at the frame rate, 0 for none.
        disable_norm_outer_blocks: how many of the first blocks have no norm, in
            [0, len(ratios) + 2].
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        norm: str = "none",
        norm_params: Mapping[str, Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
    ) -> None:
        super().__init__(
            channels,
            dimension,
            n_filters,
            n_residual_layers,
            ratios,
            activation,
            activation_params,
            norm,
            norm_params,
            residual_kernel_size,
            dilation_base,
            causal,
            pad_mode,
            true_skip,
            compress,
            lstm,
            disable_norm_outer_blocks,
        )
        self.ratios = list(reversed(ratios))
        width = n_filters
        layers = [self._conv1d(0, channels, width, kernel_size)]
        for block, ratio in enumerate(self.ratios, start=1):
            layers += self._residual_layers(block, width)
            layers += [self._act(), self._conv1d(block, width, 2 * width, 2 * ratio, ratio)]
            width *= 2
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        layers += [self._act(), self._conv1d(self.n_blocks - 1, width, dimension, last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class SEANetDecoder(_SEANet):
    """Latent frames to waveform, the mirror of `SEANetEncoder`.

    Shape: [B, dimension, F] -> [B, channels, F * hop_length].

    Args, where they differ from `SEANetEncoder`:
        final_activation, final_activation_params: after the last convolution, e.g. 'Tanh';
            None for none.
        kernel_size, last_kernel_size: of the first (latent) and the last (waveform) convolution.
        disable_norm_outer_blocks: how many of the last blocks have no norm; at least one with
            norm='layer_norm'.
        trim_right_ratio: see `StreamableConvTranspose1d`.
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        final_activation: str | None = None,
        final_activation_params: Mapping[str, Any] | None = None,
        norm: str = "none",
        norm_params: Mapping[str, Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
        trim_right_ratio: float = 1.0,
    ) -> None:
        super().__init__(
            channels,
            dimension,
            n_filters,
            n_residual_layers,
            ratios,
            activation,
            activation_params,
            norm,
            norm_params,
            residual_kernel_size,
            dilation_base,
            causal,
            pad_mode,
            true_skip,
            compress,
            lstm,
            disable_norm_outer_blocks,
        )
        if norm == "layer_norm" and disable_norm_outer_blocks == 0:
            raise ValueError(
                "norm='layer_norm' in the last convolution would normalise each "
                f"sample over its {channels} audio channel(s) and so erase the "
                "signal: give disable_norm_outer_blocks >= 1"
            )
        if final_activation is None and final_activation_params:
            raise ValueError(
                f"final_activation_params without final_activation: {dict(final_activation_params)}"
            )
        self.ratios = list(ratios)
        width = n_filters * 2 ** len(self.ratios)
        layers = [self._conv1d(self.n_blocks - 1, dimension, width, kernel_size)]
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        for i, ratio in enumerate(self.ratios):
            block = len(self.ratios) - i
            block_norm, block_norm_params = self._norm_of(block)
            layers += [
                self._act(),
                StreamableConvTranspose1d(
                    width,
                    width // 2,
                    2 * ratio,
                    ratio,
                    causal=causal,
                    norm=block_norm,
                    trim_right_ratio=trim_right_ratio,
                    norm_kwargs=block_norm_params,
                ),
            ]
            width //= 2
            layers += self._residual_layers(block, width)
        layers += [self._act(), self._conv1d(0, width, channels, last_kernel_size)]
        if final_activation is not None:
            layers.append(get_activation(final_activation, final_activation_params))
        self.model = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.model(z)
