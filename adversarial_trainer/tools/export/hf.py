"""`--format hf`: what `transformers.EncodecModel.from_pretrained` and `AutoProcessor` read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.hf import to_hf_state_dict
from adversarial_trainer.models.pretrained.hf_config import to_hf_config

NAMES = ("config.json", "preprocessor_config.json", "model.safetensors", "README.md")
LIBRARY = "transformers"


def write(codec: Codec, folder: Path) -> None:
    """Write all but the model card; ValueError, with the key, for what transformers lacks."""
    from safetensors.torch import save_file

    config = to_hf_config(codec.cfg)
    processor = {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": config["audio_channels"],
        "sampling_rate": config["sampling_rate"],
        "chunk_length_s": config["chunk_length_s"],
        "overlap": config["overlap"],
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", processor)
    weights = to_hf_state_dict(codec.model.state_dict(), codec.cfg)
    # Without this entry transformers refuses the file.
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def usage(codec: Codec, name: str) -> str:
    """Return code for the model card."""
    config = to_hf_config(codec.cfg)
    rate, channels = config["sampling_rate"], config["audio_channels"]
    shape, size = ("[2, T]", f"2, {rate}") if channels == 2 else ("[T]", str(rate))
    return f"""\
import numpy as np
import torch
from transformers import AutoProcessor, EncodecModel

folder = "{name}"  # this folder, or its name on the hub
model = EncodecModel.from_pretrained(folder).eval()
processor = AutoProcessor.from_pretrained(folder)

audio = 0.1 * np.random.randn({size})  # {shape} at {rate} Hz: yours here
inputs = processor(raw_audio=audio, sampling_rate={rate}, return_tensors="pt")
with torch.no_grad():
    encoded = model.encode(**inputs, bandwidth={config["target_bandwidths"][-1]})  # kb/s
    decoded = model.decode(
        encoded.audio_codes,
        encoded.audio_scales,
        inputs["padding_mask"],
        last_frame_pad_length=encoded.last_frame_pad_length,
    )
audio_values = decoded.audio_values  # [1, {channels}, T]"""


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
