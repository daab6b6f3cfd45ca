"""Calling an adversary: its sub-discriminators one by one, without changing them, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import flashy.utils
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    MultiDiscriminatorOutputType,
    describe,
)

SubDiscriminator = Callable[[Tensor], MultiDiscriminatorOutputType]


def sub_discriminators(adversary: nn.Module) -> list[SubDiscriminator]:
    """Return functions that together give the adversary's logits and feature maps.

    One for each sub-discriminator of a `MultiDiscriminator`, whose forward calls them in turn; one
    for the whole of any other module.
    """
    if not isinstance(adversary, MultiDiscriminator):
        return [partial(call_adversary, adversary)]
    if type(adversary).forward is not MultiDiscriminator.forward:
        return [partial(call_adversary, adversary)]
    return [partial(_call_one, adversary, i) for i in range(adversary.num_discriminators)]


def _call_one(adversary: MultiDiscriminator, index: int, x: Tensor) -> MultiDiscriminatorOutputType:
    logits, fmap = adversary.forward_one(index, x)
    return [_at_least_float32(logits)], [fmap]


def call_adversary(adversary: nn.Module, x: Tensor) -> MultiDiscriminatorOutputType:
    """Return logits and feature maps of any adversary; ValueError if it returns other things.

    Logits are at least float32, as criteria average them.
    """
    output = adversary(x)
    match output:
        case [_, *_] as logits, [_, *_] as fmaps if len(logits) == len(fmaps):
            return [_at_least_float32(x) for x in logits], fmaps
    raise ValueError(
        "The adversary must return a list of logits and a list of as many lists of feature "
        f"maps, got {describe(output)}."
    )


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_optimizer(optimizer: torch.optim.Optimizer, adversary: nn.Module) -> None:
    """Raise ValueError unless `optimizer` has all of the adversary's trainable parameters and no
    others."""
    own = set(adversary.parameters())
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    missing = {parameter for parameter in own if parameter.requires_grad} - held
    if missing or held - own:
        raise ValueError(
            f"optimizer must hold the adversary's parameters: {len(missing)} of its {len(own)} are "
            f"missing, {len(held - own)} are not the adversary's."
        )


@contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """Run `module` without training it: gradients flow to its input alone.

    Inside, no parameter requires a gradient, and parametrizations are in eval mode, in which
    spectral norm does not update its estimates. All else, as dropout, stays in its mode.
    """
    norms = [m for m in module.modules() if isinstance(m, ParametrizationList) and m.training]
    with flashy.utils.readonly(module):
        try:
            for norm in norms:
                norm.eval()
            yield
        finally:
            for norm in norms:
                norm.train()
