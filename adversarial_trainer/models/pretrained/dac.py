"""DAC's weights: the files that descript publishes, and transformers' `DacModel`.

`weights.pth` of descriptinc/descript-audio-codec is what `BaseModel.save(package=False)` of
descriptinc/audiotools (ml/layers/base.py) writes: `state_dict`, and in `metadata` the constructor's
arguments, `kwargs`. transformers has other names for the same layers, and mostly the product of
weight norm's two parameters instead of these.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from .weights import Weights, checked_config, table_of_weights

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
_LAYER = re.compile(r"(.+?)\.(alpha|bias|weight|weight_g|weight_v|parametrizations\.weight\..+)")
_TRANSPOSED = re.compile(r"decoder\.model\.\d+\.block\.1")
_PRODUCT = re.compile(r"(.+\.(?:conv|convtr|in_proj|out_proj))\.weight")


def fits(state: Mapping[str, Any]) -> bool:
    """Return whether `state` is a file of descript's."""
    return {"state_dict", "metadata"} <= state.keys()


def is_package(path: Path) -> bool:
    """Return whether a file is what `BaseModel.save(package=True)` writes, with code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".data/extern_modules") for name in archive.namelist())


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
    return Weights(_ours(tensors), checked_config(path, values), None, info)


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
    names = hf_layers(len(rates))
    return checked_config(path, values), _ours(rename(tensors, names))


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


def _ours(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights with descript's names under ours, with weight norm and counts of codes."""
    weights: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        match = _LAYER.fullmatch(name)
        if match and name.startswith(("encoder.", "decoder.")) and match[2] != "alpha":
            conv = "convtr.convtr" if _TRANSPOSED.fullmatch(match[1]) else "conv.conv"
            name = f"{match[1]}.{conv}.{match[2]}"
        if match := _PRODUCT.fullmatch(name):
            norm = torch.linalg.vector_norm(value, dim=(*range(1, value.dim()),), keepdim=True)
            weights[f"{match[1]}.parametrizations.weight.original0"] = norm
            value = torch.where(norm > 0, value, 1)  # its direction, which zeros lack
            name = f"{match[1]}.parametrizations.weight.original1"
        elif name.endswith(".codebook.weight"):
            counts = name.replace("codebook.weight", "counts")
            weights[counts] = torch.ones(value.shape[0])  # alike: nothing is known of them
        weights[name] = value
    return weights


def to_descript(name: str) -> str:
    """Return descript's name for one of ours."""
    return re.sub(r"\.(conv\.conv|convtr\.convtr)\.", ".", name)


def rename(
    tensors: Mapping[str, torch.Tensor], layers: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return tensors with the names of their layers replaced."""
    found = {}
    for name, value in tensors.items():
        match = _LAYER.fullmatch(name)
        found[f"{layers.get(match[1], match[1])}.{match[2]}" if match else name] = value
    return found


def hf_layers(stages: int) -> dict[str, str]:
    """Return descript's names of layers by those of transformers, of a codec with `stages` strides.
    The quantizer's are the same."""
    layers: dict[str, str] = {}
    for half, block in (("encoder", "encoder.block"), ("decoder", "decoder.model")):
        layers |= {
            f"{half}.conv1": f"{block}.0",
            f"{half}.snake1": f"{block}.{stages + 1}",
            f"{half}.conv2": f"{block}.{stages + 2}",
        }
        # Places in a stage: of the snake and the convolution with the stride, and the first unit.
        snake, conv, unit = (3, 4, 0) if half == "encoder" else (0, 1, 2)
        for stage in range(stages):
            theirs, ours = f"{half}.block.{stage}", f"{block}.{stage + 1}.block"
            layers[f"{theirs}.snake1"] = f"{ours}.{snake}"
            layers[f"{theirs}.{'conv1' if half == 'encoder' else 'conv_t1'}"] = f"{ours}.{conv}"
            for number in range(3):
                for place, layer in enumerate(("snake1", "conv1", "snake2", "conv2")):
                    name = f"{theirs}.res_unit{number + 1}.{layer}"
                    layers[name] = f"{ours}.{unit + number}.block.{place}"
    return layers
