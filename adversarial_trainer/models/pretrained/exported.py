"""Files of `export --format safetensors`: weights with their configuration."""

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
    """Return whether the file at `path` is one of these."""
    return path.is_file() and read_safetensors(path, load=False)[1].get("format") == FORMAT


def read_file(path: Path) -> Weights:
    """Read the codec of a file, and the discriminators from the file beside it, if any."""
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: no configuration in it; name the folder it was in instead.")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path}: version {metadata.get('version')!r} of the format; this is for {VERSION!r}."
        )
    beside = path.with_name(DISCRIMINATORS)
    discriminators = read_safetensors(beside)[0] if beside.is_file() else None
    info = json.loads(metadata.get("info", "{}"))
    return Weights(
        tensors,
        parse_config(path, metadata.get("config")),
        discriminators,
        {**info, "kind": "safetensors", "path": path, "hash": metadata.get("hash")},
    )


def read_safetensors(
    path: Path, load: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors (none unless `load`) and the metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()} if load else {}
            return tensors, file.metadata() or {}
    except SafetensorError as exc:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({exc}).") from exc
