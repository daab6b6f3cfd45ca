"""Configuration and weights of transformers' `EncodecModel`.

Their codec and ours have the same layers in the same order, but theirs always has an LSTM: a codec
without one gets an LSTM whose weights are all zero, which adds exactly zero.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import to_params
from adversarial_trainer.modules.seanet import SEANetDecoder

from .weights import checked_config, half_of

logger = logging.getLogger(__name__)

# s and share, of the published 48 kHz model and of `streaming.segments`
SEGMENT, OVERLAP = 1.0, 0.01
# Keys of `EncodecConfig` with their defaults there.
DEFAULTS: dict[str, Any] = {
    "hidden_size": 128,
    "num_filters": 32,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "norm_type": "weight_norm",
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "pad_mode": "reflect",
    "compress": 2,
    "num_lstm_layers": 2,
    "sampling_rate": 24000,
    "audio_channels": 1,
    "normalize": False,
    "use_causal_conv": True,
    "trim_right_ratio": 1.0,
    "use_conv_shortcut": True,
    "codebook_size": 1024,
    "codebook_dim": None,
    "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
}
# Those that we have under `model.seanet`, with our names.
SEANET = {
    "hidden_size": "dimension",
    "num_filters": "n_filters",
    "num_residual_layers": "n_residual_layers",
    "upsampling_ratios": "ratios",
    "norm_type": "norm",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_growth_rate": "dilation_base",
    "pad_mode": "pad_mode",
    "compress": "compress",
    "num_lstm_layers": "lstm",
}


def read(
    path: Path, config: Mapping[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[DictConfig, dict[str, torch.Tensor]]:
    """Return our configuration and weights for those of the folder whose config.json is `path`."""
    try:
        values = from_hf_config(config)
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise ValueError(f"{path}: {exc}") from exc
    whole = values["model"]["renormalize"] or config.get("norm_type") == "time_group_norm"
    ours = [SEGMENT, OVERLAP] if whole else [None, config.get("overlap")]
    theirs = [config.get("chunk_length_s"), config.get("overlap")]
    if theirs != ours:
        text = "%s: chunk_length_s and overlap are %s there, and here %s"
        logger.warning(text, path, theirs, ours)
    lstm = {name: value for name, value in tensors.items() if ".lstm." in name}
    if lstm and all(isinstance(v, torch.Tensor) and not v.any() for v in lstm.values()):
        values["model"]["seanet"]["lstm"] = 0
        tensors = {name: value for name, value in tensors.items() if name not in lstm}
    cfg = checked_config(path, values)
    names = LayerNames(cfg)
    return cfg, {names.ours(name): value for name, value in tensors.items()}


def from_hf_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return our `model`, `quantizer`, `sample_rate` and `channels` for a config.json.

    Raises:
        ValueError: with the key, for values that are wrong or that our codec does not have.
    """
    values = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    if values["codebook_dim"] not in (None, values["hidden_size"]):
        raise ValueError(
            f"codebook_dim={values['codebook_dim']!r}; only hidden_size, {values['hidden_size']}, "
            "can be read"
        )
    counts = codebook_counts(values)
    seanet = {ours: values[name] for name, ours in SEANET.items()}
    # The other arguments' defaults differ from what transformers has.
    seanet |= {"activation": "ELU", "activation_params": {"alpha": 1.0}, "norm_params": {}}
    seanet |= {"true_skip": not values["use_conv_shortcut"], "disable_norm_outer_blocks": 0}
    return {
        "sample_rate": values["sampling_rate"],
        "channels": values["audio_channels"],
        "model": {
            "name": "encodec",
            "causal": values["use_causal_conv"],
            "renormalize": values["normalize"],
            "seanet": seanet,
            "encoder": {},
            "decoder": {
                "trim_right_ratio": values["trim_right_ratio"],
                "final_activation": None,
                "final_activation_params": None,
            },
        },
        "quantizer": {
            "name": "rvq",
            "n_q": counts[-1],
            "bins": values["codebook_size"],
            "q_dropout": float(len(counts) > 1),
            "dropout_choices": counts if len(counts) > 1 else None,
        },
    }


def codebook_counts(config: Mapping[str, Any]) -> list[int]:
    """Return the numbers of codebooks transformers uses at the config's `target_bandwidths`."""
    size, highest = config["codebook_size"], config["target_bandwidths"][-1]
    rate = frame_rate(config["sampling_rate"], config["upsampling_ratios"])
    total = int(1000 * highest // (rate * math.ceil(math.log2(size))))
    counts = {codebook_count(b, size, rate) for b in config["target_bandwidths"]}
    return sorted({n for n in counts if n <= total} | {total})


def codebook_count(bandwidth: float, size: int, rate: int) -> int:
    """Return how many codebooks of `size` entries transformers uses at a bandwidth in kb/s."""
    return int(max(1, math.floor(bandwidth * 1000 / (math.log2(size) * rate))))


def frame_rate(sample_rate: int, ratios: list[int]) -> int:
    """Return transformers' frames a second, rounded up."""
    return math.ceil(sample_rate / math.prod(ratios))


class LayerNames:
    """Names of weights in our codec of `cfg` and in transformers', by the indices of layers."""

    def __init__(self, cfg: DictConfig) -> None:
        half = half_of(SEANetDecoder, to_params(cfg.model), "decoder")
        stages, per_stage = len(half["ratios"]), 2 + half["n_residual_layers"]
        self.lstm = {"encoder": 1 + stages * per_stage, "decoder": 1}
        self.shift = 0 if half["lstm"] else 1  # of layers after the LSTM, from ours to theirs
        first = 3 if half["lstm"] else 2
        self._transposed = {first + stage * per_stage for stage in range(stages)}

    def theirs(self, name: str) -> str:
        match = re.fullmatch(r"(encoder|decoder)\.model\.(\d+)\.(.+)", name)
        if match is None:
            return name.replace("quantizer.vq.", "quantizer.").replace("._codebook.", ".codebook.")
        half, index, rest = match[1], int(match[2]), match[3]
        index += self.shift * (index >= self.lstm[half])
        rest = re.sub(r"\b(conv|convtr)\.(?=norm\.|conv\.|convtr\.)", "", rest)
        return f"{half}.layers.{index}.{rest.replace('convtr.', 'conv.')}"

    def ours(self, name: str) -> str:
        match = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)", name)
        if match is None:
            name = name.replace("quantizer.layers.", "quantizer.vq.layers.")
            return name.replace(".codebook.", "._codebook.")
        half, index, rest = match[1], int(match[2]), match[3]
        index -= self.shift * (index > self.lstm[half])
        conv = "convtr" if half == "decoder" and index in self._transposed else "conv"
        rest = re.sub(r"(^|\.)norm\.", rf"\1{conv}.norm.", rest)
        rest = re.sub(r"(^|\.)conv\.(?!norm\.)", rf"\1{conv}.{conv}.", rest)
        return f"{half}.model.{index}.{rest}"
