"""Weights with their configuration, and helpers to read them from third-party files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.builders import check_yaml


@dataclass
class Weights:
    """Contents of a source.

    Attributes:
        model: the codec's state dict, with old-style or new-style names of its weight norms.
        cfg: at least `model`, `quantizer`, `sample_rate` and `channels`; of a run the whole.
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
    """Return a copy of the dictionary at nested `keys`; empty where there is none."""
    part: Any = state
    for key in keys:
        part = part.get(key, {})
        if not isinstance(part, Mapping) or not all(isinstance(name, str) for name in part):
            raise ValueError(f"{path}: {'.'.join(keys)} is not a table of weights.")
    return dict(part)


def parse_config(path: Path, text: Any) -> DictConfig:
    """Parse the text of a configuration of plain values: `${...}` is refused, not resolved."""
    values = plain_yaml(path, text)
    if "${" in text:
        raise ValueError(f"{path}: its configuration refers to other values by ${{...}}.")
    return checked_config(path, values)


def plain_yaml(path: Path, text: Any) -> Any:
    """Parse YAML text without aliases, which could expand to any size."""
    if not isinstance(text, str):
        raise ValueError(f"{path}: no configuration in it.")
    check_yaml(text, f"{path}: configuration")
    try:
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as exc:  # a date that does not exist, an unknown tag
        reason = " ".join(str(exc).split())
        raise ValueError(f"{path}: its configuration cannot be read ({reason[:300]}).") from exc


def checked_config(path: Path, values: Any) -> DictConfig:
    """Return `values` as a configuration; ValueError if it lacks what every codec needs."""
    needed = {"model": dict, "quantizer": dict, "sample_rate": int, "channels": int}
    for key, kind in needed.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise ValueError(f"{path}: its configuration has no usable {key!r}.")
    model = values["model"]
    for key in (model.get("autoencoder", "seanet"), "encoder", "decoder"):
        if not isinstance(model.get(key), dict):
            raise ValueError(f"{path}: its configuration has no usable 'model.{key}'.")
    return OmegaConf.create(values)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; ValueError names the file if it has none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: not JSON ({exc}).") from exc
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object is needed.")
    return value
