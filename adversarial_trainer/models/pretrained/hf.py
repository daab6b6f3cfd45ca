"""Folders of transformers' `EncodecModel`, as `save_pretrained` writes and the hub has them."""

from __future__ import annotations

from pathlib import Path

from adversarial_trainer import checkpoint

from . import exported
from .files import read_json
from .hf_config import from_hf_config
from .hf_layout import from_hf_state_dict
from .weights import Weights, checked_config

CONFIG = "config.json"
OLD_WEIGHTS = "pytorch_model.bin"
MODEL_TYPE = "encodec"


def read_folder(path: Path) -> Weights:
    """The codec in a folder; nothing of transformers is needed."""
    config = read_json(path / CONFIG)
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{path / CONFIG}: model_type={config.get('model_type')!r}; only {MODEL_TYPE!r} can be "
            "read."
        )
    if (path / exported.WEIGHTS).is_file():
        tensors = exported.read_tensors(path / exported.WEIGHTS)
    elif (path / OLD_WEIGHTS).is_file():
        tensors = checkpoint.load(path / OLD_WEIGHTS)
    else:
        raise FileNotFoundError(f"{path}: no {exported.WEIGHTS} and no {OLD_WEIGHTS} in it.")
    cfg = checked_config(path / CONFIG, from_hf_config(config))
    return Weights(from_hf_state_dict(tensors, cfg), cfg, None, {"kind": "hf", "path": path})
