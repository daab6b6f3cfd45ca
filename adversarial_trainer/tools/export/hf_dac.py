"""DAC's family for `transformers.DacModel`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained.dac import QUANTIZER, hf_layers, rename, to_descript
from adversarial_trainer.models.pretrained.weights import half_of
from adversarial_trainer.modules.dac import DACDecoder, DACEncoder
from adversarial_trainer.modules.norm import fold_weight_norm
from adversarial_trainer.quantization.dac import DACQuantizer
from adversarial_trainer.registry import parameters

from .hf_encodec import refused

# Arguments for which `DacModel` has no key, with the values it has.
_FIXED: dict[str, tuple[Any, ...]] = {
    "dilations": ([1, 3, 9], (1, 3, 9)),
    "activation": ("Snake",),
    "activation_params": (None, {}),
    "norm": ("weight_norm", "none"),
    "norm_params": (None, {}),
    "lstm": (0,),
    "final_activation": ("Tanh",),
    "final_bias": (True,),
}


def to_hf_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents of config.json for the codec of `cfg`.

    Raises:
        ValueError: with the key, for what transformers' `DacModel` does not have.
    """
    model, quantizer = to_params(cfg.model), to_params(cfg.quantizer)
    for key, value, wanted in [
        ("model.name", model.get("name", "encodec"), "encodec"),
        ("model.causal", model.get("causal", False), False),
        ("model.renormalize", model.get("renormalize", False), False),
        ("channels", cfg.channels, 1),
        ("quantizer.name", quantizer.get("name"), "dac"),
    ]:
        if value != wanted:
            raise refused("DacModel", key, value, repr(wanted))
    halves = {
        part: half_of(constructor, model, part)
        for part, constructor in (("encoder", DACEncoder), ("decoder", DACDecoder))
    }
    for part, values in halves.items():
        growing = [2**i for i in range(1, len(values["strides"]) + 1)]
        for key, choices in {**_FIXED, "multipliers": (None, growing)}.items():
            if values.get(key, choices[0]) not in choices:
                name = f"model.dac.{key} (of the {part})"
                raise refused("DacModel", name, values[key], " or ".join(map(repr, choices)))
    encoder, decoder = halves["encoder"], halves["decoder"]
    for key in ("strides", "dimension"):
        if encoder[key] != decoder[key]:
            choice = f"the decoder's, {decoder[key]!r}"
            raise refused("DacModel", f"model.encoder.{key}", encoder[key], choice)
    strides = list(encoder["strides"])
    defaults = parameters(DACQuantizer)
    quantizer = {name: p.default for name, p in defaults.items()} | quantizer
    bins = quantizer["bins"]
    if bins < 2 or bins & (bins - 1):
        raise refused("DacModel", "quantizer.bins", bins, "a power of 2, from 2 on")
    return {
        "architectures": ["DacModel"],
        "model_type": "dac",
        "dtype": "float32",
        "encoder_hidden_size": encoder["n_filters"],
        "decoder_hidden_size": decoder["n_filters"] * 2 ** len(strides),
        "hidden_size": encoder["dimension"],
        "downsampling_ratios": strides,
        "upsampling_ratios": strides[::-1],
        "hop_length": math.prod(strides),
        "sampling_rate": cfg.sample_rate,
        **{theirs: quantizer[ours] for ours, (theirs, _) in QUANTIZER.items()},
    }


def notes(cfg: DictConfig) -> list[str]:
    """Say what `DacModel` does otherwise."""
    decoder = half_of(DACDecoder, to_params(cfg.model), "decoder")
    lost = 0
    for stride in reversed(decoder["strides"]):
        lost = lost * stride + stride % 2
    if not lost or not decoder["output_padding"]:
        return []
    return [
        f"model.decoder.output_padding=true: transformers' audio is {lost} samples shorter, and "
        "differs just before its end"
    ]


def to_processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of preprocessor_config.json for those of config.json."""
    return {
        "feature_extractor_type": "DacFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config["sampling_rate"],
        "hop_length": config["hop_length"],
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def to_hf_state_dict(model: EncodecModel, cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Return our codec's weights under transformers' names, without weight norm, in float32."""
    plain = fold_weight_norm(copy.deepcopy(model)).state_dict()
    stages = len(half_of(DACEncoder, to_params(cfg.model), "encoder")["strides"])
    layers = {ours: theirs for theirs, ours in hf_layers(stages).items()}
    named = {to_descript(name): value for name, value in plain.items()}
    return {
        name: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, value in rename(named, layers).items()
        if not name.endswith(".counts")  # for entropy coding, which transformers lacks
    }
