"""Calling an adversary: its sub-discriminators one by one, without changing them, checked; and
what the generator gets from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import flashy.utils
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from adversarial_trainer import distrib
from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    MultiDiscriminatorOutputType,
    describe,
)

logger = logging.getLogger(__name__)

SubForward = Callable[[Tensor], MultiDiscriminatorOutputType]
LogitPair = tuple[Tensor, Tensor]  # one sub-discriminator's, on fake and real


class GeneratorLosses(NamedTuple):
    """Losses of the generator with their gradients.

    Attributes:
        adv, feat: Adversarial and feature matching loss, 0-dim, without graph.
        adv_grad, feat_grad: Their gradients with respect to the fake audio, shaped as it; None
            for a loss that is zero by definition (before `start_step`, or no `loss_feat`).
    """

    adv: Tensor
    feat: Tensor
    adv_grad: Tensor | None
    feat_grad: Tensor | None


def sub_discriminators(adversary: nn.Module) -> list[SubForward]:
    """Return functions that together give the adversary's logits and feature maps.

    One for each sub-discriminator of a `MultiDiscriminator`, whose forward calls them in turn; one
    for the whole of any other module.
    """
    if isinstance(adversary, MultiDiscriminator):
        if type(adversary).forward is MultiDiscriminator.forward:
            return [partial(_call_one, adversary, i) for i in range(adversary.num_discriminators)]
    return [partial(call_adversary, adversary)]


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


def warn_skipped(norm: Tensor, count: int) -> None:
    """Log that an update was skipped for its gradient's `norm`, the `count`-th one."""
    if distrib.is_rank_zero():
        text = "Skipping update of the discriminators: gradient norm %s (%d skipped so far)"
        logger.warning(text, norm.item(), count)


@contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """Run `module` without training it: gradients flow to its input alone.

    Inside, no parameter requires a gradient, and parametrizations are in eval mode, in which
    spectral norm does not update its estimates. All else, as dropout, stays in its mode.
    """
    parametrizations = [x for x in module.modules() if isinstance(x, ParametrizationList)]
    norms = nn.ModuleList(x for x in parametrizations if x.training)
    with flashy.utils.readonly(module):
        try:
            norms.eval()
            yield
        finally:
            norms.train()
