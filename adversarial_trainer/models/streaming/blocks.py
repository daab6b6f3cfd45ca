"""Signals as iterables of blocks `[..., T]`, none of them whole at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch

from adversarial_trainer.audio import rate_ratio, resample, resample_margin
from adversarial_trainer.modules.streaming import join, remember


def reblock(blocks: Iterable[torch.Tensor], length: int) -> Iterator[torch.Tensor]:
    """Yield the same signal in blocks of `length` samples; the last may be shorter."""
    pending: list[torch.Tensor] = []
    have = 0
    for block in blocks:
        pending.append(block)
        have += block.shape[-1]
        if have < length:
            continue
        joined = torch.cat(pending, -1)
        whole = have // length * length
        yield from joined[..., :whole].split(length, -1)
        pending, have = [remember(joined, whole)], have - whole
    if have:
        yield torch.cat(pending, -1)


def resampled_length(length: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples `resample` makes of `length`."""
    low, high = rate_ratio(from_rate, to_rate)
    return -(-length * high // low)


def resample_blocks(
    blocks: Iterable[torch.Tensor], from_rate: int, to_rate: int
) -> Iterator[torch.Tensor]:
    """Yield the signal at another rate; equal to `resample` of the whole to rounding."""
    if from_rate == to_rate:
        yield from blocks
        return
    low, high = rate_ratio(from_rate, to_rate)
    # Inputs and outputs coincide at every `low`-th input; pieces begin there.
    margin = math.ceil(resample_margin(low, high) / low) * low
    pending: torch.Tensor | None = None
    before = 0  # inputs at the start of `pending` whose outputs are out
    for block in blocks:
        pending = join(pending, block)
        ready = (pending.shape[-1] - margin - before) // low * low
        if ready <= 0:
            continue
        end = before + ready
        out = resample(pending[..., : end + margin], low, high)
        yield out[..., before // low * high : end // low * high]
        before = min(margin, end)
        pending = remember(pending, end - before)
    if pending is not None:
        yield resample(pending, low, high)[..., before // low * high :]


def cut(
    blocks: Iterable[torch.Tensor], length: Callable[[], int], most: int
) -> Iterator[torch.Tensor]:
    """Yield the first `length()` samples, a number asked for at the end of `blocks`.

    Args:
        most: how many samples too many there can be; so many are held back.
    """
    given = 0
    held: torch.Tensor | None = None
    for block in blocks:
        held = join(held, block)
        ready = held.shape[-1] - most
        if ready > 0:
            yield held[..., :ready]
            given += ready
            held = remember(held, ready)
    rest = length() - given
    have = 0 if held is None else held.shape[-1]
    if not 0 <= rest <= have:
        raise ValueError(
            f"the codes are of {given + have - most} to {given + have} samples, "
            f"not of {length()}: a wrong length, or chunks are missing"
        )
    if held is not None:
        yield held[..., :rest]
