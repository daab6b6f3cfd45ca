"""What a configuration describes, built: the parts that a solver puts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
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
from adversarial_trainer.data import AudioMeta, resolve_stage_metas
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.models.builders import to_params
from adversarial_trainer.optim import OPTIMIZERS, SCHEDULES, Schedule
from adversarial_trainer.registry import parameter_names, unknown_name
from omegaconf import DictConfig, OmegaConf
from torch import nn

# Names under `losses` that are not modules of LOSSES.
ADVERSARIAL_LOSSES = ("adv", "feat")
PENALTY = "penalty"


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


def get_optimizer(params: Any, cfg: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of an `optim` node; keys of the training loop beside it are left aside."""
    options = to_params(cfg)
    name = options.pop("name")
    loop_keys = ("epochs", "updates_per_epoch", "max_norm", "max_bad_steps", "ema")
    return OPTIMIZERS.build(
        name, params=params, **{k: v for k, v in options.items() if k not in loop_keys}
    )


def get_schedule(optimizer: torch.optim.Optimizer, cfg: DictConfig) -> Schedule:
    """The learning-rate schedule of a `schedule` node."""
    params = to_params(cfg)
    return SCHEDULES.build(params.pop("name"), optimizer=optimizer, **params)


def get_weights(cfg: DictConfig) -> dict[str, float]:
    """Loss weights by name, those set to null left out; ValueError names an unknown loss."""
    weights = {}
    for name, weight in to_params(cfg).items():
        if name not in (*LOSSES, *ADVERSARIAL_LOSSES, PENALTY):
            choices = ", ".join([*ADVERSARIAL_LOSSES, *LOSSES, PENALTY])
            raise ValueError(f"losses.{name}: no such loss. Choices: {choices}.")
        if weight is None:
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
            losses[name] = LOSSES.build(name, **params)
    return losses


def get_balancer(cfg: DictConfig, adversarial: bool) -> Balancer:
    """The balancer over the weights of `cfg.losses`; `adversarial` whether adv and feat exist."""
    weights = get_weights(cfg.losses)
    weights.pop(PENALTY, None)
    if not adversarial:
        for name in ADVERSARIAL_LOSSES:
            weights.pop(name, None)
    if not any(weights.values()):
        raise ValueError("losses: at least one loss needs a weight above 0.")
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
        DISCRIMINATORS.get_class(name)  # before its settings are looked up: a clear error
        params = to_params(cfg.adversarial[name])
        built[name] = DISCRIMINATORS.build(name, in_channels=cfg.channels, **params)
    return built[names[0]] if len(built) == 1 else JointDiscriminator(built)


def get_adversarial(
    cfg: DictConfig, device: torch.device, generator: torch.Generator
) -> AdversarialLoss | None:
    """Discriminators with their own optimizer and schedule behind an `AdversarialLoss`."""
    adv = cfg.adversarial
    adversary = get_discriminators(cfg)
    criteria = (
        get_adv_criterion(adv.loss),
        get_real_criterion(adv.loss),
        get_fake_criterion(adv.loss),
    )
    if adversary is None:
        return None
    adversary.to(device)
    optimizer = get_optimizer(adversary.parameters(), adv.optim)
    weights = get_weights(cfg.losses)
    return AdversarialLoss(
        adversary,
        optimizer,
        *criteria,
        loss_feat=FeatureMatchingLoss(**to_params(adv.feature_matching))
        if "feat" in weights
        else None,
        normalize=adv.normalize,
        max_norm=adv.max_norm,
        every=adv.every,
        probability=adv.probability,
        start_step=adv.start_step,
        scheduler=get_schedule(optimizer, adv.schedule),
        generator=generator,
    ).to(device)


def get_stage_metas(cfg: DictConfig) -> dict[str, list[AudioMeta]]:
    """The files of each stage, from `cfg.dset`; the demo corpus is made where it is missing."""
    dset = cfg.dset
    cache = Path(dset.cache or Path(cfg.dora.dir) / "cache")
    path = dset.path
    if dset.name not in ("demo", "folder"):
        raise unknown_name("dset.name", dset.name, ("demo", "folder"))
    if dset.name == "demo" and path is None and dset.manifest is None:
        from adversarial_trainer.data import demo  # pulls in scipy's filters

        path = str(demo.build(cache / "demo_corpus"))
    return resolve_stage_metas(
        path=path,
        manifest=dset.manifest,
        stages=to_params(dset.stages),
        shares=to_params(dset.shares),
        cache_dir=cache,
    )


def config_yaml(cfg: DictConfig) -> str:
    """The configuration as YAML, for a checkpoint: plain text, nothing to unpickle."""
    return OmegaConf.to_yaml(cfg, resolve=True)
