"""`--format hf`: what transformers' models and `AutoProcessor` read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.weights import HF_CONFIG, WEIGHTS

from . import hf_dac, hf_encodec

PROCESSOR = "preprocessor_config.json"
NAMES = (HF_CONFIG, PROCESSOR, WEIGHTS)


@dataclass(frozen=True)
class Writer:
    """How the codecs of a `model.autoencoder` go to a class of transformers.

    Attributes:
        config: contents of config.json for a configuration of ours; ValueError, with the key, for
            what transformers' class lacks.
        processor: contents of preprocessor_config.json for those of config.json.
        weights: our codec and its configuration to weights with transformers' names.
        card: template of the model card's example.
        notes: lines for the user on what differs there.
    """

    config: Callable[[DictConfig], dict[str, Any]]
    processor: Callable[[Mapping[str, Any]], dict[str, Any]]
    weights: Callable[[EncodecModel, DictConfig], dict[str, torch.Tensor]]
    card: str
    notes: Callable[[DictConfig], list[str]] = lambda cfg: []


WRITERS = {
    "seanet": Writer(
        hf_encodec.to_hf_config,
        hf_encodec.to_processor,
        hf_encodec.to_hf_state_dict,
        "card_hf_encodec.md.j2",
    ),
    "dac": Writer(
        hf_dac.to_hf_config,
        hf_dac.to_processor,
        hf_dac.to_hf_state_dict,
        "card_hf_dac.md.j2",
        hf_dac.notes,
    ),
}


def get_writer(cfg: DictConfig) -> Writer:
    """Return the writer of a codec's configuration; ValueError if transformers has no such."""
    name = to_params(cfg.model).get("autoencoder", "seanet")
    if name not in WRITERS:
        choices = " and ".join(map(repr, WRITERS))
        raise ValueError(f"model.autoencoder={name!r}: transformers has only {choices}.")
    return WRITERS[name]


def write(codec: Codec, folder: Path) -> list[str]:
    """Write all but the model card; ValueError, with the key, for what transformers lacks.

    Returns:
        Lines for the user.
    """
    from safetensors.torch import save_file

    writer = get_writer(codec.cfg)
    config = writer.config(codec.cfg)
    for name, value in {HF_CONFIG: config, PROCESSOR: writer.processor(config)}.items():
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    weights = writer.weights(codec.model, codec.cfg)
    # Without this entry transformers refuses the file.
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return writer.notes(codec.cfg)
