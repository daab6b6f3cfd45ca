"""Folders of transformers, as `save_pretrained` writes and the hub has them: a config.json, whose
`model_type` says which codec it is, and weights. transformers is not needed to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer import checkpoint

from . import dac, hf_encodec
from .weights import (
    DISCRIMINATORS,
    HF_CONFIG,
    WEIGHTS,
    Weights,
    parse_config,
    read_json,
    read_safetensors,
    table_of_weights,
)

OLD_WEIGHTS = "pytorch_model.bin"
# `model_type` -> function of the path and contents of config.json and of the weights, that returns
# our configuration and the weights with our names.
Reader = Callable[
    [Path, Mapping[str, Any], dict[str, torch.Tensor]], tuple[DictConfig, dict[str, torch.Tensor]]
]
READERS: dict[str, Reader] = {"dac": dac.read_hf, "encodec": hf_encodec.read}


def read_folder(path: Path) -> Weights:
    """Read the codec of a folder, and the discriminators that an export put beside it."""
    config = read_json(path / HF_CONFIG)
    read = READERS.get(str(config.get("model_type")))
    if read is None:
        raise ValueError(
            f"{path / HF_CONFIG}: model_type={config.get('model_type')!r}; only "
            f"{' and '.join(map(repr, READERS))} can be read."
        )
    if (path / WEIGHTS).is_file():
        tensors, _ = read_safetensors(path / WEIGHTS)
    elif (path / OLD_WEIGHTS).is_file():
        tensors = table_of_weights(path / OLD_WEIGHTS, checkpoint.load(path / OLD_WEIGHTS))
    else:
        raise FileNotFoundError(f"{path}: no {WEIGHTS} and no {OLD_WEIGHTS} in it.")
    cfg, weights = read(path / HF_CONFIG, config, tensors)
    discriminators = None
    if (path / DISCRIMINATORS).is_file():
        discriminators, metadata = read_safetensors(path / DISCRIMINATORS)
        theirs = parse_config(path / DISCRIMINATORS, metadata.get("config"))
        cfg.adversarial = theirs.get("adversarial")
    return Weights(weights, cfg, discriminators, {"kind": "hf", "path": path})
