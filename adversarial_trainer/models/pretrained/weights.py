"""What the formats have in common: weights, the configuration they fit, and where they are from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer import config_files


@dataclass
class Weights:
    """What was read of a source.

    Attributes:
        model: the codec's state dict, with old-style or new-style names of its weight norms.
        cfg: at least `model`, `quantizer`, `sample_rate` and `channels`; for a run all of it.
        discriminators: their state dict, or None where the source has none.
        info: `kind` ('run', 'safetensors', 'hf', 'audiocraft' or 'encodec'), `path`, and where
            known `folder` (of the run), `signature`, `epoch`, `updates`, `commit` and `metrics`
            (of the last evaluation).
    """

    model: dict[str, torch.Tensor]
    cfg: DictConfig
    discriminators: dict[str, torch.Tensor] | None = None
    info: dict[str, Any] = field(default_factory=dict)


def table_of_weights(path: Path, state: Mapping[str, Any], *keys: str) -> dict[str, torch.Tensor]:
    """A copy of a dictionary of tensors inside what may be somebody else's file; empty where it
    is not there."""
    part: Any = state
    for key in keys:
        part = part.get(key, {})
        if not isinstance(part, Mapping) or not all(isinstance(name, str) for name in part):
            raise ValueError(f"{path}: {'.'.join(keys)} is not a table of weights.")
    return dict(part)


def parse_config(path: Path, text: Any) -> DictConfig:
    """A configuration from the text in a file: plain values, nothing to expand or to look up."""
    values = plain_yaml(path, text)
    if any("${" in value for value in _strings(values)):
        raise ValueError(f"{path}: its configuration refers to other values by ${{...}}.")
    return checked_config(path, values)


def plain_yaml(path: Path, text: Any) -> Any:
    """What YAML text in a file holds, without aliases, which grow as they are read."""
    if not isinstance(text, str):
        raise ValueError(f"{path}: no configuration in it.")
    try:
        config_files.check_events(path, text)
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        reason = " ".join(str(exc).split())
        raise ValueError(f"{path}: its configuration is not YAML ({reason[:300]}).") from exc


def checked_config(path: Path, values: Any) -> DictConfig:
    """`values` as a configuration that has what a codec needs."""
    needed = {"model": dict, "quantizer": dict, "sample_rate": int, "channels": int}
    for key, kind in needed.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise ValueError(f"{path}: its configuration has no usable {key!r}.")
    model = values["model"]
    for key in ("seanet", "encoder", "decoder"):
        if not isinstance(model.get(key), dict):
            raise ValueError(f"{path}: its configuration has no usable 'model.{key}'.")
    return OmegaConf.create(values)


def _strings(values: Any) -> Iterable[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(values, list):
        for value in values:
            yield from _strings(value)
