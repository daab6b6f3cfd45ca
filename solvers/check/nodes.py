"""What stands where in a configuration: each group with its keys and their types.

A group is either the arguments of a constructor, whose signature is then all there is to know, or
declared here as a class, whose annotations are its keys.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from dora.conf import DoraConfig, SlurmConfig

from adversarial_trainer.adversarial import AdversarialLoss, FeatureMatchingLoss
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import resolve_stage_metas
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import DECODERS, ENCODERS, MODELS
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import Registry, parameter_names, parameters, shown
from adversarial_trainer.training import OPTIMIZERS, SCHEDULES, ModuleEMA
from solvers.builders import ADVERSARIAL_LOSSES, PENALTY

from .kinds import Range, describe, fits

Factory = Callable[..., Any]

NotNegative = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Number = Annotated[float, Range(0)]
AboveZero = Annotated[float, Range(0, above=True)]
Seconds = Annotated[float, Range(0, 86400, above=True)]
Share = Annotated[float, Range(0, 1, below=True)]
# Of whole numbers that are sizes of layers: beyond it is a slip of the keyboard, and fills memory.
LARGEST_SIZE = 2**16


class Run:
    """Keys at the top, beside the groups."""

    solver: str | None
    sample_rate: Annotated[int, Range(1000, 768_000)]
    channels: Annotated[int, Range(1, 64)]
    seed: NotNegative
    device: str
    num_threads: Annotated[int, Range(1, 1024)] | None
    precision: Literal["float32", "float64", "bf16"]
    compile: bool
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"]
    hang_timeout: Seconds
    data_init: bool
    show: bool
    continue_from: str | None
    continue_discriminators: bool
    freeze: Sequence[str]


class Dataset:
    batch_size: Positive
    segment_duration: Seconds
    num_workers: Annotated[int, Range(0, 512)]
    valid_samples: Positive


class Loop:
    """Keys of `optim` that are the training loop's."""

    epochs: NotNegative
    updates_per_epoch: Positive
    max_norm: Number
    max_bad_steps: Positive


class Valid:
    every: NotNegative


class Evaluate:
    every: NotNegative
    at_start: bool
    num_files: Positive | None
    max_duration: Seconds | None
    bandwidths: Literal["highest", "all"] | Sequence[Positive]


class Generate:
    every: NotNegative
    num_files: Positive | None
    max_duration: Seconds | None
    bandwidths: Literal["all", "highest"] | Sequence[Positive]
    report: bool


class Checkpoint:
    every_updates: NotNegative
    keep_last: NotNegative
    keep_every: NotNegative
    best: str | None
    best_mode: Literal["min", "max"]


class Resume:
    allow_changes: Sequence[str]


class Logging:
    level: str
    every: Positive
    tensorboard: bool
    wandb: bool
    wandb_project: str
    wandb_name: str | None
    wandb_group: str | None


class Dset:
    """Keys of `dset` beside the arguments of `resolve_stage_metas`."""

    name: Literal["demo", "folder"]
    cache: str | None


class Adversarial:
    """Keys of `adversarial` beside the arguments of `AdversarialLoss`."""

    discriminators: str | Sequence[str]
    loss: str
    warmup_updates: NotNegative


# Where a wrong sign gives NaN, or a loss that grows as the audio gets better.
LOSS = {"epsilon": Number, "factor_sc": Number, "factor_mag": Number, "floor_level": AboveZero}
KERNELS = dict.fromkeys(("kernel_size", "last_kernel_size", "residual_kernel_size"), Positive)
# What torch's constructors do not look at, or name in words of their own.
OPTIMIZER = {"lr": Number, "betas": tuple[Share, Share], "eps": Number, "weight_decay": Number}
# Options of torch's that break training here, or turn it round.
NOT_OFFERED = ("maximize", "capturable", "differentiable", "decoupled_weight_decay")
EMA = {"decay": Share, "every": Positive}
STAGES = ("train", "valid", "evaluate", "generate")


class Node(NamedTuple):
    """A group.

    Attributes:
        key: where it is; empty for the top.
        types: of its keys.
        groups: those of its keys that are groups.
        required: what must be there.
        largest: of whole numbers.
    """

    key: str
    types: Mapping[str, Any]
    groups: tuple[str, ...] = ()
    required: Iterable[str] = ()
    largest: int | None = None

    def complete(self) -> Node:
        """With all keys required, as more than the constructor reads them."""
        return self._replace(required=[*self.types, *self.groups])


@cache
def _hints(factory: Factory) -> Mapping[str, Any]:
    """Types of the arguments of a constructor or function, or of a declared group's keys."""
    own = inspect.isclass(factory) and factory.__init__ is not object.__init__
    hints = typing.get_type_hints(factory.__init__ if own else factory, include_extras=True)
    inner = getattr(factory, "kwargs_of", None)  # as in `registry.parameters`
    return hints if inner is None else {**_hints(inner), **hints}


def declared(key: str, cls: type, groups: str = "") -> Node:
    """A group whose keys are the annotations of `cls`, all of which must be there."""
    types, names = _hints(cls), tuple(groups.split())
    return Node(key, types, names, [*types, *names])


def constructed(
    key: str,
    factory: Factory,
    injected: str = "",
    beside: Node | None = None,
    narrower: Mapping[str, Any] = MappingProxyType({}),
) -> Node:
    """A group of arguments of `factory`.

    Args:
        injected: arguments that the builder adds.
        beside: keys that stand in the same group, for others.
        narrower: types, than the constructor's.
    """
    hints, known = _hints(factory), parameters(factory)
    names = [name for name in parameter_names(factory) if name not in injected.split()]
    taken = {name: narrower.get(name, hints.get(name, Any)) for name in names}
    needed = [name for name in names if known[name].default is inspect.Parameter.empty]
    beside = beside or Node(key, {})
    return Node(key, {**beside.types, **taken}, beside.groups, [*beside.required, *needed])


def registered(
    config: Mapping[str, Any],
    registry: Registry,
    key: str,
    injected: str = "",
    beside: Node | None = None,
    narrower: Mapping[str, Any] = MappingProxyType({}),
) -> Node:
    """A group of the arguments of what its `name` says."""
    node = lookup(config, key)
    names: Any = Literal[tuple(registry)]
    if "name" not in node:
        raise ValueError(f"{key}.name is missing. It must be {describe(names)}.")
    name = node["name"]
    if not fits(name, names):
        raise ValueError(f"{key}.name={shown(name)}: it must be {describe(names)}.")
    found = constructed(key, registry[name], injected, beside, narrower)
    return found._replace(types={"name": names, **found.types})


def lookup(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The group at `key`. ValueError where there is none, or another thing."""
    node: Any = config
    path: list[str] = []
    for part in key.split(".") if key else []:
        path.append(part)
        if part not in node:
            raise ValueError(f"{'.'.join(path)} is missing.")
        node = node[part]
        if not isinstance(node, dict):
            raise ValueError(f"{'.'.join(path)}={shown(node)}: it must be a group of keys.")
    return node


def nodes(config: Mapping[str, Any]) -> Iterable[Node]:
    """All groups of a configuration, from the top, in use or not."""
    yield declared(
        "",
        Run,
        groups="dataset dset model quantizer losses loss optim schedule balancer adversarial valid "
        "evaluate generate checkpoint resume logging slurm dora",
    )
    yield declared("dataset", Dataset)
    yield declared("valid", Valid)
    yield declared("generate", Generate)
    yield declared("checkpoint", Checkpoint)
    yield declared("resume", Resume)
    yield declared("logging", Logging)
    injected = "cache_dir workers salt stages shares"
    dset = declared("dset", Dset, groups="stages shares")
    yield constructed("dset", resolve_stage_metas, injected, dset).complete()
    yield Node("dset.stages", dict.fromkeys(STAGES, str | None)).complete()
    yield Node("dset.shares", dict.fromkeys(STAGES, Number)).complete()
    names = (*ADVERSARIAL_LOSSES, *LOSSES, PENALTY)
    yield Node("losses", dict.fromkeys(names, Number | None))
    yield from _model(config)
    yield _optimizer(config, "optim", declared("optim", Loop, groups="ema"))
    yield constructed("optim.ema", ModuleEMA, "module", narrower=EMA).complete()
    yield registered(config, SCHEDULES, "schedule", "optimizer")
    yield constructed("balancer", Balancer, "weights monitor", narrower=LOSS)
    yield from _adversarial(config)
    yield from _losses(config)
    yield from _evaluate(config)
    numbers = (bool, int, float)  # which `slurm_config` looks at, as they may come as text
    hints = typing.get_type_hints(SlurmConfig)
    yield Node("slurm", {k: Any if t in numbers else t | None for k, t in hints.items()})
    yield Node("dora", typing.get_type_hints(DoraConfig))


def _optimizer(config: Mapping[str, Any], key: str, beside: Node | None = None) -> Node:
    injected = f"params {' '.join(NOT_OFFERED)}"
    node = registered(config, OPTIMIZERS, key, injected, beside, OPTIMIZER)
    return node._replace(required=[*node.required, "lr"])


def _model(config: Mapping[str, Any]) -> Iterable[Node]:
    built = "encoder decoder quantizer frame_rate sample_rate channels"
    parts = Node("model", {}, ("seanet", "encoder", "decoder"), ("seanet", "encoder", "decoder"))
    yield registered(config, MODELS, "model", built, parts)
    halves = {
        half: constructed(
            f"model.{half}", registry["seanet"], "channels causal", narrower=KERNELS
        ).types
        for half, registry in (("encoder", ENCODERS), ("decoder", DECODERS))
    }
    common = {k: t for k, t in halves["encoder"].items() if k in halves["decoder"]}
    for half, types in (("seanet", common), *halves.items()):
        yield Node(f"model.{half}", types, largest=LARGEST_SIZE)
    quantizer = registered(config, QUANTIZERS, "quantizer", "dimension generator")
    yield quantizer._replace(largest=LARGEST_SIZE)


def _adversarial(config: Mapping[str, Any]) -> Iterable[Node]:
    built = "adversary optimizer loss loss_real loss_fake loss_feat scheduler generator"
    groups = f"feature_matching optim schedule {' '.join(DISCRIMINATORS)}"
    own = declared("adversarial", Adversarial, groups=groups)
    yield constructed("adversarial", AdversarialLoss, built, own).complete()
    yield constructed("adversarial.feature_matching", FeatureMatchingLoss, "loss")
    yield _optimizer(config, "adversarial.optim")
    yield registered(config, SCHEDULES, "adversarial.schedule", "optimizer")
    for name, factory in DISCRIMINATORS.items():
        node = constructed(f"adversarial.{name}", factory, "in_channels")
        yield node._replace(largest=LARGEST_SIZE)


def _losses(config: Mapping[str, Any]) -> Iterable[Node]:
    given = lookup(config, "loss")
    yield Node("loss", {}, tuple(LOSSES))
    for name, factory in LOSSES.items():
        if name in given:
            # torch's own are means of items only as they are.
            injected = "sample_rate size_average reduce reduction"
            node = constructed(f"loss.{name}", factory, injected, narrower=LOSS)
            yield node._replace(largest=LARGEST_SIZE)


def _evaluate(config: Mapping[str, Any]) -> Iterable[Node]:
    given = lookup(config, "evaluate")
    node = declared("evaluate", Evaluate, groups="metrics")
    yield node._replace(groups=("metrics", *METRICS))
    yield Node("evaluate.metrics", dict.fromkeys(METRICS, bool))
    for name, factory in METRICS.items():
        if name in given:
            files = Node("", {"num_files": Positive | None})
            found = constructed(f"evaluate.{name}", factory, "sample_rate", files)
            yield found._replace(largest=LARGEST_SIZE)
