"""`--format safetensors`: one file with the weights and the configuration, for this project."""

from __future__ import annotations

import json
from pathlib import Path

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


def write(codec: Codec, folder: Path, with_discriminators: bool = False) -> None:
    """Write all but the model card; ValueError if the codec has no discriminators to write."""
    from safetensors.torch import save_file

    parts = {WEIGHTS: codec.model.state_dict()}
    if with_discriminators:
        if codec.discriminators is None:
            source = codec.info.get("source", "this codec")
            raise ValueError(f"--with-discriminators: {source} has none.")
        parts[DISCRIMINATORS] = codec.discriminators
    cfg = OmegaConf.masked_copy(codec.cfg, [key for key in KEYS if key in codec.cfg])
    text = OmegaConf.to_yaml(cfg, resolve=True)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": text,
        "hash": codec.hash,
        "info": json.dumps(facts_of(codec)),
    }
    for name, tensors in parts.items():
        # Copies, since tensors that share memory are refused.
        copies = {
            key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()
        }
        save_file(copies, folder / name, metadata=metadata)
    (folder / CONFIG).write_text(text, encoding="utf-8")
