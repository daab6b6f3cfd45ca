"""Take an update back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class TensorCopies:
    """Copies of tensors, in memory that is kept from one `take` to the next."""

    def __init__(self) -> None:
        self._copies: dict[Tensor, Tensor] = {}

    def take(self, tensors: Iterable[Tensor]) -> None:
        """Copy `tensors`, on their devices; nothing here waits for these."""
        before = self._copies
        self._copies = {
            tensor: before[tensor]
            if _fits(before.get(tensor), tensor)
            else torch.empty_like(tensor)
            for tensor in tensors
        }
        _copy((copy, tensor) for tensor, copy in self._copies.items())

    def restore(self) -> None:
        """Put back what was copied, into the very tensors it came from."""
        _copy(self._copies.items())


def _fits(copy: Tensor | None, tensor: Tensor) -> bool:
    """Not where a module has moved to another device or type in between."""
    return copy is not None and (copy.shape, copy.dtype, copy.device) == (
        tensor.shape,
        tensor.dtype,
        tensor.device,
    )


@torch.no_grad()
def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Into the first of each pair. In groups of one type and device, which a GPU does at once."""
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in pairs:
        targets, sources = groups.setdefault((target.device, target.dtype), ([], []))
        targets.append(target)
        sources.append(source)
    for targets, sources in groups.values():
        torch._foreach_copy_(targets, sources)


class Undo:
    """Takes back an update of a module: its parameters and buffers, the optimizer's state and
    settings, the scheduler.

    `take` comes before anything moves, the forward too, which advances spectral and batch norm. The
    copies are as large as what they are of: with Adam, three times the parameters.

    Args:
        module: whose buffers are copied, also those that are not in its state dict.
        optimizer: whose parameters are copied, with all that it keeps for them.
        scheduler: with `state_dict` and `load_state_dict`, if there is one.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any = None
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._copies = TensorCopies()
        # Which tensors, and what else: a part may be replaced by another object, or not be there
        # yet (the optimizer's state before the first update).
        self._buffers: list[tuple[nn.Module, str, Tensor]] = []
        self._state: dict[Tensor, dict[str, Any]] = {}
        self._groups: list[dict[str, Any]] = []
        self._scheduler: Any = None

    def take(self) -> None:
        """Remember everything as it is now."""
        self._buffers = [
            (module, name, buffer)
            for module in self.module.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        groups = self.optimizer.param_groups
        self._state = {param: dict(kept) for param, kept in self.optimizer.state.items()}
        self._groups = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        if self.scheduler is not None:
            self._scheduler = deepcopy(self.scheduler.state_dict())
        kept = (
            value for values in (*self._state.values(), *self._groups) for value in values.values()
        )
        self._copies.take(
            [
                *(param for group in groups for param in group["params"]),
                *(buffer for _, _, buffer in self._buffers),
                *(value for value in kept if isinstance(value, Tensor)),
            ]
        )

    def restore(self) -> None:
        """Make everything what it was at `take`."""
        self._copies.restore()
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer
        self.optimizer.state.clear()
        self.optimizer.state.update({param: dict(kept) for param, kept in self._state.items()})
        if self.scheduler is not None:
            self.scheduler.load_state_dict(deepcopy(self._scheduler))
        for group, kept in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(kept)
