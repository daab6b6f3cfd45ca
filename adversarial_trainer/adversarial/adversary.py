"""Calling an adversary: its sub-discriminators one by one, without changing them, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    MultiDiscriminatorOutputType,
)

SubDiscriminator = Callable[[Tensor], MultiDiscriminatorOutputType]


def sub_discriminators(adversary: nn.Module) -> list[SubDiscriminator]:
    """Return functions that together give the adversary's logits and feature maps.

    One for each sub-discriminator of a `MultiDiscriminator`, whose forward calls them in turn; one
    for the whole of any other module. Logits are at least float32, as criteria average them.
    """
    if (
        isinstance(adversary, MultiDiscriminator)
        and type(adversary).forward is MultiDiscriminator.forward
    ):
        return [partial(_call_one, adversary, i) for i in range(adversary.num_discriminators)]
    return [partial(call_adversary, adversary)]


def _call_one(adversary: MultiDiscriminator, index: int, x: Tensor) -> MultiDiscriminatorOutputType:
    logits, fmap = adversary.forward_one(index, x)
    return [_at_least_float32(logits)], [fmap]


def call_adversary(adversary: nn.Module, x: Tensor) -> MultiDiscriminatorOutputType:
    """Return logits and feature maps of any adversary; ValueError if it returns other things."""
    output = adversary(x)
    if not _is_output(output):
        raise ValueError(
            "The adversary must return a list of logits and a list of as many lists of feature "
            f"maps, all tensors, got {_describe(output)}."
        )
    logits, fmaps = output
    return [_at_least_float32(x) for x in logits], [list(fmap) for fmap in fmaps]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _is_output(output: Any) -> bool:
    if not isinstance(output, list | tuple) or len(output) != 2:
        return False
    logits, fmaps = output
    if not _are_tensors(logits) or not logits or not isinstance(fmaps, list | tuple):
        return False
    return len(fmaps) == len(logits) and all(_are_tensors(fmap) for fmap in fmaps)


def _are_tensors(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, Tensor) for v in values)


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_describe(item) for item in value)}]"
    return type(value).__name__


@contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """Run `module` without training it: gradients flow to its input alone.

    Inside, no parameter requires a gradient, and parametrizations are in eval mode, in which
    spectral norm does not update its estimates. All else, as dropout, stays in its mode.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    training = [
        child
        for norms in module.modules()
        if isinstance(norms, parametrize.ParametrizationList)
        for child in norms.modules()
        if child.training
    ]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        for child in training:
            child.training = False
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for child in training:
            child.training = True
