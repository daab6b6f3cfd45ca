"""DAC's weights: the files that descript publishes, and transformers' `DacModel`, both ways.

`weights.pth` of descriptinc/descript-audio-codec is what `BaseModel.save(package=False)` of
descriptinc/audiotools (ml/layers/base.py) writes: `state_dict`, and in `metadata` the constructor's
arguments, `kwargs`. transformers has other names for the same layers, and mostly the product of
weight norm's two parameters instead of these.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.dac import DACDecoder, DACEncoder
from adversarial_trainer.modules.norm import export_old_style_keys, fold_weight_norm
from adversarial_trainer.quantization.dac import DACQuantizer

from .weights import (
    Weights,
    check_halves,
    checked_config,
    half_of,
    quantizer_of,
    refused,
    table_of_weights,
)

FILE = "weights.pth"
# The files do not tell how a codec was trained: of DAC's all recipes drop codebooks.
Q_DROPOUT = 0.5
# Our argument of the quantizer -> the key in `kwargs` and in transformers' `DacConfig`, and its
# default there. (The weights of losses are not in the former.)
QUANTIZER: dict[str, tuple[str, Any]] = {
    "n_q": ("n_codebooks", 9),
    "bins": ("codebook_size", 1024),
    "codebook_dim": ("codebook_dim", 8),
    "q_dropout": ("quantizer_dropout", 0.0),
    "commitment": ("commitment_loss_weight", 0.25),
    "codebook": ("codebook_loss_weight", 1.0),
}
# Arguments for which `DacModel` has no key, with the values it has.
_FIXED: dict[str, tuple[Any, ...]] = {
    "dilations": ([1, 3, 9],),
    "activation": ("Snake",),
    "activation_params": (None, {}),
    "norm": ("weight_norm", "none"),
    "norm_params": (None, {}),
    "lstm": (0,),
    "final_activation": ("Tanh",),
    "final_bias": (True,),
}
# Layers of a residual unit: ours -> transformers'.
_UNIT = {"0": "snake1", "1.conv.conv": "conv1", "2": "snake2", "3.conv.conv": "conv2"}
# Half -> our name of its layers; those of a stage beside the units; the first unit's place in it.
_HALVES: dict[str, tuple[str, dict[str, str], int]] = {
    "encoder": ("encoder.block", {"3": "snake1", "4.conv.conv": "conv1"}, 0),
    "decoder": ("decoder.model", {"0": "snake1", "1.convtr.convtr": "conv_t1"}, 2),
}


def fits(state: Mapping[str, Any]) -> bool:
    """Return whether `state` is a file of descript's."""
    return {"state_dict", "metadata"} <= state.keys()


def from_state(path: Path, state: Mapping[str, Any]) -> Weights:
    """Return the weights of a file that has been loaded from `path`."""
    tensors = table_of_weights(path, state, "state_dict")
    kwargs: Mapping[str, Any] = table_of_weights(path, state, "metadata", "kwargs")
    try:
        rates = list(kwargs["encoder_rates"])
        back = list(kwargs.get("decoder_rates", rates[::-1]))
        if back != rates[::-1]:
            raise ValueError(f"decoder_rates={back}; only {rates[::-1]} can be read here")
        sizes = (kwargs["encoder_dim"], kwargs["decoder_dim"], kwargs.get("latent_dim"))
        values = _values(kwargs["sample_rate"], rates, *sizes, kwargs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise ValueError(f"{path}: metadata.kwargs: {exc}") from exc
    info = {"kind": "dac", "path": path}
    names = {re.sub(r"\.(conv|convtr)\.\1$", "", ours): ours for ours in hf_layers(len(rates))}
    return Weights(_ours(tensors, names), checked_config(path, values), None, info)


def read_hf(
    path: Path, config: Mapping[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[DictConfig, dict[str, torch.Tensor]]:
    """Return our configuration and weights for those of the folder whose config.json is `path`."""
    try:
        rates = list(config.get("downsampling_ratios", [2, 4, 8, 8]))
        widths = (config.get("encoder_hidden_size", 64), config.get("decoder_hidden_size", 1536))
        rate, dimension = config.get("sampling_rate", 16000), config.get("hidden_size")
        values = _values(rate, rates, *widths, dimension, config)
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise ValueError(f"{path}: {exc}") from exc
    names = {theirs: ours for ours, theirs in hf_layers(len(rates)).items()}
    return checked_config(path, values), _ours(tensors, names)


def _values(
    sample_rate: int,
    strides: Sequence[int],
    encoder_width: int,
    decoder_width: int,
    dimension: int | None,
    table: Mapping[str, Any],
) -> dict[str, Any]:
    """Return our configuration; ValueError for what our codec does not have.

    Args:
        table: with the values for the quantizer.
    """
    for name, width in (("encoder", encoder_width), ("decoder", decoder_width)):
        if type(width) is not int:
            raise ValueError(f"{name} width {width!r}: a whole number is needed")
    growth = 2 ** len(strides)
    if decoder_width % growth:
        raise ValueError(f"decoder width {decoder_width!r}: only multiples of {growth} can be read")
    quantizer = {ours: table.get(theirs, value) for ours, (theirs, value) in QUANTIZER.items()}
    quantizer |= {"name": "dac", "q_dropout": float(quantizer["q_dropout"]) or Q_DROPOUT}
    if isinstance(quantizer["codebook_dim"], list):
        dims = set(quantizer["codebook_dim"])
        if len(dims) != 1:
            raise ValueError(f"codebook_dim={sorted(dims)}: only one for all codebooks can be read")
        (quantizer["codebook_dim"],) = dims
    return {
        "sample_rate": sample_rate,
        "channels": 1,
        "model": {
            "name": "encodec",
            "causal": False,
            "renormalize": False,
            "autoencoder": "dac",
            "dac": {
                "dimension": encoder_width * growth if dimension is None else dimension,
                "strides": list(strides),
            },
            "encoder": {"n_filters": encoder_width},
            "decoder": {
                "n_filters": decoder_width // growth,
                # It changes odd strides alone.
                "output_padding": all(stride % 2 == 0 for stride in strides),
            },
        },
        "quantizer": quantizer,
    }


def _ours(
    tensors: Mapping[str, torch.Tensor], layers: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return weights with the names of layers replaced, with weight norm and counts of codes."""
    weights: dict[str, torch.Tensor] = {}
    for name, value in export_old_style_keys(tensors).items():
        layer, _, leaf = name.rpartition(".")
        layer = layers.get(layer, layer)
        if layer.endswith(".codebook"):  # counts alike: nothing is known of them
            weights[layer.replace("codebook", "counts")] = torch.ones(value.shape[0])
        elif leaf == "weight":  # weight norm's product
            norm = torch.linalg.vector_norm(value, dim=(*range(1, value.dim()),), keepdim=True)
            weights[f"{layer}.weight_g"] = norm
            leaf, value = "weight_v", torch.where(norm > 0, value, 1)  # zeros have no direction
        weights[f"{layer}.{leaf}"] = value
    return weights


def hf_layers(stages: int) -> dict[str, str]:
    """Return transformers' names of layers by ours, of a codec with `stages` strides. The
    quantizer's are the same; descript's are ours without the convolutions that pad."""
    layers: dict[str, str] = {}
    for half, (block, of_stage, first_unit) in _HALVES.items():
        names = {
            "0.conv.conv": "conv1",
            f"{stages + 1}": "snake1",
            f"{stages + 2}.conv.conv": "conv2",
        }
        for unit in range(3):
            of_unit = {f"{first_unit + unit}.block.{k}": v for k, v in _UNIT.items()}
            of_stage = of_stage | {k: f"res_unit{unit + 1}.{v}" for k, v in of_unit.items()}
        for stage in range(stages):
            names |= {f"{stage + 1}.block.{k}": f"block.{stage}.{v}" for k, v in of_stage.items()}
        layers |= {f"{block}.{k}": f"{half}.{v}" for k, v in names.items()}
    return layers


# -- to transformers


def to_hf_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents of config.json for the codec of `cfg`.

    Raises:
        ValueError: with the key, for what transformers' `DacModel` does not have.
    """
    model = to_params(cfg.model)
    for key, value, wanted in [
        ("model.name", model.get("name", "encodec"), "encodec"),
        ("model.causal", model.get("causal", False), False),
        ("model.renormalize", model.get("renormalize", False), False),
        ("channels", cfg.channels, 1),
    ]:
        if value != wanted:
            raise refused("DacModel", key, value, repr(wanted))
    encoder = half_of(DACEncoder, model, "encoder")
    decoder = half_of(DACDecoder, model, "decoder")
    strides = list(encoder["strides"])
    fixed = {**_FIXED, "multipliers": (None, [2**i for i in range(1, len(strides) + 1)])}
    halves = {"encoder": encoder, "decoder": decoder}
    check_halves("DacModel", "dac", halves, fixed, ("strides", "dimension"))
    quantizer = quantizer_of("DacModel", cfg, "dac", DACQuantizer)
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


def to_hf_state_dict(model: EncodecModel, cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Return our codec's weights under transformers' names, without weight norm."""
    names = hf_layers(len(half_of(DACEncoder, to_params(cfg.model), "encoder")["strides"]))
    weights = {}
    for name, value in fold_weight_norm(copy.deepcopy(model)).state_dict().items():
        layer, _, leaf = name.rpartition(".")
        if leaf != "counts":  # for entropy coding, which transformers lacks
            weights[f"{names.get(layer, layer)}.{leaf}"] = value
    return weights
