"""Small DACs with random weights: transformers' `DacModel`, and what descript's package saves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import DacConfig, DacModel

SMALL: dict[str, Any] = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "downsampling_ratios": [4, 2, 2],
    "n_codebooks": 3,
    "codebook_size": 64,
    "codebook_dim": 4,
    "sampling_rate": 16000,
}


def build(**values: Any) -> DacModel:
    """Return a model whose codes vary and whose audio is not silence."""
    torch.manual_seed(0)
    theirs = DacModel(DacConfig(**{**SMALL, **values})).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("alpha"):
                parameter.uniform_(0.5, 2)
            elif name.endswith("bias"):
                parameter.normal_(std=0.02)
            elif "codebook" in name:
                parameter.normal_()
            else:
                gain = 0.5 if name.startswith("decoder") else 1.0
                parameter.normal_(std=gain * parameter[0].numel() ** -0.5)
    return theirs


def normed(model: DacModel) -> DacModel:
    """Return a copy with weight norm, in torch's new style."""
    model = copy.deepcopy(model)
    model.apply_weight_norm()
    return model


def kwargs_of(model: DacModel) -> dict[str, Any]:
    """Return the arguments of descript's `DAC` that `BaseModel.save` writes; it finds no
    `quantizer_dropout` in the model and writes the default."""
    config = model.config
    return {
        "encoder_dim": config.encoder_hidden_size,
        "encoder_rates": list(config.downsampling_ratios),
        "latent_dim": config.hidden_size,
        "decoder_dim": config.decoder_hidden_size,
        "decoder_rates": list(config.upsampling_ratios),
        "n_codebooks": config.n_codebooks,
        "codebook_size": config.codebook_size,
        "codebook_dim": config.codebook_dim,
        "quantizer_dropout": False,
        "sample_rate": config.sampling_rate,
    }


def descript_state(model: DacModel) -> dict[str, torch.Tensor]:
    """Return the state dict of descript's `DAC` (dac/model/dac.py, with the old weight norm) for a
    model with weight norm: its layers are numbered, in the order in which transformers has them."""
    assert any("original0" in name for name in model.state_dict())
    stages = len(model.config.downsampling_ratios)
    state: dict[str, torch.Tensor] = {}

    def put(name: str, layer: torch.nn.Module) -> None:
        for key, value in layer.state_dict().items():
            key = key.replace("parametrizations.weight.original0", "weight_g")
            key = key.replace("parametrizations.weight.original1", "weight_v")
            state[f"{name}.{key}"] = value

    def put_unit(name: str, unit: Any) -> None:
        for i, layer in enumerate((unit.snake1, unit.conv1, unit.snake2, unit.conv2)):
            put(f"{name}.block.{i}", layer)

    encoder, decoder = model.encoder, model.decoder
    put("encoder.block.0", encoder.conv1)
    for i, block in enumerate(encoder.block, 1):
        for k, unit in enumerate((block.res_unit1, block.res_unit2, block.res_unit3)):
            put_unit(f"encoder.block.{i}.block.{k}", unit)
        put(f"encoder.block.{i}.block.3", block.snake1)
        put(f"encoder.block.{i}.block.4", block.conv1)
    put(f"encoder.block.{stages + 1}", encoder.snake1)
    put(f"encoder.block.{stages + 2}", encoder.conv2)
    put("decoder.model.0", decoder.conv1)
    for i, block in enumerate(decoder.block, 1):
        put(f"decoder.model.{i}.block.0", block.snake1)
        put(f"decoder.model.{i}.block.1", block.conv_t1)
        for k, unit in enumerate((block.res_unit1, block.res_unit2, block.res_unit3), 2):
            put_unit(f"decoder.model.{i}.block.{k}", unit)
    put(f"decoder.model.{stages + 1}", decoder.snake1)
    put(f"decoder.model.{stages + 2}", decoder.conv2)
    put("quantizer", model.quantizer)
    return state
