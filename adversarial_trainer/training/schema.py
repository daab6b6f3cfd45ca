"""Keys and types of configuration groups, and the one function that checks them.

A group is the arguments of a constructor, whose signature is then all there is to know, or a
dataclass below, or both side by side (as in `optim`, which holds the loop's keys and the
optimizer's). pydantic checks values against the type hints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from inspect import Parameter
from types import MappingProxyType
from typing import Annotated, Any, Literal

from dora.conf import SlurmConfig
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from adversarial_trainer.registry import did_you_mean, format_value, parameters

Seconds = Annotated[float, Field(gt=0, le=86400)]
# A group that is checked on its own, by the constructors that read it.
Group = Mapping[str, Any]
# A bool is no number, 1.0 no whole number, and no number is infinite or NaN.
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass
class Dataset:
    batch_size: PositiveInt
    segment_duration: Seconds
    num_workers: Annotated[int, Field(ge=0, le=512)]
    valid_samples: PositiveInt


@dataclass
class Stages:
    train: str | None
    valid: str | None
    evaluate: str | None
    generate: str | None


@dataclass
class Shares:
    train: NonNegativeFloat
    valid: NonNegativeFloat
    evaluate: NonNegativeFloat
    generate: NonNegativeFloat


@dataclass
class Dset:
    name: Literal["demo", "folder"]
    path: str | None
    manifest: str | None
    stages: Stages
    shares: Shares
    cache: str | None
    id: str | None = None


@dataclass
class Loop:
    """Keys of `optim` that are the training loop's and not the optimizer's."""

    epochs: NonNegativeInt
    max_time: PositiveFloat | None
    updates_per_epoch: PositiveInt
    max_norm: NonNegativeFloat
    max_bad_steps: PositiveInt
    ema: Group


@dataclass
class Valid:
    every: NonNegativeInt


@dataclass
class Evaluate:
    """Keys of `evaluate` beside the groups of the metrics."""

    every: NonNegativeInt
    at_start: bool
    num_files: PositiveInt | None
    max_duration: Seconds | None
    bandwidths: Literal["highest", "all"] | Sequence[PositiveInt]
    metrics: Group
    opus: Sequence[float]


@dataclass
class MetricFiles:
    """Key of a metric's group beside the arguments of the metric."""

    num_files: PositiveInt | None = None


@dataclass
class Generate:
    every: NonNegativeInt
    num_files: PositiveInt | None
    max_duration: Seconds | None
    bandwidths: Literal["all", "highest"] | Sequence[PositiveInt]
    opus: Sequence[float]
    report: bool


@dataclass
class Checkpoint:
    every_updates: NonNegativeInt
    keep_last: NonNegativeInt
    keep_every: NonNegativeInt
    best: str | None
    best_mode: Literal["min", "max"]


@dataclass
class Resume:
    allow_changes: Sequence[str]


@dataclass
class Logging:
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    every: PositiveInt
    health: NonNegativeInt
    tensorboard: bool
    wandb: bool
    wandb_project: str
    wandb_name: str | None
    wandb_group: str | None


@dataclass
class Adversarial:
    """Keys of `adversarial` beside the arguments of AdversarialLoss and the discriminators."""

    discriminators: str | Sequence[str]
    loss: str
    warmup_updates: NonNegativeInt
    alternate: bool
    penalty: Group
    feature_matching: Group
    optim: Group
    schedule: Group


@dataclass
class Augment:
    """Key of `augment` beside the groups of the augmentations."""

    augmentations: Sequence[str]


@dataclass
class Run:
    """A whole configuration."""

    solver: str | None
    sample_rate: Annotated[int, Field(ge=1000, le=768_000)]
    channels: Annotated[int, Field(ge=1, le=64)]
    seed: NonNegativeInt
    device: str
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None
    precision: Literal["float32", "float64", "bf16"]
    compile: bool
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"]
    hang_timeout: Seconds
    data_init: bool | Literal["latents"]
    show: bool | Literal["full"]
    continue_from: str | None
    continue_discriminators: bool
    freeze: Sequence[str]
    dataset: Dataset
    dset: Dset
    augment: Group
    model: Group
    quantizer: Group
    losses: Group
    loss: Group
    optim: Group
    schedule: Group
    balancer: Group
    adversarial: Group
    valid: Valid
    evaluate: Group
    generate: Generate
    checkpoint: Checkpoint
    resume: Resume
    logging: Logging
    slurm: Group
    dora: Group


# Types of `slurm` beside Dora's own: whole numbers, as sbatch wants, and null, which goes into no
# `#SBATCH` line and so is left to the cluster.
SLURM = {
    **dict.fromkeys(("gpus", "time", "mem_per_gpu", "cpus_per_gpu"), NonNegativeInt),
    **dict.fromkeys(("partition", "constraint"), str | None),
}


class UnknownKeyError(ValueError):
    """A key that nothing reads.

    Attributes:
        key: with the groups that it is in, dotted.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: no such key.{message}")
        self.key = key


def check_group(
    key: str,
    given: Any,
    *sources: Callable[..., Any],
    without: Iterable[str] = (),
    optional: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Raise ValueError unless `given`, the group at `key`, fits what its constructors take; an
    UnknownKeyError for a key that none of them takes.

    Args:
        key: where the group is; empty for the top.
        given: its keys and values, as YAML gives them.
        sources: classes and dataclasses whose arguments are the keys of the group.
        without: arguments that the builder adds.
        optional: types of further keys, which need not be there; or narrower ones of the same.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{key}={format_value(given)}: it must be a group of keys.")
    known: dict[str, Parameter] = {}
    for source in sources:
        known |= {k: p for k, p in parameters(source).items() if k not in without}
    for name, hint in optional.items():
        known[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint)
    valid = [name for name, p in known.items() if p.kind is not p.VAR_KEYWORD]
    prefix, where = (f"{key}.", f" in {key}") if key else ("", "")
    for name, value in given.items():
        if name in valid:
            check_value(f"{prefix}{name}", value, known[name].annotation)
        elif len(valid) == len(known):  # the constructor takes no other **kwargs
            hint = did_you_mean(name, valid, prefix)
            keys = ", ".join(valid) or "none"
            raise UnknownKeyError(f"{prefix}{name}", f"{hint} Valid keys{where}: {keys}.")
    for name in valid:
        if name not in given and known[name].default is Parameter.empty:
            raise ValueError(f"{prefix}{name} is missing.")


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise ValueError unless `value`, as YAML gives it, is of the type `hint`."""
    if is_dataclass(hint):
        check_group(key, value, hint)  # type: ignore[arg-type]
    elif hint is not Parameter.empty:
        try:  # as JSON, which has lists where Python has tuples and sequences, too
            TypeAdapter(hint, config=STRICT).validate_json(json.dumps(value, default=str))
        except ValidationError as exc:
            told = [e["msg"] for e in exc.errors() if e["type"] != "needs_python_object"]
            wanted = ", or ".join(dict.fromkeys(told)).replace("Input should be", "it must be")
            wanted = wanted.replace("a valid array", "a list").replace(
                "an object", "a group of keys"
            )
            raise ValueError(f"{key}={format_value(value)}: {wanted}.") from None


def slurm_config(given: Mapping[str, Any]) -> SlurmConfig:
    """Return what to ask SLURM for, from the `slurm` group, in which an empty text is not set."""
    values: dict[str, Any] = {name: None if value == "" else value for name, value in given.items()}
    check_group("slurm", values, SlurmConfig, optional=SLURM)
    return SlurmConfig(**values)
