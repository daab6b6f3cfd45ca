"""Layers that take a signal in pieces, with the outputs of the whole signal.

What a layer remembers between two pieces is in a dictionary that the caller keeps, one for each
signal: several signals can go through one model at the same time, and a layer itself never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Layer = Callable[..., nn.Module]  # constructor of one, some of its arguments set
State = dict[nn.Module, Any]  # of one signal: by layer, what it needs of earlier pieces


class StreamingModule(nn.Module):
    """A module whose `step`, piece after piece, gives what `forward` gives for the whole signal."""

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        """Return all further outputs that can be computed with the next piece of the input.

        Args:
            x: `[B, C, T]`, T >= 0.
            state: an empty dictionary at the start of a signal, the same one for all its pieces.
            last: whether the signal ends with `x`.

        Returns:
            `[B, C', T']`, T' >= 0.
        """
        raise NotImplementedError


def step_layers(layers: Iterable[nn.Module], x: Tensor, state: State, last: bool) -> Tensor:
    """`StreamingModule.step` of layers one after another.

    Layers of other types, such as activations, must treat each position by itself.
    """
    for layer in layers:
        x = layer.step(x, state, last) if isinstance(layer, StreamingModule) else layer(x)
    return x


class StreamingStack(StreamingModule):
    """The layers in `model`, one after another, see `step_layers`."""

    def __init__(self, layers: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        return step_layers(self.model, x, state, last)


def remember(x: Tensor, start: int) -> Tensor:
    """Return a copy of `x[..., start:]`, which doesn't keep the memory of the rest of `x`."""
    return x[..., start:].clone()


def join(past: Tensor | None, x: Tensor) -> Tensor:
    """Return `past` and `x` `[B, C, T]` one after another; None stands for nothing."""
    return x if past is None or past.shape[-1] == 0 else torch.cat([past, x], -1)
