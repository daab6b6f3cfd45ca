"""EnCodec's family for `transformers.EncodecModel`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained.hf_encodec import (
    OVERLAP,
    SEANET,
    SEGMENT,
    LayerNames,
    codebook_count,
    frame_rate,
)
from adversarial_trainer.models.pretrained.weights import half_of
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.registry import parameters

# Arguments of encoder and decoder for which `EncodecModel` has no key, with the values it has.
_FIXED: dict[str, tuple[Any, ...]] = {
    "activation": ("ELU",),
    "activation_params": ({"alpha": 1.0}, {"alpha": 1.0, "inplace": False}, {}, None),
    "norm": ("weight_norm", "time_group_norm"),
    "norm_params": ({}, None),
    "disable_norm_outer_blocks": (0,),
    "final_activation": (None,),
}


def to_processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of preprocessor_config.json for those of config.json."""
    return {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": config["audio_channels"],
        "sampling_rate": config["sampling_rate"],
        "chunk_length_s": config["chunk_length_s"],
        "overlap": config["overlap"],
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def to_hf_state_dict(model: EncodecModel, cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Return copies of our codec's weights under transformers' names, in float32."""
    names = LayerNames(cfg)
    weights = {
        names.theirs(name): value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, value in model.state_dict().items()
    }
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
        raise _refused("model.name", model["name"], "'encodec'")
    if cfg.channels not in (1, 2):
        raise _refused("channels", cfg.channels, "1 or 2")
    encoder = half_of(SEANetEncoder, model, "encoder")
    seanet = half_of(SEANetDecoder, model, "decoder")
    _check_halves({"encoder": encoder, "decoder": seanet})
    quantizer = to_params(cfg.quantizer)
    if quantizer.get("name") != "rvq":
        raise _refused("quantizer.name", quantizer.get("name"), "'rvq'")
    defaults = parameters(ResidualVectorQuantizer)
    quantizer = {name: p.default for name, p in defaults.items()} | quantizer
    bins = quantizer["bins"]
    if bins < 2 or bins & (bins - 1):
        raise _refused("quantizer.bins", bins, "a power of 2, from 2 on")
    renormalize = bool(model.get("renormalize", False))
    segments = renormalize or seanet["norm"] == "time_group_norm"
    return {
        "architectures": ["EncodecModel"],
        "model_type": "encodec",
        "dtype": "float32",
        **{name: seanet[ours] for name, ours in SEANET.items()},
        "num_lstm_layers": max(1, seanet["lstm"]),
        "sampling_rate": cfg.sample_rate,
        "audio_channels": cfg.channels,
        "normalize": renormalize,
        "use_causal_conv": bool(model.get("causal", False)),
        "trim_right_ratio": seanet["trim_right_ratio"],
        "use_conv_shortcut": not seanet["true_skip"],
        "codebook_size": bins,
        "codebook_dim": seanet["dimension"],
        "target_bandwidths": _target_bandwidths(quantizer, cfg.sample_rate, seanet["ratios"]),
        "chunk_length_s": SEGMENT if segments else None,
        "overlap": OVERLAP if segments else None,
    }


def _check_halves(halves: Mapping[str, Mapping[str, Any]]) -> None:
    """Check settings that every `EncodecModel` has, or that it shares between both halves."""
    for part, values in halves.items():
        for key, choices in _FIXED.items():
            if values.get(key) not in choices:
                name = f"model.seanet.{key} (of the {part})"
                raise _refused(name, values[key], " or ".join(map(repr, choices)))
    encoder, decoder = halves["encoder"], halves["decoder"]
    for key in (encoder.keys() & decoder.keys()) - {"channels", "causal"}:
        if encoder[key] != decoder[key]:
            raise _refused(f"model.encoder.{key}", encoder[key], f"the decoder's, {decoder[key]!r}")


def _refused(key: str, value: Any, choices: str) -> ValueError:
    return refused("EncodecModel", key, value, choices)


def refused(name: str, key: str, value: Any, choices: str) -> ValueError:
    """The error for a value that transformers' class `name` does not have."""
    return ValueError(f"{key}={value!r}: transformers' {name} has only {choices} here.")


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
