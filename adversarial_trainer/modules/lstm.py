"""LSTM in the layout of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .streaming import State, StreamingModule

LSTMState = tuple[Tensor, Tensor]  # hidden and cell, each [layers, B, dimension]
# On a CPU `nn.LSTM` copies its weights at each call, which takes as long as four positions.
_SHORT = 4


class StreamableLSTM(StreamingModule):
    """Unidirectional LSTM from a zero state, optionally added to its input.

    Shape: [B, dimension, T] -> [B, dimension, T].
    """

    def __init__(self, dimension: int, num_layers: int = 2, skip: bool = True) -> None:
        super().__init__()
        self.skip = skip
        self.lstm = nn.LSTM(dimension, dimension, num_layers)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(2, 0, 1)  # [T, B, C]
        y = self._for_onnx(rows) if torch.onnx.is_in_onnx_export() else self.lstm(rows)[0]
        return (y + rows if self.skip else y).permute(1, 2, 0)  # [B, C, T]

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        if x.shape[-1] == 0:
            return x
        rows = x.permute(2, 0, 1)
        run = self.lstm if len(rows) > _SHORT else self._run_cells
        y, state[self] = run(rows, state.get(self))
        return (y + rows if self.skip else y).permute(1, 2, 0)

    def _run_cells(self, x: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        """`self.lstm(x, state)`, position by position."""
        hidden, cell = state or (x.new_zeros(self.lstm.num_layers, *x.shape[1:]),) * 2
        states = []
        for weights, h, c in zip(self.lstm.all_weights, hidden, cell, strict=True):
            outputs = []
            for position in x:
                h, c = torch.lstm_cell(position, (h, c), *weights)
                outputs.append(h)
            x = torch.stack(outputs)
            states.append((h, c))
        hidden, cell = (torch.stack(part) for part in zip(*states, strict=True))
        return x, (hidden, cell)

    def _for_onnx(self, x: Tensor) -> Tensor:
        """`self.lstm(x)[0]` as ONNX's operator: torch's exporter unrolls an LSTM over time."""
        length, batch, channels = x.shape
        for weights in self.lstm.all_weights:
            inputs, hidden, *biases = (_to_onnx_gates(weight) for weight in weights)
            x = torch.onnx.ops.symbolic(
                "LSTM",
                [x, inputs[None], hidden[None], torch.cat(biases)[None]],
                {"hidden_size": self.lstm.hidden_size},
                dtype=x.dtype,
                shape=(length, 1, batch, channels),  # the 1: directions
            ).squeeze(1)
        return x


def _to_onnx_gates(weight: Tensor) -> Tensor:
    """Reorder gates from torch's input, forget, cell, output to input, output, forget, cell."""
    i, f, c, o = weight.chunk(4)
    return torch.cat([i, o, f, c])
