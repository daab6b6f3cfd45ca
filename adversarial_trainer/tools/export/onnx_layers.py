"""Layers that compute the same for signals of any length without looking at it in Python."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_trainer.modules.conv import StreamableConv1d
from adversarial_trainer.modules.lstm import StreamableLSTM


def use_traceable_layers(module: nn.Module) -> None:
    """Replace, in place, the layers below `module` whose graph would hold for one length only."""
    for name, child in module.named_children():
        if isinstance(child, StreamableConv1d):
            setattr(module, name, TraceableConv1d(child))
        elif isinstance(child, StreamableLSTM):
            setattr(module, name, ONNXLSTM(child))
        else:
            use_traceable_layers(child)


class TraceableConv1d(nn.Module):
    """A `StreamableConv1d` that pads by picking samples by index."""

    def __init__(self, layer: StreamableConv1d) -> None:
        super().__init__()
        self.conv = layer.conv
        self.stride = layer.stride
        self.pad_mode = layer.pad_mode
        self.left, self.right = layer.paddings(layer.stride)  # of whole strides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[-1]
        if self.pad_mode == "constant":
            # Enough for any length: what is over fills no window.
            return self.conv(F.pad(x, (self.left, self.right + self.stride - 1)))
        # In whole strides, so that torch sees without a search how many windows there are.
        whole = (length + self.stride - 1) // self.stride * self.stride
        right = whole - length + self.right
        index = torch.arange(-self.left, whole + self.right, device=x.device)
        if self.pad_mode == "replicate":
            return self.conv(x.index_select(-1, index.clamp(0, length - 1)))
        # Short signals are reflected with zeros behind them: see `pad1d`.
        most = max(self.left, self.right + self.stride - 1)
        end = torch.sym_max(length, torch.sym_max(self.left, right) + 1) - 1
        index = end - (end - index.abs()).abs()
        return self.conv(F.pad(x, (0, most + 1)).index_select(-1, index))


class ONNXLSTM(nn.Module):
    """A `StreamableLSTM` as ONNX's own operator; torch's exporter unrolls LSTMs over time.

    Run by torch it gives the right shape and no values.
    """

    def __init__(self, layer: StreamableLSTM) -> None:
        super().__init__()
        lstm = layer.lstm
        self.skip = layer.skip
        self.hidden_size = lstm.hidden_size
        self.weights: list[list[torch.Tensor]] = []
        for i in range(lstm.num_layers):
            inputs, hidden, bias_i, bias_h = (_gates(w.detach()) for w in lstm.all_weights[i])
            self.weights.append([inputs[None], hidden[None], torch.cat([bias_i, bias_h])[None]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(2, 0, 1)  # [T, B, C]
        length, batch, channels = x.shape
        y = x
        for weights in self.weights:
            y = torch.onnx.ops.symbolic(
                "LSTM",
                [y, *weights],
                {"hidden_size": self.hidden_size},
                dtype=x.dtype,
                shape=(length, 1, batch, channels),  # the 1: directions
            ).squeeze(1)
        if self.skip:
            y = y + x
        return y.permute(1, 2, 0)  # [B, C, T]


def _gates(weight: torch.Tensor) -> torch.Tensor:
    """torch's order of the gates, input forget cell output, to ONNX's: input output forget cell."""
    i, f, c, o = weight.chunk(4)
    return torch.cat([i, o, f, c])
