"""Projection of the channels of latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Projection(nn.Conv1d):
    """Convolution with a kernel of 1, which takes latents of no frames, too: torch's refuses them.

    Shape: `[B, in_channels, T]` -> `[B, out_channels, T]`, T >= 0.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input.transpose(1, 2), self.weight[:, :, 0], self.bias).transpose(1, 2)
