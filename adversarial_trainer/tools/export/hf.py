"""`--format hf`: what transformers' models and `AutoProcessor` read."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from adversarial_trainer.models.pretrained import Codec, dac, hf_encodec
from adversarial_trainer.models.pretrained.weights import HF_CONFIG, WEIGHTS

PROCESSOR = "preprocessor_config.json"
NAMES = (HF_CONFIG, PROCESSOR, WEIGHTS)
# `model.autoencoder` -> how its codecs go to a class of transformers
FAMILIES = {"seanet": hf_encodec, "dac": dac}


def write(codec: Codec, folder: Path) -> list[str]:
    """Write all but the model card; ValueError, with the key, for what transformers lacks.

    Returns:
        Lines for the user, on what differs there.
    """
    from safetensors.torch import save_file

    name = codec.cfg.model.get("autoencoder", "seanet")
    if name not in FAMILIES:
        choices = " and ".join(map(repr, FAMILIES))
        raise ValueError(
            f"model.autoencoder={name!r}: transformers has only {choices}; "
            "--format safetensors takes it."
        )
    family = FAMILIES[name]
    config = family.to_hf_config(codec.cfg)
    processor = {
        "feature_extractor_type": config["architectures"][0].replace("Model", "FeatureExtractor"),
        "feature_size": codec.cfg.channels,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    for key in ("sampling_rate", "hop_length", "chunk_length_s", "overlap"):
        processor |= {key: config[key]} if key in config else {}
    for file, value in {HF_CONFIG: config, PROCESSOR: processor}.items():
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        (folder / file).write_text(text, encoding="utf-8")
    weights = {
        key: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for key, value in family.to_hf_state_dict(codec.model, codec.cfg).items()
    }
    # Without this entry transformers refuses the file.
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return family.notes(codec.cfg)
