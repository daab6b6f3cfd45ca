"""Keys and types of configuration groups, and the one function that checks them.

A group is the arguments of a constructor, whose signature is then all there is to know, or a
dataclass below, or both side by side (as in `optim`, which holds the loop's keys and the
optimizer's).
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Union

from adversarial_trainer.registry import did_you_mean, format_value, parameters


class Range(NamedTuple):
    """Limits of a number, for `Annotated`; `low` itself is excluded where `above`."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        return value <= self.high and (value > self.low if self.above else value >= self.low)

    def __str__(self) -> str:
        low = f"{'>' if self.above else '>='} {self.low:g}"
        return low if self.high == math.inf else f"{low} and <= {self.high:g}"


NotNegative = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Number = Annotated[float, Range(0)]
Seconds = Annotated[float, Range(0, 86400, above=True)]
# A group that is checked on its own, by the constructors that read it.
Group = Mapping[str, Any]


@dataclass
class Dataset:
    batch_size: Positive
    segment_duration: Seconds
    num_workers: Annotated[int, Range(0, 512)]
    valid_samples: Positive


@dataclass
class Stages:
    train: str | None
    valid: str | None
    evaluate: str | None
    generate: str | None


@dataclass
class Shares:
    train: Number
    valid: Number
    evaluate: Number
    generate: Number


@dataclass
class Dset:
    name: Literal["demo", "folder"]
    path: str | None
    manifest: str | None
    stages: Stages
    shares: Shares
    cache: str | None


@dataclass
class Loop:
    """Keys of `optim` that are the training loop's and not the optimizer's."""

    epochs: NotNegative
    updates_per_epoch: Positive
    max_norm: Number
    max_bad_steps: Positive
    ema: Group


@dataclass
class Valid:
    every: NotNegative


@dataclass
class Evaluate:
    """Keys of `evaluate` beside the groups of the metrics."""

    every: NotNegative
    at_start: bool
    num_files: Positive | None
    max_duration: Seconds | None
    bandwidths: Literal["highest", "all"] | Sequence[Positive]
    metrics: Group


@dataclass
class MetricFiles:
    """Key of a metric's group beside the arguments of the metric."""

    num_files: Positive | None = None


@dataclass
class Generate:
    every: NotNegative
    num_files: Positive | None
    max_duration: Seconds | None
    bandwidths: Literal["all", "highest"] | Sequence[Positive]
    report: bool


@dataclass
class Checkpoint:
    every_updates: NotNegative
    keep_last: NotNegative
    keep_every: NotNegative
    best: str | None
    best_mode: Literal["min", "max"]


@dataclass
class Resume:
    allow_changes: Sequence[str]


@dataclass
class Logging:
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    every: Positive
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
    warmup_updates: NotNegative
    feature_matching: Group
    optim: Group
    schedule: Group


@dataclass
class Run:
    """A whole configuration."""

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
    dataset: Dataset
    dset: Dset
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


def check_group(
    key: str,
    given: Any,
    *sources: Callable[..., Any],
    without: Iterable[str] = (),
    optional: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Raise ValueError unless `given`, the group at `key`, fits what its constructors take.

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
        if name not in valid:
            if len(valid) < len(known):
                continue  # the constructor takes any **kwargs
            hint = did_you_mean(name, valid, prefix)
            keys = ", ".join(valid) or "none"
            raise ValueError(f"{prefix}{name}: no such key.{hint} Valid keys{where}: {keys}.")
        wanted = known[name].annotation
        if is_dataclass(wanted):
            check_group(f"{prefix}{name}", value, wanted)  # type: ignore[arg-type]
        elif not fits(value, wanted):
            given_text = f"{prefix}{name}={format_value(value)}"
            raise ValueError(f"{given_text}: it must be {describe(wanted)}.")
    for name in valid:
        if name not in given and known[name].default is Parameter.empty:
            wanted = known[name].annotation
            raise ValueError(f"{prefix}{name} is missing. It must be {describe(wanted)}.")


def fits(value: Any, hint: Any) -> bool:
    """Whether `value`, as YAML gives it, is of the type `hint`.

    Stricter than Python where a slip would go unnoticed: bools are no numbers, 1.0 is no whole
    number, and no number is infinite or NaN.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is Parameter.empty:
        return True
    if origin is Annotated:
        return fits(value, arguments[0]) and arguments[1].allows(value)
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in (bool, int):
        return type(value) is hint
    if hint in (str, Path):
        return isinstance(value, str) and "\0" not in value
    if origin is tuple and Ellipsis not in arguments:
        return (
            isinstance(value, list)
            and len(value) == len(arguments)
            and all(fits(item, member) for item, member in zip(value, arguments, strict=True))
        )
    if origin in (Sequence, list, tuple):
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin in (Mapping, dict):
        return isinstance(value, dict) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    return False  # a tensor, say, which no YAML holds


def describe(hint: Any) -> str:
    """What fits `hint`, in words; empty for what no YAML holds."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}"
    if origin in (Union, types.UnionType):
        members = dict.fromkeys(describe(member) for member in arguments)
        return ", or ".join(filter(None, members))
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}, each {describe(arguments[0])}"
    if origin in (Sequence, list, tuple):
        return f"a list, each item {describe(arguments[0])}"
    if origin in (Mapping, dict) or is_dataclass(hint):
        return "a group of keys"
    words: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {Any: "a value", str: "a text", Path: "a text", None: "null", type(None): "null"}
    return words.get(hint, "")
