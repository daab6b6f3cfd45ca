"""LSTM in the layout of convolutions."""

from __future__ import annotations

import torch
from torch import nn


class StreamableLSTM(nn.Module):
    """Unidirectional LSTM from a zero state, optionally added to its input.

    Shape: [B, dimension, T] -> [B, dimension, T].
    """

    def __init__(self, dimension: int, num_layers: int = 2, skip: bool = True) -> None:
        super().__init__()
        self.skip = skip
        self.lstm = nn.LSTM(dimension, dimension, num_layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(2, 0, 1)  # [T, B, C]
        y, _ = self.lstm(x)
        if self.skip:
            y = y + x
        return y.permute(1, 2, 0)  # [B, C, T]


SLSTM = StreamableLSTM
