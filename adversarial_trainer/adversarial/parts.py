"""An adversary as parts that can be run, and trained, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    MultiDiscriminatorOutputType,
)

Part = Callable[[Tensor], MultiDiscriminatorOutputType]


def split(adversary: nn.Module) -> list[Part]:
    """One part for each sub-discriminator where the adversary's `forward` is known to be just
    their sequence; else the whole is one part.

    Each maps audio [B, C, T] to its logits and its lists of feature maps.
    """
    if (
        isinstance(adversary, MultiDiscriminator)
        and type(adversary).forward is MultiDiscriminator.forward
    ):
        return [
            partial(_predict_one, adversary, index) for index in range(adversary.num_discriminators)
        ]
    return [partial(predict, adversary)]


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
