"""`--format safetensors`: one file with the weights and the configuration, for this project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.exported import DISCRIMINATORS, FORMAT, VERSION, WEIGHTS

from .model_card import facts_of

CONFIG = "config.yaml"
NAMES = (WEIGHTS, DISCRIMINATORS, CONFIG, "README.md")
# Keys of a run's configuration to export. `dset`, `slurm` and `logging` are left out: they contain
# paths and names of people, machines and accounts.
KEYS = (
    *("solver", "sample_rate", "channels", "seed", "precision", "data_init"),
    *("model", "quantizer", "adversarial", "losses", "loss", "balancer", "optim", "schedule"),
    "dataset",
)


def write(codec: Codec, folder: Path, with_discriminators: bool = False) -> None:
    """Write all but the model card; ValueError if the codec has no discriminators to write."""
    if with_discriminators and codec.discriminators is None:
        raise ValueError(
            f"--with-discriminators: {codec.info.get('source', 'this codec')} has none."
        )
    cfg = OmegaConf.masked_copy(codec.cfg, [key for key in KEYS if key in codec.cfg])
    text = OmegaConf.to_yaml(cfg, resolve=True)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": text,
        "hash": codec.hash,
        "info": json.dumps(facts_of(codec)),
    }
    _save(codec.model.state_dict(), folder / WEIGHTS, metadata)
    if with_discriminators and codec.discriminators is not None:
        _save(codec.discriminators, folder / DISCRIMINATORS, {**metadata, "part": "discriminators"})
    (folder / CONFIG).write_text(text, encoding="utf-8")


def usage(codec: Codec, name: str) -> str:
    """Return code for the model card."""
    rate, channels = codec.model.sample_rate, codec.model.channels
    return f"""\
import torch
from adversarial_trainer.models.pretrained import load_codec

codec = load_codec("{name}")  # this folder, or its model.safetensors alone
audio = 0.1 * torch.randn(1, {channels}, {rate})  # [B, {channels}, T] at {rate} Hz: yours here
with torch.no_grad():
    codes, scale = codec.model.encode(audio)  # [B, K, F]; [B, 1] or None
    decoded = codec.model.decode(codes, scale)[..., : audio.shape[-1]]"""


def discriminators_usage(name: str) -> str:
    """Return code for the model card that follows that of `usage`."""
    return f"""\
from solvers.builders import get_discriminators

discriminators = get_discriminators(codec.cfg)
discriminators.load_state_dict(codec.discriminators)
# Or continue training: dora run solver=... continue_from={name}"""


def _save(tensors: Mapping[str, Any], path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    # Copies, since tensors that share memory are refused.
    whole = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor)
    }
    save_file(whole, path, metadata=metadata)
