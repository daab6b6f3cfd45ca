"""A look at the whole configuration, used or not, before anything is built from it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.adversarial import AdversarialLoss, FeatureMatchingLoss
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import resolve_stage_metas
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import DECODERS, ENCODERS, MODELS, naming
from adversarial_trainer.optim import OPTIMIZERS, SCHEDULES, ModuleEMA
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import Registry, parameter_names

from .builders import LOOP_KEYS, get_weights

Factory = Callable[..., Any]

# Keys of nodes that are no constructor's arguments.
GROUPS = "model quantizer losses loss optim schedule adversarial dset"
NODES = {
    "": "solver sample_rate channels seed device num_threads precision hang_timeout data_init show "
    "continue_from dataset "
    f"balancer valid evaluate generate checkpoint logging slurm dora {GROUPS}",
    "dataset": "batch_size segment_duration num_workers valid_samples",
    "valid": "every",
    "evaluate": f"every at_start num_files max_duration metrics {' '.join(METRICS)}",
    "evaluate.metrics": " ".join(METRICS),
    "generate": "every num_files max_duration bandwidths",
    "checkpoint": "keep_last",
    "logging": "level every tensorboard wandb wandb_project wandb_name wandb_group",
    "loss": " ".join(LOSSES),
    "dset.stages": "train valid evaluate generate",
    "dset.shares": "train valid evaluate generate",
}


class Limit(NamedTuple):
    """What a number may be: `low` or more, or more than `low`."""

    low: int
    whole: bool = True
    above: bool = False
    optional: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        null = ", or null" if self.optional else ""
        return f"{kind} {'>' if self.above else '>='} {self.low}{null}"

    def allows(self, value: object) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return value > self.low if self.above else value >= self.low


DURATION = Limit(0, whole=False, above=True)
# Those that no constructor looks at, or that need more than the constructor asks for.
LIMITS = {
    "seed": Limit(0),
    "sample_rate": Limit(1),
    "channels": Limit(1),
    "num_threads": Limit(1, optional=True),
    "hang_timeout": Limit(0, whole=False, above=True),
    "dataset.batch_size": Limit(1),
    "dataset.segment_duration": DURATION,
    "dataset.num_workers": Limit(0),
    "dataset.valid_samples": Limit(1),
    "optim.epochs": Limit(0),
    "optim.updates_per_epoch": Limit(1),
    "optim.max_norm": Limit(0, whole=False),
    "optim.max_bad_steps": Limit(1),
    "valid.every": Limit(0),
    "evaluate.every": Limit(0),
    "evaluate.num_files": Limit(1, optional=True),
    "evaluate.max_duration": DURATION._replace(optional=True),
    "generate.every": Limit(0),
    "generate.num_files": Limit(1, optional=True),
    "generate.max_duration": DURATION._replace(optional=True),
    "checkpoint.keep_last": Limit(0),
    "logging.every": Limit(1),
}


def check_config(cfg: DictConfig) -> None:
    """ValueError names the first key that nothing reads, that is missing, or out of its range."""
    nodes = [Node(key, _node(cfg, key), names.split()) for key, names in NODES.items()]
    for key, node, valid, required in [*nodes, *constructor_nodes(cfg)]:
        _check_keys(key, node, list(dict.fromkeys(valid)), required)
    for key, limit in LIMITS.items():
        value = OmegaConf.select(cfg, key)
        if not limit.allows(value):
            raise ValueError(f"{key}={_shown(value)}: it must be {limit}.")
    get_weights(cfg.losses)


class Node(NamedTuple):
    """Keys of a group: those it has, those that something reads, those that must be there."""

    key: str
    keys: Iterable[str]
    valid: Iterable[str]
    required: Iterable[str] = ()


def constructor_nodes(cfg: DictConfig) -> list[Node]:
    """All groups that hold the arguments of a constructor, in use or not."""

    def plain(key: str, factory: Factory, *adds: str, beside: Iterable[str] = ()) -> Node:
        """The builder `adds` arguments; keys `beside` the arguments are for others."""
        arguments = [name for name in parameter_names(factory) if name not in adds]
        needed = [name for name in arguments if _has_no_default(factory, name)]
        return Node(key, _node(cfg, key), [*beside, *arguments], needed)

    def named(registry: Registry, key: str, *adds: str, beside: Iterable[str] = ()) -> Node:
        _node(cfg, key)
        with naming(key):
            factory = registry.get_class(OmegaConf.select(cfg, f"{key}.name"))
        return plain(key, factory, *adds, beside=["name", *beside])

    halves = [parameter_names(ENCODERS["seanet"]), parameter_names(DECODERS["seanet"])]
    outer = {"channels", "causal"}
    shared = set(halves[0]) & set(halves[1]) - outer
    given = ("encoder", "decoder", "quantizer", "frame_rate", "sample_rate", "channels")
    built = ("adversary", "optimizer", "loss_real", "loss_fake", "loss_feat", "scheduler")
    mounted = ("discriminators", "feature_matching", "optim", "schedule", *DISCRIMINATORS)
    metrics = {name: metric for name, metric in METRICS.items() if name in cfg.evaluate}
    return [
        named(MODELS, "model", *given, beside=("seanet", "encoder", "decoder")),
        Node("model.seanet", _node(cfg, "model.seanet"), shared),
        Node("model.encoder", _node(cfg, "model.encoder"), set(halves[0]) - outer),
        Node("model.decoder", _node(cfg, "model.decoder"), set(halves[1]) - outer),
        named(QUANTIZERS, "quantizer", "dimension", "generator"),
        named(OPTIMIZERS, "optim", "params", beside=LOOP_KEYS),
        plain("optim.ema", ModuleEMA, "module"),
        named(SCHEDULES, "schedule", "optimizer"),
        plain("balancer", Balancer, "weights", "monitor"),
        plain("adversarial", AdversarialLoss, *built, "generator", beside=mounted),
        plain("adversarial.feature_matching", FeatureMatchingLoss, "loss"),
        named(OPTIMIZERS, "adversarial.optim", "params"),
        named(SCHEDULES, "adversarial.schedule", "optimizer"),
        *(plain(f"adversarial.{n}", c, "in_channels") for n, c in DISCRIMINATORS.items()),
        *(plain(f"loss.{n}", c, "sample_rate") for n, c in LOSSES.items() if n in cfg.loss),
        *(
            plain(f"evaluate.{n}", c, "sample_rate", beside=["num_files"])
            for n, c in metrics.items()
        ),
        plain(
            "dset", resolve_stage_metas, "cache_dir", "workers", "salt", beside=["name", "cache"]
        ),
    ]


def _has_no_default(factory: Factory, name: str) -> bool:
    return inspect.signature(factory).parameters[name].default is inspect.Parameter.empty


def _node(cfg: DictConfig, key: str) -> list[str]:
    node = OmegaConf.select(cfg, key) if key else cfg
    if not isinstance(node, DictConfig):
        raise ValueError(f"{key}={_shown(node)}: it must be a group of keys.")
    return [str(name) for name in node]


def _check_keys(
    key: str, present: Iterable[str], valid: list[str], required: Iterable[str]
) -> None:
    prefix, where = (f"{key}.", f" in {key}") if key else ("", "")
    for name in present:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f" Did you mean {prefix}{close[0]}?" if close else ""
            names = ", ".join(valid)
            raise ValueError(f"{prefix}{name}: no such key.{hint} Valid keys{where}: {names}.")
    missing = [name for name in required if name not in present]
    if missing:
        raise ValueError(f"{prefix}{missing[0]} is missing.")


def _shown(value: object) -> object:
    return "null" if value is None else value
