"""`--format safetensors`: one file with the weights and the configuration, for this project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import OmegaConf

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.weights import DISCRIMINATORS, FORMAT, VERSION, WEIGHTS

from .model_card import facts_of

CONFIG = "config.yaml"
NAMES = (WEIGHTS, DISCRIMINATORS, CONFIG)
# Keys of a run's configuration to export. `dset`, `slurm` and `logging` are left out: they contain
# paths and names of people, machines and accounts.
KEYS = (
    *("solver", "sample_rate", "channels", "seed", "precision", "data_init"),
    *("model", "quantizer", "adversarial", "losses", "loss", "balancer", "optim", "schedule"),
    "dataset",
)


def write(codec: Codec, folder: Path) -> None:
    """Write all but the model card and the discriminators."""
    _save(codec, codec.model.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_text(_config_of(codec), encoding="utf-8")


def write_discriminators(codec: Codec, folder: Path) -> None:
    """Write the discriminators; ValueError if the codec has none."""
    if codec.discriminators is None:
        source = codec.info.get("source", "this codec")
        raise ValueError(f"--with-discriminators: {source} has none.")
    _save(codec, codec.discriminators, folder / DISCRIMINATORS)


def _config_of(codec: Codec) -> str:
    keys = [key for key in KEYS if key in codec.cfg]
    return OmegaConf.to_yaml(OmegaConf.masked_copy(codec.cfg, keys), resolve=True)


def _save(codec: Codec, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": _config_of(codec),
        "hash": codec.hash,
        "info": json.dumps(facts_of(codec)),
    }
    # Copies, since tensors that share memory are refused.
    copies = {
        key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()
    }
    save_file(copies, path, metadata=metadata)
