"""Collectives by which N processes compute what one with the whole batch would.

The loss of rank r is the mean over its own B_r items. With B = sum_r B_r, the gradient of the mean
over the whole batch is then sum_r (B_r / B) g_r (`average_gradients`).

All ranks call each of these functions alike; with one process they do nothing. flashy.distrib has
the rest, but its averages ignore the number of items, and its `broadcast_model` integer buffers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from flashy.distrib import is_distributed, is_rank_zero, rank, world_size
from torch import Tensor, distributed, nn

__all__ = [
    "RankError",
    "all_reduce",
    "any_true",
    "average_gradients",
    "barrier",
    "broadcast_module",
    "broadcast_object",
    "counts_of_ranks",
    "gather_objects",
    "gather_rows",
    "is_distributed",
    "is_rank_zero",
    "rank",
    "share_of_rank",
    "shared_generator",
    "world_size",
]

T = TypeVar("T")


def all_reduce(tensor: Tensor) -> Tensor:
    """Sum `tensor` over ranks, in place, and return it."""
    if is_distributed():
        distributed.all_reduce(tensor)
    return tensor


def any_true(flags: Sequence[bool | Tensor]) -> list[bool]:
    """Return for each of `flags` (bools, 0-dim tensors) whether it is true on any rank.

    One small message, which waits for the device of the tensors among them.
    """
    tensors = [flag for flag in flags if isinstance(flag, Tensor)]
    nccl = is_distributed() and distributed.get_backend() == "nccl"
    device = tensors[0].device if tensors else torch.device("cuda" if nccl else "cpu")
    own = torch.stack([torch.as_tensor(flag, device=device).to(torch.int32) for flag in flags])
    return [count > 0 for count in all_reduce(own).tolist()]


def average_gradients(parameters: Iterable[nn.Parameter], items: int) -> None:
    """Replace each gradient by that of the whole batch: sum_r items_r g_r / sum_r items_r.

    To be called after the backward. A parameter without a gradient on this rank counts as zeros;
    one that has none on any rank keeps none, so that an optimizer leaves it alone as it would in a
    single process. One message: the gradients times `items`, a 1 for each that is there, `items`.

    Args:
        parameters: on one device; the same on every rank.
        items: number of items behind the mean loss of this rank.
    """
    learning = [param for param in parameters if param.requires_grad]
    if not is_distributed() or not learning:
        return
    present = [param.grad is not None for param in learning]
    sizes = [param.numel() for param in learning]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    counts = learning[0].new_tensor([*present, items])
    message = torch.cat([*(gradient.detach().reshape(-1) for gradient in gradients), counts])
    sums, holders, total = message.split([sum(sizes), len(learning), 1])
    sums.mul_(items)
    all_reduce(message)
    # Read only where this rank lacks a gradient: reading waits for the device.
    anywhere = present if all(present) else (holders > 0).tolist()
    for param, held, mean in zip(learning, anywhere, (sums / total).split(sizes), strict=True):
        if param.grad is not None:
            param.grad.copy_(mean.view_as(param))
        elif held:
            param.grad = mean.view_as(param).to(param.dtype, copy=True)


class RankError(ValueError):
    """Ranks that should be alike are not."""


def broadcast_module(module: nn.Module) -> None:
    """Make parameters and all buffers, integer ones too, those of rank 0; one message a type.

    Raises:
        RankError: on all ranks, if names, shapes or types are not the same on each, which would
            otherwise hang or crash the backend later on.
    """
    if not is_distributed():
        return
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    layout = [(name, tuple(t.shape), str(t.dtype)) for name, t in tensors.items()]
    digest = hashlib.sha256(repr(layout).encode()).hexdigest()[:12]
    count = sum(p.numel() for p in module.parameters())
    found = gather_objects(f"{count} parameters in {len(tensors)} tensors ({digest})")
    if other := [index for index, text in enumerate(found) if text != found[0]]:
        raise RankError(
            f"{type(module).__name__} differs between processes: rank {other[0]} has "
            f"{found[other[0]]}, rank 0 has {found[0]}."
        )
    groups: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in tensors.values():
        groups[tensor.dtype].append(tensor.detach())
    for group in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        distributed.broadcast(flat, src=0)
        for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(part.view_as(tensor))


def counts_of_ranks(count: int, device: torch.device | str) -> list[int]:
    """Return the `count` of every rank, in rank order; with several, it waits for `device`."""
    if not is_distributed():
        return [count]
    counts = torch.zeros(world_size(), dtype=torch.long, device=device)
    counts[rank()] = count
    return all_reduce(counts).tolist()


def share_of_rank(items: int, device: torch.device | str) -> tuple[slice, int]:
    """Return where the `items` of this rank stand in the batch of all ranks, and its size.

    What is drawn for the whole batch, alike on all ranks, is then cut to the rank's own part.
    """
    counts = counts_of_ranks(items, device)
    start = sum(counts[: rank()])
    return slice(start, start + items), sum(counts)


def gather_rows(x: Tensor) -> Tensor:
    """Concatenate `x` of every rank in rank order.

    Shape: `[N_r, D]`, where ranks may hold different numbers of rows -> `[sum_r N_r, D]`.
    """
    if not is_distributed():
        return x
    counts = counts_of_ranks(len(x), x.device)
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@cache
def _between_stages() -> distributed.ProcessGroup:
    """Return a second group, in which ranks wait for one that works on its own (finds files,
    evaluates a long one, saves). One that dies is noticed at once, as it closes its connections."""
    return distributed.new_group(backend="gloo", timeout=timedelta(days=1))


def barrier() -> None:
    """Wait for all ranks, however long one works."""
    gather_objects(None)


def gather_objects(value: T) -> list[T]:
    """Return the `value` of every rank, in rank order; anything that can be pickled. Ranks are
    waited for however long they work."""
    if not is_distributed():
        return [value]
    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, value, group=_between_stages())
    return gathered


def broadcast_object(value: T) -> T:
    """Return the `value` of rank 0; anything that can be pickled. Rank 0 is waited for however long
    it works."""
    if not is_distributed():
        return value
    message = [value]
    distributed.broadcast_object_list(message, src=0, group=_between_stages())
    return message[0]


def shared_generator(seed: int) -> torch.Generator:
    """Return a CPU generator that draws the same numbers on every rank.

    For decisions that all ranks must take alike: whether to update the discriminators, how many
    codebooks to use, which frames replace dead codes.
    """
    return torch.Generator().manual_seed(seed)
