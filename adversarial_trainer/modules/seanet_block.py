"""Residual block of SEANet (see `seanet`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .activation import get_activation
from .conv import StreamableConv1d
from .streaming import State, StreamingModule, join, needed_by_layers, remember, step_layers


class SEANetResnetBlock(StreamingModule):
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

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # The shortcut waits for the block, which may look ahead.
        skip = join(state.get(self), step_layers([self.shortcut], x, state, last))
        y = step_layers(self.block, x, state, last)
        state[self] = remember(skip, y.shape[-1])
        return skip[..., : y.shape[-1]] + y

    def needed(self, outputs: int) -> int:
        return needed_by_layers(self.block, outputs)
