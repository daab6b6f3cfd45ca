"""Adversarial criteria: what the generator and the discriminators minimise, on logits.

`mse` is LSGAN (Mao et al., arXiv 1611.04076), `hinge` the geometric GAN (Lim and Ye,
arXiv 1705.02894), `hinge2` has hinge's discriminator losses and EnCodec's clipped generator loss
max(0, 1 - D) (arXiv 2210.13438, section 3.4).

| flavour | generator, on D(fake) | real, on D(real)  | fake, on D(fake)  | decides at |
|---------|-----------------------|-------------------|-------------------|------------|
| mse     | mean((x - 1)^2)       | mean((x - 1)^2)   | mean(x^2)         | 0.5        |
| hinge   | -mean(x)              | mean(relu(1 - x)) | mean(relu(1 + x)) | 0          |
| hinge2  | mean(relu(1 - x))     | mean(relu(1 - x)) | mean(relu(1 + x)) | 0          |

Each takes logits of any shape and returns a 0-dim tensor of their dtype and device. Empty logits
give a zero that is still part of the graph, where a plain mean would give NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from adversarial_trainer.registry import unknown_name

AdvLossType = Callable[[Tensor], Tensor]

LOSS_TYPES = ("mse", "hinge", "hinge2")


def _mean(x: Tensor) -> Tensor:
    # The sum of nothing is 0 and keeps the graph; the mean of nothing is NaN.
    return x.mean() if x.numel() else x.sum()


def mse_loss(x: Tensor) -> Tensor:
    return _mean((x - 1).square())


def mse_real_loss(x: Tensor) -> Tensor:
    return _mean((x - 1).square())


def mse_fake_loss(x: Tensor) -> Tensor:
    return _mean(x.square())


def hinge_loss(x: Tensor) -> Tensor:
    return -_mean(x)


def hinge2_loss(x: Tensor) -> Tensor:
    return _mean(F.relu(1 - x))


def hinge_real_loss(x: Tensor) -> Tensor:
    return _mean(F.relu(1 - x))


def hinge_fake_loss(x: Tensor) -> Tensor:
    return _mean(F.relu(1 + x))


_ADV: dict[str, AdvLossType] = {"mse": mse_loss, "hinge": hinge_loss, "hinge2": hinge2_loss}
_REAL: dict[str, AdvLossType] = {
    "mse": mse_real_loss,
    "hinge": hinge_real_loss,
    "hinge2": hinge_real_loss,
}
_FAKE: dict[str, AdvLossType] = {
    "mse": mse_fake_loss,
    "hinge": hinge_fake_loss,
    "hinge2": hinge_fake_loss,
}


def _choose(table: dict[str, AdvLossType], loss_type: str) -> AdvLossType:
    if loss_type not in table:
        raise unknown_name("adversarial loss", loss_type, LOSS_TYPES)
    return table[loss_type]


def get_adv_criterion(loss_type: str) -> AdvLossType:
    """Return the generator's loss on D(fake); ValueError unless it is in `LOSS_TYPES`."""
    return _choose(_ADV, loss_type)


def get_fake_criterion(loss_type: str) -> AdvLossType:
    """Return the discriminators' loss on D(fake); ValueError unless it is in `LOSS_TYPES`."""
    return _choose(_FAKE, loss_type)


def get_real_criterion(loss_type: str) -> AdvLossType:
    """Return the discriminators' loss on D(real); ValueError unless it is in `LOSS_TYPES`."""
    return _choose(_REAL, loss_type)


def decision_threshold(loss: str | AdvLossType) -> float:
    """Return the logit above which a discriminator says "real": half way between its targets.

    Args:
        loss: A name from `LOSS_TYPES` or any criterion. 0.5 for the mse flavour (targets 0 and
            1), 0 for the hinge flavours (-1 and 1) and for a criterion not defined here.
    """
    if isinstance(loss, str):
        loss = get_real_criterion(loss)
    return 0.5 if loss in (mse_loss, mse_real_loss, mse_fake_loss) else 0.0
