"""An adversary as parts that can be run, and trained, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    MultiDiscriminatorOutputType,
)


@dataclass(frozen=True)
class Part:
    """Maps audio [B, C, T] to logits and lists of feature maps.

    Attributes:
        joins: Whether one pass of two batches in one is as good as two passes, and faster.
    """

    call: Callable[[Tensor], MultiDiscriminatorOutputType]
    joins: bool = False

    def __call__(self, x: Tensor) -> MultiDiscriminatorOutputType:
        return self.call(x)

    def of_both(self, fake: Tensor, real: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of `fake` and of `real`, of the same shape without their batch."""
        if not self.joins:
            return self(fake)[0], self(real)[0]
        logits, _ = self(torch.cat([fake, real]))
        sizes = [len(fake), len(real)]
        of_fake, of_real = zip(*(of_sub.split(sizes) for of_sub in logits), strict=True)
        return list(of_fake), list(of_real)


def split(adversary: nn.Module) -> list[Part]:
    """One part for each sub-discriminator where the adversary's `forward` is known to be just
    their sequence; else the whole is one part."""
    if (
        isinstance(adversary, MultiDiscriminator)
        and type(adversary).forward is MultiDiscriminator.forward
    ):
        return [
            Part(partial(_predict_one, adversary, index), adversary.joins(index))
            for index in range(adversary.num_discriminators)
        ]
    return [Part(partial(predict, adversary))]


def _predict_one(
    adversary: MultiDiscriminator, index: int, x: Tensor
) -> MultiDiscriminatorOutputType:
    logits, fmap = adversary.forward_one(index, x)
    return [logits], [fmap]


def predict(adversary: nn.Module, x: Tensor) -> MultiDiscriminatorOutputType:
    """Logits and feature maps of any adversary; ValueError if it returns something else."""
    output = adversary(x)
    if not isinstance(output, list | tuple) or len(output) != 2:
        raise ValueError(
            f"The adversary must return (logits, feature maps), got {_describe(output)}."
        )
    logits, fmaps = output
    if not _is_tensors(logits) or not logits:
        raise ValueError(
            f"The adversary must return a list of tensors as logits, got {_describe(logits)}."
        )
    if not isinstance(fmaps, list | tuple) or len(fmaps) != len(logits):
        raise ValueError(
            f"The adversary must return {len(logits)} lists of feature maps, "
            f"as many as logits, got {_describe(fmaps)}."
        )
    for fmap in fmaps:
        if not _is_tensors(fmap):
            raise ValueError(
                "The adversary must return lists of tensors as feature maps, "
                f"got {_describe(fmap)}."
            )
    return list(logits), [list(fmap) for fmap in fmaps]


def _is_tensors(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, Tensor) for v in values)


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        kinds = sorted({type(item).__name__ for item in value})
        return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds)})"
    return type(value).__name__
