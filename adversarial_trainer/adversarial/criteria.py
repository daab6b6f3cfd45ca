"""Adversarial criteria: what the generator and the discriminators minimise, on logits; and metrics
of who is winning.

`mse` is LSGAN (Mao et al., arXiv 1611.04076), `hinge` the geometric GAN (Lim and Ye,
arXiv 1705.02894), `hinge2` has hinge's discriminator losses and the clipped generator loss
max(0, 1 - D) of EnCodec (arXiv 2210.13438, section 3.4) and Vocos. `nonsaturating` is the first
GAN's, with its second generator loss, -log sigmoid(D) (Goodfellow et al., arXiv 1406.2661, section
3), and `relativistic` its form for pairs, RpGAN (Huang et al., arXiv 2501.05441).

| flavour       | generator, on D(fake) | real, on D(real)   | fake, on D(fake)  | decides at |
|---------------|-----------------------|--------------------|-------------------|------------|
| mse           | mean((x - 1)^2)       | mean((x - 1)^2)    | mean(x^2)         | 0.5        |
| hinge         | -mean(x)              | mean(relu(1 - x))  | mean(relu(1 + x)) | 0          |
| hinge2        | mean(relu(1 - x))     | mean(relu(1 - x))  | mean(relu(1 + x)) | 0          |
| nonsaturating | mean(softplus(-x))    | mean(softplus(-x)) | mean(softplus(x)) | 0          |
| relativistic  | mean(softplus(-x))    | mean(softplus(-x)) | None              | pairs      |

Each takes logits of any shape and returns a 0-dim tensor of their dtype and device. Empty logits
give a zero that is still part of the graph, where a plain mean would give NaN.

The criteria of pairs take margins, by how much each logit of an item is above that of its partner:
the generator's D(fake i) - D(real i), the discriminators' D(real i) - D(fake i), which says all, so
that there is no criterion on D(fake). A None in its place makes any other flavour one of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from adversarial_trainer.registry import unknown_name

AdvLossType = Callable[[Tensor], Tensor]


def _mean(x: Tensor) -> Tensor:
    # The sum of nothing is 0 and keeps the graph; the mean of nothing is NaN.
    return x.mean() if x.numel() else x.sum()


def mse_real_loss(x: Tensor) -> Tensor:
    return _mean((x - 1).square())


def mse_fake_loss(x: Tensor) -> Tensor:
    return _mean(x.square())


def hinge_real_loss(x: Tensor) -> Tensor:
    return _mean(F.relu(1 - x))


def hinge_fake_loss(x: Tensor) -> Tensor:
    return _mean(F.relu(1 + x))


def hinge_loss(x: Tensor) -> Tensor:
    return -_mean(x)


def nonsaturating_real_loss(x: Tensor) -> Tensor:
    return _mean(F.softplus(-x))


def nonsaturating_fake_loss(x: Tensor) -> Tensor:
    return _mean(F.softplus(x))


mse_loss = mse_real_loss  # the generator wants its audio to be taken for real
hinge2_loss = hinge_real_loss
nonsaturating_loss = nonsaturating_real_loss

# On D(fake) for the generator, on D(real) and on D(fake) for the discriminators.
_CRITERIA: dict[str, tuple[AdvLossType, AdvLossType, AdvLossType | None]] = {
    "mse": (mse_loss, mse_real_loss, mse_fake_loss),
    "hinge": (hinge_loss, hinge_real_loss, hinge_fake_loss),
    "hinge2": (hinge2_loss, hinge_real_loss, hinge_fake_loss),
    "nonsaturating": (nonsaturating_loss, nonsaturating_real_loss, nonsaturating_fake_loss),
    "relativistic": (nonsaturating_loss, nonsaturating_real_loss, None),  # of margins
}
ADVERSARIAL_LOSSES = list(_CRITERIA)


def _criteria(loss_type: str) -> tuple[AdvLossType, AdvLossType, AdvLossType | None]:
    if loss_type not in _CRITERIA:
        raise unknown_name("adversarial loss", loss_type, ADVERSARIAL_LOSSES)
    return _CRITERIA[loss_type]


def get_adv_criterion(loss_type: str) -> AdvLossType:
    """Return the generator's loss on D(fake); ValueError unless it is in `ADVERSARIAL_LOSSES`."""
    return _criteria(loss_type)[0]


def get_real_criterion(loss_type: str) -> AdvLossType:
    """Return the discriminators' loss on D(real)."""
    return _criteria(loss_type)[1]


def get_fake_criterion(loss_type: str) -> AdvLossType | None:
    """Return the discriminators' loss on D(fake); None where the other two are of pairs."""
    return _criteria(loss_type)[2]


def check_functions(optional: bool = False, **values: object) -> None:
    """Raise ValueError unless all `values` are functions, or None if optional."""
    for key, value in values.items():
        if not (callable(value) or (optional and value is None)):
            hint = "as get_adv_criterion('hinge') and FeatureMatchingLoss() are"
            raise ValueError(f"{key} must be a function of tensors, {hint}, got {value!r}.")


def margin(ones: Tensor, others: Tensor) -> Tensor:
    """Return by how much logits are above those that they are paired with; ValueError unless the
    shapes are the same."""
    if ones.shape != others.shape:
        raise ValueError(
            "A relativistic loss is one of pairs, so logits on fake and real audio need the same "
            f"shape, got {list(ones.shape)} and {list(others.shape)}."
        )
    return ones - others


@torch.no_grad()
def discriminator_metrics(
    names: Sequence[str],
    logits: Sequence[tuple[Tensor, Tensor]],
    loss_real: AdvLossType,
    paired: bool = False,
) -> dict[str, Tensor]:
    """Return mean logits and accuracy, per sub-discriminator and averaged over them.

    Args:
        names: One per sub-discriminator.
        logits: On fake and on real audio, one pair per sub-discriminator, any shapes.
        loss_real: Their criterion. A logit says "real" if it is above the middle between the
            targets: 0.5 for mse (0 and 1), 0 for hinge (-1 and 1) and any other.
        paired: It is one of pairs, whose accuracy is the share of pairs with the real one above.

    Returns:
        0-dim tensors, left on their device: `d_real/<name>`, `d_fake/<name>` (mean logits),
        `d_acc/<name>` (mean of the accuracies on real and on fake, in [0, 1]; 0.5 is guessing)
        and their means `d_real`, `d_fake`, `d_acc`. A sub-discriminator with no logits is left
        out.
    """
    threshold = 0.5 if loss_real is mse_real_loss else 0.0
    rows: dict[str, dict[str, Tensor]] = {"d_real": {}, "d_fake": {}, "d_acc": {}}
    for name, (fake, real) in zip(names, logits, strict=True):
        if fake.numel() and real.numel():
            right = [real > fake] if paired else [real > threshold, fake < threshold]
            rows["d_real"][name] = real.mean()
            rows["d_fake"][name] = fake.mean()
            rows["d_acc"][name] = torch.stack([x.to(real.dtype).mean() for x in right]).mean()
    metrics = {f"{key}/{name}": x for key, row in rows.items() for name, x in row.items()}
    return metrics | {key: torch.stack([*x.values()]).mean() for key, x in rows.items() if x}
