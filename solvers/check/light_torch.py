"""Parts made without what makes torch import torch.compile: a second of a command's start."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch


@contextmanager
def without_compile() -> Iterator[None]:
    """Inside, optimizers and weight norm are made as always, but torch.compile stays unimported.

    Torch imports it in order to hide from it how an optimizer is made, and where it computes the
    norms of a weight on the meta device.
    """
    optimizer = torch.optim.Optimizer
    plain = inspect.unwrap(optimizer.add_param_group)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(optimizer, "add_param_group", plain))
        stack.enter_context(mock.patch.object(torch, "norm_except_dim", _norm_except_dim))
        stack.enter_context(mock.patch.object(torch, "hann_window", _hann_window))
        yield


_torch_norm, _torch_window = torch.norm_except_dim, torch.hann_window


def _norm_except_dim(v: torch.Tensor, pow: int = 2, dim: int = 0) -> torch.Tensor:
    if not v.is_meta or dim == -1:
        return _torch_norm(v, pow, dim)
    return v.new_empty([n if d == dim else 1 for d, n in enumerate(v.shape)])


def _hann_window(length: int, *args: Any, **options: Any) -> torch.Tensor:
    if args or options or not torch.empty(0).is_meta:
        return _torch_window(length, *args, **options)
    return torch.empty(length)
