"""ConvNeXt blocks along time: as in Vocos (Siuzdak, arXiv 2306.00814; gemelo-ai/vocos
vocos/modules.py), and with the global response norm of ConvNeXt V2 (Woo et al., arXiv 2301.00808)
as in MDCTCodec (Jiang et al., arXiv 2411.00464)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .conv import StreamableConv1d
from .streaming import State, StreamingModule, join, remember


class GlobalResponseNorm(nn.Module):
    """x + gamma x n + beta, where n is the L2 norm over time of a channel, over its mean over the
    channels. Starts as the identity. Models with it work in segments.

    Shape: [B, T, C] -> [B, T, C].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x + self.gamma * x * norm / (norm.mean(-1, keepdim=True) + 1e-6) + self.beta


class LayerScale(nn.Module):
    """A factor for each of the channels, the last axis."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class ConvNeXtBlock(StreamingModule):
    """x + MLP(LayerNorm(depthwise convolution of x)), zero padding.

    Shape: [B, dim, T] -> [B, dim, T].

    Args:
        intermediate_dim: channels inside the MLP, which has a GELU.
        kernel_size: of the convolution.
        causal: the convolution looks back only.
        grn: a `GlobalResponseNorm` after the GELU.
        layer_scale: initial factor of the MLP's output, learnt for each channel; None: no factor.
    """

    def __init__(
        self,
        dim: int,
        intermediate_dim: int,
        kernel_size: int = 7,
        causal: bool = False,
        grn: bool = False,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.dwconv = StreamableConv1d(
            dim, dim, kernel_size, groups=dim, causal=causal, pad_mode="constant"
        )
        layers: list[nn.Module] = [
            nn.LayerNorm(dim, eps=1e-6),
            nn.Linear(dim, intermediate_dim),
            nn.GELU(),
        ]
        layers += [GlobalResponseNorm(intermediate_dim)] if grn else []
        layers.append(nn.Linear(intermediate_dim, dim))
        layers += [LayerScale(dim, layer_scale)] if layer_scale is not None else []
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self._mlp(self.dwconv(x))

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # The sum waits for the convolution, which may look ahead.
        skip, y = join(state.get(self), x), self.dwconv.step(x, state, last)
        state[self] = remember(skip, y.shape[-1])
        return skip[..., : y.shape[-1]] + self._mlp(y)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.mlp(x.transpose(1, 2)).transpose(1, 2)


def initialise_convnext(modules: Iterator[nn.Module]) -> None:
    """Start as Vocos and MDCTCodec do: convolutions and linear layers from a normal distribution
    of .02, cut at 2, biases at 0."""
    for module in modules:
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
