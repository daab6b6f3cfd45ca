"""The few collectives that training needs, built so that N ranks compute what one would.

Convention: the loss of rank r is the mean over its own B_r items. With B = sum_r B_r, the gradient
of the mean over the whole batch is then sum_r (B_r / B) g_r. Everything here does nothing when
there is only one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import distributed, nn


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
    """Make parameters and all buffers, integer ones too, those of rank `src`."""
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


def sync_gradients(parameters: Iterable[nn.Parameter], batch_size: int) -> None:
    """Replace each gradient by the whole batch's: sum_r B_r g_r / sum_r B_r.

    One flat all-reduce per dtype. A parameter without a gradient on this rank counts as zeros, so
    that ranks whose graphs differ still agree on the size of the message. One that has none on any
    rank keeps none: an optimizer leaves it alone, as it would in a single process.

    Args:
        parameters: those to synchronise; every rank gives the same ones.
        batch_size: B_r, the number of items behind this rank's mean loss.
    """
    if not is_distributed():
        return
    groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for param in parameters:
        if param.requires_grad:
            groups.setdefault((param.dtype, param.device), []).append(param)
    for (dtype, device), group in groups.items():
        pieces = [
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) * batch_size
            for p in group
        ]
        # In the same message: how many ranks have each gradient, and the number of items.
        present = [p.grad is not None for p in group]
        if all(present):
            pieces.append(torch.ones(len(group), dtype=dtype, device=device))
        else:
            pieces.append(torch.tensor(present, dtype=dtype, device=device))
        pieces.append(torch.full((1,), batch_size, dtype=dtype, device=device))
        flat = all_reduce(torch.cat(pieces))
        sizes = [p.numel() for p in group]
        sums, holders, count = flat.split([sum(sizes), len(group), 1])
        # Read only where this rank lacks a gradient: reading waits for the device.
        anywhere = present if all(present) else (holders > 0).tolist()
        for param, held, part in zip(group, anywhere, (sums / count).split(sizes), strict=True):
            grad = part.view_as(param)
            if param.grad is not None:
                param.grad.copy_(grad)
            elif held:
                param.grad = grad.clone()


def average_metrics(
    metrics: Mapping[str, torch.Tensor | float], count: float = 1.0
) -> dict[str, float]:
    """Average over ranks, each weighted by its `count`. All ranks return the same.

    Ranks may hold different keys (one had no batch, say): a metric is averaged over those that
    have it. Where all of these have a count of 0 they count alike.
    """
    mine = {key: float(value) for key, value in metrics.items()}
    if not is_distributed():
        return mine
    gathered: list[tuple[dict[str, float], float]] = [({}, 0.0)] * world_size()
    distributed.all_gather_object(gathered, (mine, float(count)))
    averages = {}
    for key in dict.fromkeys(key for values, _ in gathered for key in values):
        pairs = [(values[key], n) for values, n in gathered if key in values]
        # A rank without items may hold a NaN, which 0 times would not remove.
        pairs = [(v, n) for v, n in pairs if n > 0] or [(v, 1.0) for v, _ in pairs]
        averages[key] = sum(v * n for v, n in pairs) / sum(n for _, n in pairs)
    return averages


def shared_generator(seed: int) -> torch.Generator:
    """A CPU generator that draws the same numbers on every rank.

    For decisions that all ranks must take alike: whether to update the discriminators, how many
    codebooks to use, which frames replace dead codes.
    """
    return torch.Generator().manual_seed(seed)
