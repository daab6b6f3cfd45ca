"""What `export --format safetensors` writes: weights with their configuration in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .weights import Weights, parse_config

WEIGHTS = "model.safetensors"
DISCRIMINATORS = "discriminators.safetensors"
FORMAT = "adversarial_trainer"
VERSION = "1"


def is_export(path: Path) -> bool:
    """Whether the file at `path` is one of these."""
    return path.is_file() and _open(path)[1].get("format") == FORMAT


def read_file(path: Path) -> Weights:
    """The codec in the file, and the discriminators beside it, where there are any."""
    tensors, metadata = _open(path, load=True)
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path}: version {metadata.get('version')!r} of the format; this is for {VERSION!r}."
        )
    beside = path.with_name(DISCRIMINATORS)
    discriminators = _open(beside, load=True)[0] if beside.is_file() else None
    try:
        info = json.loads(metadata.get("info", "{}"))
    except ValueError as exc:
        raise ValueError(f"{path}: its metadata 'info' is not JSON ({exc}).") from exc
    info = info if isinstance(info, dict) else {}
    return Weights(
        tensors,
        parse_config(path, metadata.get("config")),
        discriminators,
        {**info, "kind": "safetensors", "path": path, "hash": metadata.get("hash")},
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file."""
    return _open(path, load=True)[0]


def _open(path: Path, load: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()} if load else {}
            return tensors, file.metadata() or {}
    except SafetensorError as exc:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({exc}).") from exc
