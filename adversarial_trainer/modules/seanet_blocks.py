"""What SEANet's encoder and decoder are made of (see `seanet`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from . import layout
from .activation import get_activation
from .conv import StreamableConv1d, is_hooked, pointwise_of
from .elu_pad import run_layers


class SEANetResnetBlock(nn.Module):
    """Residual block: activations and convolutions through dim // compress channels, plus a skip.

    Shape: [B, dim, T] -> [B, dim, T].

    Args:
        kernel_sizes, dilations: one entry per convolution.
        activation, activation_params: a name in `activation.ACTIVATIONS` and its arguments.
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
                f"compress must be in [1, {dim}] (the block's channels, from n_filters on), "
                f"got {compress}"
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
        if layout.fuses(x) and not is_hooked(self.block):
            to_x, to_y = pointwise_of(self.shortcut), pointwise_of(self.block[-1])
            if to_x is not None and to_y is not None:
                others = cast(nn.Sequential, self.block[:-1])
                return layout.add_pointwise(x, run_layers(others, x), to_x, to_y)
        return self.shortcut(x) + run_layers(self.block, x)


class SEANetBase(nn.Module):
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
