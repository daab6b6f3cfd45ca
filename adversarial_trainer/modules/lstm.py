"""LSTM in the layout of convolutions."""

from __future__ import annotations

import torch
from torch import nn

from . import half_lstm

LSTMState = tuple[torch.Tensor, torch.Tensor]  # hidden and cell, each [layers, B, dimension]


class StreamableLSTM(nn.Module):
    """Unidirectional LSTM from a zero state, optionally added to its input.

    Shape: [B, dimension, T] -> [B, dimension, T].
    """

    def __init__(self, dimension: int, num_layers: int = 2, skip: bool = True) -> None:
        super().__init__()
        self.skip = skip
        self.lstm = nn.LSTM(dimension, dimension, num_layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not half_lstm.pays(self.lstm, x):
            return self.run(x)[0]
        rows = x.permute(2, 0, 1)  # [T, B, C]
        y = half_lstm.run_half(self.lstm, rows)
        return (y + rows if self.skip else y).permute(1, 2, 0)

    def run(
        self, x: torch.Tensor, state: LSTMState | None = None
    ) -> tuple[torch.Tensor, LSTMState]:
        """The output for `x` [B, dimension, T], T >= 1, after the state that an earlier call
        returned, and the state after it."""
        x = x.permute(2, 0, 1)  # [T, B, C]
        y, state = self.lstm(x, state)
        if self.skip:
            y = y + x
        return y.permute(1, 2, 0), state  # [B, C, T]


SLSTM = StreamableLSTM
