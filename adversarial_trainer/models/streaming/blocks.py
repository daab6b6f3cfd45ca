"""Signals as iterables of blocks `[..., T]`, none of them whole at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from adversarial_trainer.models.streaming.resampler import StreamingResampler


def reblock(blocks: Iterable[torch.Tensor], length: int) -> Iterator[torch.Tensor]:
    """The same signal in blocks of `length` samples; the last may be shorter."""
    pending: list[torch.Tensor] = []
    have = 0
    for block in blocks:
        pending.append(block)
        have += block.shape[-1]
        if have < length:
            continue
        *whole, rest = _joined(pending).split(length, -1)
        if rest.shape[-1] == length:
            whole, rest = [*whole, rest], rest[..., :0]
        yield from whole
        pending, have = [rest.clone()], rest.shape[-1]
    if have:
        yield _joined(pending)


def resample_blocks(
    blocks: Iterable[torch.Tensor], from_rate: int, to_rate: int
) -> Iterator[torch.Tensor]:
    """The signal at another rate; equal to `resample` of the whole to rounding."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = StreamingResampler(from_rate, to_rate)
    empty = True
    for block in blocks:
        empty = False
        yield resampler.push(block)
    if not empty:
        yield resampler.finish()


def cut(
    blocks: Iterable[torch.Tensor], length: Callable[[], int], most: int
) -> Iterator[torch.Tensor]:
    """The first `length()` samples, a number asked for at the end of `blocks`.

    Args:
        most: how many samples too many there can be; so many are held back.
    """
    given = 0
    held: torch.Tensor | None = None
    for block in blocks:
        held = block if held is None else torch.cat([held, block], -1)
        ready = held.shape[-1] - most
        if ready > 0:
            yield held[..., :ready]
            given += ready
            held = held[..., ready:].clone()
    rest = length() - given
    have = 0 if held is None else held.shape[-1]
    if not 0 <= rest <= have:
        raise ValueError(
            f"the codes are of {given + have - most} to {given + have} samples, "
            f"not of {length()}: a wrong length, or chunks are missing"
        )
    if held is not None:
        yield held[..., :rest]


def _joined(blocks: list[torch.Tensor]) -> torch.Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -1)
