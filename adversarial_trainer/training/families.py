"""Families of parts in a configuration: discriminators, losses, metrics and augmentations.

All registered families can be set on the command line and in a recipe, whatever is selected. What a
run stores, compares and is checked on are those that it selects, so a new family changes no run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, open_dict

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import AUGMENTATIONS
from adversarial_trainer.losses import LOSSES
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.registry import parameter_names

from .schema import Adversarial, Augment, Evaluate

# Config node that the files name in their defaults; made here, as it lists what is registered.
NODE = "_families"


def store_families(folders: Sequence[Path]) -> None:
    """Give Hydra the nodes `adversarial/_families`, `augment/_families` and `_families`, which the
    defaults of config/adversarial/none.yaml, config/augment/none.yaml and config/config.yaml name.

    They mount `discriminator/NAME.yaml` at `adversarial.NAME`, `augmentation/NAME.yaml` at
    `augment.NAME`, `loss/NAME.yaml` at `loss.NAME` and `metric/NAME.yaml` at `evaluate.NAME` where
    there are such files, with no weight for any loss and all metrics off. A discriminator without
    `adversarial/NAME.yaml` gets that node as well: it alone, with the settings of `none`.

    Args:
        folders: of the configuration.
    """
    for registry, keys in (
        (DISCRIMINATORS, [*parameter_names(AdversarialLoss), *parameter_names(Adversarial)]),
        (LOSSES, ["adv", "feat", "penalty"]),
        (METRICS, parameter_names(Evaluate)),
        (AUGMENTATIONS, parameter_names(Augment)),
    ):
        for name in registry.keys() & keys:
            raise ValueError(f"{registry.kind} {name!r}: there is another key of that name.")
    store = ConfigStore.instance()
    discriminators = [{f"optional /discriminator@{name}": name} for name in DISCRIMINATORS]
    store.store(group="adversarial", name=NODE, node={"defaults": discriminators})
    for name in DISCRIMINATORS:
        if not any((folder / "adversarial" / f"{name}.yaml").is_file() for folder in folders):
            alone: Any = {"defaults": ["none", "_self_"], "discriminators": [name]}
            store.store(group="adversarial", name=name, node=alone)
    augmentations = [{f"optional /augmentation@{name}": name} for name in AUGMENTATIONS]
    store.store(group="augment", name=NODE, node={"defaults": augmentations})
    losses = [{f"optional /loss@loss.{name}": name} for name in LOSSES]
    metrics = [{f"optional /metric@evaluate.{name}": name} for name in METRICS]
    node = {
        "defaults": ["_self_", *losses, *metrics],
        "losses": dict.fromkeys(("adv", "feat", *sorted(LOSSES))),
        "loss": {},
        "evaluate": {"metrics": dict.fromkeys(METRICS, False)},
    }
    store.store(name=NODE, node=node)


def selected(cfg: DictConfig) -> DictConfig:
    """Return a copy of a configuration without the families that it does not select.

    Selected are the discriminators that `adversarial.discriminators` lists, the augmentations that
    `augment.augmentations` lists, the losses with a weight in `losses` that is not null, and the
    metrics that are true in `evaluate.metrics`.
    """
    cfg = cfg.copy()
    weighted = [name for name, weight in cfg.losses.items() if weight is not None]
    measured = [name for name, on in cfg.evaluate.metrics.items() if on is not False]
    _keep(cfg.adversarial, DISCRIMINATORS, _listed(cfg.adversarial.discriminators))
    _keep(cfg.augment, AUGMENTATIONS, _listed(cfg.augment.augmentations))
    _keep(cfg.loss, LOSSES, weighted)
    _keep(cfg.losses, cfg.losses, weighted)
    _keep(cfg.evaluate, METRICS, measured)
    _keep(cfg.evaluate.metrics, METRICS, measured)
    return cfg


def unused(keys: Iterable[str], cfg: DictConfig) -> list[str]:
    """Return a line for each dotted key of a family that `cfg`, from `selected`, does not have."""
    families = {
        "adversarial": (DISCRIMINATORS, "adversarial.discriminators does not list {}"),
        "augment": (AUGMENTATIONS, "augment.augmentations does not list {}"),
        "loss": (LOSSES, "losses.{} is null"),
        "evaluate": (METRICS, "evaluate.metrics.{} is false"),
    }
    lines = []
    for key in keys:
        group, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        members, reason = families.get(group, ((), ""))
        if name in members and name not in cfg[group]:
            lines.append(f"{key} has no effect, since {reason.format(name)}.")
    return lines


def _listed(names: Any) -> list[Any]:
    """A key that may be one name or a list of them, as a list."""
    return list(names) if isinstance(names, ListConfig) else [names]


def _keep(node: DictConfig, family: Iterable[Any], names: Iterable[Any]) -> None:
    """Remove the members of `family` from `node` that are not among `names`."""
    with open_dict(node):
        for name in {*family} - {*names}:
            node.pop(name, None)
