"""The parts of a solver, built from its configuration."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from adversarial_trainer.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    GradientPenalty,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from adversarial_trainer.adversarial.discriminators import (
    DISCRIMINATORS,
    JointDiscriminator,
    MultiDiscriminator,
)
from adversarial_trainer.data import AUGMENTATIONS, Augmentation
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.models.builders import naming, to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.registry import format_value, parameter_names
from adversarial_trainer.tools.evaluate import Opus, codebook_counts
from adversarial_trainer.training import OPTIMIZERS, SCHEDULES, ModuleEMA, Schedule, keep_options
from adversarial_trainer.training.schema import Loop

# Names under `losses` that are not modules of LOSSES.
ADVERSARIAL_LOSSES = ("adv", "feat")
PENALTY = "penalty"


def get_optimizer(params: Any, cfg: DictConfig, key: str = "optim") -> torch.optim.Optimizer:
    """Return the optimizer of an `optim` node, at `key`; keys of the loop are left aside."""
    loop = parameter_names(Loop)
    options = {name: value for name, value in to_params(cfg).items() if name not in loop}
    if "betas" in options:  # torch takes a pair of floats
        options["betas"] = tuple(float(beta) for beta in options["betas"])
    with naming(key, options):
        optimizer = OPTIMIZERS.build(options.pop("name"), params=params, **options)
    keep_options(optimizer)
    return optimizer


def get_schedule(
    optimizer: torch.optim.Optimizer, cfg: DictConfig, key: str = "schedule"
) -> Schedule:
    """Return the learning-rate schedule of a `schedule` node, at `key`."""
    params = to_params(cfg)
    with naming(key, params):
        return SCHEDULES.build(params.pop("name"), optimizer=optimizer, **params)


def get_weights(cfg: DictConfig, adversarial: bool = True) -> dict[str, float]:
    """Return loss weights by name, those set to null left out.

    Args:
        cfg: a `losses` node.
        adversarial: whether there are discriminators, and so adv and feat.
    """
    return {
        name: float(weight)
        for name, weight in to_params(cfg).items()
        if weight is not None and (adversarial or name not in ADVERSARIAL_LOSSES)
    }


def get_losses(cfg: DictConfig) -> nn.ModuleDict:
    """Return the losses with a weight in `cfg.losses`, with their arguments in `cfg.loss`."""
    losses = nn.ModuleDict()
    for name in get_weights(cfg.losses):
        if name in LOSSES:
            params = to_params(cfg.loss.get(name))
            if "sample_rate" in parameter_names(LOSSES.get_class(name)):
                params["sample_rate"] = cfg.sample_rate
            with naming(f"loss.{name}", params):
                losses[name] = LOSSES.build(name, **params)
    return losses


def get_balancer(cfg: DictConfig, adversarial: bool) -> Balancer:
    """Return the balancer over the weights of `cfg.losses`.

    Args:
        adversarial: whether there are discriminators, and so adv and feat.
    """
    weights = get_weights(cfg.losses, adversarial)
    weights.pop(PENALTY, None)
    if not any(weights.values()):
        raise ValueError("losses: at least one loss needs a weight above 0.")
    params = to_params(cfg.balancer)
    with naming("balancer", params):
        return Balancer(weights, monitor=True, **params)


def discriminator_names(cfg: DictConfig) -> list[str]:
    """Return the names in `cfg.adversarial.discriminators`, which may be one or a list."""
    listed = cfg.adversarial.discriminators
    names = [listed] if isinstance(listed, str) else list(listed)
    with naming(f"adversarial.discriminators={format_value(names)}"):
        for name in names:
            DISCRIMINATORS.get_class(name)
        if len(set(names)) != len(names):
            raise ValueError("each at most once.")
    return names


def get_discriminator(cfg: DictConfig, name: str) -> MultiDiscriminator:
    """Return one family of discriminators, from its arguments in `cfg.adversarial`."""
    params = to_params(cfg.adversarial.get(name))
    if "sample_rate" in parameter_names(DISCRIMINATORS.get_class(name)):
        params["sample_rate"] = cfg.sample_rate
    with naming(f"adversarial.{name}", params):
        return DISCRIMINATORS.build(name, in_channels=cfg.channels, **params)


def get_discriminators(cfg: DictConfig) -> MultiDiscriminator | None:
    """Return the discriminators that `cfg.adversarial.discriminators` lists; None for none."""
    built = {name: get_discriminator(cfg, name) for name in discriminator_names(cfg)}
    if len(built) > 1:
        return JointDiscriminator(built)
    return next(iter(built.values()), None)


def get_adversarial(
    cfg: DictConfig, like: torch.Tensor, generator: torch.Generator
) -> AdversarialLoss | None:
    """Return the discriminators that are listed in an `AdversarialLoss`, with an optimizer and a
    schedule of its own; None for none."""
    adversary = get_discriminators(cfg)
    if adversary is None:
        return None
    adversary, adv = adversary.to(like), cfg.adversarial
    # "loss" names three criteria, "penalty" has arguments.
    names = set(parameter_names(AdversarialLoss)) - {"loss", "penalty"}
    options = {key: value for key, value in adv.items() if key in names}
    with naming("adversarial", {"loss": adv.loss}):
        criteria = (
            get_adv_criterion(adv.loss),
            get_real_criterion(adv.loss),
            get_fake_criterion(adv.loss),
        )
    feat = None
    if "feat" in get_weights(cfg.losses):
        feat = FeatureMatchingLoss(**to_params(adv.feature_matching))
    optimizer = get_optimizer(adversary.parameters(), adv.optim, "adversarial.optim")
    scheduler = get_schedule(optimizer, adv.schedule, "adversarial.schedule")
    with naming("adversarial", options):
        return AdversarialLoss(
            adversary,
            optimizer,
            *criteria,
            loss_feat=feat,
            penalty=get_penalty(cfg),
            scheduler=scheduler,
            generator=generator,
            **options,
        ).to(like)


def get_penalty(cfg: DictConfig) -> GradientPenalty | None:
    """Return the penalty of the discriminators' gradients; None for weight 0."""
    params = to_params(cfg.adversarial.penalty)
    with naming("adversarial.penalty", params):
        penalty = GradientPenalty(**params)
    if not penalty.weight:
        return None
    if cfg.compile and not penalty.sigma:
        raise ValueError(
            "compile=true: adversarial.penalty takes a second derivative, which torch.compile does "
            "not have. Set compile=false, or adversarial.penalty.sigma for finite differences."
        )
    return penalty


def get_augmentations(cfg: DictConfig) -> dict[str, Augmentation]:
    """Return the augmentations that `cfg.augment.augmentations` lists, by name, in that order."""
    names, built = list(cfg.augment.augmentations), {}
    with naming(f"augment.augmentations={format_value(names)}"):
        for name in names:
            AUGMENTATIONS.get_class(name)
        if len(set(names)) != len(names):
            raise ValueError("each at most once.")
    for name in names:
        params = to_params(cfg.augment.get(name))
        if "sample_rate" in parameter_names(AUGMENTATIONS.get_class(name)):
            params["sample_rate"] = cfg.sample_rate
        with naming(f"augment.{name}", params):
            built[name] = AUGMENTATIONS.build(name, **params)
    return built


def get_ema(model: nn.Module, cfg: DictConfig) -> ModuleEMA | None:
    """Return averaged weights of `model` from an `optim.ema` node; None for decay 0."""
    params = to_params(cfg)
    with naming("optim.ema", params):
        return ModuleEMA(model, **params) if cfg.decay else None


def get_counts(cfg: DictConfig, model: EncodecModel) -> dict[str, list[int]]:
    """Return the numbers of codebooks to evaluate with, the highest among them, and to generate
    with; ValueError where the model has fewer."""
    evaluate = codebook_counts(model, cfg.evaluate.bandwidths, "evaluate.bandwidths")
    return {
        "evaluate": sorted({*evaluate, model.num_codebooks}),
        "generate": codebook_counts(model, cfg.generate.bandwidths),
    }


def get_opus(cfg: DictConfig, stage: str) -> Opus | None:
    """Return Opus at the rates of `evaluate` or `generate`, None without; ValueError for rates that
    it does not have."""
    rates, channels = list(cfg[stage].opus), cfg.channels
    if not all(Opus.takes(rate, channels) for rate in rates):
        limits = Opus.limits(channels)
        raise ValueError(f"{stage}.opus={rates}: Opus has {limits} for channels={channels}.")
    return Opus(rates) if rates else None


def compile_parts(model: EncodecModel, adversarial: AdversarialLoss | None, **options: Any) -> None:
    """Compile encoder, decoder and each sub-discriminator, with options of `nn.Module.compile`."""
    import torch._functorch.config  # slow, and needed here alone

    # `AdversarialLoss.gradients` goes through a graph twice, which donated buffers do not allow;
    # this is the setting that torch's error message names.
    torch._functorch.config.donated_buffer = False
    parts = [model.encoder, model.decoder]
    if adversarial is not None:
        for module in adversarial.adversary.modules():
            if isinstance(module, MultiDiscriminator) and not isinstance(
                module, JointDiscriminator
            ):
                parts += module.discriminators
    for part in parts:
        part.compile(**options)
