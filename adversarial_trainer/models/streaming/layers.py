"""Counterparts of the codec's layers that take a signal piece by piece.

Each keeps as little of its input as the next outputs need, so what comes out, piece after piece,
is what the layer makes of the whole signal, its padding at both ends included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adversarial_trainer.modules import layout
from adversarial_trainer.modules.activation import ACTIVATIONS
from adversarial_trainer.modules.conv import StreamableConv1d, StreamableConvTranspose1d, pad1d
from adversarial_trainer.modules.lstm import LSTMState, StreamableLSTM
from adversarial_trainer.modules.norm import ConvLayerNorm
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock

_SHORT = 16  # positions


class NotStreamable(ValueError):
    """A module that has no streaming counterpart; the message names it."""


class WholeSignalNeeded(NotStreamable):
    """A module that cannot have one, as it looks at the whole signal."""


class StreamingLayer:
    """One layer with its state. This one is for layers that look at each position by itself."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module

    def reset(self) -> None:
        """Forget all input: the next piece begins a new signal."""

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        """All further outputs that can be computed with the next piece of input.

        Args:
            x: `[B, C, T]`, T >= 0.
            last: whether the signal ends with `x`.

        Returns:
            `[B, C', T']`, T' >= 0.
        """
        return self.module(x)

    def needed(self, outputs: int) -> int:
        """How much input must have come before `outputs` (>= 1) positions have left."""
        return outputs


class StreamingConv1d(StreamingLayer):
    """A `StreamableConv1d`. Keeps the input that the next window begins with."""

    module: StreamableConv1d

    def __init__(self, module: StreamableConv1d, name: str) -> None:
        super().__init__(module, name)
        _check_norm(module.conv.norm, name)
        self.conv, self.norm = module.conv.conv, module.conv.norm
        # Kept, as weight norm would compute it again for every piece, however short.
        self.weight = layout.inference_weight(self.conv.weight.detach())
        self.stride, self.kernel_size = module.stride, module.effective_kernel_size
        self.left = module.paddings(1)[0]
        # Input that the left padding is made of. Nothing leaves before, not even if causal.
        first = {"constant": 0, "replicate": 1, "reflect": self.left + 1}[module.pad_mode]
        self.first = first if self.left else 0
        # Input that the right padding is made of: as much as it is long, and the mirror's sample.
        most = max(module.paddings(length)[1] for length in range(1, self.stride + 1))
        self.tail_length = most + 1 if most and module.pad_mode != "constant" else 0
        self.reset()

    def reset(self) -> None:
        self.length = 0
        self.padded = False  # whether `pending` begins with the left padding or what follows it
        self.pending: torch.Tensor | None = None
        self.tail: torch.Tensor | None = None

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        self.length += x.shape[-1]
        pending = _join(self.pending, x)
        if self.tail_length:
            self.tail = _last(_join(self.tail, x), self.tail_length)
        right = self.module.paddings(self.length)[1] if last else 0
        if not self.padded and self.length >= self.first:
            pending = self._pad(pending, self.left, 0)
            self.padded = True
        if self.padded and self.tail is not None:
            # Made of the signal alone: `pending` may still begin with the left padding.
            padding = self._pad(self.tail, 0, right)[..., self.tail.shape[-1] :]
            pending = torch.cat([pending, padding], -1) if last else pending
        elif self.padded:
            pending = self._pad(pending, 0, right)
        elif last:  # shorter than its padding: the whole signal is here
            pending = self._pad(pending, self.left, right)
            self.padded = True
        count = (pending.shape[-1] - self.kernel_size) // self.stride + 1 if self.padded else 0
        if count < 1:
            self.pending = pending.clone()
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        self.pending = _last(pending, pending.shape[-1] - count * self.stride)
        conv = self.conv
        dilation = conv.dilation[0]
        y = layout.conv1d(pending, self.weight, conv.bias, self.stride, dilation, conv.groups)
        return self.norm(y)

    def needed(self, outputs: int) -> int:
        return max(self.first, (outputs - 1) * self.stride + self.kernel_size - self.left)

    def _pad(self, x: torch.Tensor, left: int, right: int) -> torch.Tensor:
        return pad1d(x, (left, right), self.module.pad_mode)


class StreamingConvTranspose1d(StreamingLayer):
    """A `StreamableConvTranspose1d`. Keeps what past input adds to the outputs to come."""

    module: StreamableConvTranspose1d

    def __init__(self, module: StreamableConvTranspose1d, name: str) -> None:
        super().__init__(module, name)
        _check_norm(module.convtr.norm, name)
        self.conv, self.norm = module.convtr.convtr, module.convtr.norm
        self.weight = layout.inference_weight(self.conv.weight.detach())
        self.stride = self.conv.stride[0]
        self.reset()

    def reset(self) -> None:
        self.overlap: torch.Tensor | None = None
        self.to_trim = self.module.trims[0]

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        done = x.shape[-1] * self.stride
        if x.shape[-1]:
            y = layout.conv_transpose1d(x, self.weight, None, self.stride)
            if self.overlap is not None:
                y[..., : self.overlap.shape[-1]] += self.overlap
        elif self.overlap is not None:
            y = self.overlap
        else:
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        self.overlap = y[..., done:].clone()
        y = y[..., : y.shape[-1] - self.module.trims[1] if last else done]
        trim = min(self.to_trim, y.shape[-1])
        self.to_trim -= trim
        y = y[..., trim:]
        if self.conv.bias is not None:
            y = y + self.conv.bias[:, None]
        return self.norm(y)

    def needed(self, outputs: int) -> int:
        return -(-(outputs + self.module.trims[0]) // self.stride)


class StreamingLSTM(StreamingLayer):
    """A `StreamableLSTM` with its hidden state."""

    module: StreamableLSTM

    def __init__(self, module: StreamableLSTM, name: str) -> None:
        super().__init__(module, name)
        self.reset()

    def reset(self) -> None:
        self.state: LSTMState | None = None

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        if not x.shape[-1]:
            return x
        if x.shape[-1] > _SHORT:
            y, self.state = self.module.run(x, self.state)
            return y
        y, self.state = self._run_cells(x.permute(2, 0, 1))  # [T, B, C]
        y = y.permute(1, 2, 0)  # [B, C, T]
        return y + x if self.module.skip else y

    def _run_cells(self, x: torch.Tensor) -> tuple[torch.Tensor, LSTMState]:
        """`nn.LSTM` for a few positions `[T, B, C]`, for which its own preparations on a CPU take
        six times as long as the work."""
        lstm = self.module.lstm
        hidden, cell = self.state or (x.new_zeros(lstm.num_layers, *x.shape[1:]),) * 2
        states = []
        for weights, h, c in zip(lstm.all_weights, hidden, cell, strict=True):
            outputs = []
            for position in x:
                h, c = torch.lstm_cell(position, (h, c), *weights)
                outputs.append(h)
            x = torch.stack(outputs)
            states.append((h, c))
        hidden, cell = (torch.stack(part) for part in zip(*states, strict=True))
        return x, (hidden, cell)


class StreamingSequential(StreamingLayer):
    """Layers one after another."""

    def __init__(self, layers: list[StreamingLayer]) -> None:
        self.layers = layers

    def reset(self) -> None:
        for layer in self.layers:
            layer.reset()

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        for layer in self.layers:
            x = layer.step(x, last)
        return x

    def needed(self, outputs: int) -> int:
        for layer in reversed(self.layers):
            outputs = layer.needed(outputs)
        return outputs


class StreamingSum(StreamingLayer):
    """The sum of several branches; what one gives before the others waits for them."""

    def __init__(self, branches: list[StreamingLayer]) -> None:
        self.branches = branches
        self.reset()

    def reset(self) -> None:
        self.waiting: list[torch.Tensor | None] = [None] * len(self.branches)
        for branch in self.branches:
            branch.reset()

    def step(self, x: torch.Tensor, last: bool) -> torch.Tensor:
        outputs = [
            _join(old, branch.step(x, last))
            for old, branch in zip(self.waiting, self.branches, strict=True)
        ]
        ready = min(y.shape[-1] for y in outputs)
        self.waiting = [_last(y, y.shape[-1] - ready) for y in outputs]
        total = outputs[0][..., :ready]
        for y in outputs[1:]:
            total = total + y[..., :ready]
        return total

    def needed(self, outputs: int) -> int:
        return max(branch.needed(outputs) for branch in self.branches)


def _activation(module: nn.Module, name: str) -> StreamingLayer:
    if getattr(module, "inplace", False):
        raise NotStreamable(f"{name}: {module} would change what other layers keep")
    return StreamingLayer(module, name)


def _sequential(module: nn.Sequential, name: str) -> StreamingLayer:
    return StreamingSequential(
        [streaming_layer(m, f"{name}.{key}") for key, m in module.named_children()]
    )


def _residual(module: SEANetResnetBlock, name: str) -> StreamingLayer:
    parts = {"shortcut": module.shortcut, "block": module.block}
    return StreamingSum([streaming_layer(part, f"{name}.{key}") for key, part in parts.items()])


def _seanet(module: SEANetEncoder | SEANetDecoder, name: str) -> StreamingLayer:
    return streaming_layer(module.model, f"{name}.model")


def _alone(layer: type[StreamingLayer]) -> Callable[[Any, str], StreamingLayer]:
    return lambda module, name: layer(module, name)


# By exact type: a subclass may look at other positions. A factory gets the module and its name.
LAYERS: dict[type[nn.Module], Callable[[Any, str], StreamingLayer]] = {
    **{getattr(nn, name): _activation for name in ("Identity", *ACTIVATIONS)},
    StreamableConv1d: _alone(StreamingConv1d),
    StreamableConvTranspose1d: _alone(StreamingConvTranspose1d),
    StreamableLSTM: _alone(StreamingLSTM),
    SEANetResnetBlock: _residual,
    SEANetEncoder: _seanet,
    SEANetDecoder: _seanet,
    nn.Sequential: _sequential,
}


def streaming_layer(module: nn.Module, name: str) -> StreamingLayer:
    """The streaming counterpart of a layer or a whole network, with its weights as they are now.

    Args:
        name: of the module, for messages.

    Raises:
        NotStreamable: a part of it looks at the whole signal, or is not in `LAYERS`.
    """
    if type(module) not in LAYERS:
        known = ", ".join(kind.__name__ for kind in LAYERS if kind.__name__ not in ACTIVATIONS)
        raise NotStreamable(
            f"{name}: cannot stream a {type(module).__name__}. Known are activations and {known}; "
            "others can be added to adversarial_trainer.models.streaming.layers.LAYERS"
        )
    return LAYERS[type(module)](module, name)


def _check_norm(norm: nn.Module, name: str) -> None:
    if type(norm) not in (nn.Identity, ConvLayerNorm):
        raise WholeSignalNeeded(f"{name}: {type(norm).__name__} averages over the whole signal")


def _join(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    return new if old is None or not old.shape[-1] else torch.cat([old, new], -1)


def _last(x: torch.Tensor, length: int) -> torch.Tensor:
    """A copy of the last `length` positions: a view would keep all of `x` alive."""
    return x[..., max(0, x.shape[-1] - length) :].clone()
