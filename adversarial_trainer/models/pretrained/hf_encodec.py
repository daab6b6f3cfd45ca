"""Configuration and weights of transformers' `EncodecModel`, both ways.

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

from adversarial_trainer.models.builders import get_model, to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.segments import OVERLAP, SEGMENT
from adversarial_trainer.modules.norm import export_old_style_keys
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import ResidualVectorQuantizer

from .weights import check_halves, checked_config, half_of, quantizer_of, refused

logger = logging.getLogger(__name__)

# Our argument of `model.seanet` -> the key of `EncodecConfig`, and its default there.
SEANET: dict[str, tuple[str, Any]] = {
    "dimension": ("hidden_size", 128),
    "n_filters": ("num_filters", 32),
    "n_residual_layers": ("num_residual_layers", 1),
    "ratios": ("upsampling_ratios", [8, 5, 4, 2]),
    "norm": ("norm_type", "weight_norm"),
    "kernel_size": ("kernel_size", 7),
    "last_kernel_size": ("last_kernel_size", 7),
    "residual_kernel_size": ("residual_kernel_size", 3),
    "dilation_base": ("dilation_growth_rate", 2),
    "pad_mode": ("pad_mode", "reflect"),
    "compress": ("compress", 2),
    "lstm": ("num_lstm_layers", 2),
}
# Its other keys, with their defaults.
DEFAULTS: dict[str, Any] = {
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
# Arguments of encoder and decoder for which `EncodecModel` has no key, with the values it has.
_FIXED: dict[str, tuple[Any, ...]] = {
    "activation": ("ELU",),
    "activation_params": ({"alpha": 1.0}, {"alpha": 1.0, "inplace": False}, {}, None),
    "norm": ("weight_norm", "time_group_norm"),
    "norm_params": ({}, None),
    "disable_norm_outer_blocks": (0,),
    "final_activation": (None,),
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
    with torch.device("meta"):
        keys = export_old_style_keys(get_model(cfg).state_dict())
    known = {names.theirs(key): key for key in keys}
    return cfg, {known.get(k, k): value for k, value in export_old_style_keys(tensors).items()}


def from_hf_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return our `model`, `quantizer`, `sample_rate` and `channels` for a config.json.

    Raises:
        ValueError: with the key, for values that are wrong or that our codec does not have.
    """
    keys = DEFAULTS | dict(SEANET.values())
    values = {name: config.get(name, default) for name, default in keys.items()}
    if values["codebook_dim"] not in (None, values["hidden_size"]):
        raise ValueError(
            f"codebook_dim={values['codebook_dim']!r}; only hidden_size, {values['hidden_size']}, "
            "can be read"
        )
    counts = codebook_counts(values)
    seanet = {ours: values[theirs] for ours, (theirs, _) in SEANET.items()}
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
    """transformers' names of weights, by the indices of layers in our codec of `cfg`."""

    def __init__(self, cfg: DictConfig) -> None:
        half = half_of(SEANetDecoder, to_params(cfg.model), "decoder")
        self.lstm = {"decoder": 1}
        self.lstm["encoder"] = 1 + len(half["ratios"]) * (2 + half["n_residual_layers"])
        self.shift = 0 if half["lstm"] else 1  # of layers after the LSTM, from ours to theirs

    def theirs(self, name: str) -> str:
        match = re.fullmatch(r"(encoder|decoder)\.model\.(\d+)\.(.+)", name)
        if match is None:
            return name.replace("quantizer.vq.", "quantizer.").replace("._codebook.", ".codebook.")
        half, index, rest = match[1], int(match[2]), match[3]
        index += self.shift * (index >= self.lstm[half])
        rest = re.sub(r"\b(conv|convtr)\.(?=norm\.|conv\.|convtr\.)", "", rest)
        return f"{half}.layers.{index}.{rest.replace('convtr.', 'conv.')}"


# -- to transformers


def notes(cfg: DictConfig) -> list[str]:
    """Say what `EncodecModel` does otherwise: nothing."""
    return []


def to_hf_state_dict(model: EncodecModel, cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Return our codec's weights under transformers' names."""
    names = LayerNames(cfg)
    weights = {names.theirs(name): value for name, value in model.state_dict().items()}
    if names.shift:
        half = half_of(SEANetDecoder, to_params(cfg.model), "decoder")
        width = half["n_filters"] * 2 ** len(half["ratios"])  # channels at the frame rate
        for part, index in names.lstm.items():
            for name, value in torch.nn.LSTM(width, width).state_dict().items():
                weights[f"{part}.layers.{index}.lstm.{name}"] = torch.zeros_like(value)
    return weights


def to_hf_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents of config.json for the codec of `cfg`.

    Raises:
        ValueError: with the key, for what transformers' `EncodecModel` does not have.
    """
    model = to_params(cfg.model)
    if model.get("name", "encodec") != "encodec":
        raise refused("EncodecModel", "model.name", model["name"], "'encodec'")
    if cfg.channels not in (1, 2):
        raise refused("EncodecModel", "channels", cfg.channels, "1 or 2")
    seanet = half_of(SEANetDecoder, model, "decoder")
    halves = {"encoder": half_of(SEANetEncoder, model, "encoder"), "decoder": seanet}
    check_halves("EncodecModel", "seanet", halves, _FIXED, (*SEANET, "true_skip"))
    quantizer = quantizer_of("EncodecModel", cfg, "rvq", ResidualVectorQuantizer)
    renormalize = bool(model.get("renormalize", False))
    segments = renormalize or seanet["norm"] == "time_group_norm"
    return {
        "architectures": ["EncodecModel"],
        "model_type": "encodec",
        "dtype": "float32",
        **{theirs: seanet[ours] for ours, (theirs, _) in SEANET.items()},
        "num_lstm_layers": max(1, seanet["lstm"]),
        "sampling_rate": cfg.sample_rate,
        "audio_channels": cfg.channels,
        "normalize": renormalize,
        "use_causal_conv": bool(model.get("causal", False)),
        "trim_right_ratio": seanet["trim_right_ratio"],
        "use_conv_shortcut": not seanet["true_skip"],
        "codebook_size": quantizer["bins"],
        "codebook_dim": seanet["dimension"],
        "target_bandwidths": _target_bandwidths(quantizer, cfg.sample_rate, seanet["ratios"]),
        "chunk_length_s": SEGMENT if segments else None,
        "overlap": OVERLAP if segments else None,
    }


def _target_bandwidths(
    quantizer: Mapping[str, Any], sample_rate: int, ratios: list[int]
) -> list[float]:
    """Return the kb/s, in transformers' terms, of the numbers of codebooks used in training."""
    n_q, size = quantizer["n_q"], quantizer["bins"]
    counts = {n_q}
    if quantizer["q_dropout"]:
        counts |= set(quantizer["dropout_choices"] or range(1, n_q))
    rate = frame_rate(sample_rate, ratios)
    return [_bandwidth(n, size, rate) for n in sorted(n for n in counts if n <= n_q)]


def _bandwidth(n: int, size: int, rate: int) -> float:
    """Return the least kb/s at which transformers, which rounds down, uses `n` codebooks."""
    step = rate * (size.bit_length() - 1)
    value = n * step / 1000
    while codebook_count(value, size, rate) < n or 1000 * value // step < n:
        value = math.nextafter(value, math.inf)
    return value
