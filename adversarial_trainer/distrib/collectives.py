"""The few collectives that training needs. Each does nothing when there is only one process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return world_size() > 1


def rank() -> int:
    """Index of this process, 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 when alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait for every process."""
    if is_distributed():
        distributed.barrier()


def all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    """Sum `tensor` over ranks, in place, and return it."""
    if is_distributed():
        distributed.all_reduce(tensor)
    return tensor


def any_true(flags: Sequence[bool | torch.Tensor]) -> list[bool]:
    """Whether each of `flags` (bools, 0-dim tensors) is true on any rank; one small message, which
    waits for the device of the tensors among them."""
    tensors = [flag for flag in flags if isinstance(flag, torch.Tensor)]
    device = tensors[0].device if tensors else _message_device()
    own = torch.stack([torch.as_tensor(flag, device=device).to(torch.int32) for flag in flags])
    return [count > 0 for count in all_reduce(own).tolist()]


def _message_device() -> torch.device:
    nccl = is_distributed() and distributed.get_backend() == "nccl"
    return torch.device("cuda" if nccl else "cpu")


def broadcast(tensors: Iterable[torch.Tensor], src: int = 0) -> None:
    """Overwrite `tensors` with those of rank `src`, one flat collective per dtype."""
    if not is_distributed():
        return
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    for group in groups.values():
        flat = torch.cat([t.detach().reshape(-1) for t in group])
        distributed.broadcast(flat, src)
        for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))


def broadcast_module(module: nn.Module, src: int = 0) -> None:
    """Make parameters and all buffers, integer ones too, those of rank `src`.

    Raises:
        RankError: where names, shapes or types are not the same on all ranks.
    """
    if not is_distributed():
        return
    tensors = [*module.named_parameters(), *module.named_buffers()]
    layout = [(name, tuple(t.shape), str(t.dtype)) for name, t in tensors]
    digest = hashlib.sha256(repr(layout).encode()).hexdigest()[:12]
    count = sum(p.numel() for p in module.parameters())
    require_same(
        f"{type(module).__name__}", f"{count} parameters in {len(tensors)} tensors ({digest})"
    )
    broadcast([*module.parameters(), *module.buffers()], src)


def gather_rows(x: torch.Tensor) -> torch.Tensor:
    """Concatenate `x` of every rank in rank order.

    Shape: `[N_r, D]`, where ranks may hold different numbers of rows -> `[sum_r N_r, D]`.
    """
    if not is_distributed():
        return x
    sizes = torch.zeros(world_size(), dtype=torch.long, device=x.device)
    sizes[rank()] = len(x)
    counts: list[int] = all_reduce(sizes).tolist()
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def gather_objects(value: T) -> list[T]:
    """The `value` of every rank, in rank order; anything that can be pickled."""
    if not is_distributed():
        return [value]
    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: T) -> T:
    """The `value` of rank 0; anything that can be pickled."""
    if not is_distributed():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


class RankError(ValueError):
    """Ranks that should be alike are not."""


def require_same(what: str, value: object) -> None:
    """Stop all ranks with a `RankError` where `value` is not the same on each.

    For what would otherwise hang or end in a crash of the backend later on. Every rank must call
    it. The message names the ranks that differ from rank 0, with both values.
    """
    values = gather_objects(value)
    different = [index for index, other in enumerate(values) if other != values[0]]
    if different:
        first = different[0]
        raise RankError(
            f"{what} differs between processes: rank {first} has {values[first]}, rank 0 has "
            f"{values[0]}"
            + (f" (ranks {', '.join(map(str, different))} differ)." if different[1:] else ".")
        )


def shared_generator(seed: int) -> torch.Generator:
    """A CPU generator that draws the same numbers on every rank.

    For decisions that all ranks must take alike: whether to update the discriminators, how many
    codebooks to use, which frames replace dead codes.
    """
    return torch.Generator().manual_seed(seed)


def size_of(tensor: torch.Tensor) -> int:
    """In bytes."""
    return tensor.numel() * tensor.element_size()
