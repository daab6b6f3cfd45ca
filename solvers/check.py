"""Check of a whole configuration, before anything is built, read or written for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from dora.conf import DoraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeFloat

from adversarial_trainer.adversarial import AdversarialLoss, FeatureMatchingLoss, GradientPenalty
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import AUGMENTATIONS
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import DECODERS, ENCODERS, MODELS, get_model, to_params
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import (
    Registry,
    format_value,
    get_registry,
    parameters,
    unknown_name,
)
from adversarial_trainer.tools.evaluate import get_scorer
from adversarial_trainer.tools.evaluate.results import CODEBOOK_USE
from adversarial_trainer.training import OPTIMIZERS, SCHEDULES, ModuleEMA, schema
from adversarial_trainer.training.devices import parse_device
from adversarial_trainer.training.schema import check_group, slurm_config

from .builders import (
    ADVERSARIAL_LOSSES,
    PENALTY,
    discriminator_names,
    get_adversarial,
    get_augmentations,
    get_balancer,
    get_counts,
    get_ema,
    get_losses,
    get_optimizer,
    get_opus,
    get_schedule,
)
from .finetuning import check_freeze

# Stages with metrics, which `checkpoint.best` can name.
MEASURING = ("train", "valid", "evaluate")
# Arguments of AdversarialLoss that get_adversarial_loss builds.
BUILT = "adversary optimizer loss_real loss_fake loss_feat scheduler generator"


def check_config(cfg: DictConfig) -> None:
    """Raise ValueError with one line that names the key, its value and what would be right.

    Checked are each key by itself (does anything read it, its type and range, is one missing), what
    keys say together, and what only constructors know: all parts are built, and thrown away.
    """
    try:
        config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as exc:
        raise ValueError(f"{exc.full_key or 'configuration'}: {str(exc).splitlines()[0]}") from exc
    _check_solver(config)
    check_group("", config, schema.Run)
    _check_groups(cfg, config)
    _check_relations(cfg)
    _build_all(cfg)


def _check_solver(config: Mapping[str, Any]) -> None:
    name, solvers = config.get("solver"), get_registry("solver")
    if name is None:
        recipes = "add solver=tiny, solver=encodec, ... (config/solver/)"
        raise ValueError(f"solver=null: No recipe chosen: {recipes}.")
    if not isinstance(name, str) or name not in solvers:
        raise ValueError(f"solver={format_value(name)}: it must be {' or '.join(solvers)}.")


def _check_groups(cfg: DictConfig, config: Mapping[str, Any]) -> None:
    """Check each key of the groups that constructors read."""
    _check_model(config["model"])
    _check_named("quantizer", config["quantizer"], QUANTIZERS, without="dimension generator")
    names = (*ADVERSARIAL_LOSSES, *LOSSES, PENALTY)
    weights = dict.fromkeys(names, NonNegativeFloat | None)
    check_group("losses", config["losses"], optional=weights)
    check_group("loss", config["loss"], optional=dict.fromkeys(LOSSES, schema.Group))
    for name, params in config["loss"].items():
        check_group(f"loss.{name}", params, LOSSES[name], without=["sample_rate"])
    _check_optimizer("optim", config["optim"], schema.Loop)
    check_group("optim.ema", config["optim"]["ema"], ModuleEMA, without=["module"])
    _check_named("schedule", config["schedule"], SCHEDULES, without="optimizer")
    check_group("balancer", config["balancer"], Balancer, without=["weights", "monitor"])

    adversarial = config["adversarial"]
    families = dict.fromkeys(DISCRIMINATORS, schema.Group)
    check_group(
        "adversarial",
        adversarial,
        AdversarialLoss,
        schema.Adversarial,
        without=BUILT.split(),
        optional=families,
    )
    for name in discriminator_names(cfg):
        params = adversarial.get(name, {})
        injected = ["in_channels", "sample_rate"]
        check_group(f"adversarial.{name}", params, DISCRIMINATORS[name], without=injected)
    matching = adversarial["feature_matching"]
    check_group("adversarial.feature_matching", matching, FeatureMatchingLoss, without=["loss"])
    check_group("adversarial.penalty", adversarial["penalty"], GradientPenalty)
    _check_optimizer("adversarial.optim", adversarial["optim"])
    _check_named("adversarial.schedule", adversarial["schedule"], SCHEDULES, without="optimizer")

    augment = config["augment"]
    optional = dict.fromkeys(AUGMENTATIONS, schema.Group)
    check_group("augment", augment, schema.Augment, optional=optional)
    for name in AUGMENTATIONS.keys() & augment.keys():
        check_group(f"augment.{name}", augment[name], AUGMENTATIONS[name], without=["sample_rate"])

    evaluate = config["evaluate"]
    check_group(
        "evaluate", evaluate, schema.Evaluate, optional=dict.fromkeys(METRICS, schema.Group)
    )
    check_group("evaluate.metrics", evaluate["metrics"], optional=dict.fromkeys(METRICS, bool))
    for name in METRICS.keys() & evaluate.keys():
        sources = (METRICS[name], schema.MetricFiles)
        check_group(f"evaluate.{name}", evaluate[name], *sources, without=["sample_rate"])
    check_group("dora", config["dora"], DoraConfig)
    slurm_config(config["slurm"])


def _check_named(
    key: str,
    given: Mapping[str, Any],
    registry: Registry,
    *beside: type,
    without: str = "",
    optional: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Check a group whose `name` is in a registry, with the arguments of that class."""
    if "name" not in given:
        raise ValueError(f"{key}.name is missing. It must be {' or '.join(registry)}.")
    name = given["name"]
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"{key}.name={format_value(name)}: it must be {' or '.join(registry)}.")
    types = {"name": str, **optional}
    check_group(key, given, *beside, registry[name], without=without.split(), optional=types)


def _check_optimizer(key: str, given: Mapping[str, Any], *beside: type) -> None:
    lr = {"lr": NonNegativeFloat}  # torch's own error does not name it
    _check_named(key, given, OPTIMIZERS, *beside, without="params", optional=lr)
    if "lr" not in given:
        raise ValueError(f"{key}.lr is missing.")


def _check_model(given: Mapping[str, Any]) -> None:
    name = given.get("autoencoder", "seanet")
    if not isinstance(name, str) or name not in ENCODERS or name not in DECODERS:
        choices = " or ".join(ENCODERS.keys() & DECODERS.keys())
        raise ValueError(f"model.autoencoder={format_value(name)}: it must be {choices}.")
    injected = {"channels", "causal"}
    encoder, decoder = (
        {key: p.annotation for key, p in parameters(registry[name]).items() if key not in injected}
        for registry in (ENCODERS, DECODERS)
    )
    groups = {
        name: {key: hint for key, hint in encoder.items() if key in decoder},
        "encoder": encoder,
        "decoder": decoder,
    }
    built = "encoder decoder quantizer frame_rate sample_rate channels"
    rest = {key: value for key, value in given.items() if key not in groups}
    _check_named("model", rest, MODELS, without=built, optional={"autoencoder": str})
    for group, hints in groups.items():
        check_group(f"model.{group}", given.get(group, {}), optional=hints)


def _check_relations(cfg: DictConfig) -> None:
    """Check what keys say together; each key by itself is right."""
    parse_device(cfg.device)
    check_freeze(cfg)
    duration = cfg.dataset.segment_duration
    if round(duration * cfg.sample_rate) < 1:
        raise ValueError(
            f"dataset.segment_duration={format_value(duration)}: less than a sample at "
            f"{cfg.sample_rate} Hz."
        )
    given = [key for key in ("path", "manifest") if cfg.dset[key] is not None]
    if cfg.dset.name == "demo" and given:
        raise ValueError(
            f"dset.{given[0]}={format_value(cfg.dset[given[0]])}: it needs dset=folder; dset=demo "
            "is the embedded corpus, with shares of its own."
        )
    if len(given) == 2:
        raise ValueError(
            f"dset.manifest={format_value(cfg.dset.manifest)}: dset.path is given as well; one is "
            "enough."
        )
    adv = cfg.adversarial
    if adv.alternate and (adv.every < 2 or adv.probability < 1):
        raise ValueError(
            f"adversarial.alternate=true: it needs adversarial.every >= 2 (it is {adv.every}), as "
            "the generator learns in the updates between, and adversarial.probability=1 (it is "
            f"{adv.probability:g})."
        )
    if cfg.checkpoint.best is not None:
        _check_best(cfg, cfg.checkpoint.best)


def _check_best(cfg: DictConfig, best: str) -> None:
    given = f"checkpoint.best={format_value(best)}"
    stage, _, metric = best.partition(".")
    if stage not in MEASURING or not metric:
        choices = ", ".join(f"{name}.<metric>" for name in MEASURING)
        raise ValueError(f"{given}: it must be null or one of {choices}, as in valid.msspec.")
    if stage != "train" and cfg[stage].every == 0:
        raise ValueError(f"{given}: {stage} never runs; set {stage}.every above 0.")
    if stage == "evaluate" and metric in METRICS and metric not in cfg.evaluate.metrics:
        raise ValueError(f"{given}: set evaluate.metrics.{metric}=true as well.")


def _build_all(cfg: DictConfig) -> None:
    """Build all parts and throw them away, for what only their constructors refuse or know."""
    model = get_model(cfg, torch.Generator())
    losses = get_losses(cfg)
    get_schedule(get_optimizer(model.parameters(), cfg.optim), cfg.schedule)
    adversarial = get_adversarial(cfg, torch.zeros(0), torch.Generator())
    get_balancer(cfg, adversarial is not None)
    get_ema(model, cfg.optim.ema)
    get_augmentations(cfg)
    get_counts(cfg, model)
    get_opus(cfg, "generate")
    scorer = get_scorer(to_params(cfg.evaluate), cfg.sample_rate, get_opus(cfg, "evaluate"))
    # What the stages will measure; quantizers of one's own may add to those of training.
    of_adversary = ["adv", "feat", "d_loss", "d_acc", "d_real", "d_fake"]
    known = {
        "valid": [*losses, *(of_adversary if adversarial is not None else [])],
        "evaluate": [*scorer.metrics, *CODEBOOK_USE, "bandwidth"],
    }
    stage, _, metric = (cfg.checkpoint.best or "").partition(".")
    if stage in known and metric.partition("/")[0] not in known[stage]:
        problem = unknown_name(f"metric of {stage}", metric, known[stage])
        raise ValueError(f"checkpoint.best={cfg.checkpoint.best}: {problem}")
