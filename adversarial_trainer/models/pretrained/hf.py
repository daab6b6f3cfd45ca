"""Folders of transformers' `EncodecModel`, as `save_pretrained` writes and the hub has them."""

from __future__ import annotations

from pathlib import Path

from adversarial_trainer import checkpoint

from .exported import WEIGHTS, read_safetensors
from .hf_config import from_hf_config
from .hf_layout import from_hf_state_dict
from .weights import Weights, checked_config, read_json

CONFIG = "config.json"
OLD_WEIGHTS = "pytorch_model.bin"
MODEL_TYPE = "encodec"


def read_folder(path: Path) -> Weights:
    """Read the codec of a folder; transformers is not needed."""
    config = read_json(path / CONFIG)
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{path / CONFIG}: model_type={config.get('model_type')!r}; only {MODEL_TYPE!r} can be "
            "read."
        )
    if (path / WEIGHTS).is_file():
        tensors, _ = read_safetensors(path / WEIGHTS)
    elif (path / OLD_WEIGHTS).is_file():
        tensors = checkpoint.load(path / OLD_WEIGHTS)
    else:
        raise FileNotFoundError(f"{path}: no {WEIGHTS} and no {OLD_WEIGHTS} in it.")
    try:
        values = from_hf_config(config)
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise ValueError(f"{path / CONFIG}: {exc}") from exc
    cfg = checked_config(path / CONFIG, values)
    return Weights(from_hf_state_dict(tensors, cfg), cfg, None, {"kind": "hf", "path": path})
