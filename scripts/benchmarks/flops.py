"""Floating-point operations, counted as torch dispatches them: matrix products, convolutions, LSTM.

Backward passes and autograd Functions are counted by what they dispatch; FFTs and element-wise
work is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def counter() -> FlopCounterMode:
    """A context that counts; `get_total_flops()` tells at any time."""
    found = FlopCounterMode(display=False, custom_mapping=_RNN)
    # Its hooks of modules, which nothing here asks for, fail where a module's input is a leaf
    # whose gradient autograd.grad takes.
    found.mod_tracker = _OneModule()  # type: ignore[assignment]
    return found


class _OneModule(contextlib.nullcontext[None]):
    """All is part of the whole."""

    parents = frozenset({"Global"})


def _layer(shape: Any, *weights: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """One layer of mkldnn's: input [T, B, D], weights [4 H, D] and [4 H, H], then biases."""
    return _rnn(shape, [weight for weight in weights[:2] if weight is not None])


def _cudnn(shape: Any, weights: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _rnn(shape, weights)


def _rnn(shape: Any, weights: Any) -> int:
    frames = shape[0] * shape[1]
    return sum(2 * frames * w[0] * w[1] for w in weights if len(w) == 2)


def _twice(forward: Callable[..., int]) -> Callable[..., int]:
    """A backward computes the gradients of input and weights."""

    def backward(*args: Any, **kwargs: Any) -> int:
        return 2 * forward(*args, **kwargs)

    return backward


_aten = torch.ops.aten
# torch's own table lacks recurrent layers.
_RNN: dict[Any, Callable[..., int]] = {
    _aten.mkldnn_rnn_layer: _layer,
    _aten.mkldnn_rnn_layer_backward: _twice(_layer),
    _aten._cudnn_rnn: _cudnn,
    _aten._cudnn_rnn_backward: _twice(_cudnn),
}
