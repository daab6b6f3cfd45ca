"""What a configuration describes, built: the parts that a solver puts together."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from adversarial_trainer.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from adversarial_trainer.adversarial.discriminators import (
    DISCRIMINATORS,
    JointDiscriminator,
    MultiDiscriminator,
)
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.models.builders import naming, to_params
from adversarial_trainer.optim import OPTIMIZERS, SCHEDULES, Schedule
from adversarial_trainer.registry import parameter_names, unknown_name

# Names under `losses` that are not modules of LOSSES.
ADVERSARIAL_LOSSES = ("adv", "feat")
PENALTY = "penalty"
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# Keys under `optim` that are the training loop's and not the optimizer's.
LOOP_KEYS = ("epochs", "updates_per_epoch", "max_norm", "max_bad_steps", "ema")


def get_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that exists."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name}: use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch sees no CUDA device; use device=auto or cpu.")
    return device


def get_like(cfg: DictConfig) -> torch.Tensor:
    """An empty tensor on the device and of the type of training: for `.to(like)`."""
    if cfg.precision not in PRECISIONS:
        raise unknown_name("precision", cfg.precision, PRECISIONS)
    return torch.zeros(0, device=get_device(cfg.device), dtype=PRECISIONS[cfg.precision])


def get_optimizer(params: Any, cfg: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of an `optim` node; keys of the training loop beside it are left aside."""
    options = {key: value for key, value in to_params(cfg).items() if key not in LOOP_KEYS}
    return OPTIMIZERS.build(options.pop("name"), params=params, **options)


def get_schedule(optimizer: torch.optim.Optimizer, cfg: DictConfig) -> Schedule:
    """The learning-rate schedule of a `schedule` node."""
    params = to_params(cfg)
    return SCHEDULES.build(params.pop("name"), optimizer=optimizer, **params)


def get_weights(cfg: DictConfig, adversarial: bool = True) -> dict[str, float]:
    """Loss weights by name, those set to null left out; ValueError names an unknown loss.

    Args:
        cfg: a `losses` node.
        adversarial: whether there are discriminators, and so adv and feat.
    """
    weights = {}
    for name, weight in to_params(cfg).items():
        if name not in (*LOSSES, *ADVERSARIAL_LOSSES, PENALTY):
            choices = ", ".join([*ADVERSARIAL_LOSSES, *LOSSES, PENALTY])
            raise ValueError(f"losses.{name}: no such loss. Choices: {choices}.")
        if weight is None or (name in ADVERSARIAL_LOSSES and not adversarial):
            continue
        if not isinstance(weight, int | float) or weight < 0:
            raise ValueError(f"losses.{name}={weight}: a weight is a number >= 0, or null.")
        weights[name] = float(weight)
    return weights


def get_losses(cfg: DictConfig) -> nn.ModuleDict:
    """Reconstruction losses with a weight in `cfg.losses`, from their arguments in `cfg.loss`."""
    losses = nn.ModuleDict()
    for name in get_weights(cfg.losses):
        if name in LOSSES:
            params = to_params(cfg.loss.get(name) or {})
            if "sample_rate" in parameter_names(LOSSES.get_class(name)):
                params["sample_rate"] = cfg.sample_rate
            with naming(f"loss.{name}"):
                losses[name] = LOSSES.build(name, **params)
    return losses


def get_balancer(cfg: DictConfig, adversarial: bool) -> Balancer:
    """The balancer over the weights of `cfg.losses`; `adversarial` whether adv and feat exist."""
    weights = get_weights(cfg.losses, adversarial)
    weights.pop(PENALTY, None)
    if not any(weights.values()):
        raise ValueError("losses: at least one loss needs a weight above 0.")
    with naming("balancer"):
        return Balancer(weights, monitor=True, **to_params(cfg.balancer))


def get_discriminators(cfg: DictConfig) -> MultiDiscriminator | None:
    """The discriminators that `cfg.adversarial.discriminators` lists; None for none."""
    names = cfg.adversarial.discriminators
    if isinstance(names, str):
        names = [names]
    if not names:
        return None
    if len(set(names)) != len(names):
        raise ValueError(f"adversarial.discriminators={list(names)}: each at most once.")
    built = {}
    for name in names:
        with naming("adversarial.discriminators"):
            DISCRIMINATORS.get_class(name)
        with naming(f"adversarial.{name}"):
            params = to_params(cfg.adversarial[name])
            built[name] = DISCRIMINATORS.build(name, in_channels=cfg.channels, **params)
    return built[names[0]] if len(built) == 1 else JointDiscriminator(built)


def get_adversarial(
    cfg: DictConfig, like: torch.Tensor, generator: torch.Generator
) -> AdversarialLoss | None:
    """Discriminators with their own optimizer and schedule behind an `AdversarialLoss`."""
    adv = cfg.adversarial
    adversary = get_discriminators(cfg)
    with naming(f"adversarial.loss={adv.loss}"):
        criteria = (
            get_adv_criterion(adv.loss),
            get_real_criterion(adv.loss),
            get_fake_criterion(adv.loss),
        )
    if adversary is None:
        return None
    adversary.to(like)
    feat = None
    if "feat" in get_weights(cfg.losses):
        feat = FeatureMatchingLoss(**to_params(adv.feature_matching))
    with naming("adversarial.optim"):
        optimizer = get_optimizer(adversary.parameters(), adv.optim)
    with naming("adversarial.schedule"):
        scheduler = get_schedule(optimizer, adv.schedule)
    with naming("adversarial"):
        return AdversarialLoss(
            adversary,
            optimizer,
            *criteria,
            loss_feat=feat,
            normalize=adv.normalize,
            max_norm=adv.max_norm,
            every=adv.every,
            probability=adv.probability,
            start_step=adv.start_step,
            scheduler=scheduler,
            generator=generator,
        ).to(like)


def config_yaml(cfg: DictConfig) -> str:
    """The configuration as YAML, for a checkpoint: plain text, nothing to unpickle."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys; empty ones and lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat
